"""The lines of Postfix's configuration files, physical and logical, as readlline(3) finds them.

main.cf and master.cf are both read this way. Only six bytes are blank, lines are split at \\n only,
and a comment or an empty line does *not* end a logical line: text that starts with a blank still
continues the one above it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pf_agent.model import BLANKS

BLANK_BYTES = BLANKS.encode()
BLANK_RUN = re.compile(b"[%b]+" % BLANK_BYTES)

_HASH = ord("#")


def split(data: bytes) -> tuple[bytes, ...]:
    """Return the physical lines with their ends; joined, they are `data`."""
    lines = data.split(b"\n")
    whole = [line + b"\n" for line in lines[:-1]]
    return tuple([*whole, lines[-1]] if lines[-1] else whole)


def logical_rows(lines: Sequence[bytes]) -> list[list[int]]:
    """Return for each logical line the rows of its head and its text lines, without comments."""
    found: list[list[int]] = []
    for row, line in enumerate(lines):
        # Most lines are comments or empty, and need no closer look.
        if line[0] == _HASH or line == b"\n":
            continue
        text = line.lstrip(BLANK_BYTES)
        if not text or text.startswith(b"#"):
            continue
        if found and BLANK_RUN.match(line):
            found[-1].append(row)
        else:
            found.append([row])
    return found


def is_orphan(head: bytes) -> bool:
    """Tell whether a logical line has no head: Postfix skips it with a warning."""
    return BLANK_RUN.match(head) is not None


def logical_text(rows: Sequence[int], lines: Sequence[bytes]) -> bytes:
    """Return the text of a logical line: C strings end at the first NUL."""
    return b"".join(lines[row].rstrip(b"\n") for row in rows).partition(b"\0")[0]
