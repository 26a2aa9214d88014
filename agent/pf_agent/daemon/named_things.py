"""What the values of one main.cf name: checked at each look, recorded once if absent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pf_agent import names
from pf_agent.daemon.shared import Shared
from pf_agent.errors import HostError
from pf_agent.maincf.references import absences
from pf_agent.maincf.things import things_in
from pf_agent.model import Emit, Event, Record, Reference
from pf_agent.postfix.errands import Errands
from pf_agent.reconcile.in_force import Refused
from pf_agent.reconcile.refusal import absence_sentence

# At most one directory each; those of master.cf and the list of table types are among them.
_MOST_WATCHED: Final = 32
_BESIDE: Final = ("master.cf", "dynamicmaps.cf")


class NamedThings:
    """Which of them exist, from look to look."""

    def __init__(
        self, name: str, main_cf: str, postfix: Errands, emit: Emit, shared: Shared
    ) -> None:
        self._name = name
        self._folder = os.path.dirname(main_cf)
        self._postfix = postfix
        self._emit = emit
        self._shared = shared
        self.absent: tuple[str, ...] = ()

    def look(self, text: bytes, refused: Refused | None = None) -> None:
        """Check all that `text` names; record what is newly absent.

        What a refused wish names is watched, too. If nothing answers, nothing new is known: no
        correction may fail because of that.
        """
        try:
            found = self._postfix.references(text)
        except HostError:
            return
        known, gone = self.absent, absences(found)
        self.absent = tuple(dict.fromkeys(map(absence_sentence, gone)))
        for each in gone:
            sentence = absence_sentence(each)
            if sentence not in known:
                fields = {names.FIELD_PARAMETER: each.parameter, names.FIELD_REASON: each.why}
                self._emit(Record(Event.REFERENCE_ABSENT, sentence, fields=fields))
        self._follow([*self._named_by(refused), *_places(found)])

    def await_what_lacks(self, refused: Refused) -> None:
        """Watch what a refused wish names, when there is nothing else to check yet."""
        self._follow(self._named_by(refused))

    def _named_by(self, refused: Refused | None) -> list[str]:
        """Return the files whose absence may be the reason: creating one is noticed at once."""
        if refused is None:
            return []
        places = []
        with suppress(HostError):
            places = _places(self._postfix.references(refused.text))
        things = (thing.removeprefix("unix:") for thing in things_in(refused.values))
        return [*(thing for thing in things if thing.startswith("/")), *places]

    def _follow(self, paths: Sequence[str]) -> None:
        beside = [os.path.join(self._folder, name) for name in _BESIDE]
        watched = tuple(dict.fromkeys([*beside, *paths]))[:_MOST_WATCHED]
        moved = self._shared.watch.follow_named(self._name, watched)
        if moved:
            self._shared.journal.note(moved)


def _places(found: Sequence[Reference]) -> list[str]:
    return [each.place for each in found if each.place.startswith("/")]
