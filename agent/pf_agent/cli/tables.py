"""Tables for people: drawn by rich on a terminal if it is installed, else in plain text.

Programs read the plain text, so it does not depend on the width; if columns may be cut, it has at
most 80 columns. rich folds long cells instead, so that even a narrow terminal shows all of them.
The package only suggests rich, and importing it takes a while: that is left to the moment in which
something is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TextIO

from pf_agent.words.outgoing import PROCESS
from pf_agent.words.page import MOST_COLUMNS, cut
from pf_agent.words.sentences import printable

# On a narrower terminal rich omits cells.
_LEAST_WIDTH = 40
_BETWEEN = "  "
# As in a diff: what is removed, and what is added.
_COLOURS = {"IS": "red", "MUST BE": "green"}


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], yielding: Collection[str] = ()
) -> None:
    """Print the rows below their headings; the `yielding` columns are cut if necessary."""
    cells = [headings, *([printable(cell) for cell in row] for row in rows)]
    if not draw(cells, sys.stdout, yielding):
        print("\n".join(columns(cells, yielding)))


def print_fields(fields: Iterable[Sequence[str]]) -> None:
    """Print each label with its text, on a line of its own."""
    cells = [[f"{label}:", text] for label, text in fields]
    if not draw([["", ""], *cells], sys.stdout):
        for label, text in cells:
            print(f"  {printable(label):<11} {printable(text)}")


def columns(rows: Sequence[Sequence[str]], yielding: Collection[str] = ()) -> list[str]:
    """Return the rows as lines, each column as wide as its widest cell.

    The `yielding` columns are narrowed, the widest first, until a line has 80 columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    may_yield = [at for at, heading in enumerate(rows[0]) if heading in yielding]
    while sum(widths) + len(_BETWEEN) * (len(widths) - 1) > MOST_COLUMNS and may_yield:
        widest = max(may_yield, key=lambda at: widths[at])
        if widths[widest] <= len(rows[0][widest]):
            break
        widths[widest] -= 1
    return [
        _BETWEEN.join(
            cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def draw(rows: Sequence[Sequence[str]], stream: TextIO, yielding: Collection[str] = ()) -> bool:
    """Draw a table whose first row has the headings; if all of them are "", it has none.

    If there are `yielding` columns and there is room, the others are not folded.

    Return False, without drawing, if there is no rich, or no terminal of 40 columns. What a verb
    says beside its output (`stream` is standard error) is drawn only if both go to a terminal.
    """
    if not (sys.stdout.isatty() and stream.isatty()):
        return False
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False

    console = Console(file=stream)
    if console.width < _LEAST_WIDTH:
        return False
    headings, *cells = rows
    has_headings = any(headings)
    table = Table(
        box=SIMPLE_HEAD if has_headings else None,
        show_header=has_headings,
        pad_edge=not has_headings,
    )
    has_room = bool(yielding) and console.width >= MOST_COLUMNS
    for heading in headings:
        is_whole = has_room and heading not in yielding
        table.add_column(heading, overflow="fold", style=_COLOURS.get(heading), no_wrap=is_whole)
    for row in cells:
        # As Text, since rich would take `[red]` in a string for its markup. Masked first, since a
        # folded half of a secret would not be recognised.
        table.add_row(*(Text(printable(PROCESS.text(cell))) for cell in row))
    console.print(table)
    return True
