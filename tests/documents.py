"""The fenced blocks of README.md and docs/*.md, and the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.checkout import CHECKOUT

# After the last one a machine cannot be used any more.
LAST = "docs/uninstalling.md"

# The kinds of fence. "sh": commands that a machine runs. "console": commands that it cannot run.
# "toml": a whole file if the first line is a comment with its path.
RUN, NOT_RUN, FILE = "sh", "console", "toml"
KINDS = {RUN, NOT_RUN, FILE, "text", "yaml"}

_FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
_PATH = re.compile(r"# (/etc/pf-agent/\S+\.toml)")
_EXITS = re.compile(r" # .*exits with ([0-9])")


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind, its text, and the number of its first line in the document."""

    kind: str
    text: str
    line: int

    @property
    def path(self) -> str:
        """The file that this block is the whole content of, "" for any other block."""
        found = _PATH.fullmatch(self.text.partition("\n")[0])
        return found[1] if self.kind == FILE and found else ""


@dataclass(frozen=True)
class Command:
    """A line for a shell, and the exit code that is promised."""

    text: str
    code: int

    @property
    def bare(self) -> str:
        """The command without the comment after it."""
        return self.text.partition(" #")[0].rstrip()


def documents() -> list[str]:
    """Return paths from the root of the checkout, in the order in which a machine tries them."""
    found = ["README.md", *sorted(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md"))]
    return sorted(found, key=lambda path: path == LAST)


def text_of(path: str) -> str:
    return (CHECKOUT / path).read_text(encoding="utf-8")


def prose_of(path: str) -> str:
    """Return the document without its blocks."""
    return _FENCE.sub("", text_of(path))


def blocks(path: str) -> list[Block]:
    text = text_of(path)
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a block, one for each line that is more than a comment."""
    for line in block.text.splitlines():
        if line.strip() and not line.startswith("#"):
            exits = _EXITS.search(line)
            yield Command(line, int(exits[1]) if exits else 0)
