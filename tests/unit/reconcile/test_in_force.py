"""A cycle with the desired state in force: what is refused, remembered, forgotten, and tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent.config import saved
from pf_agent.errors import HostError
from pf_agent.files.store import FileStore
from pf_agent.maincf.document import MainCf
from pf_agent.model import (
    DesiredState,
    Event,
    Judgement,
    Outcome,
    Place,
    Presence,
    Reference,
    Rejected,
    Result,
    Unmanaged,
    Wishes,
)
from pf_agent.reconcile.drift import needs_activation
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.plan import CorrectionFailed
from pf_agent.reconcile.ports import Policy
from tests.fakes import FakeHost, Records

SERVED = DesiredState({"mynetworks": "127.0.0.0/8"}, frozenset())
RIGHT = b"mynetworks = 127.0.0.0/8\nrelay_domains = a\n"
WRONG = RIGHT.replace(b"127.0.0.0/8", b"0.0.0.0/0")


def asking(**more: str) -> DesiredState:
    return replace(SERVED, settings={**SERVED.settings, **more})


class World:
    """One main.cf in memory, a real FileStore, and a judge that cannot run with `poison`."""

    def __init__(self, folder: Path) -> None:
        self.host = FakeHost(RIGHT)
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.records = Records()
        self.there: set[str] = set()
        self.poison = "poison"
        self.policy = Policy(judge=self.judge, clock=lambda: 1_000.0)
        self.in_force = InForce(
            self.host, self.state, self.records, lambda thing: thing in self.there
        )
        self.last: Outcome | None = None

    def judge(self, text: bytes) -> Judgement:
        absent = [
            Reference(name, "table", value, Presence.ABSENT, why=f"there is no {value}")
            for name, value in MainCf.parse(text).parameters().items()
            if value.startswith("hash:/") and value not in self.there
        ]
        fatal = "bad value: poison" if self.poison in text.decode() else ""
        return Judgement(fatal, absent=tuple(absent))

    def look(self, asked: DesiredState, policy: Policy | None = None) -> Outcome:
        with self.state.lock():
            actual = self.host.read()
            self.last = self.in_force.cycle(asked, policy or self.policy, self.last, actual)
        return self.last

    def serve(self) -> None:
        pending = self.state.pending()
        cycle = None if pending is None else pending.cycle
        self.state.note_served(cycle, self.host.read().text, True, True)

    def parameters(self) -> dict[str, str]:
        return MainCf.parse(self.host.read().text or b"").parameters()

    def summaries(self) -> list[str]:
        return [record.message for record in self.records]


@pytest.fixture
def new(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def world(new: World) -> World:
    """The desired state was served with."""
    new.look(SERVED)
    new.serve()
    new.records.clear()
    return new


# --- what is asked for ----------------------------------------------------------------------------


def test_a_wish_is_put_in_force_and_is_no_drift(world: World) -> None:
    asked = asking(biff="no")
    assert world.in_force.is_new(asked)
    assert world.in_force.is_only_wished(asked, world.host.read())
    assert world.look(asked).result is Result.CORRECTED
    assert world.parameters()["biff"] == "no"
    assert "the desired state changed: biff" in world.summaries()
    assert not any(summary.startswith("drift") for summary in world.summaries())
    assert not world.in_force.is_new(asked)
    pending = world.state.pending()
    assert pending is not None
    assert (pending.wished, pending.live, pending.is_drift()) == (("biff",), False, False)


def test_drift_is_drift_also_beside_a_wish(world: World) -> None:
    asked = asking(biff="no")
    world.host.write(WRONG)
    assert not world.in_force.is_only_wished(asked, world.host.read())
    world.look(asked)
    assert any(summary.startswith("drift: ") for summary in world.summaries())
    pending = world.state.pending()
    assert pending is not None
    assert pending.wished == ("biff",)
    assert pending.is_drift()


def test_at_the_takeover_nobody_has_drifted(new: World) -> None:
    new.host.write(WRONG)
    assert new.in_force.is_only_wished(SERVED, new.host.read())
    new.look(SERVED)
    assert "the desired state changed: mynetworks" in new.summaries()


def test_a_wish_that_cannot_be_written_stays_a_wish(world: World) -> None:
    """The file system is read-only for a while, or the disk is full."""

    def refuse() -> None:
        raise HostError("main.cf: Read-only file system; make it writable")

    world.host.before_exchange = [refuse, refuse]
    asked = asking(biff="no", relay_domains="b")
    for _ in range(2):
        with pytest.raises(CorrectionFailed) as failed:
            world.look(asked)
        world.last = failed.value.outcome
    world.look(asked)
    assert world.parameters()["relay_domains"] == "b"
    assert not [s for s in world.summaries() if s.startswith("drift") or "a; drift" in s]
    assert len(world.records.of(Event.DRIFT_DETECTED)) == 3, "of two parameters and the cycle"
    pending = world.state.pending()
    assert pending is not None
    assert set(pending.wished) == {"biff", "relay_domains"}
    assert not pending.is_drift()


def test_who_puts_the_old_value_back_drifts(world: World) -> None:
    asked = asking(relay_domains="b")
    world.look(asked)
    world.records.clear()
    world.host.write(RIGHT)
    world.look(asked)
    assert world.records[-1].event is Event.DRIFT_CORRECTED
    assert any(s.startswith("drift: relay_domains") for s in world.summaries())


def test_what_main_cf_says_already_needs_no_start(world: World) -> None:
    assert world.look(asking(relay_domains="a")).result is Result.IN_SYNC
    assert world.state.pending() is None
    assert not world.in_force.is_new(asking(relay_domains="a"))


# --- what the judge refuses -----------------------------------------------------------------------


def test_what_is_refused_is_rejected_and_the_state_before_is_enforced(world: World) -> None:
    asked = asking(biff="poison")
    world.host.write(WRONG)
    outcome = world.look(asked)
    assert outcome.result is Result.CORRECTED
    assert world.host.read().text == RIGHT
    rejected = world.in_force.rejected(asked)
    assert rejected is not None
    assert rejected.is_judged
    assert (rejected.says, rejected.parameters) == (asked, ("biff",))
    assert "bad value: poison" in rejected.reason
    assert world.in_force.desired(asked) == SERVED


def test_it_is_refused_once_and_not_at_each_look(world: World) -> None:
    asked = asking(biff="poison")
    for _ in range(3):
        world.look(asked)
    assert len(world.records.of(Event.CONFIG_REJECTED)) == 1


def test_the_first_one_that_is_refused_touches_nothing(new: World) -> None:
    asked = asking(biff="poison")
    new.host.write(WRONG)
    for _ in range(2):
        assert new.look(asked).result is Result.REJECTED
    assert new.host.read().text == WRONG
    assert new.state.wishes() == Wishes()


def test_a_wish_that_was_not_served_yet_goes_back_with_one_that_is_refused(world: World) -> None:
    world.look(asking(biff="no"))
    asked = asking(biff="no", relayhost="poison")
    world.look(asked)
    assert world.host.read().text == RIGHT
    rejected = world.in_force.rejected(asked)
    assert rejected is not None
    assert rejected.parameters == ("biff", "relayhost")
    assert world.state.wishes().before == {}
    world.serve()
    assert world.look(asked).result is Result.IN_SYNC


def test_what_is_asked_for_no_more_does_not_come_back_with_one_that_is_refused(
    world: World,
) -> None:
    """It stood in main.cf as it was asked for, and Postfix ran with all that is left."""
    world.look(asking(relayhost="[a.test]"))
    world.serve()
    world.look(SERVED)
    world.host.write(RIGHT)  # by hand: nobody asks for it
    world.look(SERVED)
    outcome = world.look(asking(message_size_limit="poison"))
    assert outcome.result is Result.IN_SYNC
    assert world.host.read().text == RIGHT
    assert world.state.wishes().rejected is not None


def test_what_is_in_force_already_is_not_rejected(world: World) -> None:
    """Somebody else's line is what Postfix cannot run with."""
    world.host.write(WRONG + b"biff = poison\n")
    Path(world.state.directory, "last-good.main.cf").unlink()
    assert world.look(SERVED).result is Result.REJECTED
    assert world.state.wishes() == Wishes(SERVED, SERVED)


# --- how long it is remembered --------------------------------------------------------------------


def rejecting(world: World, asked: DesiredState, *missing: str) -> None:
    kept = Rejected(asked, "it did not come up", ("biff",), missing)
    world.state.keep_wishes(Wishes(SERVED, SERVED, {}, kept))


def test_main_cf_is_of_no_account(world: World) -> None:
    asked = asking(biff="no")
    rejecting(world, asked)
    for text in (RIGHT + b"# by hand\n", WRONG, RIGHT):
        world.host.write(text)
        world.look(asked)
        assert "biff" not in world.parameters()


@pytest.mark.parametrize("other", [SERVED, asking(biff="yes"), asking(biff="no", x="1")])
def test_it_is_forgotten_once_the_files_ask_for_something_else(
    world: World, other: DesiredState
) -> None:
    """A drop-in that is removed and added again is tried."""
    asked = asking(biff="no")
    rejecting(world, asked)
    world.look(other)
    assert world.state.wishes().rejected is None
    world.look(asked)
    assert world.parameters()["biff"] == "no"


def test_it_is_forgotten_by_who_only_observes_too(world: World) -> None:
    asked = asking(biff="no")
    rejecting(world, asked)
    world.look(SERVED, replace(world.policy, observe_only=True))
    assert world.in_force.desired(asked) == asked


def test_who_only_observes_changes_nothing(world: World) -> None:
    asked = asking(biff="no")
    observing = replace(world.policy, observe_only=True)
    before = world.state.wishes()
    assert world.look(asked, observing).result is Result.OBSERVED
    assert world.host.read().text == RIGHT
    assert world.state.wishes() == before
    world.look(asked)
    text, kept = world.host.read().text, world.state.wishes()
    world.look(SERVED, observing)
    assert (world.host.read().text, world.state.wishes()) == (text, kept)
    cut_off = replace(kept, rejected=Rejected(asked, "451"))
    world.state.keep_wishes(cut_off)
    world.look(asked, observing)
    assert (world.host.read().text, world.state.wishes()) == (text, cut_off)


def test_a_rejected_takeover_that_is_made_true_by_hand_settles(new: World) -> None:
    new.state.keep_wishes(Wishes(None, None, {}, Rejected(SERVED, "451")))
    before = new.state.wishes()
    for _ in range(2):
        assert new.look(SERVED).result is Result.IN_SYNC
        assert new.state.wishes() == before
    assert new.host.read().text == RIGHT


def test_what_is_there_by_now_has_it_tried_again(world: World) -> None:
    asked = asking(smtpd_milters="inet:a:1")
    rejecting(world, asked, "inet:a:1", "/x")
    assert not world.in_force.reconsider(asked, world.policy)
    assert not world.in_force.reconsider(SERVED, world.policy)
    world.there = {"/x"}
    assert world.in_force.reconsider(asked, world.policy)
    assert world.in_force.desired(asked) == asked
    assert not world.in_force.reconsider(asked, world.policy)


def test_what_names_nothing_that_is_missing_waits_for_somebody(world: World) -> None:
    asked = asking(biff="no")
    rejecting(world, asked)
    assert not world.in_force.reconsider(asked, world.policy)


def test_a_wish_that_names_what_is_not_there_is_refused_until_it_is(world: World) -> None:
    asked = asking(transport_maps="hash:/a")
    assert world.look(asked).result is Result.IN_SYNC
    assert "transport_maps" not in world.parameters()
    rejected = world.in_force.rejected(asked)
    assert rejected is not None
    assert "transport_maps: pf-agent refuses it: there is no hash:/a" in rejected.reason
    world.host.write(WRONG)  # meanwhile what is in force is enforced
    assert world.look(asked).result is Result.CORRECTED
    assert not world.in_force.reconsider(asked, world.policy)
    world.there.add("hash:/a")
    assert world.in_force.reconsider(asked, world.policy)
    assert world.look(asked).result is Result.CORRECTED
    assert world.parameters()["transport_maps"] == "hash:/a"


def test_what_waits_with_a_refused_wish_is_named(world: World) -> None:
    asked = asking(transport_maps="hash:/a", biff="no")
    world.look(replace(asked, provenance={"biff": Place("/etc/pf-agent/x.toml", 3)}))
    rejected = world.in_force.rejected(asked)
    assert rejected is not None
    assert rejected.reason.endswith("; not in force until then: biff (/etc/pf-agent/x.toml:3)")
    assert "biff" not in world.parameters()


def test_what_goes_back_with_another_wish_is_not_said_to_have_failed(world: World) -> None:
    first = replace(asking(biff="no"), provenance={"biff": Place("/etc/pf-agent/x.toml", 3)})
    world.look(first)
    both = replace(first, settings={**first.settings, "transport_maps": "hash:/a"})
    world.records.clear()
    world.look(both)
    assert "biff" not in world.parameters()
    told = [r.message for r in world.records if r.event is Event.ROLLED_BACK]
    assert not any("did not come up" in message for message in told)
    assert told[-1].startswith(
        "put back: biff (/etc/pf-agent/x.toml:3): Postfix was not yet seen to serve with it when"
        " something else that is desired was refused; "
    )
    assert "transport_maps: pf-agent refuses it: there is no hash:/a" in told[-1]
    world.there.add("hash:/a")
    assert world.in_force.reconsider(both, world.policy)
    world.look(both)
    assert world.parameters()["biff"] == "no"


def test_what_a_refused_wish_names_is_known(world: World) -> None:
    asked = asking(transport_maps="hash:/a", biff="no")
    outcome = world.look(asked)
    refused = world.in_force.refused(asked, outcome)
    assert refused is not None
    assert refused.values == ("no", "hash:/a")
    assert b"transport_maps = hash:/a" in refused.text
    world.there.add("hash:/a")
    assert world.in_force.reconsider(asked, world.policy)
    assert world.in_force.refused(asked, world.look(asked)) is None


def test_what_a_first_state_lacks_is_known(new: World) -> None:
    asked = asking(biff="poison")
    outcome = new.look(asked)
    assert outcome.result is Result.REJECTED
    refused = new.in_force.refused(asked, outcome)
    assert refused is not None
    assert refused.values == ("poison", "127.0.0.0/8")


# --- what is asked for no more --------------------------------------------------------------------


def left(world: World) -> list[str]:
    return [m for m in world.summaries() if "no longer managed" in m]


def test_what_is_asked_for_no_more_stays_and_is_told_once(world: World) -> None:
    asked = asking(biff="no")
    world.look(asked)
    world.serve()
    world.records.clear()
    assert world.look(SERVED).result is Result.IN_SYNC
    assert left(world) == ['biff: no longer managed; main.cf still says "no" (line 3)']
    (record,) = world.records
    assert record.cycle is not None
    assert record.fields["PF_AGENT_PARAMETER"] == "biff"
    assert world.parameters()["biff"] == "no"
    world.look(SERVED)
    assert len(left(world)) == 1
    again = FileStore(world.state.directory, world.state.run_directory)
    assert again.wishes().left == {"biff": "no"}
    # It is nobody's any more once main.cf says something else, or it is asked for again.
    world.host.write(RIGHT + b"biff = yes\n")
    world.look(asking(relay_domains="b"))
    assert world.state.wishes().left == {}


def test_what_is_asked_for_no_more_beside_another_wish_is_told_in_its_cycle(world: World) -> None:
    world.look(asking(biff="no"))
    world.serve()
    world.records.clear()
    outcome = world.look(asking(relay_domains="b"))
    assert outcome.result is Result.CORRECTED
    assert {record.cycle for record in world.records} == {outcome.cycle}
    assert len(left(world)) == 1


def test_what_goes_back_or_is_commented_out_is_not_said_to_stay(world: World) -> None:
    world.look(asking(biff="no"))
    world.look(SERVED)  # it was not served with yet
    assert "biff" not in world.parameters()
    world.look(asking(biff="no"))
    world.serve()
    world.look(replace(SERVED, unmanaged=Unmanaged.COMMENT_OUT))
    assert "biff" not in world.parameters()
    assert left(world) == []


def test_what_went_after_it_was_served_with_withholds_no_correction(world: World) -> None:
    asked = asking(transport_maps="hash:/a")
    world.there.add("hash:/a")
    world.look(asked)
    world.serve()
    world.there.clear()
    world.host.write(WRONG + b"transport_maps = hash:/a\n")
    outcome = world.look(asked)
    assert outcome.result is Result.CORRECTED
    assert world.parameters()["mynetworks"] == "127.0.0.0/8"
    told = [r.message for r in world.records if r.event is Event.DRIFT_CORRECTED]
    assert any("there is no hash:/a" in message for message in told)


def test_nobody_elses_absent_table_stands_in_a_wishs_way(world: World) -> None:
    world.host.write(RIGHT + b"relocated_maps = hash:/b\n")
    assert world.look(asking(biff="no")).result is Result.CORRECTED
    assert world.parameters()["biff"] == "no"


def test_what_runs_already_may_be_asked_for_though_it_is_absent(world: World) -> None:
    world.host.write(RIGHT + b"relocated_maps = hash:/b\n")
    world.state.keep_ran_with(world.host.read().text or b"")
    asked = asking(relocated_maps="hash:/b")
    assert world.look(asked).result is Result.IN_SYNC
    assert world.in_force.rejected(asked) is None


def test_before_anything_was_served_with_only_postfix_itself_refuses(new: World) -> None:
    assert new.look(asking(transport_maps="hash:/a")).result is Result.CORRECTED
    assert new.parameters()["transport_maps"] == "hash:/a"


def test_what_was_refused_too_early_is_tried_when_the_judge_takes_it(world: World) -> None:
    asked = asking(biff="poison")
    world.look(asked)
    assert not world.in_force.reconsider(asked, world.policy)
    world.poison = "no such thing"
    assert world.in_force.reconsider(asked, world.policy)
    world.look(asked)
    assert world.parameters()["biff"] == "poison"


def test_a_file_that_has_a_fault_leaves_what_was_served_with(world: World) -> None:
    assert world.in_force.desired(None) == SERVED
    assert world.in_force.rejected(None) is None
    assert not world.in_force.reconsider(None, world.policy)


# --- an instance that is left and taken on again --------------------------------------------------


def test_who_is_left_is_taken_over_anew(world: World) -> None:
    asked = asking(biff="no")
    rejecting(world, asked)
    world.in_force.forget()
    world.host.write(RIGHT.replace(b"127.0.0.0/8", b"127.0.0.0/16"))
    assert world.in_force.desired(None) is None
    assert world.in_force.is_only_wished(asked, world.host.read())
    world.look(asked)
    assert world.state.wishes().before["mynetworks"] == "mynetworks = 127.0.0.0/16\n"


# --- what Postfix runs with -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unserved"),
    [
        (RIGHT, ()),
        (b"# c\nmynetworks =\n 127.0.0.0/8\n", ()),
        (RIGHT.replace(b"relay_domains = a", b"relay_domains = b"), ()),
        (WRONG, ("mynetworks",)),
        (b"relay_domains = a\n", ("mynetworks",)),
        (None, ()),
    ],
)
def test_the_managed_parameters_that_it_runs_without(
    world: World, text: bytes | None, unserved: tuple[str, ...]
) -> None:
    assert world.in_force.find_unserved(SERVED, text) == unserved


def test_of_a_default_value(world: World) -> None:
    desired = DesiredState({}, frozenset({"relay_domains"}))
    assert world.in_force.find_unserved(desired, RIGHT) == ()
    assert world.in_force.find_unserved(desired, b"x = 1\n") == ("relay_domains",)


def test_where_it_was_not_seen_to_serve_nothing_is_known(new: World) -> None:
    assert new.in_force.find_unserved(SERVED, WRONG) == ()


def test_what_it_runs_without_is_marked(world: World) -> None:
    world.in_force.mark_unserved(("mynetworks",), 1_000.0)
    pending = world.state.pending()
    assert pending is not None
    assert (pending.parameters, pending.wished, pending.rolled_back) == (("mynetworks",), (), False)


def test_what_was_adopted_and_it_runs_without_is_marked_as_wished(world: World) -> None:
    """It is rejected if Postfix does not come up with it, and `status` calls it no drift."""
    served = world.state.wishes()
    world.state.keep_wishes(replace(served, before={"relay_domains": None}))
    world.in_force.mark_unserved(("mynetworks", "relay_domains"), 1_000.0)
    pending = world.state.pending()
    assert pending is not None
    assert pending.wished == ("relay_domains",)


def test_a_wish_that_only_comments_out_is_one(world: World) -> None:
    asked = replace(SERVED, unmanaged=Unmanaged.COMMENT_OUT)
    assert world.in_force.is_only_wished(asked, world.host.read())
    outcome = world.look(asked)
    assert needs_activation(outcome.drift)
    assert all(drift.is_wished for drift in outcome.drift)


# --- of the version before ------------------------------------------------------------------------

UPGRADES: dict[str, Callable[[World], None]] = {
    "in sync": lambda world: None,
    "drifted": lambda world: world.host.write(WRONG),
}


@pytest.mark.parametrize("at", UPGRADES)
def test_after_an_upgrade_what_was_approved_is_in_force(world: World, at: str) -> None:
    legacy(world, SERVED)
    UPGRADES[at](world)
    assert world.state.wishes() == Wishes(SERVED, SERVED)
    world.look(SERVED)
    assert world.host.read().text == RIGHT
    assert not any(drift.is_wished for drift in (world.last.drift if world.last else ()))


def legacy(world: World, approved: DesiredState) -> None:
    directory = Path(world.state.directory)
    (directory / "wishes.json").unlink(missing_ok=True)
    (directory / "desired.json").write_text(json.dumps(saved.to_json({"-": approved})))
    (directory / "rolled-back.json").write_text("{}")


def test_after_an_upgrade_what_stood_rolled_back_is_tried_as_a_wish(world: World) -> None:
    """It was approved before Postfix was started with it, and main.cf lacks it."""
    asked = asking(biff="no")
    legacy(world, asked)
    assert world.state.wishes() == Wishes(SERVED, SERVED)
    world.look(asked)
    pending = world.state.pending()
    assert pending is not None
    assert pending.wished == ("biff",)
    assert world.state.wishes().before == {"biff": None}
