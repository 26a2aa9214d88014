"""What a judgement says of a candidate for master.cf, and what master really does with each.

postfix/judge_services.py runs inside, on a machine whose Postfix serves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine

FOLDER = "/root/judge"
MASTER_CF = "/etc/postfix/master.cf"
# Reads candidates for master.cf, answers each with a judgement.
ASK = f"""
import dataclasses, json, sys
sys.path.insert(0, "{FOLDER}/agent")
from pf_agent.postfix.installed import Postfix
postfix = Postfix("/etc/postfix", "/run/judge")
judged = [postfix.judge_services(text.encode()) for text in json.load(sys.stdin)]
print(json.dumps([dataclasses.asdict(judgement) for judgement in judged]))
"""
READY = "etc/ready/submission.toml"
# Corrects the master.cf that it reads to that state.
READY_MADE = f"""
import sys
sys.path.insert(0, "{FOLDER}/agent")
from pf_agent.files.configuration import load_desired_file
from pf_agent.maincf.service_parts import ServiceParts
from pf_agent.reconcile.drift import corrected
desired = load_desired_file("/root/submission.toml").documents["master.cf"]
sys.stdout.write(corrected(ServiceParts.parse(sys.stdin.buffer.read()), desired).render().decode())
"""
NOTHING = {"fatal": "", "warnings": [], "faults": [], "absent": []}

# A line that is added: the part that is named, and why. Master ends as it starts.
ENDS_MASTER = {
    "2525 inet - - n - - smtpd": ("2525/inet/private", "inet service cannot be private"),
    "nosuchport inet n - n - - smtpd": ("nosuchport/inet", "there is no such port in services(5)"),
    "192.0.2.77:2525 inet n - n - - smtpd": ("192.0.2.77:2525/inet", "has no such address"),
    "a/b unix - - n - - smtp": ("a/b/unix", "bind: private/a/b: No such file or directory"),
    "2525 inet n - n - - smtpd -o {a = b": ("2525/inet", "missing '}' in"),
}
# Master starts, and the service does not serve.
SERVES_NOBODY = {
    "2525 inet n - n - - nosuchd": ("2525/inet/command", "nosuchd: No such file or directory"),
    "2525 inet n - n - - smtpd -o smtpd_sasl_auth_enable=maybe": (
        "2525/inet/smtpd_sasl_auth_enable",
        "bad boolean configuration: smtpd_sasl_auth_enable = maybe",
    ),
    "2525 inet n - n - - smtpd -o { a b }": ("2525/inet", "missing '=' after attribute name"),
    "2525 inet n - n - - smtpd -o smtpd_timeout=$nine -o nine=x": (
        "2525/inet",
        "parameter smtpd_timeout: bad time value or unit: x",
    ),
}
FORGET = "systemctl reset-failed postfix.service 2> /dev/null || true"
GREETED = 'timeout 4 bash -c "exec 3<>/dev/tcp/127.0.0.1/2525; head -c3 <&3" | grep -q 220'

Judge = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def serving(internet_site: Machine) -> Machine:
    internet_site.copy_in([CHECKOUT / "agent"], FOLDER)
    internet_site.run(["mkdir", "-p", "/run/judge"])
    return internet_site


@pytest.fixture(scope="module")
def stock(serving: Machine) -> str:
    return serving.read_text(MASTER_CF)


@pytest.fixture(scope="module")
def judge(serving: Machine) -> Judge:
    def judge(*texts: str) -> list[dict[str, Any]]:
        command = ["python3", "-B", "-c", ASK]
        judged: list[dict[str, Any]] = json.loads(
            serving.run(command, input=json.dumps(texts)).stdout
        )
        return judged

    return judge


def started(serving: Machine, text: str) -> bool:
    """Whether Postfix starts with this master.cf; it is stopped before, and after."""
    serving.write_text(MASTER_CF, text)
    # On Debian 13 systemd starts it, and at most five times in ten seconds.
    serving.sh(f"touch -d '-10 seconds' {MASTER_CF}; postfix stop || true; {FORGET}")
    return serving.run(["postfix", "start"], check=False).returncode == 0


def test_the_stock_one_is_judged_good(judge: Judge, stock: str) -> None:
    assert judge(stock) == [NOTHING]


def test_what_postconf_refuses_is_fatal(judge: Judge, stock: str) -> None:
    (judgement,) = judge(f"{stock}smtp inet n - yes - - smtpd\n")
    assert 'invalid chroot field "yes"' in judgement["fatal"]


@pytest.mark.parametrize("line", [*ENDS_MASTER, *SERVES_NOBODY])
def test_what_postconf_accepts_and_master_does_not(
    judge: Judge, serving: Machine, stock: str, line: str
) -> None:
    text = f"{stock}{line}\n"
    (judgement,) = judge(text)
    (fault,) = judgement["faults"]
    part, why = {**ENDS_MASTER, **SERVES_NOBODY}[line]
    assert fault["parameter"] == part
    assert why in fault["reason"]
    assert judgement["fatal"] == ""
    assert started(serving, text) is (line in SERVES_NOBODY)
    assert serving.run(["bash", "-c", GREETED], check=False).returncode != 0


def test_two_names_of_one_port_are_one_service(judge: Judge, serving: Machine, stock: str) -> None:
    lines = "submissions inet n - n - - smtpd\n465 inet n - n - - smtpd\n"
    (judgement,) = judge(stock + lines)
    (fault,) = judgement["faults"]
    assert fault == {
        "parameter": "submissions/inet",
        "reason": "465/inet has the same port, 465, and is used",
    }
    assert started(serving, stock + lines)


@pytest.mark.parametrize("address", ["127.0.0.9", "0.0.0.0"])
def test_a_port_that_another_program_listens_on(
    judge: Judge, serving: Machine, stock: str, address: str
) -> None:
    take = ["systemd-run", "--collect", "--unit=taker", "python3", "-m", "http.server"]
    text = f"{stock}2599 inet n - n - - smtpd\n"
    assert started(serving, stock)
    serving.run([*take, "--bind", address, "2599"])
    try:
        serving.wait_until("ss -Hltn 'sport = :2599' | grep -q .")
        (judgement, other) = judge(text, f"{stock}127.0.0.1:2599 inet n - n - - smtpd\n")
        assert not started(serving, text)
    finally:
        serving.run(["systemctl", "stop", "taker"])
    (fault,) = judgement["faults"]
    assert fault["parameter"] == "2599/inet"
    assert "another program listens on port 2599" in fault["reason"]
    assert len(other["faults"]) == (address == "0.0.0.0")
    serving.write_text(MASTER_CF, stock)
    assert judge(text) == [NOTHING]


def test_the_ready_made_state_for_submission_is_judged_good(
    judge: Judge, serving: Machine, stock: str
) -> None:
    """The file is not installed with the package yet."""
    serving.write_text("/root/submission.toml", (CHECKOUT / READY).read_text(encoding="utf-8"))
    candidate = serving.run(["python3", "-B", "-c", READY_MADE], input=stock).stdout
    assert candidate != stock
    assert judge(candidate) == [NOTHING]


def test_a_transport_that_main_cf_names_must_stay(judge: Judge, stock: str) -> None:
    off = stock.replace("\nsmtp      unix", "\n#smtp      unix")
    assert off != stock
    (judgement,) = judge(off)
    named = {(absent["parameter"], absent["name"]) for absent in judgement["absent"]}
    assert ("default_transport", "smtp") in named
    assert ("local_transport", "local") not in named
