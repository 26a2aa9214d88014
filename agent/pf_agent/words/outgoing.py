"""The way out: any text that leaves the process, without the secrets that it has read.

Code that reads main.cf, master.cf or one of our own files says so here, and the few places that let
text out pass it through here. So nothing in between has to remember that a text that it passes on,
such as a program's complaint, may quote a password. That makes this the only module of the room
whose answer depends on what happened before: the process is the boundary.

test_rules.py enforces both ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pf_agent import names
from pf_agent.maincf import known_secrets
from pf_agent.maincf.secrets import HIDDEN, without_shapes
from pf_agent.model import IN_SYNC_DETAIL, DesiredState, Phase, Record, Status

# In spellings; the author of main.cf decides how many there are, and each costs a search.
MOST_KNOWN: Final = 1000
# How many texts are remembered; the same ones are read again often, and their secrets are known.
_MOST_TEXTS: Final = 64
# Larger texts are not searched: 250,000 lines are refused anyway (drift.py).
_MOST_BYTES: Final = 1 << 20
# Fields with only our own content: numbers, dates, fixed words, and names of parameters.
_OURS: Final = frozenset(
    [
        names.FIELD_EVENT,
        names.FIELD_CYCLE,
        names.FIELD_KIND,
        names.FIELD_LINE,
        names.FIELD_PARAMETER,
        names.FIELD_TABLE,
        names.FIELD_INSTANCE,
        names.FIELD_DISPLACED,
        names.FIELD_WRITER_PID,
        names.FIELD_WRITTEN_AT,
        names.FIELD_SEEN_AT,
        names.FIELD_CORRECTED_AT,
        names.FIELD_ACTIVATED_AT,
        "MESSAGE_ID",
        "PRIORITY",
    ]
)
_TOLD_BY_NAMES: Final = frozenset([Phase.ACTIVATING, Phase.CONTESTED, Phase.SUSPENDED])
WITHHELD: Final = "the journal has the reason, since not every user may read main.cf"


class Hidden(str):
    """Text that was masked already, such as JSON, which must not be cut."""


class Outgoing:
    """What was read, and text made fit to be shown. Any thread may call."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._ordered: Mapping[str, Any] = {}
        self._read: tuple[int, ...] = ()

    # --- what was read ------------------------------------------------------------------------

    def read_main_cf(self, text: bytes | None) -> None:
        """Note a main.cf that was read: this host's, a kept one, or a candidate."""
        if text is not None and len(text) <= _MOST_BYTES and self._is_new(text):
            self._learn(known_secrets.of_main_cf(text))

    def read_master_cf(self, text: bytes) -> None:
        """Note a master.cf that was read."""
        if self._is_new(text):
            self._learn(known_secrets.of_master_cf(text))

    def read_toml(self, text: bytes) -> None:
        """Note a configuration file that was read, which may be faulty."""
        if self._is_new(text):
            self._learn(known_secrets.of_toml(text))

    def read_settings(self, settings: Mapping[str, str]) -> None:
        """Note parameters given on the command line."""
        self._learn(known_secrets.of_settings(settings.items()))

    def read_secrets(self, values: Iterable[str]) -> None:
        """Note values of which each is a secret, whatever it is called.

        A table may have any number of them: those in main.cf stay known.
        """
        self._learn(known_secrets.of_values(values), MOST_KNOWN // 2 - len(self._known))

    def read_desired(self, desired: DesiredState | None) -> None:
        """Note a desired state, with those of its instances."""
        for each in () if desired is None else (desired, *desired.instances.values()):
            self.read_settings(each.settings)

    def forget(self) -> None:
        """Return to the state at the start of a process."""
        self._known, self._ordered, self._read = {}, {}, ()

    def _is_new(self, text: bytes | str) -> bool:
        known = hash(text)  # keyed with a secret, so that no two texts can be made to collide
        if known in self._read:
            return False
        self._read = (*self._read[-_MOST_TEXTS:], known)
        return True

    def _learn(self, found: Iterable[str], most: int = MOST_KNOWN) -> None:
        spelled = (each for secret in found for each in known_secrets.spellings(secret))
        first = zip(range(MOST_KNOWN), spelled, strict=False)
        new = [each for _, each in first if each not in self._known]
        new = new[: max(most, 0)]
        if not new:
            return
        known = {**self._known, **{each: known_secrets.pattern_of(each) for each in new}}
        self._known = dict(list(known.items())[-MOST_KNOWN:])
        self._ordered = dict(sorted(self._known.items(), key=lambda item: -len(item[0])))

    # --- what is shown ------------------------------------------------------------------------

    def text(self, words: str) -> str:
        """Return words, of one or more lines, fit to be shown."""
        if isinstance(words, Hidden):
            return words
        return without_shapes(known_secrets.without(words, self._ordered))

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record's fields fit to be shown."""
        return {
            name: value if name in _OURS or not isinstance(value, str) else self.text(value)
            for name, value in fields.items()
        }

    def record(self, record: Record) -> Record:
        """Return a record fit to be shown."""
        fields = self.fields(record.fields)
        return replace(record, message=self.text(record.message), fields=fields)

    def status(self, status: Status) -> Status:
        """Return a status fit to be shown."""
        suspension = status.suspension
        if suspension is not None:
            suspension = replace(suspension, reason=self.text(suspension.reason))
        return replace(
            status,
            detail=self.text(status.detail),
            problems=tuple(map(self.text, status.problems)),
            absent=tuple(map(self.text, status.absent)),
            stale={self.text(path): self.text(why) for path, why in status.stale.items()},
            instances={name: self.status(inner) for name, inner in status.instances.items()},
            suspension=suspension,
            documents={self.text(n): self.text(why) for n, why in status.documents.items()},
        )

    def document(self, found: Any) -> Any:
        """Return the content of a JSON document fit to be shown; its keys are ours."""
        if isinstance(found, str):
            return self.text(found)
        if isinstance(found, Mapping):
            return {key: self.document(value) for key, value in found.items()}
        if isinstance(found, (list, tuple)):
            return list(map(self.document, found))
        return found


class Stream:
    """Standard output or error: writes whole lines, with secrets masked."""

    def __init__(self, stream: Any, outgoing: Outgoing) -> None:
        self._stream, self._outgoing, self._held = stream, outgoing, ""

    def write(self, text: str) -> int:
        """Write all lines that are complete; `flush` writes the rest."""
        if isinstance(text, Hidden):
            self._let_out(self._outgoing.text(self._held))
            self._let_out(text)
            self._held = ""
            return len(text)
        whole, end, rest = f"{self._held}{text}".rpartition("\n")
        self._held = rest
        self._let_out(self._outgoing.text(whole) + end)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is held back, such as a question without an end of line."""
        held, self._held = self._held, ""
        self._let_out(self._outgoing.text(held))
        self._stream.flush()

    def _let_out(self, text: str) -> None:
        if text:
            self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


PROCESS: Final = Outgoing()


def withheld(record: Record) -> Record:
    """Return a record without any value, for readers who may not read main.cf."""
    values = {names.FIELD_EXPECTED, names.FIELD_ACTUAL} & record.fields.keys()
    return replace(record, fields={**record.fields, **dict.fromkeys(values, HIDDEN)})


def withheld_status(status: Status) -> Status:
    """Return a status without any program's words, which may quote a value, for the same readers.

    It gives what differs, what is contested and when a restart is due by names only.
    """
    return _withheld(status, is_refused=bool(status.problems))


def _withheld(status: Status, is_refused: bool) -> Status:
    keeps = status.detail in ("", IN_SYNC_DETAIL) or status.phase in _TOLD_BY_NAMES
    keeps = keeps or (status.phase is Phase.OBSERVING and not is_refused)
    return replace(
        status,
        detail=status.detail if keeps else WITHHELD,
        problems=(WITHHELD,) * len(status.problems),
        absent=(WITHHELD,) * len(status.absent),
        stale={str(number): WITHHELD for number, _ in enumerate(status.stale, 1)},
        documents={name: WITHHELD if why else "" for name, why in status.documents.items()},
        instances={name: _withheld(each, is_refused) for name, each in status.instances.items()},
    )
