"""Tables for people: drawn by rich where a terminal and rich are there, else in plain text.

Programs read the plain text, so it is the same in every width. rich folds long cells instead, so
that a narrow terminal shows all of them. The package only suggests rich, and it takes a while to
import: that is left for the moment in which something is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from pf_agent.words.sentences import printable

# On a narrower terminal rich leaves out cells.
_LEAST_WIDTH = 40
# As in a diff: what goes, and what comes.
_COLOURS = {"IS": "red", "MUST BE": "green"}


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print the rows below their headings."""
    cells = [headings, *([printable(cell) for cell in row] for row in rows)]
    if not draw(cells, sys.stdout):
        print("\n".join(columns(cells)))


def print_fields(fields: Iterable[Sequence[str]]) -> None:
    """Print each label with what it says, on a line of its own."""
    cells = [[f"{label}:", text] for label, text in fields]
    if not draw([["", ""], *cells], sys.stdout):
        for label, text in cells:
            print(f"  {printable(label):<11} {printable(text)}")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def draw(rows: Sequence[Sequence[str]], stream: TextIO) -> bool:
    """Draw a table, its first row the headings; "" for all of them draws none.

    Returns False, and has drawn nothing, where there is no rich, or no terminal of 40 columns.
    What a verb says beside its output (`stream` is standard error) is drawn only where both go to
    a terminal.
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
    for heading in headings:
        table.add_column(heading, overflow="fold", style=_COLOURS.get(heading))
    for row in cells:
        # As Text, since rich would take `[red]` in a string for its markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
    return True
