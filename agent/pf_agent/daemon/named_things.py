"""What the values of one main.cf name: looked for at each look, told once where it is absent."""

from __future__ import annotations

import os
from typing import Final

from pf_agent import names
from pf_agent.daemon.shared import Shared
from pf_agent.errors import HostError
from pf_agent.maincf.references import absences
from pf_agent.model import Emit, Event, Record, Reference
from pf_agent.postfix.errands import Errands
from pf_agent.reconcile.refusal import absence_sentence

# A folder each at most; master.cf and the list of table types are among them.
_MOST_WATCHED: Final = 32
_BESIDE: Final = ("master.cf", "dynamicmaps.cf")


class NamedThings:
    """What there is of them, from look to look."""

    def __init__(
        self, name: str, main_cf: str, postfix: Errands, emit: Emit, shared: Shared
    ) -> None:
        self._name = name
        self._folder = os.path.dirname(main_cf)
        self._postfix = postfix
        self._emit = emit
        self._shared = shared
        self.absent: tuple[str, ...] = ()

    def look(self, text: bytes) -> None:
        """Look for all that `text` names; what is newly absent goes on record.

        Where nobody answers, nothing new is known: no correction may fail for that.
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
        moved = self._shared.watch.follow_named(self._name, self._watched(found))
        if moved:
            self._shared.journal.note(moved)

    def _watched(self, found: tuple[Reference, ...]) -> tuple[str, ...]:
        beside = (os.path.join(self._folder, name) for name in _BESIDE)
        places = (each.place for each in found if each.place.startswith("/"))
        return tuple(dict.fromkeys([*beside, *places]))[:_MOST_WATCHED]
