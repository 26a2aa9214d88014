"""The verbs diff, apply and check, with the daemon and without it, on the host and beside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from pf_agent import names
from tests.machine.site import DROPIN, MAIN_CF, PENDING, SITE, Site, eventually

RIGHT = "127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64"
WRONG = "0.0.0.0/0"
INTRUDE = f"sed -i 's|^mynetworks *=.*|mynetworks = {WRONG}|' {MAIN_CF}"
ELSEWHERE = "/srv/image"
_ACTIVATION_SECONDS = 150.0


@pytest.fixture
def alone(site: Site) -> Iterator[None]:
    """The daemon is stopped, and starts again at the end."""
    site.machine.run(["systemctl", "stop", "pf-agent"])
    site.forget_restarts()
    yield
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_settled()


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a verb printed for programs."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# diff, and apply --dry-run


@pytest.mark.parametrize("verb", ["diff", "apply --dry-run"])
def test_no_drift_is_told_by_silence(site: Site, verb: str) -> None:
    done = site.agent(*verb.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = site.agent(*verb.split(), "--json")
    assert done.returncode == 0
    assert answer(done) == {"in_sync": True, "drift": [], "diff": "", "instances": {}}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("verb", ["diff", "apply --dry-run"])
def test_drift_is_shown_and_nothing_changed(site: Site, verb: str, user: str) -> None:
    site.machine.sh(INTRUDE)
    drifted = site.read()
    line = site.line_of("mynetworks")
    done = site.agent(*verb.split(), user=user)
    assert done.returncode == 3
    assert f"-mynetworks = {WRONG}\n+mynetworks = {RIGHT}\n" in done.stdout
    sentence = f'mynetworks is "{WRONG}", must be "{RIGHT}" (line {line})\n'
    assert done.stderr == sentence
    found = site.agent(*verb.split(), "--json", user=user)
    assert found.returncode == 3
    assert found.stderr == ""
    assert answer(found) == {
        "in_sync": False,
        "drift": [
            {
                "parameter": "mynetworks",
                "kind": "changed",
                "expected": RIGHT,
                "actual": WRONG,
                "line": line,
            }
        ],
        "diff": done.stdout,
        "instances": {},
    }
    assert site.read() == drifted
    assert site.machine.run(["test", "-e", PENDING], check=False).returncode


# apply


@pytest.mark.usefixtures("alone")
def test_no_activate_leaves_the_rest_to_the_daemon(site: Site) -> None:
    site.machine.sh(INTRUDE)
    before = site.show(site.unit, "InvocationID")
    done = site.agent("apply", "--no-activate")
    assert (done.returncode, done.stdout) == (0, "corrected: mynetworks\n")
    assert site.read() == site.good
    assert site.show(site.unit, "InvocationID") == before
    assert json.loads(site.machine.read_text(PENDING))["parameters"] == ["mynetworks"]
    since = site.cursor()
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_settled()
    assert site.show(site.unit, "InvocationID") != before
    assert len(site.starts(since)) == 1
    # Besides, the aliases are built again: nobody tells this marker from one that a crash left.
    activated = [r for r in site.records("activated", since) if names.FIELD_CYCLE in r]
    assert len(activated) == 1
    assert site.serves()


@pytest.mark.usefixtures("alone")
def test_apply_without_the_daemon_goes_to_the_end(site: Site) -> None:
    site.machine.sh(INTRUDE)
    since = site.cursor()
    done = site.agent("apply", "--json")
    assert done.returncode == 0
    found = answer(done)
    assert found["result"] == "corrected"
    assert found["failure"] is None
    assert [drift["parameter"] for drift in found["drift"]] == ["mynetworks"]
    assert not found["in_sync"]
    assert site.read() == site.good
    assert site.machine.run(["test", "-e", PENDING], check=False).returncode
    assert len(site.starts(since)) == 1
    assert [r[names.FIELD_CYCLE] for r in site.records("activated", since)] == [str(found["cycle"])]
    assert site.serves()
    # Once more: there is nothing to do, and nothing is done.
    done = site.agent("apply")
    assert (done.returncode, done.stdout) == (0, "in sync\n")
    assert len(site.starts(since)) == 1


def test_apply_beside_the_daemon_makes_one_restart(site: Site) -> None:
    site.forget_restarts()
    since = site.cursor()
    site.machine.run(["sh", "-c", f"{INTRUDE} && exec pf-agent apply"], timeout=_ACTIVATION_SECONDS)
    # The verb came back, so it is done, whoever of the two did it.
    assert site.read() == site.good
    assert site.machine.run(["test", "-e", PENDING], check=False).returncode
    site.wait_settled()
    assert site.agent("diff").returncode == 0
    assert len(site.starts(since)) == 1
    eventually(lambda: len(site.records("activated", since)) == 1, "one activation")
    corrected = site.records("drift-corrected", since)
    assert len(corrected) == 1


def test_another_desired_state_is_not_for_the_hosts_own_file(site: Site) -> None:
    done = site.agent("apply", "--desired", DROPIN)
    assert done.returncode == 2
    assert done.stderr.startswith("pf-agent: --desired: the daemon would undo")


def test_apply_needs_root(site: Site) -> None:
    done = site.agent("apply", user="nobody")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run as root" in done.stderr


@pytest.mark.parametrize("words", [[], ["heal"], ["diff", "--loud"], ["diff", "--main-cf"]])
def test_wrong_usage_is_told_apart(site: Site, words: list[str]) -> None:
    done = site.agent(*words)
    assert done.returncode == 2
    assert "usage: pf-agent" in done.stderr
    assert "Traceback" not in done.stderr


# check


def test_check_finds_the_shipped_files_right(site: Site) -> None:
    done = site.agent("check", user="nobody")
    assert (done.returncode, done.stdout) == (0, "/etc/pf-agent: right, 21 parameters\n")
    assert answer(site.agent("check", "--json")) == {
        "ok": True,
        "parameters": 21,
        "problems": [],
        "warnings": [],
    }


@pytest.mark.usefixtures("alone")
def test_check_lists_every_fault(site: Site) -> None:
    options = f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}"
    kept = site.machine.read_bytes(options)
    site.machine.write_text(options, 'mode = "enforced"\n[watch]\nsettle_seconds = "1s"\n')
    site.machine.write_text(
        DROPIN, f'{SITE}"my networks" = "::1"\nmydestination = "a\\nb"\nrelayhost = 1.5\n'
    )
    done = site.agent("check")
    assert done.returncode == 2
    places = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert sorted(places) == [
        f"{options}:1",
        f"{options}:3",
        f"{DROPIN}:4",
        f"{DROPIN}:5",
        f"{DROPIN}:6",
    ]
    found = answer(site.agent("check", "--json"))
    assert found["ok"] is False
    assert found["problems"] == done.stdout.splitlines()
    site.machine.write_text(DROPIN, SITE)
    site.machine.write_bytes(options, kept)
    assert site.agent("check").returncode == 0


# Any file, on any machine


@pytest.fixture
def elsewhere(site: Site) -> Iterator[str]:
    """A folder of nobody's with a main.cf and a desired state; the host's own are out of reach."""
    site.machine.sh(
        f"mkdir {ELSEWHERE} && printf '# theirs\\nmynetworks = {WRONG}\\nbiff = no\\n'"
        f" > {ELSEWHERE}/main.cf && chmod 640 {ELSEWHERE}/main.cf"
        f" && printf '[settings]\\nmynetworks = [\"127.0.0.0/8\"]\\n' > {ELSEWHERE}/mail.toml"
        f" && chown -R nobody {ELSEWHERE} && chmod 700 {names.CONFIG_DIRECTORY}"
    )
    yield ELSEWHERE
    site.machine.sh(f"chmod 755 {names.CONFIG_DIRECTORY}; rm -rf {ELSEWHERE}")


def test_any_file_can_be_corrected_by_anybody(site: Site, elsewhere: str) -> None:
    files = ["--main-cf", f"{elsewhere}/main.cf", "--desired", f"{elsewhere}/mail.toml"]
    state = site.machine.sh(f"find {names.STATE_DIRECTORY} {names.RUN_DIRECTORY} | sort")
    since = site.cursor()
    done = site.agent("diff", *files, user="nobody")
    assert done.returncode == 3
    assert f"-mynetworks = {WRONG}\n+mynetworks = 127.0.0.0/8\n" in done.stdout
    done = site.agent("apply", *files, user="nobody")
    assert (done.returncode, done.stdout) == (0, "corrected: mynetworks\n")
    text = "# theirs\nmynetworks = 127.0.0.0/8\nbiff = no\n"
    assert site.machine.read_text(f"{elsewhere}/main.cf") == text
    shown = site.machine.sh(f"stat -c '%U %a' {elsewhere}/main.cf; ls -A {elsewhere}")
    assert shown == "nobody 640\nmail.toml\nmain.cf\n"
    assert site.agent("diff", *files, user="nobody").returncode == 0
    done = site.agent("apply", *files, user="nobody")
    assert (done.returncode, done.stdout) == (0, "in sync\n")
    # It was none of the host's business.
    assert site.records("drift-corrected", since) == []
    assert site.machine.sh(f"find {names.STATE_DIRECTORY} {names.RUN_DIRECTORY} | sort") == state


def test_a_fault_elsewhere_is_one_line(site: Site, elsewhere: str) -> None:
    desired, main_cf = f"{elsewhere}/mail.toml", f"{elsewhere}/main.cf"
    site.machine.run(["sh", "-c", f"echo 'relayhost = [1]' >> {desired}"])
    done = site.agent("diff", "--main-cf", main_cf, "--desired", desired, user="nobody")
    assert done.returncode == 2
    assert done.stderr.startswith(f"pf-agent: {desired}:3: [settings] relayhost: ")
    assert done.stderr.count("\n") == 1
    gone = f"{elsewhere}/gone.toml"
    done = site.agent("apply", "--main-cf", main_cf, "--desired", gone, user="nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pf-agent: {gone}: No such file or directory")
