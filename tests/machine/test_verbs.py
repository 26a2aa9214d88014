"""The verbs diff, apply and check, with the daemon and without it, on the host and beside it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from pf_agent import names
from tests.machine.site import (
    AGENT_TOML,
    DESIRED_TOML,
    DROPIN,
    EXTRA,
    MAIN_CF,
    PENDING,
    SITE,
    Site,
    eventually,
)

pytestmark = pytest.mark.long

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


# diff, and apply --dry-run, which also says which tables are out of date

STALE: dict[str, dict[str, object]] = {"diff": {}, "apply --dry-run": {"stale_tables": {}}}


@pytest.mark.parametrize("verb", STALE)
def test_no_drift_is_told_by_silence(site: Site, verb: str) -> None:
    done = site.agent(*verb.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = site.agent(*verb.split(), "--json")
    assert done.returncode == 0
    right = {"in_sync": True, "drift": [], "diff": "", "documents": {}, "instances": {}}
    assert answer(done) == right | STALE[verb]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("verb", STALE)
def test_drift_is_shown_and_nothing_changed(site: Site, verb: str, user: str) -> None:
    site.machine.sh(INTRUDE)
    drifted = site.read()
    line = site.line_of("mynetworks")
    place = site.line_of("mynetworks", site.machine.read_bytes(DESIRED_TOML))
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
                "document": "main.cf",
                "parameter": "mynetworks",
                "kind": "changed",
                "expected": RIGHT,
                "actual": WRONG,
                "line": line,
                "place": f"{DESIRED_TOML}:{place}",
            }
        ],
        "diff": done.stdout,
        "documents": {},
        "instances": {},
        **STALE[verb],
    }
    assert site.read() == drifted
    assert site.machine.run(["test", "-e", PENDING], check=False).returncode


# check


def test_a_stray_line_of_main_cf_is_told_where_it_stands(site: Site) -> None:
    site.machine.sh(f"printf 'MyHostname = x\\nfoo_bar = $myhostname\\n' >> {MAIN_CF}")
    checked = site.agent("check")
    line = site.line_of("MyHostname", site.read())
    site.put(site.good)
    site.wait_right()
    assert checked.returncode == 0
    told = [each for each in checked.stdout.splitlines() if each.startswith("warning: ")]
    unknown = "unknown Postfix parameter, it has no effect"
    assert told == [
        f"warning: {MAIN_CF}:{line}: MyHostname: {unknown}; did you mean myhostname?",
        f"warning: {MAIN_CF}:{line + 1}: foo_bar: {unknown}",
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ('myhostname = "vm"', "myhostname: Postfix greets other servers as vm, "),
        (
            'mydestination = "$mydomain, localhost"\nvirtual_mailbox_domains = "EXAMPLE.test"',
            "mydestination: do not list domain example.test in BOTH mydestination and"
            " virtual_mailbox_domains; ",
        ),
    ],
)
def test_what_mail_would_suffer_from_is_told_before_it_is_installed(
    site: Site, asked: str, told: str
) -> None:
    site.agent("suspend", check=True)
    site.machine.write_text(EXTRA, f"[settings]\n{asked}\n")
    checked = site.agent("check")
    site.machine.run(["rm", EXTRA])
    site.agent("resume", check=True)
    assert checked.returncode == 0
    assert f"warning: {EXTRA}:2: {told}" in checked.stdout


def test_the_name_of_a_host_without_a_full_one_is_told(site: Site) -> None:
    site.agent("suspend", check=True)
    site.machine.write_text(EXTRA, 'use_default = ["myhostname", "mydomain"]\n')
    checked = site.agent("check")
    host = site.machine.run(["hostname"]).stdout.strip()
    site.machine.run(["rm", EXTRA])
    site.agent("resume", check=True)
    assert checked.returncode == 0
    told = f"warning: {EXTRA}:1: myhostname: Postfix greets other servers as {host}.localdomain"
    assert told in checked.stdout
    assert f"pf-agent set myhostname={host}.example.org" in checked.stdout


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
def test_without_waiting_the_restart_is_left_to_the_daemon(site: Site) -> None:
    site.machine.sh(INTRUDE)
    since = site.cursor()
    done = site.agent("apply", "--wait=no")
    assert done.returncode == 1
    assert done.stdout.startswith("Postfix is not restarted: pf-agent.service is not running; ")
    assert site.read() == site.good
    assert site.starts(since) == []
    site.machine.write_text(AGENT_TOML, site.closed_window())
    try:
        site.machine.run(["systemctl", "start", "pf-agent"])
        site.machine.wait_until("pf-agent status | grep '^main.cf is correct; Postfix restart due'")
        done = site.agent("apply", "--wait=no")
        assert done.returncode == 0
        assert done.stdout.startswith("in sync; the restart of Postfix is left to pf-agent.service")
        assert ", when the window opens, in " in done.stdout
        # Who would wait is not kept waiting for hours.
        done = site.agent("apply")
        assert done.returncode == 1
        assert "Postfix is not restarted before the window opens, in " in done.stdout
        assert site.starts(since) == []
    finally:
        site.machine.write_text(AGENT_TOML, "")
        site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_settled()
    assert len(site.starts(since)) == 1


@pytest.mark.usefixtures("alone")
def test_apply_tells_what_it_waits_for_on_a_terminal_and_in_a_log_where_it_is_long(
    site: Site,
) -> None:
    moments = site.run_python("import time; print([time.time() - n for n in (43, 40, 35)])")
    site.machine.write_text(f"{names.RUN_DIRECTORY}/{names.RESTARTS}", moments)
    site.machine.sh(INTRUDE)
    done = site.machine.run(["pf-agent", "apply"], timeout=_ACTIVATION_SECONDS)
    told = r"pf-agent: waiting: Postfix is restarted in \d\d s \(at most 3 restarts a minute\)\n"
    assert re.fullmatch(told, done.stderr)
    moments = site.run_python("import time; print([time.time() - n for n in (5, 4)])")
    site.machine.write_text(f"{names.RUN_DIRECTORY}/{names.RESTARTS}", moments)
    site.machine.sh(INTRUDE)
    # script(1) gives it a terminal.
    screen = site.machine.run(
        ["script", "-qec", "pf-agent apply", "/dev/null"], timeout=_ACTIVATION_SECONDS
    ).stdout
    assert "\r\x1b[Kpf-agent: waiting: Postfix is restarted in " in screen
    assert "\r\x1b[Kpf-agent: waiting: Postfix is being restarted" in screen
    *_, last = screen.split("\r\x1b[K")
    assert last.startswith("pf-agent: activated: "), "the line is gone once that is told"
    assert last.endswith("\ncorrected: mynetworks\r\n")


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
    assert (done.returncode, done.stdout) == (0, "/etc/pf-agent: valid, 21 parameters\n")
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
