"""What a campaign lets drift: main.cf, master.cf, or a table, each by one value that is managed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pf_agent import names
from pf_agent.files.kept_marker import PENDING
from pf_agent.files.store import FileStore
from pf_agent.maincf.indexed import Table
from tests.machine.nspawn import Machine
from tests.machine.site import EXTRA, MAIN_CF, Site

_TABLE: Final = Table("hash", "/etc/postfix/transport")


@dataclass(frozen=True)
class Subject:
    """A file of Postfix, and how it drifts.

    `document` is its name in the desired state, "" for main.cf; `part` the parameter, option or key
    that drifts, whose value the first group of `line` finds; `wrong` has a place for two numbers.
    `wish` asks for the right value, where the guide does not. `command` prints what Postfix takes
    from it, `seen` is that if it is right. `events` are recorded once for each drift.
    """

    document: str
    path: str
    part: str
    line: bytes
    wrong: str
    wish: str
    command: tuple[str, ...]
    seen: str
    events: tuple[str, ...] = ("drift-corrected", "activated")

    @property
    def pending(self) -> str:
        return f"{self.store().directory}/{PENDING}"

    @property
    def displaced(self) -> str:
        return self.store().displaced_directory

    @property
    def left_beside(self) -> str:
        """How the names begin of what an exchange leaves beside it."""
        return f".{os.path.basename(self.path)}.pf-agent-"

    @property
    def is_started(self) -> bool:
        """Whether Postfix is restarted after a correction of it."""
        return "activated" in self.events

    def store(self, root: str = "") -> FileStore:
        """Return the agent's store of it, below the root directory of a machine."""
        folders = (names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        state = FileStore(*(f"{root}{folder}" for folder in folders))
        return state.of_document(self.document, lambda _text: None) if self.document else state

    def drifted(self, right: bytes, number: int) -> bytes:
        """Return the right text with a wrong value; each number has one of its own."""
        found = re.search(self.line, right, re.MULTILINE)
        assert found is not None, f"{self.path} has no {self.part}"
        return right[: found.start(1)] + self.value(number).encode() + right[found.end(1) :]

    def value(self, number: int) -> str:
        return self.wrong.format(number >> 8, number & 255)

    def is_in_use(self, machine: Machine) -> bool:
        """Whether Postfix reads what is there: the index of a table is no older than its source."""
        if self.is_started:
            return True
        source, index = (machine.at(path).stat() for path in _TABLE.source)
        return index.st_mtime >= source.st_mtime

    def settle(self, site: Site) -> bytes:
        """Have the right value asked for; return the text once it says so and is in use."""
        if self.wish:
            site.machine.write_text(EXTRA, self.wish)
            site.machine.run(["systemctl", "reload", "pf-agent"])
            command = " ".join(self.command)
            site.machine.wait_until(f"{command} 2> /dev/null | grep -qFx -- '{self.seen}'")
            site.wait_settled()
            site.good = site.read()
        return site.machine.read_bytes(self.path)


SUBJECTS: Mapping[str, Subject] = {
    "main.cf": Subject(
        "",
        MAIN_CF,
        "mynetworks",
        rb"^mynetworks = (.*)$",
        "10.{}.{}.0/24",
        "",
        ("postconf", "-hx", "mynetworks"),
        "127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64",
    ),
    "master.cf": Subject(
        "master.cf",
        "/etc/postfix/master.cf",
        "submission/inet/syslog_name",
        rb"^[^#\n]*syslog_name=(\S+)$",
        "postfix/drifted-{}-{}",
        # Without TLS it needs no certificate.
        '[services."submission/inet".options]\nsyslog_name = "postfix/submission"\n'
        'smtpd_tls_security_level = "none"\n',
        ("postconf", "-P", "submission/inet/syslog_name"),
        "submission/inet/syslog_name = postfix/submission",
    ),
    "table": Subject(
        _TABLE.said,
        _TABLE.path,
        "example.org",
        rb"^example\.org\s+(\S+)$",
        "smtp:[10.{}.{}.1]",
        f'[settings]\ntransport_maps = "{_TABLE.said}"\n'
        f'[tables."{_TABLE.said}"]\n"example.org" = "smtp:[mx.example.org]:587"\n',
        ("postmap", "-q", "example.org", _TABLE.said),
        "smtp:[mx.example.org]:587",
        events=("drift-corrected",),
    ),
}
