"""Numbered texts of main.cf: each carries its number at its begin, in its drift and at its end."""

from __future__ import annotations

import hashlib
import re

FIRST, LAST, DRIFTED = b"lmtp_lhlo_name", b"smtp_helo_name", b"mynetworks"

_MARK = re.compile(rb"^(?:%s|%s) = n(\d+)$" % (FIRST, LAST), re.MULTILINE)
_DRIFT = re.compile(rb"^%s *=.*$" % DRIFTED, re.MULTILINE)
_ADDRESS = re.compile(rb"10\.1(\d\d)\.1(\d\d)\.1(\d\d)/32")


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def address(number: int) -> bytes:
    """The value of mynetworks that stands for a number below a million; its length is fixed."""
    high, middle, low = number // 10_000, number // 100 % 100, number % 100
    return b"10.1%02d.1%02d.1%02d/32" % (high, middle, low)


def drift(number: int) -> bytes:
    return b"%s = %s" % (DRIFTED, address(number))


def last_drift(text: bytes) -> tuple[int, int] | None:
    """Where the line of mynetworks stands that Postfix obeys."""
    found = list(_DRIFT.finditer(text))
    return found[-1].span() if found else None


def number_of(text: bytes) -> int | None:
    """The version that a text is; None for a text of the agent's, which has no such drift."""
    span = last_drift(text)
    found = _ADDRESS.search(text, *span) if span else None
    return int(b"".join(found.groups())) if found else None


class Base:
    """The right text, of which all versions are made."""

    def __init__(self, good: bytes) -> None:
        lines = [line for line in good.splitlines(keepends=True) if not line.startswith(b"#")]
        self.text = b"%s = n0\n%s%s = n0\n" % (FIRST, b"".join(lines), LAST)

    def version(self, number: int) -> bytes:
        marked = _MARK.sub(lambda found: found[0][:-1] + b"%d" % number, self.text)
        return _DRIFT.sub(drift(number), marked)

    def flaw(self, text: bytes) -> str:
        """Why a text is neither a version nor what the agent makes of one; "" where it is."""
        marks = [int(mark) for mark in _MARK.findall(text)]
        if len(set(marks)) != 1:
            return f"it begins and ends with the marks {marks}"
        number = marks[0]
        if number_of(text) not in (number, None):
            return f"it is marked {number} and drifted as {number_of(text)}"
        if text not in (self.version(number), self._corrected(number)):
            return f"it is no whole text, though it is marked {number}"
        return ""

    def _corrected(self, number: int) -> bytes:
        return _MARK.sub(lambda found: found[0][:-1] + b"%d" % number, self.text)
