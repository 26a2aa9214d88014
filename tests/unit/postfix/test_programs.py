"""How a program is run, and what is left of it."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import pytest

from pf_agent.errors import HostError
from pf_agent.postfix.programs import Program, run

# Everything that a program might inherit, as JSON.
INHERITED = """
import json, os, sys
print(json.dumps({
    "environment": dict(os.environ),
    "handles": [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")],
    "stdin": os.read(0, 1).decode(),
    "folder": os.getcwd(),
    "session": os.getsid(0) == os.getpid(),
    "arguments": sys.argv[1:],
}))
"""


def test_a_program_inherits_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("MAIL_CONFIG", "/nowhere")
    monkeypatch.chdir(tmp_path)
    words = ["$(id)", "a b", ";true"]
    open_too = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(open_too, True)
    try:
        (answer,) = run([Program([sys.executable, "-I", "-c", INHERITED, *words], {"HERE": "1"})])
    finally:
        os.close(open_too)
    found = json.loads(answer.output)
    # Python's own start-up may add this one in the locale C.
    found["environment"].pop("LC_CTYPE", None)
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    assert found["environment"] == {"PATH": path, "LC_ALL": "C", "HERE": "1"}
    assert found["handles"] == ["0", "1", "2"]
    assert found["stdin"] == ""
    assert found["folder"] == "/"
    assert found["session"]
    assert found["arguments"] == words


@pytest.mark.parametrize(
    "script",
    ["sleep 600", "exec >&- 2>&-; sleep 600", "trap '' TERM HUP; sleep 600", "sleep 600 & exit"],
)
def test_what_does_not_end_in_time_is_killed_with_what_it_started(
    tmp_path: Path, script: str
) -> None:
    started = tmp_path / "started"
    command = ["/bin/sh", "-c", f"sleep 600 & echo $! > {started}; {script}"]
    for seconds in (1, 5, 25):
        (answer,) = run([Program(command, seconds=seconds)])
        assert answer.failed
        assert answer.mute == f"did not finish within {seconds} s"
        assert answer.complaint == f"sh: fatal: did not finish within {seconds} s; sh was killed\n"
        if started.exists() and started.read_text().endswith("\n"):
            break  # on a busy host it may be killed before it has got so far
    pid = started.read_text().strip()
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_optional_may_say_nothing() -> None:
    script = "echo 'smtpd: warning: connect #1' >&2; exec sleep 600"
    (answer,) = run([Program(["/bin/sh", "-c", script], seconds=0.2, is_optional=True)])
    assert (answer.failed, answer.output, answer.complaint) == (False, "", "")


def test_a_crash_is_told_by_the_name_of_its_signal() -> None:
    (answer,) = run([Program(["/bin/sh", "-c", "kill -SEGV $$"])])
    assert answer.failed
    assert "sh was ended by SIGSEGV" in answer.complaint


@pytest.mark.parametrize("free", [0, 1, 2, 3, 4, 5])
def test_a_program_that_cannot_be_started_costs_no_descriptor(free: int) -> None:
    """Each look tries again: what a try kept open would be missing for the next."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    handles = len(os.listdir("/proc/self/fd")) - 1  # but for the folder's own
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    filled = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest - handles + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(filled) + 1 + free, limits[1]))
    try:
        with pytest.raises((HostError, OSError), match="Too many open files"):
            run([Program(["/bin/true"])])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for handle in filled:
            os.close(handle)
    assert len(os.listdir("/proc/self/fd")) - 1 == handles
