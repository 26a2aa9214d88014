"""One cycle of a table or a file of aliases: right after it, and all else byte for byte there."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pf_agent.errors import HostError
from pf_agent.files.store import FileStore
from pf_agent.maincf.entries import folded
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import (
    Attributes,
    DesiredState,
    DocumentKind,
    Event,
    Judgement,
    Late,
    Result,
    Unmanaged,
)
from pf_agent.reconcile.drift import find_drift
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.plan import plan
from pf_agent.reconcile.ports import Policy
from tests.conformance.entry_strategies import Entries, sources
from tests.fakes import FakeHost, Records

NAME = "hash:/etc/postfix/t"
KINDS = (DocumentKind.TABLE, DocumentKind.ALIASES)


class World:
    """One source, one state on disk, the records."""

    def __init__(self, folder: Path, text: bytes | None) -> None:
        self.host = FakeHost(text)
        self.host.wanted = None
        outer = FileStore(str(folder / "lib"), str(folder / "run"))
        outer.prepare()
        self.state = outer.of_document(NAME, lambda _text: None)
        self.state.prepare()
        self.records = Records()
        self.in_force = InForce(self.host, self.state, self.records, lambda _thing: True)

    def cycle(self, desired: DesiredState) -> Result:
        return self.in_force.cycle(desired, Policy()).result

    def serve(self) -> None:
        pending = self.state.pending()
        number = None if pending is None else pending.cycle
        self.state.note_served(number, self.text(), is_started=True, is_good=True)

    def text(self) -> bytes:
        return self.host.read().text or b""


def desired_of(case: Entries, unmanaged: Unmanaged = Unmanaged.KEEP) -> DesiredState:
    given_ = {folded(key): value for key, value in case.settings}
    unwanted = frozenset({folded(case.unwanted)}.difference(given_, {""}))
    wanted = DesiredState(given_, unwanted, unmanaged=unmanaged, kind=case.kind)
    return replace(wanted, document=NAME)


def rest_of(text: bytes, desired: DesiredState) -> list[bytes]:
    """The lines of what is not named: of other entries, comments, what Postfix skips."""
    document = grammar_of(desired.kind).parse(text)
    rows = {
        row
        for each in document.logical_lines
        if each.parameter is not None and each.parameter.name in desired.parameters()
        for row in each.rows
    }
    lines = text.split(b"\n")
    return [line.removesuffix(b"\r") for row, line in enumerate(lines) if row not in rows]


def is_within(few: list[bytes], many: list[bytes]) -> bool:
    """Whether these lines stand among the others, in this order."""
    left = iter(many)
    return all(any(line == other for other in left) for line in few if line)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_after_one_cycle_nothing_differs_and_all_else_is_there(
    kind: DocumentKind, data: st.DataObject
) -> None:
    case = data.draw(sources(kind))
    desired = desired_of(case)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), case.text)
        before = find_drift(desired, world.host.read(), attributes=None)
        result = world.cycle(desired)
        assert result is (Result.CORRECTED if before else Result.IN_SYNC)
        assert find_drift(desired, world.host.read(), attributes=None) == ()
        assert is_within(rest_of(case.text, desired), rest_of(world.text(), desired))
        was, now = (grammar_of(kind).parse(text).parameters() for text in (case.text, world.text()))
        others = was.keys() - desired.parameters()
        assert {k: was[k] for k in others} == {k: now.get(k) for k in others}
        if not before:
            assert world.text() == case.text
        world.serve()
        text = world.text()
        assert world.cycle(desired) is Result.IN_SYNC
        assert world.text() == text


def test_a_backslash_at_the_end_takes_in_no_carriage_return(tmp_path: Path) -> None:
    world = World(tmp_path, b"c: y\r\na: x\\")
    desired = DesiredState({"a": "x", "b": "x"}, frozenset(), kind=DocumentKind.ALIASES)
    assert world.cycle(replace(desired, document=NAME)) is Result.CORRECTED
    assert world.text().startswith(b"c: y\r\na: x\\\nb:")
    assert find_drift(desired, world.host.read(), attributes=None) == ()


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_what_is_not_managed_is_commented_out_and_no_byte_of_it_is_lost(
    kind: DocumentKind, data: st.DataObject
) -> None:
    case = data.draw(sources(kind))
    desired = desired_of(case, Unmanaged.COMMENT_OUT)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), case.text)
        result = world.cycle(desired)
        now = grammar_of(kind).parse(world.text()).parameters()
        assert now.keys() == desired.settings.keys()
        assert find_drift(desired, world.host.read(), attributes=None) == ()
        if result is Result.CORRECTED:
            kept = [each.read_bytes() for each in Path(world.state.displaced_directory).iterdir()]
            assert kept == [case.text]


def test_it_is_told_with_table_and_key_and_without_what_is_secret(tmp_path: Path) -> None:
    world = World(tmp_path, b"a x:Pl4nted\nb y\n")
    desired = DesiredState({"a": "z:Wished"}, frozenset({"b"}), kind=DocumentKind.TABLE)
    world.cycle(replace(desired, document=NAME, is_secret=True))
    assert {r.event for r in world.records} == {Event.DRIFT_DETECTED, Event.DRIFT_CORRECTED}
    told = "".join(f"{r.message}{dict(r.fields)}" for r in world.records)
    assert "Pl4nted" not in told
    assert "Wished" not in told
    keys = {r.fields["PF_AGENT_KEY"] for r in world.records if "PF_AGENT_KEY" in r.fields}
    assert keys == {"a", "b"}
    assert {r.fields.get("PF_AGENT_TABLE", NAME) for r in world.records} == {NAME}


@pytest.mark.parametrize("damaged", [None, b"", b"# kept\na", b"# kept\n"])
def test_a_source_that_is_gone_or_cut_comes_back(tmp_path: Path, damaged: bytes | None) -> None:
    good = b"# kept\na\tb\nother theirs\n"
    desired = DesiredState({"a": "b"}, frozenset(), kind=DocumentKind.TABLE, document=NAME)
    world = World(tmp_path, good)
    assert world.cycle(desired) is Result.IN_SYNC
    world.serve()
    if damaged is None:
        world.host.remove()
    else:
        world.host.write(damaged)
    assert world.cycle(desired) is Result.CORRECTED
    assert world.text() == good


def test_closing_a_file_is_not_told_as_opening_it(tmp_path: Path) -> None:
    world = World(tmp_path, b"a b\n")
    world.host.actual = replace(world.host.actual, mode=0o640)
    world.host.wanted = Attributes(0, 0, 0o600)
    desired = DesiredState({"a": "b"}, frozenset(), kind=DocumentKind.TABLE, document=NAME)
    assert world.cycle(desired) is Result.CORRECTED
    (record,) = world.records.of(Event.DRIFT_CORRECTED)
    assert "all users can read it" not in record.message


def test_nothing_that_is_told_of_a_table_speaks_of_main_cf(tmp_path: Path) -> None:
    world = World(tmp_path, b"a b\nother x\n")
    wanted = DesiredState({"a": "b"}, frozenset(), kind=DocumentKind.TABLE, document=NAME)
    reports = replace(wanted, unmanaged=Unmanaged.REPORT)
    outcome = world.in_force.cycle(reports, Policy())
    assert outcome.summary == f"but {NAME} also sets other"
    refused = Policy(judge=lambda _text: Judgement(fatal="odd"))
    outcome = world.in_force.cycle(replace(wanted, settings={"a": "c"}), refused)
    assert f"until then {NAME} stays as it is" in outcome.summary
    world.host.closed = Late(b"a theirs\n", True, "/late")
    world.cycle(wanted)
    unfit = FakeHost()
    unfit.actual = replace(unfit.actual, refused="it is a FIFO")
    with pytest.raises(HostError, match="it is a FIFO; put a file there that can be read"):
        plan(unfit, wanted, unfit.read(), None)
    told = [outcome.summary, *(record.message for record in world.records)]
    assert not [text for text in told if "main.cf" in text]
