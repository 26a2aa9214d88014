"""What a correction changes in a document, as a unified diff that contains no secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

from pf_agent.maincf.secrets import HIDDEN, masked_lines
from pf_agent.model import BLANKS, DocumentKind
from pf_agent.words.sentences import printable

_CONTEXT = 3
_COMPARED_LINES = 4000
# A line that begins so may belong to a setting above it; an empty line does not end one either.
_BELOW_A_NAME = BLANKS.encode() + b"#"
# The first match counts: a file name must not be taken for a removed line.
_COLOURS = {"---": "1", "+++": "1", "@@": "36", "-": "31", "+": "32"}


def as_text(data: bytes | None) -> str:
    """Return main.cf's bytes as text fit for any terminal or outlet: non-UTF-8 becomes \\xNN."""
    return "" if data is None else data.decode("utf-8", "backslashreplace")


def unified_diff(
    before: bytes | None,
    after: bytes,
    path: str,
    kind: DocumentKind = DocumentKind.MAIN_CF,
    is_secret: bool = False,
) -> str:
    """Return what a correction changes, in the form of diff -u; "" if nothing differs.

    Only the part between the common beginning and the common end is compared line by line, and if
    that is very long it is shown as replaced as a whole: a huge main.cf must not hold us up.
    Secrets are compared but not shown; if the whole document `is_secret`, only the keys are.
    """
    mask = _keys_alone if is_secret else masked_lines if kind is DocumentKind.MAIN_CF else _as_is
    above, old, new = _parts(before or b"", after)
    first = _common(old, new)
    last = _common(old[first:][::-1], new[first:][::-1])
    if first == len(old) == len(new):
        return ""
    start = max(first - _CONTEXT, 0)
    tail = max(last - _CONTEXT, 0)
    old_shown = _shown_lines(old, start, len(old) - tail, mask)
    new_shown = _shown_lines(new, start, len(new) - tail, mask)
    old, new = old[start : len(old) - tail], new[start : len(new) - tail]
    if len(old) + len(new) > _COMPARED_LINES:
        groups = [[("replace", 0, len(old), 0, len(new))]]
    else:
        # Its autojunk ignores lines that recur: without it a hostile file takes half a minute.
        matcher = difflib.SequenceMatcher(None, old, new)
        groups = list(matcher.get_grouped_opcodes(_CONTEXT))
    text = [f"--- {'/dev/null' if before is None else path}", f"+++ {path} (desired)"]
    for group in groups:
        text += _hunk(group, old_shown, new_shown, above + start)
    return "\n".join(text) + "\n"


def _parts(before: bytes, after: bytes) -> tuple[int, list[str], list[str]]:
    """Return the differing lines of both with their context, and how many lines are above.

    A drift is a line or two out of many hundred, and the others need not become text.
    """
    most = min(len(before), len(after))
    common = _longest(most, lambda low, high: before.startswith(after[low:high], low))
    begin = before.rfind(b"\n", 0, common) + 1
    for _ in range(_CONTEXT):
        begin = before.rfind(b"\n", 0, max(begin - 1, 0)) + 1
    while begin > 0 and before[begin : begin + 1] in _BELOW_A_NAME:  # see `_shown_lines`
        begin = before.rfind(b"\n", 0, begin - 1) + 1
    size, other = len(before), len(after)
    same = _longest(
        most - common,
        lambda low, high: before.endswith(after[other - high : other - low], 0, size - low),
    )
    end = size - same
    for _ in range(_CONTEXT + 1):
        end = before.find(b"\n", end) + 1 or size
    old, new = _lines(before[begin:end]), _lines(after[begin : other - size + end])
    return before.count(b"\n", 0, begin), old, new


def _longest(most: int, holds: Callable[[int, int], bool]) -> int:
    """Return the largest number up to `most` for which `holds` is true of every stretch from 0."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if holds(low, middle):
            low = middle
        else:
            most = middle - 1
    return low


def _shown_lines(
    lines: Sequence[str],
    start: int,
    end: int,
    mask: Callable[[Sequence[str]], Sequence[str]],
) -> list[str]:
    """Return the lines without secrets; a value that began above is judged from its beginning."""
    begin = min(start, len(lines) - 1)
    while begin > 0 and lines[begin][:1].encode() in _BELOW_A_NAME:
        begin -= 1
    head = lines[begin:start] if 0 <= begin < start else []
    # Masked before escaping, which would hide that a control character is a blank.
    shown = mask([*head, *lines[start:end]])[len(head) :]
    return list(map(printable, shown))


def _as_is(lines: Sequence[str]) -> Sequence[str]:
    """Only main.cf has secrets that their names tell; the others are known on the way out."""
    return lines


def _keys_alone(lines: Sequence[str]) -> list[str]:
    """Return each line without what follows its first word; of a comment, only that it is one.

    A word alone may be anything.
    """
    return [_key_alone(line) for line in lines]


def _key_alone(line: str) -> str:
    if not line.strip(BLANKS):
        return line
    if line[0] in f"{BLANKS}#":
        return f"{line[0]} {HIDDEN}"
    key, *value = re.split(f"[{BLANKS}]", line, maxsplit=1)
    return f"{key} {HIDDEN}" if "".join(value).strip(BLANKS) else HIDDEN


def coloured(diff: str) -> str:
    """Return a unified diff in the usual colours of terminals (ECMA-48, SGR)."""
    return "".join(map(_coloured_line, diff.splitlines(keepends=True)))


def _coloured_line(line: str) -> str:
    for start, colour in _COLOURS.items():
        if line.startswith(start):
            text = line.rstrip("\n")
            return f"\x1b[{colour}m{text}\x1b[m{line[len(text) :]}"
    return line


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many lines both begin with."""
    count = 0
    for ours, theirs in zip(old, new):  # noqa: B905 - the shorter one ends it
        if ours != theirs:
            break
        count += 1
    return count


def _hunk(
    group: Sequence[tuple[str, int, int, int, int]],
    old: Sequence[str],
    new: Sequence[str],
    start: int,
) -> list[str]:
    """Return one hunk; `start` lines are above the part that was compared."""
    (_, a1, _, b1, _), (_, _, a2, _, b2) = group[0], group[-1]
    text = [f"@@ -{_range(start + a1, a2 - a1)} +{_range(start + b1, b2 - b1)} @@"]
    for tag, i1, i2, j1, j2 in group:
        if tag == "equal":
            text += [f" {line}" for line in old[i1:i2]]
        else:
            text += [f"-{line}" for line in old[i1:i2]] + [f"+{line}" for line in new[j1:j2]]
    return text


def _range(start: int, count: int) -> str:
    """Return a hunk's line range as diff(1) counts: an empty range is named by the line above."""
    first = start if count == 0 else start + 1
    return str(first) if count == 1 else f"{first},{count}"


def _lines(data: bytes | None) -> list[str]:
    # Only "\n" ends a line of main.cf; str.splitlines knows ten line ends, and would be wrong.
    text = as_text(data)
    return text.removesuffix("\n").split("\n") if text else []
