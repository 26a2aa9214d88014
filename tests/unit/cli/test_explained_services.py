"""What `explain` says of a service of master.cf, and of one of its options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pf_agent.cli.explained_services import explain_service
from pf_agent.errors import HostError
from pf_agent.names import UNKNOWN

MAIN_CF = b"""\
smtpd_tls_security_level = may
master_service_disable = 465/inet
relay_pass = 0therS3cret
"""
MASTER_CF = b"""\
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       20      smtpd
  -o smtpd_tls_security_level=encrypt
  # a comment
  -o smtpd_sasl_auth_enable=yes -v
  -o relay_pass=verY5ecret -o custom=
#smtps     inet  n       -       -       -       -       smtpd
#  -o smtpd_tls_wrappermode=yes
smtp      unix  -       -       n       -       -       smtp
pickup    unix  n       n       y       60?     1       pickup
filter    unix  -       n       n       -       0       pipe
  flags=R user=x argv=/bin/x --url=ldap://a:url9Word@h
465       inet  n       -       y       -       -       smtpd
smtp      inet  n       -       y       -       ten     smtpd
  -o { a b }
"""
DEFAULTS = {"smtpd_tls_security_level": "", "smtpd_sasl_auth_enable": "no", "relayhost": ""}


@pytest.fixture
def main_cf(tmp_path: Path) -> str:
    (tmp_path / "master.cf").write_bytes(MASTER_CF)
    return str(tmp_path / "main.cf")


def text_of(name: str, main_cf: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    explain_service(name, main_cf, MAIN_CF, DEFAULTS, is_json=False)
    lines = capsys.readouterr().out.splitlines()
    folder = main_cf.removesuffix("main.cf")
    return [" ".join(line.replace(folder, "/").split()) for line in lines]


def json_of(name: str, main_cf: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    explain_service(name, main_cf, MAIN_CF, DEFAULTS, is_json=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_all_of_a_service(main_cf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text_of("submission/inet", main_cf, capsys) == [
        "submission/inet",
        "master.cf: /master.cf, lines 2 to 6",
        "type: inet: a TCP port",
        "private: n: open to the network, as each inet service",
        "unprivileged: -: y, the default: runs as mail_owner",
        "chroot: y: confined to the queue directory",
        "wakeup: -: never",
        "process_limit: 20: at most 20 processes",
        "command: smtpd",
        "arguments: -v",
        'option: smtpd_tls_security_level is "encrypt", in main.cf "may" (line 1)',
        'option: smtpd_sasl_auth_enable is "yes", by default "no"',
        'option: relay_pass is "(hidden)", in main.cf "(hidden)" (line 3)',
        'option: custom is "", not set in main.cf',
    ]


def test_fields_in_words(main_cf: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = text_of("pickup/unix", main_cf, capsys)
    assert "private: n: any program may use it" in told
    assert "unprivileged: n: runs as root" in told
    assert "wakeup: 60?: every 60 s, once it was used" in told
    assert "process_limit: 1: at most 1 process" in told
    told = text_of("filter/unix", main_cf, capsys)
    assert "private: -: y, the default: only Postfix's own programs reach it" in told
    assert "process_limit: 0: any number of processes" in told
    assert "arguments: flags=R user=x argv=/bin/x --url=ldap://a:(hidden)@h" in told


def test_a_service_that_stands_commented_out(
    main_cf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = text_of("smtps/inet", main_cf, capsys)
    assert told[1] == "master.cf: /master.cf, lines 7 to 8, commented out: Postfix does not run it"
    assert "chroot: -: the default: not confined, from compatibility_level 1 on" in told
    assert 'option: smtpd_tls_wrappermode is "yes", not set in main.cf' in told


def test_what_is_wrong_with_it(main_cf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of("smtp/inet", main_cf, capsys)["problems"] == [
        'Postfix does not start with it: invalid process_limit field "ten"',
        "missing '=' after attribute name: \"a b\"",
        "defined in line 1, too; Postfix uses the last one",
    ]
    told = text_of("smtp/inet", main_cf, capsys)
    assert f"process_limit: ten: {UNKNOWN}" in told
    told = text_of("465/inet", main_cf, capsys)
    assert told[-1] == "problem: master_service_disable in main.cf turns it off"


def test_one_option(main_cf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text_of("submission/inet/smtpd_tls_security_level", main_cf, capsys) == [
        "submission/inet/smtpd_tls_security_level",
        "master.cf: /master.cf, lines 2 to 6",
        'option: "encrypt"',
        'main.cf: "may" (line 1)',
        "type: string, read by postscreen, smtpd, tlsproxy",
        'default: ""',
    ]
    found = json_of("smtp/unix/smtpd_tls_security_level", main_cf, capsys)
    assert (found["value"], found["main_cf"], found["main_cf_line"]) == (None, "may", 1)
    found = json_of("submission/inet/relay_pass", main_cf, capsys)
    assert (found["value"], found["main_cf"]) == ("(hidden)", "(hidden)")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("submision/inet", "submission/inet"),
        ("smtp/inte", "smtp/inet"),
        ("smpts/inet/x", "smtps/inet"),
        ("nothing/alike", None),
        ("submission/inet/smtpd_sasl_auth_enabel", "smtpd_sasl_auth_enable"),
        ("submission/inet/custom", None),
    ],
)
def test_an_unknown_name(
    main_cf: str, capsys: pytest.CaptureFixture[str], name: str, meant: str | None
) -> None:
    assert json_of(name, main_cf, capsys)["did_you_mean"] == meant
    told = text_of(name, main_cf, capsys)
    assert (f"meant: did you mean {meant}?" in told) == (meant is not None)
    if name.count("/") == 1:
        assert told[1] == "master.cf: /master.cf has no such service"


def test_json(main_cf: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of("submission/inet", main_cf, capsys)
    assert found.pop("options")[1:2] == [
        {
            **{"parameter": "smtpd_sasl_auth_enable", "value": "yes", "default": "no"},
            **{"main_cf": None, "main_cf_line": None},
        }
    ]
    assert found == {
        **{"service": "submission/inet", "file": main_cf.replace("main.cf", "master.cf")},
        **{"line": 2, "last_line": 6, "commented_out": False, "problems": []},
        **{"did_you_mean": None, "type": "inet", "arguments": ["-v"]},
        "fields": {
            **{"private": "n", "unprivileged": "-", "chroot": "y", "wakeup": "-"},
            **{"process_limit": "20", "command": "smtpd"},
        },
    }


def test_without_a_master_cf(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file or directory"):
        explain_service("a/inet", str(tmp_path / "main.cf"), b"", {}, is_json=False)
