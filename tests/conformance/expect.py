"""The claims of the checks: what does not hold is a Difference."""

from __future__ import annotations


class Difference(Exception):
    """What we say and what Postfix says is not the same."""


class Disagreement(AssertionError):
    """Postfix and the agent differ over the file `text`."""

    def __init__(self, what: str, text: bytes) -> None:
        super().__init__(f"{what}\nfile: {text!r}")
        self.text = text


def expect(holds: bool, what: str, *facts: object) -> None:
    """Raise Difference with the facts unless it holds."""
    if not holds:
        raise Difference(f"{what}: {', '.join(map(repr, facts))}" if facts else what)


def expect_equal(what: str, ours: object, theirs: object) -> None:
    """Raise Difference with both unless they are equal."""
    if ours != theirs:
        raise Difference(f"{what}: ours {ours!r}, Postfix's {theirs!r}")
