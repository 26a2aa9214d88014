"""Proves on a real systemd, D-Bus and Postfix what bus/systemd.py and postfix/probe.py claim.

Runs inside a booted throw-away machine, as root, with plain python3 and pf_agent importable.
inside_checks.py says how it is asked.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import queue
import re
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from pf_agent.bus.starts import start_unit
from pf_agent.bus.systemd import Systemd
from pf_agent.errors import GaveWay, HostError, NotBegun
from pf_agent.model import Greeting, MailLog, Reason, Trigger, UnitPhase, UnitState
from pf_agent.postfix.log import log_tail
from pf_agent.postfix.probe import PATIENCE_SECONDS, probe
from tests.machine.inside_checks import checks_of, serve

MAIN_CF = pathlib.Path("/etc/postfix/main.cf")
POSTFIX = "postfix.service"
SLOW = "pf-slow.service"
TALKS = "pf-talks.service"
BETWEEN = pathlib.Path("/run/pf-between")
BUS_SOCKET = pathlib.Path("/run/dbus/system_bus_socket")
SLOW_UNIT = pathlib.Path(f"/run/systemd/system/{SLOW}")
PATIENCE = 60.0


class Bench:
    """One Systemd with its mailbox, and the machine around it."""

    def __init__(self) -> None:
        self.mailbox: queue.SimpleQueue[Trigger] = queue.SimpleQueue()
        self.systemd = Systemd(self.mailbox.put)

    def heard(self, job: str) -> str:
        """Return the result that the trigger of `job` brings; fail if none comes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            trigger = self.mailbox.get(timeout=max(deadline - time.monotonic(), 0.1))
            assert trigger.reason is Reason.JOB, trigger
            path, _, result = trigger.detail.partition(" ")
            if path == job:
                return result

    def polled(self, job: str) -> str:
        """Return the result of `job` by polling only, like a loop that no trigger wakes."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            result = self.systemd.job_result(job)
            if result is not None:
                return result
            time.sleep(0.1)
        raise AssertionError(f"{job}: None for ever")

    def restart(self, unit: str = POSTFIX) -> str:
        """Restart, follow the job to its end by trigger, and compare job_result with that."""
        job = self.systemd.restart(unit)
        result = self.heard(job)
        assert self.systemd.job_result(job) == result
        return result

    def reload(self, unit: str) -> str:
        """Reload, and follow the job in the same way."""
        job = self.systemd.reload(unit)
        result = self.heard(job)
        assert self.systemd.job_result(job) == result
        return result

    def clear(self) -> None:
        self.systemd.reset_failed(unit.name for unit in self.systemd.units_of(POSTFIX))

    def master(self) -> UnitState:
        """Return the unit that holds Postfix's master, on a machine with one instance."""
        return self.systemd.units_of(POSTFIX)[-1]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def main_cf_with(line: str) -> Iterator[None]:
    """Add one line to main.cf; restore it at the end."""
    kept = MAIN_CF.read_bytes()
    _install(kept + f"\n{line}\n".encode())
    try:
        yield
    finally:
        _install(kept)


def _install(text: bytes) -> None:
    MAIN_CF.write_bytes(text)
    # Postfix waits about 2 s in each program that finds main.cf just modified.
    past = time.time() - 3
    os.utime(MAIN_CF, (past, past))


@contextlib.contextmanager
def slow_unit(seconds: float = 3) -> Iterator[None]:
    """Provide a unit whose start job takes some seconds."""
    SLOW_UNIT.parent.mkdir(parents=True, exist_ok=True)
    SLOW_UNIT.write_text(
        "[Unit]\nStartLimitIntervalSec=0\n"
        f"[Service]\nType=oneshot\nExecStart=/bin/sleep {seconds}\n",
        encoding="ascii",
    )
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        run("systemctl", "stop", SLOW)
        SLOW_UNIT.unlink()
        run("systemctl", "daemon-reload")


@contextlib.contextmanager
def start_limit(unit: str, starts: int) -> Iterator[None]:
    """Let a unit be started so often: a busy host may take too long for Postfix's own limit."""
    dropin = SLOW_UNIT.with_name(f"{unit}.d") / "limit.conf"
    dropin.parent.mkdir(parents=True, exist_ok=True)
    dropin.write_text(f"[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst={starts}\n")
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        dropin.unlink()
        run("systemctl", "daemon-reload")


@contextlib.contextmanager
def no_bus() -> Iterator[None]:
    """Stop the system bus and remove its socket."""
    run("systemctl", "stop", "dbus.socket", "dbus.service")
    BUS_SOCKET.unlink(missing_ok=True)
    try:
        yield
    finally:
        run("systemctl", "start", "dbus.socket", "dbus.service")


class Between:
    """Carries messages between us and the system bus, and loses answers to RestartUnit.

    The next calls end as `ends` says, one after the other: "unanswered" or "cut off". systemd gets
    each of them all the same.
    """

    def __init__(self, *ends: str) -> None:
        self._ends = list(ends)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(BETWEEN))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @classmethod
    @contextlib.contextmanager
    def us_and_the_bus(cls, *ends: str) -> Iterator[Bench]:
        between = cls(*ends)
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={BETWEEN}"
        bench = Bench()
        try:
            yield bench
        finally:
            bench.systemd.close()
            del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
            between._listener.close()
            BETWEEN.unlink()
        assert not between._ends, between._ends

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                ours, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(ours,), daemon=True).start()

    def _carry(self, ours: socket.socket) -> None:
        with ours, socket.socket(socket.AF_UNIX) as bus:
            bus.connect(str(BUS_SOCKET))
            while True:
                ready, _, _ = select.select([ours, bus], [], [])
                data = ready[0].recv(65536)
                if not data:
                    return
                (bus if ready[0] is ours else ours).sendall(data)
                if b"RestartUnit" in data and ready[0] is ours and self._ends:
                    # systemd refuses who has hung up: it asks the bus who that is.
                    bus.recv(65536)
                    if self._ends.pop(0) == "unanswered":
                        while ours.recv(65536):
                            pass
                    return


def failure(ask: Callable[[str], object], unit: str) -> HostError:
    """Return the HostError that `ask` raises for `unit`; its message is always one line."""
    try:
        ask(unit)
    except HostError as error:
        failed = error
    else:
        raise AssertionError(f"no error for {unit}")
    assert "\n" not in str(failed), failed
    print(f"     {failed}")
    return failed


def refusal(ask: Callable[[str], object], unit: str) -> str:
    """Return the message of that error."""
    return str(failure(ask, unit))


def kill_dbus() -> None:
    run("systemctl", "kill", "--signal=KILL", "--kill-who=main", "dbus.service")


def check_restart_is_followed(bench: Bench) -> None:
    before = bench.systemd.units_of(POSTFIX)
    assert bench.restart() == "done"
    after = bench.systemd.units_of(POSTFIX)
    assert [unit.name for unit in after] == [unit.name for unit in before]
    for old, new in zip(before, after, strict=True):
        assert new.phase is UnitPhase.UP, new
        assert re.fullmatch("[0-9a-f]{32}", new.invocation), new
        assert new.invocation != old.invocation, (old, new)
        shown = run("systemctl", "show", "-P", "InvocationID", new.name)
        assert new.invocation == shown, (new, shown)


def check_instance_is_found(bench: Bench) -> None:
    names = [unit.name for unit in bench.systemd.units_of(POSTFIX)]
    with_master = [POSTFIX]
    if run("systemctl", "show", "-P", "Type", POSTFIX) == "oneshot":
        with_master.append("postfix@-.service")
    assert names == with_master, names
    held = run("systemctl", "status", "--no-pager", names[-1])
    assert "sbin/master" in held, held


def check_another_instance_is_not_ours(bench: Bench) -> None:
    """A unit of another instance, loaded and failed, does not concern the default one."""
    before = [unit.name for unit in bench.systemd.units_of(POSTFIX)]
    elsewhere = "postfix@elsewhere.service"
    subprocess.run(["systemctl", "restart", elsewhere], check=False, capture_output=True)
    try:
        assert [unit.name for unit in bench.systemd.units_of(POSTFIX)] == before
        assert [unit.name for unit in bench.systemd.units_of(elsewhere)] == [elsewhere]
    finally:
        bench.systemd.reset_failed([elsewhere])


def ask(banner: str, port: int = 25, patience: float = PATIENCE_SECONDS) -> str:
    """Return what is wrong with Postfix at its port."""
    return probe(Greeting("127.0.0.1", port, banner), patience).trouble


def check_reload_is_followed(bench: Bench) -> None:
    bench.clear()
    assert bench.restart() == "done"
    before = bench.systemd.units_of(POSTFIX)
    with main_cf_with("smtpd_banner = reloaded.example ESMTP"):
        assert bench.reload(bench.master().name) == "done"
        after = bench.systemd.units_of(POSTFIX)
        assert [replace(unit, changed_at=0.0) for unit in after] == [
            replace(unit, changed_at=0.0) for unit in before
        ]
        assert ask("reloaded.example ESMTP") == ""
    assert bench.reload(bench.master().name) == "done"


def check_process_from_before_a_reload_goes_soon(bench: Bench) -> None:
    """The job ends when master was sent its signal; an idle smtpd may greet a moment longer."""
    bench.clear()
    assert bench.restart() == "done"
    for number in range(30):
        banner = f"number{number}.example ESMTP"
        with main_cf_with(f"smtpd_banner = {banner}"):
            assert bench.reload(bench.master().name) == "done"
            deadline = time.monotonic() + 3
            while answer := ask(banner):
                assert time.monotonic() < deadline, (number, answer)


def check_reload_of_a_broken_main_cf(bench: Bench) -> None:
    """`postfix reload` reads the file first: the old master goes on, and the job says so."""
    bench.clear()
    assert bench.restart() == "done"
    with main_cf_with("message_size_limit = ten"):
        result = bench.reload(bench.master().name)
        assert result == "failed", result
        assert bench.master().phase is UnitPhase.UP, bench.master()
    assert bench.restart() == "done"


def check_unit_that_cannot_reload(bench: Bench) -> None:
    """systemd still queues a job for it, or says at once that it is not applicable."""
    with slow_unit():
        try:
            result = bench.reload(SLOW)
        except HostError as error:
            print(f"     {error}")
        else:
            assert result != "done", result


def check_what_a_unit_logged_is_found_at_once(bench: Bench) -> None:
    """Also what journald has not read yet, and what programs logged that have exited."""
    since = time.time()
    talk = (
        "seq -f 'before %g' 30; echo 'fatal: bind: in use'; seq -f 'after %g' 30;"
        " echo '<4>short of breath'; logger -p mail.crit -t postfix/smtpd 'fatal: gone';"
        " exit 1"
    )
    options = (
        f"--unit={TALKS}",
        "--description=Talk",
        "--property=SyslogIdentifier=postfix/talks",
        "--wait",
        "--quiet",
    )
    subprocess.run(["systemd-run", *options, "sh", "-c", talk], check=False, capture_output=True)
    elsewhere = ("logger", "-p", "mail.crit", "-t")
    run("systemd-run", "--wait", "--quiet", *elsewhere, "opendkim", "fatal: another one")
    try:
        lines = log_tail([TALKS], since, MailLog(), most=8)
    finally:
        bench.systemd.reset_failed([TALKS])
    for bad in ("postfix/talks: fatal: bind: in use", "postfix/talks: short of breath"):
        assert bad in lines, lines
    assert "postfix/smtpd: fatal: gone" in lines, lines
    assert any(line.startswith(f"systemd: {TALKS}: Failed with") for line in lines), lines
    assert "opendkim: fatal: another one" not in lines, lines
    assert not any("before" in line for line in lines), lines
    assert len(lines) == 8, lines
    assert log_tail([TALKS], time.time(), MailLog(), most=8) == ()


def check_restart_does_not_wait(bench: Bench) -> None:
    with slow_unit():
        job = bench.systemd.restart(SLOW)
        seen = set()
        while bench.systemd.job_result(job) is None:
            seen.add(bench.systemd.units_of(SLOW)[0].phase)
            time.sleep(0.02)
        assert UnitPhase.CHANGING in seen, seen
        assert bench.heard(job) == "done"


def check_second_restart_joins_the_first(bench: Bench) -> None:
    with slow_unit():
        first = bench.systemd.restart(SLOW)
        assert bench.systemd.restart(SLOW) == first
        assert bench.heard(first) == "done"
        assert bench.systemd.job_result(first) == "done"


def check_superseded_job_is_canceled(bench: Bench) -> None:
    with slow_unit():
        first = bench.systemd.restart(SLOW)
        run("systemctl", "stop", "--no-block", SLOW)
        assert bench.heard(first) == "canceled"


def check_no_end_is_missed(bench: Bench) -> None:
    """Jobs so short that they may end before the call that starts them has returned."""
    with slow_unit(0):
        for _ in range(200):
            assert bench.restart(SLOW) == "done"
    assert bench.mailbox.empty()


def check_unknown_unit_in_words(bench: Bench) -> None:
    for ask in (bench.systemd.restart, bench.systemd.reload, bench.systemd.units_of):
        words = refusal(ask, "pf-nowhere.service")
        assert "has no such unit" in words, words
        assert "pf-nowhere.service" in words, words
    bench.systemd.reset_failed(["pf-nowhere.service"])


def check_masked_unit_in_words(bench: Bench) -> None:
    run("systemctl", "mask", "--runtime", SLOW)
    try:
        error = failure(bench.systemd.restart, SLOW)
        assert "systemctl unmask" in str(error), error
        assert isinstance(error, NotBegun), error
        with Between.us_and_the_bus("cut off") as other:
            error = failure(other.systemd.restart, SLOW)
            assert "systemctl unmask" in str(error), error
            assert not isinstance(error, NotBegun), "the answer to the first call was lost"
    finally:
        run("systemctl", "unmask", "--runtime", SLOW)


def check_restart_whose_answer_is_lost(bench: Bench) -> None:
    """It may be carried out, and here it is: whoever counts restarts has to count it."""
    for ends in (["unanswered"], ["cut off", "cut off"]):
        with slow_unit(30), Between.us_and_the_bus(*ends) as other:
            error = failure(other.systemd.restart, SLOW)
            assert not isinstance(error, NotBegun), error
            assert bench.systemd.units_of(SLOW)[0].phase is UnitPhase.CHANGING
    with slow_unit(0), Between.us_and_the_bus("cut off") as other:
        assert other.restart(SLOW) == "done"


def check_start_is_not_followed(bench: Bench) -> None:
    """A unit is started with its instance, and neither its end nor its failure is reported."""
    told = pathlib.Path("/run/pf-told")
    template = SLOW_UNIT.with_name("pf-told@.service")
    template.write_text(
        f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %i >> {told}; exit 3'\n",
        encoding="ascii",
    )
    run("systemctl", "daemon-reload")
    start_unit("pf-told@12.service")
    start_unit("pf-told@postfix-out:7.service")
    deadline = time.monotonic() + PATIENCE
    while not told.exists() or len(told.read_text().splitlines()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(told.read_text().splitlines()) == ["12", "postfix-out:7"]
    with slow_unit(0):
        assert bench.restart(SLOW) == "done"  # its end is received after those of the others
    assert bench.mailbox.empty()
    words = refusal(start_unit, "pf-nowhere@12.service")
    assert "has no such unit" in words, words
    assert "Postfix" not in words, words


def check_a_call_gives_way(bench: Bench) -> None:
    """dbus-daemon stands still: a call is not waited for where main.cf waits, and works later."""
    before = bench.master()
    pid = run("systemctl", "show", "-P", "MainPID", "dbus.service")
    run("kill", "-STOP", pid)
    try:
        caller = threading.Timer(0.5, bench.systemd.give_way)
        caller.start()
        assert_gives_way(bench.systemd)
        awaited = Systemd(bench.mailbox.put, lambda: True)
        assert_gives_way(awaited)  # it has no connection yet
    finally:
        run("kill", "-CONT", pid)
    assert bench.master() == before
    assert answered(awaited)[-1] == before
    awaited.close()


def answered(systemd: Systemd) -> tuple[UnitState, ...]:
    """What it says in the end, though something waits for the acting thread all the time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return systemd.units_of(POSTFIX)
        except GaveWay:
            assert time.monotonic() < deadline


def assert_gives_way(systemd: Systemd) -> None:
    try:
        systemd.units_of(POSTFIX)
    except GaveWay as error:
        print(f"     {error}")
    else:
        raise AssertionError("it was answered")


def check_dead_postfix_is_seen(bench: Bench) -> None:
    bench.clear()
    with main_cf_with("message_size_limit = ten"):
        result = bench.restart()
        whole, master = bench.systemd.units_of(POSTFIX)[0], bench.master()
        assert master.phase is UnitPhase.FAILED, master
        print(f"     job {result}; {whole.name} {whole.phase.value}; {master.name} failed")
        if master.name != whole.name:
            # Debian 12: only the instance is reported.
            assert result == "done", result
            assert whole.phase is UnitPhase.UP, whole
        else:
            assert result == "failed", result
    bench.clear()
    assert bench.restart() == "done"
    assert bench.master().phase is UnitPhase.UP


def check_start_limit_and_its_cure(bench: Bench) -> None:
    with start_limit(bench.master().name, 2):
        bench.clear()
        for _ in range(3):
            bench.restart()
        units = bench.systemd.units_of(POSTFIX)
        assert units[-1].result == "start-limit-hit", units
        assert units[-1].phase is UnitPhase.FAILED, units
        bench.clear()
        assert bench.restart() == "done"
        assert all(unit.phase is UnitPhase.UP for unit in bench.systemd.units_of(POSTFIX))
    bench.clear()


def check_connections_come_and_go(bench: Bench) -> None:
    """The end of one does not hold up the next, wherever Python collects its garbage."""
    usual = gc.get_threshold()
    gc.freeze()  # the modules are no garbage, and need not be searched each time
    gc.set_threshold(10)
    try:
        for _ in range(300):
            bench.systemd.close()
            assert bench.systemd.units_of(POSTFIX)
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def check_dbus_daemon_killed(bench: Bench) -> None:
    assert bench.restart() == "done"
    kill_dbus()
    run("systemctl", "restart", "dbus.service")
    assert bench.restart() == "done"
    kill_dbus()
    # Not started by hand this time: our own call starts it through its socket.
    assert bench.restart() == "done"


def check_dbus_daemon_killed_amid_a_job(bench: Bench) -> None:
    with slow_unit():
        job = bench.systemd.restart(SLOW)
        kill_dbus()
        assert bench.heard(job) == "unheard"
        result = bench.polled(job)
        assert result in ("done", "gone"), result
        print(f"     dbus-daemon killed amid a job: {result}")


def check_end_that_nobody_heard(bench: Bench) -> None:
    with slow_unit():
        job = bench.systemd.restart(SLOW)
        with no_bus():
            assert bench.heard(job) == "unheard"
            assert bench.systemd.job_result(job) is None
            while run("systemctl", "show", "-P", "ActiveState", SLOW) == "activating":
                time.sleep(0.1)
        assert bench.polled(job) == "gone"
    assert bench.restart() == "done"


def check_bus_that_nobody_serves(bench: Bench) -> None:
    """dbus-daemon is suspended: its socket accepts callers, and nothing answers them."""
    pid = run("systemctl", "show", "-P", "MainPID", "dbus.service")
    assert pid != "0"
    other = Bench()
    run("kill", "-STOP", pid)
    try:
        error = failure(other.systemd.restart, SLOW)
        assert "no answer within" in str(error), error
        assert isinstance(error, NotBegun), error
    finally:
        run("kill", "-CONT", pid)
    assert other.restart() == "done"
    other.systemd.close()


def check_systemd_reexecuted_amid_a_job(bench: Bench) -> None:
    with slow_unit():
        job = bench.systemd.restart(SLOW)
        run("systemctl", "daemon-reexec")
        result = bench.polled(job)
        assert result in ("done", "gone"), result
        print(f"     systemd re-executed amid a job: {result}")
    bench.clear()
    assert bench.restart() == "done"


def check_close_and_reopen(bench: Bench) -> None:
    bench.systemd.close()
    bench.systemd.close()
    bench.clear()
    assert bench.restart() == "done"


def check_probe_finds_the_greeting(bench: Bench) -> None:
    bench.clear()
    assert bench.restart() == "done"
    banner = run("postconf", "-xh", "smtpd_banner")
    assert ask(banner) == ""
    assert ask("") == ""
    wrong = ask("elsewhere.example ESMTP")
    assert "greets as" in wrong, wrong
    assert "elsewhere.example" in wrong, wrong
    closed = ask(banner, port=24, patience=0.2)
    assert "no connection" in closed, closed


def check_probe_finds_a_bogus_restriction(bench: Bench) -> None:
    bench.clear()
    with main_cf_with("smtpd_recipient_restrictions = bogus"):
        assert bench.restart() == "done"
        assert bench.master().phase is UnitPhase.UP
        answer = ask(run("postconf", "-xh", "smtpd_banner"))
        assert "RCPT got 451" in answer, answer
        print(f"     {answer}")
    assert bench.restart() == "done"
    assert ask("") == ""


def check_probe_while_postfix_is_stopped(bench: Bench) -> None:
    # The umbrella unit alone would be down before its instance is.
    run("systemctl", "stop", *(unit.name for unit in bench.systemd.units_of(POSTFIX)))
    answer = ask("", patience=0.2)
    assert "no connection" in answer, answer
    bench.clear()
    job = bench.systemd.restart(POSTFIX)
    assert ask("", patience=PATIENCE) == ""
    assert bench.heard(job) == "done"


def check_no_bus_in_words(bench: Bench) -> None:
    bench.systemd.close()
    with no_bus():
        error = failure(bench.systemd.restart, POSTFIX)
        assert "over the system bus" in str(error), error
        assert isinstance(error, NotBegun), error
    bench.clear()
    assert bench.restart() == "done"


def serve_with_bench(checks: Mapping[str, Callable[[Bench], None]]) -> None:
    """Run checks as they are asked for, each with a bench of its own."""

    def run_check(check: Callable[[Bench], None]) -> None:
        bench = Bench()
        check(bench)
        bench.systemd.close()

    serve({name: partial(run_check, check) for name, check in checks.items()})


if __name__ == "__main__":
    serve_with_bench(checks_of(globals()))
