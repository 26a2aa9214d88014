"""The mailbox's batches, and a daemon in a process of its own that observes a folder of ours.

Real signals, real inotify, and the real sd_notify(3) protocol on a socket of the test's. What needs
systemd and Postfix, correcting and restarting, is proved on a booted machine.
"""

from __future__ import annotations

import itertools
import os
import queue
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import pytest

from pf_agent.daemon import loop as daemon_module
from pf_agent.daemon.loop import Paths, next_batch
from pf_agent.files.kept_options import NAME
from pf_agent.files.status_file import read_status
from pf_agent.files.store import FileStore
from pf_agent.model import Reason, Suspension, Trigger
from pf_agent.reconcile.suspension import resume
from tests.package import AGENT

OPEN = Trigger(Reason.MAIN_CF_OPEN)
CLOSED = Trigger(Reason.MAIN_CF)
TIMER = Trigger(Reason.TIMER)
PATIENCE = 30.0

# --- next_batch -----------------------------------------------------------------------------------


class LateMailbox(SimpleQueue[Trigger]):
    """Its triggers come one by one, and only to those who wait."""

    def __init__(self, *triggers: Trigger) -> None:
        self.late: Iterator[Trigger] = iter(triggers)

    def get(self, block: bool = True, timeout: float | None = None) -> Trigger:
        for trigger in self.late if block and timeout != 0 else ():
            return trigger
        raise Empty

    def get_nowait(self) -> Trigger:
        raise Empty


class FloodedMailbox(SimpleQueue[Trigger]):
    """It is never empty."""

    def get(self, block: bool = True, timeout: float | None = None) -> Trigger:
        return CLOSED

    def get_nowait(self) -> Trigger:
        return CLOSED


@pytest.mark.parametrize("patience", [0, -1, 0.001])
def test_no_trigger_is_no_batch(patience: float) -> None:
    assert next_batch(SimpleQueue(), patience, PATIENCE) == []


def test_all_that_waits_is_one_batch_in_its_order() -> None:
    mailbox: SimpleQueue[Trigger] = SimpleQueue()
    for trigger in (OPEN, CLOSED, TIMER, CLOSED):
        mailbox.put(trigger)
    assert next_batch(mailbox, 0, PATIENCE) == [OPEN, CLOSED, TIMER, CLOSED]
    assert mailbox.empty()


def test_an_urgent_trigger_is_not_kept_waiting() -> None:
    mailbox = LateMailbox(CLOSED, TIMER)
    assert next_batch(mailbox, PATIENCE, PATIENCE) == [CLOSED]
    assert list(mailbox.late) == [TIMER]


def test_who_has_main_cf_open_may_close_it_first() -> None:
    assert next_batch(LateMailbox(OPEN, OPEN, CLOSED), PATIENCE, PATIENCE) == [OPEN, OPEN, CLOSED]


def test_an_urgent_trigger_ends_the_wait_for_a_writer() -> None:
    mailbox = LateMailbox(OPEN, TIMER, CLOSED)
    assert next_batch(mailbox, PATIENCE, PATIENCE) == [OPEN, TIMER]
    assert list(mailbox.late) == [CLOSED]


def test_a_writer_that_never_closes_is_not_waited_for_for_ever() -> None:
    assert next_batch(LateMailbox(OPEN, OPEN), PATIENCE, PATIENCE) == [OPEN, OPEN]
    noisy = LateMailbox()
    noisy.late = itertools.repeat(OPEN)
    assert len(next_batch(noisy, PATIENCE, 0.0001)) < daemon_module._MOST_IN_A_BATCH


def test_a_flood_of_triggers_is_cut_into_batches() -> None:
    found = next_batch(FloodedMailbox(), PATIENCE, PATIENCE)
    assert len(found) == daemon_module._MOST_IN_A_BATCH


# --- a daemon that observes -----------------------------------------------------------------------

# The journal of the machine that runs the tests is left alone: records are lines of its output.
# As `pf-agent run` does, it loads no more than it uses: else that is most of what it costs.
PROGRAM = """
import sys
from pf_agent.daemon import imports
imports.forgo()
from pf_agent.daemon.loop import Daemon, Paths
from pf_agent.reporting.journal import Journal

class Printed(Journal):
    def emit(self, record):
        print(record.event.value, record.message, flush=True)
    def note(self, message):
        print("note", message, flush=True)
    def fault(self, message, error):
        print("fault", message, repr(error), flush=True)

sys.exit(Daemon(Paths(*sys.argv[1:]), Printed()).run())
"""
OBSERVE = 'mode = "observe"\n[watch]\nsettle_seconds = 0.05\nlook_every_seconds = 86400\n'
DESIRED = '[settings]\nmynetworks = "127.0.0.0/8"\n'
# Never in sync: that would be remembered as good, and Postfix's own programs judge that.
DRIFTED = "mynetworks = 10.0.0.0/8\n"
WORSE = "mynetworks = 0.0.0.0/0\n"


class Site:
    """A host's folders, and the daemon that is run on them."""

    def __init__(self, folder: Path) -> None:
        self.main_cf = folder / "postfix" / "main.cf"
        self.desired = folder / "pf-agent" / "desired.toml"
        self.options = folder / "pf-agent" / "agent.toml"
        self.run_directory = str(folder / "run")
        self.paths = Paths(
            str(self.main_cf), str(self.desired.parent), str(folder / "lib"), self.run_directory
        )
        for path, text in (
            (self.main_cf, DRIFTED),
            (self.desired, DESIRED),
            (self.options, OBSERVE),
        ):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


class Running:
    """A daemon in a process of its own: what it records, and what it tells systemd."""

    def __init__(self, site: Site, process: subprocess.Popen[str], told: socket.socket) -> None:
        self.site = site
        self.process = process
        self._told = told
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._lines.put(line.rstrip("\n"))

    def recorded(self, wanted: str) -> str:
        """The next record that starts with `wanted`."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line.startswith(wanted):
                return line

    def told(self, wanted: str) -> str:
        """The next message to systemd that holds `wanted`."""
        deadline = time.monotonic() + PATIENCE
        alive = True
        while alive and time.monotonic() < deadline:
            alive = self.process.poll() is None
            while select.select([self._told], [], [], 0.1)[0]:
                message = self._told.recv(65536).decode()
                if wanted in message:
                    return message
        return pytest.fail(f"it never told {wanted}; its exit code is {self.process.poll()}")


@pytest.fixture
def site() -> Iterator[Site]:
    """As on a host, everybody may look into its folders; into pytest's own nobody else may."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Site(Path(folder))


Start = Callable[..., Running]


@pytest.fixture
def start(site: Site, tmp_path: Path) -> Iterator[Start]:
    """Start the daemon, with more environment if need be; it is ended with the test."""
    running: list[subprocess.Popen[str]] = []
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)

        def run(**environment: str) -> Running:
            paths = site.paths
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    PROGRAM,
                    paths.main_cf,
                    paths.config_directory,
                    paths.state_directory,
                    paths.run_directory,
                ],
                env={**os.environ, "PYTHONPATH": AGENT, "NOTIFY_SOCKET": path, **environment},
                stdout=subprocess.PIPE,
                text=True,
            )
            running.append(process)
            return Running(site, process, told)

        yield run
        for process in running:
            process.kill()
            with process:
                process.wait()


def status_of(site: Site) -> dict[str, object]:
    found = read_status(site.run_directory)
    assert found is not None
    return found


def problems_of(site: Site) -> list[object]:
    found = status_of(site)["problems"]
    assert isinstance(found, list)
    return found


def test_ready_is_told_after_the_first_look(site: Site, start: Start) -> None:
    daemon = start()
    assert "STATUS=observe mode, would change: " in daemon.told("mynetworks")
    daemon.told("READY=1")
    assert daemon.recorded("").startswith("started pf-agent ")
    assert "10.0.0.0/8" in daemon.recorded("drift-detected mynetworks is ")
    assert status_of(site)["phase"] == "observing"
    assert status_of(site)["pid"] == daemon.process.pid


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def renamed_over(path: Path, text: str) -> None:
    path.with_name("new").write_text(text)
    path.with_name("new").rename(path)


@pytest.mark.parametrize("save", [in_place, renamed_over])
def test_a_write_is_seen_and_left_alone(
    site: Site, start: Start, save: Callable[[Path, str], None]
) -> None:
    daemon = start()
    daemon.told("READY=1")
    save(site.main_cf, WORSE)
    while "0.0.0.0/0" not in daemon.recorded("drift-detected mynetworks is "):
        continue
    assert site.main_cf.read_text() == WORSE
    site.main_cf.unlink()
    daemon.told("STATUS=observe mode, would change: main.cf")
    assert not site.main_cf.exists()


def test_sigterm_ends_it(site: Site, start: Start) -> None:
    daemon = start()
    daemon.told("READY=1")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=PATIENCE) == 0
    daemon.told("STOPPING=1")
    daemon.recorded("stopped")
    assert read_status(site.run_directory) is None
    assert not Path(site.run_directory, "status.json").exists()


def test_sighup_is_a_reload_as_systemd_wants_it(site: Site, start: Start) -> None:
    daemon = start()
    daemon.told("READY=1")
    daemon.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in daemon.told("RELOADING=1")
    daemon.told("READY=1")


def test_a_bad_desired_toml_at_start_is_told_of_and_mended_while_it_runs(
    site: Site, start: Start
) -> None:
    site.desired.write_text("[settings]\nmynetworks = 1.5\n")
    daemon = start()
    daemon.told("READY=1")
    assert f"{site.desired}:2: " in daemon.recorded("config-rejected")
    assert "there has never been a valid desired state" in str(status_of(site)["summary"])
    site.desired.write_text(DESIRED)
    daemon.recorded("drift-detected mynetworks is ")
    assert "error" not in daemon.told("STATUS=observe mode, would change: ")


def test_under_a_bad_desired_toml_the_last_good_one_stays_in_force(
    site: Site, start: Start
) -> None:
    daemon = start()
    daemon.told("READY=1")
    site.desired.write_text("[settings]\nmynetworks = \n")
    daemon.recorded("config-rejected")
    site.main_cf.write_text(WORSE)
    while "0.0.0.0/0" not in daemon.recorded("drift-detected mynetworks is "):
        continue
    assert "1 configuration error" in daemon.told("STATUS=observe mode, would change")


def test_a_configuration_that_nobody_told_of_is_read_after_main_cf_was_looked_at(
    site: Site, start: Start, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    os.link(site.desired, elsewhere)
    daemon = start()
    daemon.told("READY=1")
    daemon.recorded("drift-detected the desired state changed: ")
    elsewhere.write_text(DESIRED.replace("127", "172"))
    renamed_over(site.main_cf, WORSE)
    assert "127.0.0.0/8" in daemon.recorded("drift-detected mynetworks is ")
    assert "172.0.0.0/8" in daemon.recorded("drift-detected mynetworks is ")


def test_what_is_no_main_cf_stalls_it_until_there_is_one_again(site: Site, start: Start) -> None:
    site.main_cf.unlink()
    site.main_cf.mkdir()
    daemon = start()
    assert f"stalled: {site.main_cf}: " in daemon.told("STATUS=")
    daemon.told("READY=1")
    daemon.recorded(f"correction-failed {site.main_cf}: ")
    site.main_cf.rmdir()
    site.main_cf.write_text(DRIFTED)
    daemon.told("STATUS=observe mode, would change")


def test_readiness_that_systemd_did_not_hear_is_told_again(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "late")
    daemon = start(NOTIFY_SOCKET=path, WATCHDOG_USEC="100000")
    daemon.recorded("note notify: ")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
        late.settimeout(PATIENCE)
        late.bind(path)
        while b"READY=1" not in late.recv(65536):
            continue


def test_a_systemd_that_reads_nothing_holds_up_no_look(
    site: Site, start: Start, tmp_path: Path
) -> None:
    daemon = start()
    daemon.told("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                others.sendto(b"STATUS=nobody reads this", str(tmp_path / "notify"))
    for network in ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"):
        renamed_over(site.main_cf, f"mynetworks = {network}\n")
        assert daemon.recorded(f'drift-detected mynetworks is "{network}"')
    daemon.told("nobody reads this")
    daemon.told("STATUS=observe mode")  # again, once there is room


def test_a_status_that_cannot_be_written_is_told_of_and_written_later(
    site: Site, start: Start
) -> None:
    daemon = start()
    daemon.told("READY=1")
    before = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (10, before[1]))
    state = FileStore(site.paths.state_directory, site.paths.run_directory)
    state.suspended.keep_suspension(Suspension(time.time(), None, "anna", "a test"))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.recorded(f"note {site.run_directory}/status.json: File too large; ")
    assert status_of(site)["phase"] == "observing"
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, before)
    daemon.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while status_of(site)["phase"] == "observing" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status_of(site)["phase"] == "suspended"


def test_what_stands_in_the_place_of_the_status_is_moved_away(site: Site, start: Start) -> None:
    in_its_way = Path(site.run_directory, "status.json")
    in_its_way.mkdir(parents=True)
    daemon = start()
    daemon.recorded(f"note {in_its_way}: it was not a regular file, so it is not the agent's; ")
    daemon.told("READY=1")
    assert status_of(site)["phase"] == "observing"


def test_systemds_watchdog_hears_of_it_though_nothing_happens(start: Start) -> None:
    daemon = start(WATCHDOG_USEC="100000")
    daemon.told("READY=1")
    for _ in range(3):
        daemon.told("WATCHDOG=1")


def test_with_a_bad_agent_toml_it_starts_and_only_looks(site: Site, start: Start) -> None:
    site.options.write_text('mode = "enforcing"\n')
    daemon = start()
    daemon.recorded(f"config-rejected {site.options}:1: mode: ")
    daemon.recorded(
        f"config-rejected {site.options}: no valid version is known, so main.cf is only "
    )
    daemon.told("READY=1")
    assert status_of(site)["phase"] == "observing"
    assert len(problems_of(site)) == 2
    assert site.main_cf.read_text() == DRIFTED


def test_with_a_bad_agent_toml_it_starts_as_it_was(site: Site, start: Start) -> None:
    first = start()
    first.told("READY=1")
    first.process.terminate()
    first.process.wait(PATIENCE)
    site.options.write_text('mode = "enforcing"\n')
    daemon = start()
    daemon.recorded(f"config-rejected {site.options}:1: mode: ")
    daemon.told("READY=1")
    assert len(problems_of(site)) == 1
    kept = Path(site.paths.state_directory) / NAME
    assert kept.read_text() == OBSERVE
    assert kept.stat().st_mode & 0o777 == 0o600


def test_while_suspended_it_looks_and_changes_nothing(site: Site, start: Start) -> None:
    site.options.write_text(OBSERVE.replace("observe", "enforce"))
    state = FileStore(site.paths.state_directory, site.paths.run_directory)
    state.prepare()
    state.suspended.keep_suspension(Suspension(time.time(), None, "anna", "a test"))
    daemon = start()
    assert (
        "STATUS=suspended by anna until resumed: a test; would change: mynetworks"
        in daemon.told("STATUS=")
    )
    daemon.told("READY=1")
    daemon.recorded("suspended suspended by anna")
    assert site.main_cf.read_text() == DRIFTED
    # It ends where it must not correct: there is no Postfix here.
    site.options.write_text(OBSERVE)
    assert resume(state.suspended, "bert", time.time())
    daemon.process.send_signal(signal.SIGHUP)
    daemon.recorded("resumed resumed by bert")
    assert "observe mode, would change: mynetworks" in daemon.told("STATUS=observe mode")


def test_a_suspension_ends_by_itself(site: Site, start: Start) -> None:
    state = FileStore(site.paths.state_directory, site.paths.run_directory)
    state.prepare()
    state.suspended.keep_suspension(Suspension(time.time(), time.time() + 1, "anna", ""))
    daemon = start()
    daemon.recorded("resumed resumed by itself: the time is up")
    assert state.suspended.suspension() is None
    daemon.told("STATUS=observe mode, would change")
