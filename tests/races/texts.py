"""Numbered texts of a file: each carries its number at its begin, in its drift and at its end."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

FIRST, LAST = b"lmtp_lhlo_name", b"smtp_helo_name"

_ADDRESS = re.compile(rb"10\.1(\d\d)\.1(\d\d)\.1(\d\d)/32")


@dataclass(frozen=True)
class Form:
    """What a file looks like that is raced for.

    `sign` begins the lines of the two marks, which are comments but in main.cf. `begins` finds the
    lines that drift, `drifted` is such a line with a place for an address.
    """

    path: str
    sign: bytes
    begins: bytes
    drifted: bytes

    @property
    def is_main_cf(self) -> bool:
        return not self.sign

    def drift(self, number: int) -> bytes:
        return self.drifted % address(number)

    def marks(self) -> re.Pattern[bytes]:
        return re.compile(rb"^%s(?:%s|%s) = n(\d+)$" % (self.sign, FIRST, LAST), re.MULTILINE)

    def drifts(self) -> re.Pattern[bytes]:
        return re.compile(rb"^%s.*$" % self.begins, re.MULTILINE)

    def last_drift(self, text: bytes) -> tuple[int, int] | None:
        """Where the last line stands that drifts, which in main.cf Postfix obeys."""
        found = list(self.drifts().finditer(text))
        return found[-1].span() if found else None

    def number_of(self, text: bytes) -> int | None:
        """The version that a text is; None for a text of the agent's, which has no such drift."""
        span = self.last_drift(text)
        found = _ADDRESS.search(text, *span) if span else None
        return int(b"".join(found.groups())) if found else None


FORMS: Mapping[str, Form] = {
    "main.cf": Form("/etc/postfix/main.cf", b"", rb"mynetworks *=", b"mynetworks = %s"),
    "master.cf": Form(
        "/etc/postfix/master.cf",
        b"#",
        rb"races +unix ",
        b"races unix - n n - - pipe user=nobody argv=/bin/echo %s",
    ),
    "table": Form("/etc/postfix/transport", b"#", rb"example\.org\s", b"example.org error:%s"),
}


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def address(number: int) -> bytes:
    """The address that stands for a number below a million; its length is fixed."""
    high, middle, low = number // 10_000, number // 100 % 100, number % 100
    return b"10.1%02d.1%02d.1%02d/32" % (high, middle, low)


class Base:
    """The right text, of which all versions are made."""

    def __init__(self, good: bytes, form: Form) -> None:
        without = (b"#", FIRST, LAST)
        lines = [line for line in good.splitlines(keepends=True) if not line.startswith(without)]
        mark = b"%s%%s = n0\n" % form.sign
        self.form = form
        self.text = mark % FIRST + b"".join(lines) + mark % LAST
        self._marks, self._drifts = form.marks(), form.drifts()

    def version(self, number: int) -> bytes:
        return self._drifts.sub(self.form.drift(number), self._corrected(number))

    def flaw(self, text: bytes) -> str:
        """Why a text is neither a version nor what the agent makes of one; "" where it is."""
        marks = [int(mark) for mark in self._marks.findall(text)]
        if len(set(marks)) != 1:
            return f"it begins and ends with the marks {marks}"
        number = marks[0]
        drifted = self.form.number_of(text)
        if drifted not in (number, None):
            return f"it is marked {number} and drifted as {drifted}"
        if text not in (self.version(number), self._corrected(number)):
            return f"it is no whole text, though it is marked {number}"
        return ""

    def _corrected(self, number: int) -> bytes:
        return self._marks.sub(lambda found: found[0][:-1] + b"%d" % number, self.text)
