"""Postfix's judgement of a candidate, asked once for each text."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import DocumentKind, Judgement

K = TypeVar("K")
V = TypeVar("V")

_MOST_REMEMBERED = 4


class Judge:
    """Postfix's judgement, asked once for each text: one that passed is not judged again.

    Nor is a text that only differs from it in comments, blanks and folding, unless a message named
    a line. A refusal is not remembered: a name that does not resolve now may do so at the next
    look. What is absent is remembered until `forget`: drift does not wait for it. Several threads
    may ask: the second waits for the answer to the first.
    """

    def __init__(
        self, ask: Callable[[bytes], Judgement], kind: DocumentKind = DocumentKind.MAIN_CF
    ) -> None:
        self._ask = ask
        self._grammar = grammar_of(kind)
        self._passed: dict[bytes, Judgement] = {}
        self._clean: dict[tuple[tuple[str, str], ...], None] = {}
        self._lock = Lock()

    def __call__(self, text: bytes) -> Judgement:
        """Return the verdict of Postfix's own programs on `text`. Raises HostError."""
        with self._lock:
            return self._judgement(text)

    def forget(self) -> None:
        """Forget all verdicts: what was absent may exist by now."""
        with self._lock:
            self._passed.clear()

    def _judgement(self, text: bytes) -> Judgement:
        known = self._passed.get(text)
        if known is not None:
            return known
        content = self._grammar.parse(text).content()
        found = Judgement() if content in self._clean else self._ask(text)
        if not found.fatal:
            _remember(self._passed, text, found)
        if found == Judgement():
            _remember(self._clean, content, None)
        return found


def _remember(passed: dict[K, V], key: K, value: V) -> None:
    """Add an entry; only the latest few are kept."""
    while len(passed) >= _MOST_REMEMBERED:
        del passed[next(iter(passed))]
    passed[key] = value
