"""The ledger: every text that was written, and every one that is known to be kept somewhere."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.races.texts import Base, Form, digest

# As displaced_texts.DISPLACED_COUNT: older ones go, so the folder is emptied into the ledger all
# the time.
_KEPT = 200
_MOST_FLAWS = 20


@dataclass
class Ledger:
    """`written` are versions with the digest of their text, None where only the number is known."""

    form: Form
    written: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    numbers: set[int | None] = field(default_factory=set)
    flaws: list[str] = field(default_factory=list)

    def keep(self, text: bytes) -> None:
        """This text is kept, or was taken by a writer."""
        self.digests.add(digest(text))
        self.numbers.add(self.form.number_of(text))

    def read_log(self, lines: Iterable[str]) -> None:
        for line in lines:
            found = json.loads(line)
            if "wrote" in found:
                self.written[found["wrote"]] = found["way"], found["digest"]
            elif "took" in found:
                self.digests.add(found["digest"])
                self.numbers.add(found["took"])
            else:
                self.flaws.append(found["flaw"])

    def lost(self) -> list[str]:
        """The versions that no writer took, and that are neither displaced nor in the file."""
        return [
            f"{number} ({way})"
            for number, (way, text) in sorted(self.written.items())
            if (number not in self.numbers if text is None else text not in self.digests)
        ]

    def ways(self) -> dict[str, int]:
        return dict(Counter(way for way, _ in self.written.values()))


@dataclass
class Collector:
    """Reads each text in `displaced/` before it is one of too many.

    `is_whole`: each is a version of the base, or what the agent makes of one.
    """

    folder: Path
    base: Base
    is_whole: bool
    known: set[str] = field(default_factory=set)
    count: int = 0
    overtaken: int = 0

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.base.form)
        self.known.update(os.listdir(self.folder))

    def collect(self, over: Path) -> Collector:
        """Read what comes until `over` is there; return this collector, from another process."""
        is_over = False
        while not is_over:
            is_over = over.exists()
            self._look()
            time.sleep(0.05)
        return self

    def _look(self) -> None:
        new = sorted(name for name in os.listdir(self.folder) if name not in self.known)
        new = [name for name in new if name.endswith(".main.cf")]
        if len(new) >= _KEPT:
            self.ledger.flaws.append(f"{len(new)} new texts in displaced/: some may have gone")
        for name in new:
            self.known.add(name)
            try:
                self._read(name)
            except FileNotFoundError:
                self.ledger.flaws.append(f"displaced/{name} went before it was read")

    def _read(self, name: str) -> None:
        text = (self.folder / name).read_bytes()
        self.count += 1
        # The second of a cycle: somebody wrote between the agent's read and its exchange.
        self.overtaken += name.count(".") > 2
        self.ledger.keep(text)
        flaw = self.base.flaw(text) if self.is_whole else ""
        if flaw and len(self.ledger.flaws) < _MOST_FLAWS:
            self.ledger.flaws.append(f"displaced/{name}: {flaw}")
