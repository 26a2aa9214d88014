"""Proves on a real systemd, journald and dpkg what is assumed about units: decisions rest on it.

Runs inside a machine like inside_systemd.py, with pf-agent installed but not running.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from pf_agent import names
from pf_agent.model import UnitPhase
from pf_agent.postfix.errands import Errands
from tests.machine.inside_checks import checks_of
from tests.machine.inside_systemd import (
    MAIN_CF,
    PATIENCE,
    POSTFIX,
    SLOW,
    Bench,
    kill_dbus,
    run,
    serve_with_bench,
    slow_unit,
)

OUT = "/etc/postfix-out"
ERRANDS = Errands(str(MAIN_CF.parent), names.ERRANDS_SOCKET)
FORGED = """
import sys
from systemd import journal
journal.send("Stopped", MESSAGE_ID="9d1aaa27d60140bd96365438aad20286", UNIT=sys.argv[1],
    INVOCATION_ID=sys.argv[2], JOB_TYPE="stop", JOB_RESULT="done", _PID="1", _UID="0")
"""
MAKE_OUT = f"""
set -e
ip address add 127.0.0.2/8 dev lo
postmulti -e init
postmulti -I postfix-out -e create
postconf -c {OUT} -e 'inet_interfaces = 127.0.0.2' 'inet_protocols = ipv4' \
    'master_service_disable =' 'myhostname = out.example.test' 'mynetworks = 127.0.0.0/8'
postmulti -i postfix-out -e enable
touch -d '10 seconds ago' {OUT}/main.cf {MAIN_CF}
systemctl daemon-reload
"""


def units(bench: Bench) -> list[str]:
    return [unit.name for unit in bench.systemd.units_of(POSTFIX)]


def fresh(bench: Bench) -> None:
    """Have Postfix run and its units followed, with all earlier changes reported."""
    bench.clear()
    bench.restart()
    bench.systemd.follow(units(bench))
    news(bench)


def news(bench: Bench) -> list[str]:
    """Return what was posted so far: the last entry is a job of our own, as an end mark."""
    job = bench.systemd.restart(SLOW)
    found = []
    while (detail := bench.mailbox.get(timeout=PATIENCE).detail) != f"{job} done":
        found.append(detail)
    return found


def until(bench: Bench, detail: str) -> None:
    """Wait until this is posted, whatever comes before."""
    while bench.mailbox.get(timeout=PATIENCE).detail != detail:
        pass


def was_stopped(bench: Bench) -> bool | None:
    return ERRANDS.was_stopped(bench.master())


@contextlib.contextmanager
def no_main_cf() -> Iterator[None]:
    kept = MAIN_CF.with_name("main.cf.kept")
    MAIN_CF.rename(kept)
    try:
        yield
    finally:
        kept.rename(MAIN_CF)


def kill_master() -> None:
    run("kill", "-KILL", Path("/var/spool/postfix/pid/master.pid").read_text().strip())


def wait_failed(bench: Bench) -> None:
    deadline = time.monotonic() + PATIENCE
    while bench.master().phase is not UnitPhase.FAILED:
        assert time.monotonic() < deadline, bench.master()
        time.sleep(0.05)


# --- what a unit is like --------------------------------------------------------------------------


def check_when_it_changed(bench: Bench) -> None:
    """A reload counts as well, if it is the holder's."""
    fresh(bench)
    first = bench.master()
    assert time.time() - PATIENCE < first.changed_at < time.time(), first
    run("systemctl", "reload", first.name)
    second = bench.master()
    assert second.changed_at > first.changed_at, (first, second)
    assert second.invocation == first.invocation, (first, second)
    run("systemctl", "restart", POSTFIX)
    assert bench.master().changed_at > second.changed_at, bench.master()


def check_a_job_is_seen(bench: Bench) -> None:
    fresh(bench)
    job = bench.systemd.restart(POSTFIX)
    assert bench.master().has_job
    bench.heard(job)
    assert not any(unit.has_job for unit in bench.systemd.units_of(POSTFIX))


def check_what_somebody_masked_or_disabled(bench: Bench) -> None:
    fresh(bench)
    before = units(bench)
    assert all(unit.may_start for unit in bench.systemd.units_of(POSTFIX))
    for action, undo in (
        (["mask"], ["unmask"]),
        (["mask", "--runtime"], ["unmask", "--runtime"]),
        (["disable"], ["enable"]),
    ):
        for unit in before:
            if action == ["disable"] and unit != POSTFIX:
                continue  # Debian 12's generator enables it, and systemctl cannot undo that
            run("systemctl", *action, unit)
            found = {state.name: state.may_start for state in bench.systemd.units_of(POSTFIX)}
            run("systemctl", *undo, unit)
            assert found == {name: name != unit for name in before}, (action, unit, found)
    assert all(unit.may_start for unit in bench.systemd.units_of(POSTFIX))


def check_the_condition_of_the_last_start(bench: Bench) -> None:
    fresh(bench)
    assert all(unit.is_met for unit in bench.systemd.units_of(POSTFIX))
    run("systemctl", "stop", *units(bench))
    with no_main_cf():
        assert all(unit.is_met for unit in bench.systemd.units_of(POSTFIX))
        subprocess.run(["systemctl", "start", POSTFIX], check=False)
        whole = bench.systemd.units_of(POSTFIX)[0]
        assert (whole.phase, whole.is_met) == (UnitPhase.DOWN, False), whole
        assert ERRANDS.was_stopped(whole) is False
    never = bench.systemd.units_of("postfix@never.service")[0]
    assert (never.phase, never.is_met, never.invocation) == (UnitPhase.DOWN, True, ""), never


# --- what others do to it -------------------------------------------------------------------------


def check_what_others_ask_for_is_told(bench: Bench) -> None:
    fresh(bench)
    names, holder = units(bench), bench.master().name
    for verb, state in (
        ("restart", "active"),
        ("reload", "active"),
        ("try-restart", "active"),
        ("stop", "inactive"),
        ("start", "active"),
    ):
        run("systemctl", verb, *(names if verb == "stop" else [POSTFIX]))
        told = news(bench)
        print(f"     {verb}: {told}")
        assert f"{holder} {state}" in told, (verb, told)
        assert len(told) == len(set(told)) <= len(names), (verb, told)
    run("systemctl", "start", POSTFIX)
    assert news(bench) == []


def check_our_own_job_is_told_once(bench: Bench) -> None:
    fresh(bench)
    for start, unit in (
        (bench.systemd.restart, POSTFIX),
        (bench.systemd.reload, bench.master().name),
    ):
        assert bench.heard(start(unit)) == "done"
        told = [detail for detail in news(bench) if detail.startswith(unit)]
        assert told == [], told


def check_jobs_of_other_units_wake_nobody(bench: Bench) -> None:
    fresh(bench)
    for _ in range(100):
        run("systemctl", "restart", SLOW)
    assert news(bench) == []


def check_a_master_that_dies_is_told(bench: Bench) -> None:
    for kill in (kill_master, lambda: run("postfix", "stop"), None):
        fresh(bench)
        holder = bench.master().name
        if kill is None:
            run("systemctl", "kill", holder)
        else:
            kill()
        detail = bench.mailbox.get(timeout=PATIENCE).detail
        print(f"     {detail}")
        assert detail.split()[0] == holder, detail
        wait_failed(bench)
        assert was_stopped(bench) is False
    fresh(bench)


def check_it_is_followed_across_connections(bench: Bench) -> None:
    fresh(bench)
    holder = bench.master().name
    kill_dbus()
    until(bench, "the connection to the system bus was lost")
    run("systemctl", "restart", "dbus.service")
    bench.systemd.units_of(POSTFIX)  # any call connects, and follows
    run("systemctl", "restart", POSTFIX)
    until(bench, f"{holder} active")
    run("systemctl", "daemon-reexec")
    news(bench)
    run("systemctl", "restart", POSTFIX)
    until(bench, f"{holder} active")
    bench.systemd.follow([])
    news(bench)
    run("systemctl", "restart", POSTFIX)
    assert news(bench) == []


def check_another_instance(bench: Bench) -> None:
    """A restart of postfix.service restarts each instance: all of them are followed."""
    is_umbrella = len(units(bench)) > 1
    out = f"postfix@{'postfix-out' if is_umbrella else 'out'}.service"
    run("sh", "-c", "postconf -e inet_interfaces=127.0.0.1")
    run("sh", "-c", MAKE_OUT)
    assert bench.systemd.units_of(out)[0].may_start is is_umbrella
    run("systemctl", "start", out)
    fresh(bench)
    bench.systemd.follow([*units(bench), out])
    news(bench)
    before = bench.systemd.units_of(out)[0]
    job = bench.systemd.restart(POSTFIX)
    until(bench, f"{out} active")
    assert bench.polled(job) == "done"
    after = bench.systemd.units_of(out)[0]
    assert after.invocation != before.invocation, after
    assert [state.name for state in bench.systemd.units_of(out)] == [out]
    news(bench)
    run("systemctl", "stop", out)
    assert news(bench) == [f"{out} inactive"]
    stopped = bench.systemd.units_of(out)[0]
    # Debian 13: a unit that is not enabled is forgotten as soon as it is down.
    assert bool(stopped.invocation) is is_umbrella, stopped
    assert ERRANDS.was_stopped(stopped) is (True if is_umbrella else None)


# --- who stopped it -------------------------------------------------------------------------------


def check_who_stopped_it(bench: Bench) -> None:
    fresh(bench)
    assert was_stopped(bench) is False
    holder = bench.master().name
    for stop in (
        ["systemctl", "stop", POSTFIX],
        ["systemctl", "stop", holder],
        ["deb-systemd-invoke", "stop", POSTFIX],
        ["systemctl", "mask", "--runtime", "--now", POSTFIX],
    ):
        run(*stop)
        run("systemctl", "stop", holder)  # waits for it, if only the umbrella was stopped
        assert bench.master().phase is UnitPhase.DOWN, bench.master()
        assert bench.master().result == "success", bench.master()
        assert was_stopped(bench) is True, stop
        run("systemctl", "daemon-reload")
        run("systemctl", "daemon-reexec")
        assert was_stopped(bench) is True, stop
        run("systemctl", "unmask", "--runtime", POSTFIX)
        run("systemctl", "start", POSTFIX)
        assert was_stopped(bench) is False, stop


def check_a_stop_amid_our_restart(bench: Bench) -> None:
    fresh(bench)
    job = bench.systemd.restart(POSTFIX)
    run("systemctl", "stop", *units(bench))
    bench.heard(job)
    assert was_stopped(bench) is True
    print(f"     {bench.master()}")
    fresh(bench)


def check_a_local_user_cannot_forge_it(bench: Bench) -> None:
    fresh(bench)
    state = bench.master()
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    run(*as_nobody, "python3", "-c", FORGED, state.name, state.invocation)
    assert was_stopped(bench) is False
    found = run("journalctl", "-o", "cat", f"UNIT={state.name}", "_UID=65534", "JOB_TYPE=stop")
    assert found == "Stopped", found


def check_a_journal_that_lost_it(bench: Bench) -> None:
    fresh(bench)
    run("systemctl", "stop", *units(bench))
    assert was_stopped(bench) is True
    run("sh", "-c", "rm -rf /run/log/journal/*/* /var/log/journal/*/*")
    run("systemctl", "restart", "systemd-journald")
    assert was_stopped(bench) is None
    fresh(bench)


# --- dpkg -----------------------------------------------------------------------------------------


def check_what_dpkg_is_about(bench: Bench) -> None:
    found = ERRANDS.package()
    assert (found.is_locked, found.state, found.is_whole()) == (False, "installed", True), found
    for name in ("lock", "lock-frontend"):
        with open(f"/var/lib/dpkg/{name}", "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            assert ERRANDS.package().is_locked
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    steps = ("--unpack /srv/postfix/*.deb", "unpacked"), ("--configure -a", "installed")
    for step, state in steps:
        subprocess.run(["sh", "-c", f"dpkg {step}"], env=quiet, check=True, capture_output=True)
        found = ERRANDS.package()
        assert (found.is_locked, found.state) == (False, state), found
        assert found.is_whole() is (state == "installed")
    fresh(bench)


if __name__ == "__main__":
    run("systemctl", "start", "pf-agent-errands.socket")
    with slow_unit(0):
        serve_with_bench(checks_of(globals()))
