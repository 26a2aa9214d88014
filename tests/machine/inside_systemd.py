"""What bus/systemd.py and postfix/probe.py claim, proved against a real systemd, D-Bus and Postfix.

Runs inside a booted machine that may be thrown away, as root, with plain python3 and pf_agent
importable (`PYTHONPATH=agent`). Prints one line per check; exits non-zero when one failed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import queue
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace

from pf_agent.bus.systemd import Systemd
from pf_agent.errors import HostError
from pf_agent.model import Greeting, MailLog, Reason, Trigger, UnitPhase, UnitState
from pf_agent.postfix.log import log_tail
from pf_agent.postfix.probe import PATIENCE_SECONDS, probe

MAIN_CF = pathlib.Path("/etc/postfix/main.cf")
POSTFIX = "postfix.service"
SLOW = "pf-slow.service"
TALKS = "pf-talks.service"
BUS_SOCKET = pathlib.Path("/run/dbus/system_bus_socket")
SLOW_UNIT = pathlib.Path(f"/run/systemd/system/{SLOW}")
PATIENCE = 60.0


class Bench:
    """One Systemd with its mailbox, and the machine around it."""

    def __init__(self) -> None:
        self.mailbox: queue.SimpleQueue[Trigger] = queue.SimpleQueue()
        self.systemd = Systemd(self.mailbox.put)

    def heard(self, job: str) -> str:
        """The result that the trigger of `job` brings; fails when none comes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            trigger = self.mailbox.get(timeout=max(deadline - time.monotonic(), 0.1))
            assert trigger.reason is Reason.JOB, trigger
            path, _, result = trigger.detail.partition(" ")
            if path == job:
                return result

    def polled(self, job: str) -> str:
        """The result of `job` by asking alone, as a loop does that no trigger wakes."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            result = self.systemd.job_result(job)
            if result is not None:
                return result
            time.sleep(0.1)
        raise AssertionError(f"{job}: None for ever")

    def restart(self, unit: str = POSTFIX) -> str:
        """Restart, follow the job to its end by trigger, and hold job_result to the same."""
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
        """The unit that holds Postfix's master, on a machine with one instance."""
        return self.systemd.units_of(POSTFIX)[-1]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def main_cf_with(line: str) -> Iterator[None]:
    """main.cf with one line more; put back at the end."""
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
    """A unit whose start job takes some seconds."""
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
def no_bus() -> Iterator[None]:
    """The system bus is down and its socket gone."""
    run("systemctl", "stop", "dbus.socket", "dbus.service")
    BUS_SOCKET.unlink(missing_ok=True)
    try:
        yield
    finally:
        run("systemctl", "start", "dbus.socket", "dbus.service")


def refusal(ask: Callable[[str], object], unit: str) -> str:
    """What `ask` says when it raises HostError for `unit`: always one line."""
    try:
        ask(unit)
    except HostError as error:
        words = str(error)
    else:
        raise AssertionError(f"no error for {unit}")
    assert "\n" not in words, words
    print(f"     {words}")
    return words


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
    """A unit of another instance, loaded and failed, is no trouble of the default one's."""
    before = [unit.name for unit in bench.systemd.units_of(POSTFIX)]
    elsewhere = "postfix@elsewhere.service"
    subprocess.run(["systemctl", "restart", elsewhere], check=False, capture_output=True)
    try:
        assert [unit.name for unit in bench.systemd.units_of(POSTFIX)] == before
        assert [unit.name for unit in bench.systemd.units_of(elsewhere)] == [elsewhere]
    finally:
        bench.systemd.reset_failed([elsewhere])


def ask(banner: str, port: int = 25, patience: float = PATIENCE_SECONDS) -> str:
    """What is wrong with Postfix at its port."""
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
    """The job ends when master was sent its signal; an idle smtpd may greet for a moment yet."""
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
    """systemd queues a job for it all the same, or says at once that it is not applicable."""
    with slow_unit():
        try:
            result = bench.reload(SLOW)
        except HostError as error:
            print(f"     {error}")
        else:
            assert result != "done", result


def check_what_a_unit_logged_is_found_at_once(bench: Bench) -> None:
    """Also what journald has not looked at yet, and what was logged by programs that have ended."""
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
        words = refusal(bench.systemd.restart, SLOW)
        assert "systemctl unmask" in words, words
    finally:
        run("systemctl", "unmask", "--runtime", SLOW)


def check_start_is_not_followed(bench: Bench) -> None:
    """A unit is started with its instance, and neither its end nor its failure comes back."""
    told = pathlib.Path("/run/pf-told")
    template = SLOW_UNIT.with_name("pf-told@.service")
    template.write_text(
        f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %i >> {told}; exit 3'\n",
        encoding="ascii",
    )
    run("systemctl", "daemon-reload")
    bench.systemd.start("pf-told@12.service")
    bench.systemd.start("pf-told@postfix-out:7.service")
    deadline = time.monotonic() + PATIENCE
    while not told.exists() or len(told.read_text().splitlines()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(told.read_text().splitlines()) == ["12", "postfix-out:7"]
    with slow_unit(0):
        assert bench.restart(SLOW) == "done"  # its end is heard after those of the others
    assert bench.mailbox.empty()
    words = refusal(bench.systemd.start, "pf-nowhere@12.service")
    assert "has no such unit" in words, words
    assert "Postfix" not in words, words


def check_dead_postfix_is_seen(bench: Bench) -> None:
    bench.clear()
    with main_cf_with("message_size_limit = ten"):
        result = bench.restart()
        whole, master = bench.systemd.units_of(POSTFIX)[0], bench.master()
        assert master.phase is UnitPhase.FAILED, master
        print(f"     job {result}; {whole.name} {whole.phase.value}; {master.name} failed")
        if master.name != whole.name:
            # Debian 12: only the instance tells.
            assert result == "done", result
            assert whole.phase is UnitPhase.UP, whole
        else:
            assert result == "failed", result
    bench.clear()
    assert bench.restart() == "done"
    assert bench.master().phase is UnitPhase.UP


def check_start_limit_and_its_cure(bench: Bench) -> None:
    bench.clear()
    for _ in range(20):
        bench.restart()
        if bench.master().result == "start-limit-hit":
            break
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
    gc.set_threshold(10)
    try:
        for _ in range(1000):
            bench.systemd.close()
            assert bench.systemd.units_of(POSTFIX)
    finally:
        gc.set_threshold(*usual)


def check_dbus_daemon_killed(bench: Bench) -> None:
    assert bench.restart() == "done"
    kill_dbus()
    run("systemctl", "restart", "dbus.service")
    assert bench.restart() == "done"
    kill_dbus()
    # Not started by hand this time: our own call wakes it through its socket.
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
    """dbus-daemon stopped in its tracks: the socket takes callers and nobody answers them."""
    pid = run("systemctl", "show", "-P", "MainPID", "dbus.service")
    assert pid != "0"
    other = Bench()
    run("kill", "-STOP", pid)
    try:
        words = refusal(other.systemd.restart, SLOW)
        assert "no answer within" in words, words
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
    # The umbrella alone would be down before its instance is.
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
        words = refusal(bench.systemd.restart, POSTFIX)
        assert "over the system bus" in words, words
    bench.clear()
    assert bench.restart() == "done"


CHECKS: tuple[Callable[[Bench], None], ...] = (
    check_restart_is_followed,
    check_instance_is_found,
    check_another_instance_is_not_ours,
    check_reload_is_followed,
    check_process_from_before_a_reload_goes_soon,
    check_reload_of_a_broken_main_cf,
    check_unit_that_cannot_reload,
    check_what_a_unit_logged_is_found_at_once,
    check_restart_does_not_wait,
    check_second_restart_joins_the_first,
    check_superseded_job_is_canceled,
    check_no_end_is_missed,
    check_unknown_unit_in_words,
    check_masked_unit_in_words,
    check_start_is_not_followed,
    check_dead_postfix_is_seen,
    check_start_limit_and_its_cure,
    check_connections_come_and_go,
    check_dbus_daemon_killed,
    check_dbus_daemon_killed_amid_a_job,
    check_end_that_nobody_heard,
    check_bus_that_nobody_serves,
    check_systemd_reexecuted_amid_a_job,
    check_close_and_reopen,
    check_probe_finds_the_greeting,
    check_probe_finds_a_bogus_restriction,
    check_probe_while_postfix_is_stopped,
    check_no_bus_in_words,
)


def main() -> int:
    """Run every check; 0 when all held."""
    bench = Bench()
    failed = 0
    for check in CHECKS:
        if sys.argv[1:] and check.__name__ not in sys.argv[1:]:
            continue
        try:
            check(bench)
        except Exception:  # noqa: BLE001 - one failed check must not hide the next
            failed += 1
            print(f"FAIL {check.__name__}")
            traceback.print_exc(file=sys.stdout)
        else:
            print(f"ok   {check.__name__}", flush=True)
    bench.systemd.close()
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # as pf_agent.cli.main.entry does, and for its reason
