"""Nobody who is told holds up a correction: each hangs in turn, and drift is healed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pf_agent import names
from pf_agent.words.fields import moment_in
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, INTRUDE, MAIN_CF, SETTLE_SECONDS, Site, eventually
from tests.machine.test_told import FETCH, PLACE, TEXTFILE, TOLD, UNIT

pytestmark = pytest.mark.usefixtures("at_rest")

OTHER_PLACE = "127.0.0.1:9826"
JOURNAL_SOCKET = "/run/systemd/journal/socket"
NOTIFY_SOCKET = "/run/systemd/notify"
DRIFTS = 3

# Says what nobody reads until no more is taken, from a new socket either.
FILL = """
import socket, sys
place, word = sys.argv[1:]
said = 1
while said:
    said = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.setblocking(False)
        try:
            while True:
                link.sendto(word.encode(), place)
                said += 1
        except BlockingIOError:
            pass
"""
# A file system that does not answer: autofs, whose daemon mounts nothing (autofs(5)). Catatonic,
# it lets all go who wait; what is done by the daemon's own process group waits for nothing.
HANG = """
import ctypes, fcntl, os, sys
folder = sys.argv[1].encode()
libc = ctypes.CDLL(None, use_errno=True)
os.setpgid(0, 0)
asked, told = os.pipe()
options = f"fd={told},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct".encode()
if libc.mount(b"hung", folder, b"autofs", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
root = os.open(folder, os.O_RDONLY)
print("hung", flush=True)
os.read(asked, 1)
print("asked", flush=True)
sys.stdin.read()
fcntl.ioctl(root, 0x9362, 0)  # AUTOFS_IOC_CATATONIC
os.close(root)
libc.umount2(folder, 2)  # MNT_DETACH
"""
# Has who makes a new status.json wait in open(2), as a virus scanner does that does not answer
# (fanotify(7), FAN_OPEN_PERM), until it ends. All else in the folder is let through.
HOLD = """
import ctypes, os, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
scanner = libc.fanotify_init(0x4, os.O_RDONLY)  # FAN_CLASS_CONTENT
opens = ctypes.c_uint64(0x10000 | 0x08000000)  # FAN_OPEN_PERM, FAN_EVENT_ON_CHILD
if libc.fanotify_mark(scanner, 1, opens, -100, sys.argv[1].encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
def answer():
    while True:
        handle = struct.unpack("=IBBHQii", os.read(scanner, 24))[5]  # one event at a time
        if os.readlink(f"/proc/self/fd/{handle}").endswith("/.status.json.new"):
            print("asked", flush=True)
            continue  # an answer names the handle: no other event may get the same
        os.write(scanner, struct.pack("=iI", handle, 1))  # FAN_ALLOW
        os.close(handle)
threading.Thread(target=answer, daemon=True).start()
print("hung", flush=True)
sys.stdin.read()
"""
# A client that has begun a request, and says a byte every now and then, for ever.
DRIP = """
import socket, sys, time
host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port))) as client:
    client.sendall(b"GET /metrics HTTP/1.1\\r\\nX: ")
    print("begun", flush=True)
    try:
        while True:
            client.sendall(b"y")
            time.sleep(1.5)
    except OSError:
        print("ended", flush=True)
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    site.machine.run(["mkdir", "-p", os.path.dirname(TEXTFILE)])
    site.machine.write_text("/etc/systemd/system/told@.service", UNIT)
    site.machine.run(["systemctl", "daemon-reload"])
    site.machine.write_text(AGENT_TOML, TOLD)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    return site


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process, by its pid on the host, that does nothing until the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: state_of(pid) == "T", "a process that stands still")
        yield
        assert state_of(pid) == "T"
    finally:
        os.kill(pid, signal.SIGCONT)


def state_of(pid: int) -> str:
    """How the process is (proc(5), stat)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


def main_pid(site: Site, unit: str) -> int:
    """The pid on the host of a unit's main process."""
    inside = site.show(unit, "MainPID")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                pids = next(line for line in file if line.startswith("NSpid:")).split()[1:]
            if pids[1:] == [inside] and is_in(site, pid):
                return int(pid)
        except (OSError, StopIteration):
            continue  # it has ended meanwhile
    raise AssertionError(f"{unit} has no process")


def is_in(site: Site, pid: str) -> bool:
    space = os.readlink(f"/proc/{pid}/ns/pid")
    return space == os.readlink(f"/proc/{site.machine.leader}/ns/pid")


def heal(site: Site, times: int = DRIFTS) -> None:
    """Let main.cf drift, one time after the other, and see that each is healed."""
    for _ in range(times):
        site.machine.sh(INTRUDE)
        eventually(lambda: site.machine.peek(MAIN_CF)[1] == site.good, "main.cf right again")


def wait_told(site: Site, since: str, what: str) -> None:
    """Wait until each drift is on record, in order; print how long main.cf was wrong."""

    def corrected() -> list[float]:
        moments = (record for record in site.records("drift-corrected", since))
        return [
            (moment_in(record, names.FIELD_CORRECTED_AT) or 0.0)
            - (moment_in(record, names.FIELD_WRITTEN_AT) or 0.0)
            for record in moments
        ]

    eventually(lambda: len(corrected()) >= DRIFTS, "a record of each correction", SETTLE_SECONDS)
    shown = ", ".join(f"{1000 * seconds:.0f}" for seconds in corrected())
    print(f"while {what} hung, main.cf was wrong for {shown} ms")
    records = site.records("drift-corrected", since)
    cycles = [int(record[names.FIELD_CYCLE]) for record in records]
    assert cycles == sorted(set(cycles))


def test_while_journald_hangs(site: Site) -> None:
    since = site.cursor()
    with stopped(main_pid(site, "systemd-journald.service")):
        site.run_python(FILL, JOURNAL_SOCKET, "MESSAGE=nobody reads this\n")
        heal(site)
    wait_told(site, since, "journald")


def test_while_dbus_daemon_hangs(site: Site) -> None:
    since = site.cursor()
    with stopped(main_pid(site, "dbus.service")):
        heal(site)
    wait_told(site, since, "dbus-daemon")


def test_while_systemd_hangs_and_hears_of_nothing(site: Site) -> None:
    since = site.cursor()
    with stopped(site.machine.leader):
        site.run_python(FILL, NOTIFY_SOCKET, "STATUS=nobody reads this")
        heal(site)
    wait_told(site, since, "systemd")
    site.wait_settled()
    site.machine.wait_until("systemctl show -P StatusText pf-agent | grep 'in sync'")


@contextmanager
def hung(site: Site, program: str, folder: str) -> Iterator[Callable[[], None]]:
    """A folder that the program has hang; what is yielded fails if nobody came to wait there."""
    pipe = subprocess.PIPE
    command = ["python3", "-c", program, folder]
    with site.machine.start(command, stdin=pipe, stdout=pipe, stderr=pipe) as holds:
        said = holds.stdout
        assert said is not None
        assert said.readline() == b"hung\n", holds.communicate()

        def was_asked() -> None:
            assert said.readline() == b"asked\n"

        try:
            yield was_asked
        finally:
            holds.communicate(b"")


def test_while_the_textfile_s_file_system_hangs(site: Site) -> None:
    since = site.cursor()
    with hung(site, HANG, os.path.dirname(TEXTFILE)) as was_asked:
        heal(site, 2)
        was_asked()
        heal(site, 1)
        site.wait_settled()
    wait_told(site, since, "the textfile's file system")
    site.forget_restarts()  # nor is the next drift a contest
    site.drift_once()
    eventually(lambda: "pf_agent_up 1" in site.machine.read_text(TEXTFILE), "the newest textfile")


def test_while_the_making_of_a_status_hangs(site: Site) -> None:
    since, path = site.cursor(), f"{names.RUN_DIRECTORY}/status.json"
    before = site.machine.read_text(path)
    with hung(site, HOLD, names.RUN_DIRECTORY) as was_asked:
        heal(site, 1)
        was_asked()
        heal(site, 2)
        wait_told(site, since, "status.json")
        # systemd waits for the new status, but not for ever.
        site.machine.run(["systemctl", "reload", "pf-agent"])
        assert site.machine.read_text(path) == before
    newest = int(site.records("drift-corrected", since)[-1][names.FIELD_CYCLE])
    eventually(lambda: f'"cycle": {newest},' in site.machine.read_text(path), "the newest status")


def test_while_a_client_never_ends_its_request(site: Site) -> None:
    since = site.cursor()
    with dripping(site, PLACE):
        assert "pf_agent_up 1" in site.run_python(FETCH)
        heal(site)
    wait_told(site, since, "a client")


def test_neither_another_address_nor_a_stop_waits_for_a_client(site: Site) -> None:
    with dripping(site, PLACE):
        site.machine.write_text(AGENT_TOML, TOLD.replace(PLACE, OTHER_PLACE))
        site.machine.run(["systemctl", "reload", "pf-agent"])
        heal(site, 1)
        assert "pf_agent_up 1" in site.run_python(FETCH.replace(PLACE, OTHER_PLACE))
    site.wait_settled()
    with dripping(site, OTHER_PLACE):
        site.machine.run(["systemctl", "stop", "pf-agent"])
    assert site.show("pf-agent", "Result") == "success"
    site.machine.write_text(AGENT_TOML, TOLD)
    site.machine.run(["systemctl", "start", "pf-agent"])


@contextmanager
def dripping(site: Site, place: str) -> Iterator[None]:
    """A client that has begun a request."""
    command = ["timeout", "120", "python3", "-c", DRIP, place]
    with site.machine.start(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        yield
        # It is hung up on, by its time or by the end, and not by what the test did.
        assert client.stdout.readline() == b"ended\n"


def test_a_page_of_another_name_is_not_told(site: Site) -> None:
    command = ["python3", "-c", FETCH.replace("127.0.0.1", "evil.example.test")]
    site.machine.sh("echo 127.0.0.1 evil.example.test >> /etc/hosts")
    done = site.machine.run(command, check=False)
    assert "421" in done.stderr
    assert "pf_agent_up 1" in site.run_python(FETCH)
