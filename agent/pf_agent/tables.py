"""A table on standard output: drawn by rich on a terminal that has it, else in plain columns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from pf_agent.render import printable


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print the rows below their headings.

    What programs read, and what a terminal without rich shows, has each column as wide as its
    widest cell. rich folds long cells instead, so that a narrow terminal shows all of them.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        try:
            _draw(headings, cells)
            return
        except ImportError:
            pass  # it is only suggested by the package
    print("\n".join(columns([headings, *cells])))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _draw(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # As Text, since rich would take `[red]` in a string for its markup.
        table.add_row(*map(Text, row))
    Console().print(table)
