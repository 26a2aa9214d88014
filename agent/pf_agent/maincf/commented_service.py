"""One service of master.cf as comments, and back. Pure."""

from __future__ import annotations

from collections.abc import Collection

from pf_agent.maincf.document import encoded
from pf_agent.maincf.entry_text import EntryText, Meaning, is_skipped, meaning_of, split, written
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.model import BLANKS


def commented(text: str, below: str = "") -> str:
    """Return an entry commented out, such that it is found again as the service that it was.

    Comments within it get as many signs more as its lines get, so that none becomes an option of
    it: one, or more than the comment has that stands `below` it, if that would become one. Empty
    lines within it, which would end it, go.
    """
    wanted = EntryText(text).meaning
    one = _signed(text, "#", wanted)
    if not below.startswith("#") or not _takes_in(one, below):
        return one
    return _signed(text, f"#{signs_of(below)}", wanted)


def signs_of(text: str) -> str:
    """Return the signs of a comment that a text begins with, "" if it begins with none."""
    return text[: len(text) - len(text.lstrip("#"))]


def _signed(text: str, signs: str, wanted: Meaning) -> str:
    lines = [line for line in split(text) if line.strip(BLANKS)]
    found = "".join(f"{signs}{line}" for line in lines)
    if not _is_found(found, wanted):
        head = written(wanted).replace("\n", "")
        comments = (f"{signs}{line}" for line in lines if is_skipped(line))
        found = "".join([f"{signs}{head}\n", *comments])
    return found


def _takes_in(text: str, below: str) -> bool:
    """Whether comments below a commented service would be lines of it, read or behind a NUL."""
    ended = text if text.endswith("\n") else f"{text}\n"
    found = MasterCf.parse(encoded(ended + below)).commented
    return bool(found) and found[0].rows[-1] >= len(split(ended))


def uncommented(text: str, rows: Collection[int]) -> str:
    """Return the text of a commented service without its signs; `rows` are those it is read in.

    Comments within it that have more signs than it has lose as many.
    """
    signs, found = signs_of(text), []
    for row, line in enumerate(split(text)):
        is_its_own = row in rows or line.startswith(f"{signs}#")
        found.append(line[len(signs) :] if is_its_own else line)
    return "".join(found).lstrip(BLANKS)


def _is_found(text: str, wanted: Meaning) -> bool:
    """Whether the first service that stands commented out in the text is the one that is wanted."""
    found = (entry.found.service for entry in MasterCf.parse(encoded(text)).commented)
    first = next(found, None)
    return first is not None and meaning_of(first) == wanted
