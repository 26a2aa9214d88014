"""What Postfix's programs say on stderr, made readable for people: pure.

A line is `PROGRAM: fatal: WORDS`, or with `error` or `warning`. The words stay Postfix's own; the
path of a candidate's private directory is removed, and the order, which changes from run to run,
becomes that of main.cf.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from pf_agent.maincf.slips import nearest

# A program that says this is about to exit, after sleeping for a second (msg_fatal in util/msg.c).
# Only at the start of a line: a line may quote a value of 5 MB, which would be slow to search.
FATAL: Final = re.compile(rb"^[\w/.@-]+: (?:fatal|panic): ", re.MULTILINE)

_SAID: Final = re.compile(r"^[\w/.@-]+: (?:fatal|panic|error|warning): ")
_UNUSED: Final = re.compile(r"(main|master)\.cf: unused parameter: ([^=]*)=", re.DOTALL)
_LINE: Final = re.compile(r"main\.cf, line (\d+): ")
# These name neither a parameter nor a place; the warning directly above them does.
_BARE: Final = ("macro processing error", "SASL per-process initialization failed")
_LAST: Final = 1 << 62

# The author of main.cf decides how much there is to report; no more than this is reported.
_MOST_WARNINGS: Final = 100
_MOST_DOUBTS: Final = 5
_MOST_CHARACTERS: Final = 1000
_MOST_HINTS: Final = 20


class Folders:
    """The candidate's directory and the real one, as they appear in Postfix's messages."""

    def __init__(self, private: str, real: str) -> None:
        self._private = private
        self._real = real

    def named(self, words: str) -> str:
        """Return the words with the real directory's name, and main.cf without a directory."""
        for name in ("main.cf", "master.cf"):
            words = words.replace(f"{self._private}/{name}", name)
        return words.replace(self._private, self._real)

    def lines(self, complaint: str) -> list[str]:
        """Return the complaint's lines, each without the program's name."""
        lines = (line.strip() for line in complaint.splitlines())
        return [_SAID.sub("", self.named(line), count=1) for line in lines if line]


def reason(complaint: str, folders: Folders | None = None) -> str:
    """Return the line that says why the program exited."""
    said = folders or Folders("/nowhere", "/nowhere")
    lines = said.lines(complaint) or ["it gave no reason"]
    marks = [line for line in complaint.splitlines() if line.strip()]
    row = next((row for row, line in enumerate(marks) if FATAL.match(line.encode())), 0)
    if lines[row] in _BARE and row > 0:
        return f"{lines[row]}: {lines[row - 1]}"
    return lines[row]


def warnings(lines: Iterable[str], places: Mapping[str, int], known: Collection[str]) -> list[str]:
    """Return each warning once, in the order of main.cf, an unknown name with the nearest real one.

    `places` are the line numbers of the parameters, `known` the names that the installed Postfix
    knows. If there are very many, only the number of the rest is given.
    """
    whole = set(lines)
    # Debian's Postfix says the same twice, the second time with the missing package.
    whole -= {line.rpartition(". ")[0] for line in whole}
    ordered = sorted((_place(line, places), line) for line in whole)
    told: dict[str, None] = {}
    hints = _MOST_HINTS
    for _, line in ordered[:_MOST_WARNINGS]:
        unused = _UNUSED.match(line)
        if unused is None:
            told[line] = None
        else:
            name = unused[2]
            meant = nearest(name, known if hints > 0 else ())
            told[f"{_file(unused[1])}{name}: {no_such_parameter(meant)}"] = None
            hints -= 1
    more = len(ordered) - _MOST_WARNINGS
    return [*told, *([f"and {more} more"] if more > 0 else [])]


def doubts(complaint: str) -> tuple[str, ...]:
    """Return what newaliases warned about in its files although it succeeded; the first few.

    Not what it says about main.cf, which the judge reports.
    """
    lines = dict.fromkeys(Folders("/nowhere", "/nowhere").lines(complaint))
    told = [bounded(line) for line in lines if line.startswith("/") and "main.cf" not in line]
    more = len(told) - _MOST_DOUBTS
    return (*told[:_MOST_DOUBTS], *([f"and {more} more"] if more > 0 else []))


def unquoted(words: str) -> str:
    """Return what a program said about the host's own main.cf, without the text that it quotes.

    At that instant the path may have been a link to a secret, which root's programs can read.
    """
    return words.partition('"')[0].rstrip(": ") if _LINE.search(words) else words


def bounded(words: str) -> str:
    """Return what a program said, or only its beginning if it quotes a value of megabytes."""
    if len(words) <= _MOST_CHARACTERS:
        return words
    return f"{words[:_MOST_CHARACTERS]}... ({len(words)} characters)"


def _place(line: str, places: Mapping[str, int]) -> int:
    """Return the line of main.cf that a warning is about, `_LAST` if it names none."""
    unused = _UNUSED.match(line)
    if unused is not None:
        return places.get(unused[2], _LAST)
    found = _LINE.match(line)
    return _LAST if found is None else int(found[1])


def has_unknown(lines: Iterable[str]) -> bool:
    """Whether one of the warnings is about a parameter that Postfix does not know."""
    return any(_UNUSED.match(line) for line in lines)


def no_such_parameter(meant: str) -> str:
    """Return the message for a name that Postfix does not use, with the nearest real name."""
    hint = f"; did you mean {meant}?" if meant else ""
    return f"unknown Postfix parameter, it has no effect{hint}"


def _file(stem: str) -> str:
    return "" if stem == "main" else f"{stem}.cf: "
