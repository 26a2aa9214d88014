"""What Postfix's programs say of the texts of one document: asked outside the loop, once for each.

A table may have a hundred thousand entries, and nothing may hold up main.cf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from pf_agent.activation.aside import Aside, Spawn, in_a_thread
from pf_agent.model import Judgement

_MOST_REMEMBERED: Final = 4


class Trials:
    """The verdicts. `ask` returns one, or raises HostError; `ended` is called once one is there."""

    def __init__(
        self,
        ask: Callable[[bytes], Judgement],
        ended: Callable[[], None] = lambda: None,
        spawn: Spawn = in_a_thread,
    ) -> None:
        self._ask_once = ask
        self._ended = ended
        self._spawn = spawn
        self._known: dict[str, Judgement] = {}
        self._under_way: tuple[str, Aside[Judgement]] | None = None

    def __call__(self, text: bytes) -> Judgement:
        """Return the verdict on `text`, asked for now if it is not known. Raises HostError."""
        name = _digest(text)
        if name not in self._known:
            self._keep(name, self._ask(text))
        return self._known[name]

    def is_known(self, text: bytes) -> bool:
        """Tell whether the verdict on `text` is known; if not, have it asked for, aside.

        Raises HostError, also what asking raised.
        """
        name = _digest(text)
        if self._under_way is not None:
            asked, aside = self._under_way
            try:
                said = aside.answer()
            except Exception:
                self._under_way = None
                raise
            if said is None:
                return name in self._known
            self._under_way = None
            self._keep(asked, said)
        if name in self._known:
            return True
        ask = self._ask
        self._under_way = (name, Aside("try a text", lambda: ask(text), self._ended, self._spawn))
        return False

    def forget(self) -> None:
        """Forget what was refused: what was missing may be there by now."""
        self._known = {name: said for name, said in self._known.items() if not _is_refused(said)}

    def _ask(self, text: bytes) -> Judgement:
        """Return the verdict. Only a second refusal counts: a program may lack memory once."""
        said = self._ask_once(text)
        return self._ask_once(text) if _is_refused(said) else said

    def _keep(self, name: str, said: Judgement) -> None:
        while len(self._known) >= _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[name] = said


def _is_refused(said: Judgement) -> bool:
    return bool(said.fatal or said.faults)


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
