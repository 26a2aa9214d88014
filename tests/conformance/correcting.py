"""That a corrected file says to Postfix what is desired, all else as before, and no byte more.

What stood in the file is taken from Postfix's answers, never from our own reading of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from pf_agent.maincf.document import MainCf, encoded
from pf_agent.maincf.values import same
from pf_agent.model import ActualState, DesiredState, FileKind, Unmanaged
from pf_agent.reconcile.drift import corrected, find_drift
from tests.conformance.expect import expect
from tests.conformance.strategies import TYPED, Case
from tests.conformance.truth import Entry, Loaded

_BLANK = b" \t\n\v\f\r"


def drifted(text: bytes, desired: DesiredState) -> frozenset[str]:
    actual = ActualState(text, FileKind.REGULAR)
    return frozenset(drift.parameter for drift in find_drift(desired, actual))


@dataclass(frozen=True)
class Correction:
    """A case, what Postfix had read and what it reads now; `drifted` as find_drift names it."""

    case: Case
    before: Loaded
    after: bytes
    now: Loaded
    drifted: frozenset[str]

    @cached_property
    def values(self) -> dict[bytes, list[bytes]]:
        """Every value of each name, in the file's order, as Postfix read them."""
        found: dict[bytes, list[bytes]] = {}
        for entry in self.before.entries:
            if not entry.error:
                found.setdefault(entry.name, []).append(entry.value)
        return found

    @cached_property
    def wanted(self) -> dict[bytes, bytes]:
        """What a setting must become."""
        return {encoded(n): encoded(v) for n, v in self.case.desired.settings.items()}

    @cached_property
    def unwanted(self) -> frozenset[bytes]:
        """What must be commented out."""
        desired = self.case.desired
        use_default = frozenset(map(encoded, desired.use_default))
        if desired.unmanaged is not Unmanaged.COMMENT_OUT:
            return use_default
        others = {n for n in self.values.keys() - self.wanted.keys() if not self._is_ignored(n)}
        return use_default | others

    def _is_ignored(self, name: bytes) -> bool:
        text = name.decode("utf-8", "surrogateescape")
        return any(fnmatchcase(text, pattern) for pattern in self.case.desired.ignore)

    @cached_property
    def to_set(self) -> frozenset[bytes]:
        """The settings that may be touched; of a type, those which the agent says have drifted."""
        return frozenset(
            name
            for name, value in self.wanted.items()
            if (
                name.decode() in self.drifted
                if name.decode() in TYPED
                else any(have != value for have in self.values.get(name, [None]))
            )
        )

    def rows(self) -> dict[int, Entry]:
        """The logical line that a physical line, counted from 0, belongs to, by libpostfix."""
        lines = _lines(self.case.text)
        owners = {}
        starts = [*(entry.line - 1 for entry in self.before.entries), len(lines)]
        for entry, end in zip(self.before.entries, starts[1:], strict=True):
            for row in range(entry.line - 1, end):
                text = lines[row].strip(_BLANK)
                if text and not text.startswith(b"#"):
                    owners[row] = entry
        return owners


def correction(done: Correction) -> Counter[str]:
    _values(done)
    _bytes(done)
    case, after = done.case, done.after
    again = corrected(MainCf.parse(after), case.desired).render()
    expect(again == after, "corrected twice it is another", again)
    expect(not drifted(after, case.desired), "corrected it still drifts")
    expect(bool(done.drifted) or after == case.text, "there was no drift, and it was touched")
    return Counter(
        {
            "files corrected": int(after != case.text),
            "settings set": len(done.to_set),
            "settings commented out": len(done.unwanted & done.values.keys()),
        }
    )


def _values(done: Correction) -> None:
    """Postfix reads what is desired, and everything else as before."""
    have = done.now.parameters
    expect(have is not None, "Postfix cannot read what was corrected", done.now.log)
    assert have is not None
    for name, value in done.wanted.items():
        text, found = name.decode(), have.get(name)
        kept = text in TYPED and [found] == done.values.get(name, [])[-1:]
        if kept and found is not None and found != value:
            actual = found.decode("utf-8", "surrogateescape")
            kept = same(text, done.case.desired.settings[text], actual)
        expect(found == value or kept, "not the desired value", name, found, value)
        if text not in TYPED:
            expect((name in done.to_set) == (text in done.drifted), "drift is other", name)
    changed = done.unwanted | done.wanted.keys()
    others = {name: found[-1] for name, found in done.values.items() if name not in changed}
    now = {name: value for name, value in have.items() if name not in done.wanted}
    expect(now == others, "other parameters", now, others)


def _bytes(done: Correction) -> None:
    """All lines but those of the settings at hand stand there as before, in their order."""
    before, after = _lines(done.case.text), _lines(done.after)
    owners = done.rows()
    kept, own, commented = [], [], []
    for row, line in enumerate(before):
        entry = owners.get(row)
        if entry is not None and (entry.error or entry.name in done.unwanted):
            commented.append(b"#" + line)
        elif entry is not None and entry.name in done.to_set:
            own.append(line)
        else:
            kept.append(line)
    expect(_is_within(kept, after), "a line outside was changed", kept, after)
    new = [b"%s = %s" % item if item[1] else b"%s =" % item[0] for item in done.wanted.items()]
    # The last one may lack its end, and gets one where another comes below it.
    last = [] if done.case.text.endswith(b"\n") else before[-1:]
    allowed = {line.removesuffix(b"\r") for line in (*own, *commented, *new, *last)}
    added = Counter(after) - Counter(kept)
    strange = [line for line in added if line.removesuffix(b"\r") not in allowed]
    expect(not strange, "a line came from nowhere", strange)
    there = {line.removesuffix(b"\r") for line in after}
    lost = [line for line in commented if line.removesuffix(b"\r") not in there]
    expect(not lost, "what was commented out is gone", lost)
    _ends(done.case.text, done.after)


def _ends(before: bytes, after: bytes) -> None:
    """A file whose lines all end alike has such lines alone afterwards."""
    if b"\r" not in before:
        expect(b"\r\n" not in after, "there is a CR LF now")
    if b"\r\n" in before and b"\n" not in before.replace(b"\r\n", b""):
        rest = after.replace(b"\r\n", b"")
        if before.endswith(b"\\"):
            # A CR after a backslash is text, for postalias: this one line gets none (edit.py).
            rest = rest.replace(b"\\\n", b"", 1)
        expect(b"\n" not in rest, "there is a LF without CR now")
    if before.endswith(b"\n"):
        expect(after.endswith(b"\n") or not after, "the last end of line is gone")


def _lines(text: bytes) -> list[bytes]:
    return text.removesuffix(b"\n").split(b"\n") if text else []


def _is_within(lines: list[bytes], text: list[bytes]) -> bool:
    """Whether they stand in the text in their order; the end of the last one may be another."""
    rest = iter(text)
    return all(line in rest for line in lines[:-1]) and all(
        any(line.removesuffix(b"\r") == last.removesuffix(b"\r") for line in rest)
        for last in lines[-1:]
    )
