"""What must hold for a machine whose agent was killed: at that moment, and once it is at rest.

Everything is read from the host, so that nothing in the machine runs between the death and the
look.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pf_agent import names
from tests.machine.site import Site
from tests.machine.subjects import Subject

# What the agent remembers of its restarts, until the machine is rebooted.
NOTES = ("restarts.json", "drifts.json")

# A candidate's directory older than a judgement belongs to no process.
_GOES_SECONDS = 5.0
_OURS = (names.STATE_DIRECTORY, names.RUN_DIRECTORY, names.ERRANDS_DIRECTORY)
_FOLDERS = ("/etc/postfix", *_OURS)
_LOCKS = [f"{names.RUN_DIRECTORY}/{name}" for name in ("lock", "activation.lock")]

# The state of Postfix: postconf's output, what it takes from the file in question, whether master
# is older than that, its greeting, its aliases.
_LOOK = r"""
import fcntl, json, os, smtplib, subprocess, sys, time
path, command, locks = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
def said(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
pid = open("/var/spool/postfix/pid/master.pid").read().strip()
ticks = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19])
age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
def is_held(path):
    # An agent that has just started asks the port once more, and holds a lock until it has the
    # answer. One that was left behind is never freed.
    deadline = time.monotonic() + 20
    with open(path) as file:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                time.sleep(0.05)
    return True
with smtplib.SMTP("127.0.0.1", 25, timeout=20) as client:
    greeting = client.ehlo()[0]
print(json.dumps({
    "explicit": said("postconf", "-n"),
    "seen": said(*command).rstrip("\n"),
    "older": time.time() - age < os.stat(path).st_ctime,
    "greeting": greeting,
    "alias": said("postalias", "-q", "postmaster", "hash:/etc/aliases"),
    "held": [lock for lock in locks if is_held(lock)],
}))
"""


@dataclass(frozen=True)
class Edit:
    """One drift, unlike any other: what is wrong in it, and a comment that stays."""

    number: int
    good: bytes
    subject: Subject

    @property
    def value(self) -> str:
        """The value that drifted."""
        return self.subject.value(self.number)

    @property
    def right(self) -> bytes:
        """What the file must be in the end: a text that the agent has never judged before."""
        return self.good + f"# edit {self.number}\n".encode()

    @property
    def wrong(self) -> bytes:
        """The drifted text."""
        return self.subject.drifted(self.right, self.number)


class Wholeness:
    """The machine's files; those that exist at the beginning are not strays."""

    def __init__(self, site: Site, subject: Subject) -> None:
        self._site, self._subject = site, subject
        self._known = self._everything()

    def path(self, path: str) -> Path:
        """Return the host's path for a file of the machine."""
        return Path(f"{self._site.machine.files}{path}")

    def text(self) -> bytes:
        """Return what the file in question says."""
        return self.path(self._subject.path).read_bytes()

    def is_pending(self) -> bool:
        return self.path(self._subject.pending).exists()

    def at_death(self, edit: Edit) -> Iterator[str]:
        """Yield what does not hold although it must at any moment."""
        text = self.text()
        if text not in (edit.right, edit.wrong):
            yield f"the file is neither the old nor the new text: {text!r:.200}"
        if text != edit.wrong and not self.is_kept(edit.wrong, beside=True):
            yield "the old text is not in the file, nor anywhere else"

    def in_the_end(self, edit: Edit) -> Iterator[str]:
        """Yield what does not hold although the agent says that all is well."""
        subject = self._subject
        if self.text() != edit.right:
            yield f"{subject.path} is not the right text"
        if not self.is_kept(edit.wrong):
            yield f"the old text is not in {subject.displaced}"
        if strays := self._left_behind():
            yield f"left behind: {' '.join(strays)}"
        command = json.dumps(subject.command)
        found = json.loads(self._site.run_python(_LOOK, subject.path, command, *_LOCKS))
        if not self._is_obeyed(found["explicit"]):
            yield "Postfix reads other settings"
        if found["seen"] != subject.seen:
            yield f"Postfix takes {found['seen']!r:.200} from it"
        if found["older"] and subject.is_started:
            yield f"Postfix's master is older than {subject.path}"
        if found["greeting"] != 250:
            yield f"Postfix answers {found['greeting']}"
        if found["alias"] != "root\n":
            yield f"postmaster's alias is {found['alias']!r}"
        if found["held"]:
            yield f"locked: {' '.join(found['held'])}"

    def _is_obeyed(self, postconf: str) -> bool:
        pairs = (line.partition(" =") for line in postconf.splitlines())
        explicit = {name: value.strip() for name, _, value in pairs}
        wanted = self._site.desired()
        set_right = wanted.settings.items() <= explicit.items()
        return set_right and not wanted.use_default & explicit.keys()

    def is_kept(self, text: bytes, beside: bool = False) -> bool:
        """Whether the agent keeps this text; `beside` the file counts, too."""
        subject = self._subject
        folder = self.path(os.path.dirname(subject.path))
        found = sorted(folder.glob(f"{subject.left_beside}*")) if beside else []
        for path in (*found, *sorted(self.path(subject.displaced).iterdir(), reverse=True)):
            # An agent started meanwhile moves it from one place to the other.
            with suppress(FileNotFoundError):
                if path.read_bytes() == text:
                    return True
        return False

    def _left_behind(self) -> list[str]:
        """Return what remains and does not go by itself: a daemon at rest still judges ahead."""
        deadline = time.monotonic() + _GOES_SECONDS
        while strays := sorted(self._everything() - self._known):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return strays

    def _everything(self) -> frozenset[str]:
        """Return all names where a crash could leave a file, without those that belong there."""
        root = str(self._site.machine.files)
        found = {f"/etc/{name}" for name in os.listdir(f"{root}/etc")}
        for top in _FOLDERS:
            for folder, folders, files in os.walk(f"{root}{top}"):
                found |= {f"{folder.removeprefix(root)}/{name}" for name in (*folders, *files)}
        expected = re.compile(
            rf"{re.escape(self._subject.displaced)}/\d+(\.\d+)?\.main\.cf"
            rf"|{names.RUN_DIRECTORY}/({'|'.join(NOTES)})"
        )
        return frozenset(path for path in found if not expected.fullmatch(path))
