"""The generated table of types: its form, what must be in it, and what others found."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pf_agent.maincf.parameters import RESTART_NEEDED, TABLE
from tests.checkout import CHECKOUT

# What real Postfix's tables were found to hold by somebody else; not part of the project.
CORPUS = CHECKOUT.parent / "shared" / "corpus"
ROWS = {line.split(" ", 1)[0]: line.split(" ")[1:] for line in TABLE.splitlines()[1:]}
KINDS = {"boolean", "integer", "long", "time", "string", "raw", "unknown"}
FLAGS = {"list", "maps", "narrow", "networks", "patterns", "restrictions", "whole"}
# The corpus says `s`. The default is ${postscreen_dnsbl_ttl?{$postscreen_dnsbl_ttl}:{1}}h: `h`,
# or the first letter in the other parameter's value.
UNIT_DEPENDS = {"postscreen_dnsbl_max_ttl"}


def is_list(name: str) -> bool:
    return any("list" in cell.split(",") for cell in ROWS[name][5:])


def test_each_line_has_its_columns() -> None:
    for name, (kind, least, most, unit, readers, *flags) in ROWS.items():
        assert re.fullmatch(r"[A-Za-z0-9_]+", name)
        assert kind in KINDS
        assert re.fullmatch(r"-|-?\d+", least)
        assert re.fullmatch(r"-|-?\d+", most)
        assert unit in (("s", "m", "h", "d", "w", "-") if kind == "time" else ("-",))
        assert readers
        assert len(flags) <= 1
        assert FLAGS.issuperset(flags[0].split(",") if flags else [])
    assert list(ROWS) == sorted(ROWS)
    assert len(ROWS) == TABLE.count("\n") - 1


@pytest.mark.parametrize(
    "name",
    [
        "mynetworks",
        "mydestination",
        "inet_interfaces",
        "inet_protocols",
        "relay_domains",
        "alias_maps",
        "alias_database",
        "transport_maps",
        "local_recipient_maps",
        "virtual_alias_maps",
        "virtual_mailbox_maps",
        "virtual_uid_maps",
        "smtpd_milters",
        "smtpd_client_restrictions",
        "smtpd_relay_restrictions",
        "smtpd_recipient_restrictions",
        "header_checks",
        "canonical_maps",
        "smtp_sasl_password_maps",
        "proxy_read_maps",
    ],
)
def test_lists(name: str) -> None:
    assert is_list(name)


@pytest.mark.parametrize(
    "name",
    [
        "smtpd_banner",
        "myhostname",
        "mydomain",
        "myorigin",
        "mail_name",
        "mailbox_command",
        "relayhost",
        "default_transport",
        "recipient_delimiter",
        "home_mailbox",
        "forward_path",
        "smtpd_reject_footer",
        "default_rbl_reply",
        "queue_directory",
        "bounce_template_file",
        "smtpd_tls_cert_file",
        "syslog_name",
        "mail_spool_directory",
        "sendmail_path",
    ],
)
def test_not_lists(name: str) -> None:
    assert name not in ROWS or not is_list(name)


def test_only_strings_are_lists() -> None:
    assert {ROWS[name][0] for name in ROWS if is_list(name)} == {"string"}


def test_what_a_reload_does_not_change() -> None:
    assert {"inet_interfaces", "inet_protocols", "queue_directory", "maillog_file"} < RESTART_NEEDED
    assert not RESTART_NEEDED & {"mynetworks", "myhostname", "smtpd_banner", "hash_queue_names"}


def found_elsewhere(version: str) -> dict[str, dict[str, Any]]:
    path = CORPUS / f"param_types-{version}.json"
    if not path.exists():
        pytest.skip(f"{path} is not part of the project and not here")
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="ascii"))["params"]
    return {name: facts for name, facts in found.items() if facts["type"] != "unknown"}


@pytest.mark.parametrize("version", ["3.7", "3.10"])
def test_agrees_with_what_others_found(version: str) -> None:
    found = found_elsewhere(version)
    other = found_elsewhere("3.10" if version == "3.7" else "3.7")
    assert found.keys() <= ROWS.keys()
    for name, facts in found.items():
        kind, least, most, unit, *_ = ROWS[name]
        assert {"long": "integer", "raw": "raw string"}.get(kind, kind) == facts["type"], name
        for ours, key in ((least, "min"), (most, "max")):
            theirs = facts.get(key, "")
            if ours == "-":
                assert other[name][key] != theirs, name
            elif re.fullmatch(r"-?\d+", theirs):
                assert ours == theirs, name
        if name not in UNIT_DEPENDS:
            assert unit == facts.get("default_unit", "-"), name
