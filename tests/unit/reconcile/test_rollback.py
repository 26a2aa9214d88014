"""What goes back where Postfix does not come up: a wish, or what else keeps it down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.files.store import FileStore
from pf_agent.maincf.document import MainCf
from pf_agent.model import (
    DesiredState,
    Event,
    Judgement,
    NotUp,
    Outcome,
    Place,
    Record,
    Rejected,
    Result,
    Standing,
    Unmanaged,
    Wishes,
)
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.rollback import Rollback
from pf_agent.words.sentences import MOST_NAMES
from tests.fakes import FakeHost, Records

TOML = "/etc/pf-agent/desired.toml"
SERVED = DesiredState({"mynetworks": "127.0.0.0/8", "inet_interfaces": "all"}, frozenset())
WISH = replace(
    SERVED,
    settings={**SERVED.settings, "inet_interfaces": "127.0.0.9", "smtpd_milters": "inet:a:1"},
    provenance={"inet_interfaces": Place(TOML, 7), "smtpd_milters": Place(TOML, 9)},
)
BEFORE = b"""\
# anna's
mynetworks = 127.0.0.0/8
inet_interfaces =
\tall
relay_domains = example.org
"""
TRIED = BEFORE.replace(b"=\n\tall", b"= 127.0.0.9") + b"smtpd_milters = inet:a:1\n"
REASON = "postfix@-.service is failed (exit-code); see `journalctl -u postfix@-.service`"
LOG = (
    "systemd: Starting postfix@-.service...",
    "postfix/master: fatal: bind 127.0.0.9 port 25: Address already in use",
    "systemd: postfix@-.service: Failed with result 'exit-code'.",
)


class World:
    """A main.cf in memory with a real FileStore, and a Postfix that serves with `BEFORE`."""

    def __init__(self, folder: Path) -> None:
        self.host = FakeHost(BEFORE)
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.records = Records()
        self.unusable: set[bytes] = set()
        self.asked = SERVED
        self.is_there: Callable[[str], bool] = lambda _thing: True
        self.now = 1_000.0
        self.policy = Policy(judge=self.judge, clock=lambda: self.now)

    def judge(self, text: bytes) -> Judgement:
        return Judgement("it cannot run" if text in self.unusable else "")

    @property
    def in_force(self) -> InForce:
        return InForce(self.host, self.state, self.records, lambda thing: self.is_there(thing))

    def look(self) -> Outcome:
        with self.state.lock():
            return self.in_force.cycle(self.asked, self.policy)

    def serve(self, is_started: bool = True) -> None:
        """Postfix is started with main.cf as it is, and serves."""
        pending = self.state.pending()
        cycle = None if pending is None else pending.cycle
        self.state.note_served(cycle, self.host.read().text, is_started, True)

    def is_down(self, standing: Standing, *log: str) -> NotUp:
        text = self.host.read().text
        fatal = tuple(line for line in log if "fatal: " in line)
        return NotUp(self.state.pending(), standing, REASON, text, log, fatal)

    def rollback(self, not_up: NotUp) -> Rollback:
        return Rollback(self.host, self.policy, self.state, self.records, not_up)

    def reject(self) -> bool:
        """The wish is to blame for what has become of Postfix."""
        return self.in_force.ended(self.is_down(Standing.REJECTED, *LOG), self.policy)

    def rescue(self, *log: str) -> bool:
        """Nothing that is desired is to blame."""
        return self.in_force.ended(self.is_down(Standing.DOWN, *log), self.policy)

    def text(self) -> bytes | None:
        return self.host.read().text

    def parameters(self) -> dict[str, str]:
        return MainCf.parse(self.text() or b"").parameters()

    def begin_anew(self) -> None:
        """Another process, after a crash."""
        self.state = FileStore(self.state.directory, self.state.run_directory)
        self.host.before_exchange = []
        self.records = Records()

    def displaced(self) -> list[bytes]:
        return [entry.read_bytes() for entry in Path(self.state.displaced_directory).iterdir()]


@pytest.fixture
def new(tmp_path: Path) -> World:
    """Nothing was ever served with."""
    return World(tmp_path)


@pytest.fixture
def served(new: World) -> World:
    """The desired state was served with."""
    new.look()
    new.serve()
    assert new.state.wishes() == Wishes(SERVED, SERVED)
    return new


@pytest.fixture
def world(served: World) -> World:
    """Main.cf was made to say the wish, and Postfix does not come up with it."""
    served.asked = WISH
    assert served.look().result is Result.CORRECTED
    assert served.text() == TRIED
    served.records.clear()
    return served


# --- a wish ---------------------------------------------------------------------------------------


def test_the_wish_goes_back_to_the_byte_and_asks_for_a_start(world: World) -> None:
    assert world.reject()
    assert world.text() == BEFORE
    pending = world.state.pending()
    assert pending is not None
    assert pending.rolled_back
    assert pending.parameters == ("inet_interfaces", "smtpd_milters")
    assert (pending.wished, pending.exposure.corrected_at) == ((), 1_000.0)
    assert sorted(world.displaced()) == sorted([BEFORE, TRIED])


def test_what_was_started_while_it_is_written_was_not_started_with_it(world: World) -> None:
    seen = []

    def write_slowly() -> None:
        pending = world.state.pending()
        assert pending is not None
        seen.append(pending.exposure.corrected_at)
        world.now += 60.0

    world.host.before_exchange.append(write_slowly)
    assert world.reject()
    pending = world.state.pending()
    assert pending is not None
    assert (seen, pending.exposure.corrected_at) == ([None], 1_060.0)


def test_the_wish_is_remembered_as_rejected_and_the_state_before_is_in_force(world: World) -> None:
    world.reject()
    kept = world.state.wishes()
    assert (kept.served, kept.applied, kept.before) == (SERVED, SERVED, {})
    assert kept.rejected is not None
    assert kept.rejected.says == WISH
    assert kept.rejected.parameters == ("inet_interfaces", "smtpd_milters")
    assert not kept.rejected.is_judged
    assert world.in_force.desired(WISH) == SERVED
    for _ in range(2):
        assert world.look().result is Result.IN_SYNC
    world.serve()
    assert world.look().result is Result.IN_SYNC
    assert world.in_force.rejected(WISH) == kept.rejected


def test_what_the_wish_names_and_is_not_there_is_remembered(world: World) -> None:
    world.is_there = lambda thing: thing != "inet:a:1"
    world.reject()
    kept = world.state.wishes().rejected
    assert kept is not None
    assert kept.missing == ("inet:a:1",)


def test_each_parameter_has_a_record_and_the_last_says_why_and_what_to_do(world: World) -> None:
    world.reject()
    *each, last = world.records
    assert [record.event for record in world.records] == [Event.ROLLED_BACK] * 3
    named = [record.fields[names.FIELD_PARAMETER] for record in each]
    assert named == ["inet_interfaces", "smtpd_milters"]
    assert last.message == (
        "Postfix did not come up with the new desired state, so it is rejected and the"
        f" previous state is in force again: inet_interfaces ({TOML}:7), smtpd_milters"
        f" ({TOML}:9): {REASON};"
        " postfix/master: fatal: bind 127.0.0.9 port 25: Address already in use; fix it; it is"
        " tried again when it changes, or by `pf-agent apply`"
    )
    assert last.fields[names.FIELD_REASON] == REASON
    assert last.fields[names.FIELD_LOG] == "\n".join(LOG)
    assert "-inet_interfaces = 127.0.0.9\n" in last.fields[names.FIELD_DIFF]
    assert Path(last.fields[names.FIELD_DISPLACED]).read_bytes() == TRIED


def test_what_others_have_changed_in_the_meantime_stays(served: World) -> None:
    """relay_domains by hand and a reload, weeks later a wish that fails."""
    served.host.write(BEFORE.replace(b"example.org", b"example.org example.net"))
    served.look()
    served.asked = WISH
    served.look()
    served.reject()
    assert served.text() == BEFORE.replace(b"example.org", b"example.org example.net")


def test_several_wishes_go_back_together_each_named(world: World) -> None:
    biff = {**WISH.settings, "biff": "no"}
    places = {**WISH.provenance, "biff": Place("/etc/pf-agent/desired.d/50.toml", 2)}
    world.asked = replace(WISH, settings=biff, provenance=places)
    world.look()
    world.reject()
    assert world.text() == BEFORE
    message = world.records[-1].message
    assert "biff (/etc/pf-agent/desired.d/50.toml:2), inet_interfaces (" in message
    assert f"smtpd_milters ({TOML}:9)" in message


def test_drift_that_came_together_with_a_wish_stays_corrected(served: World) -> None:
    served.asked = WISH
    served.host.write(BEFORE.replace(b"127.0.0.0/8", b"0.0.0.0/0"))
    served.look()
    served.reject()
    assert served.parameters()["mynetworks"] == "127.0.0.0/8"
    assert served.parameters()["inet_interfaces"] == "all"


def test_what_a_wish_comments_out_comes_back_where_it_stood(served: World) -> None:
    served.asked = replace(SERVED, unmanaged=Unmanaged.COMMENT_OUT)
    assert served.look().result is Result.CORRECTED
    pending = served.state.pending()
    assert pending is not None
    assert pending.wished == ("relay_domains",)
    assert b"#relay_domains = example.org\n" in (served.text() or b"")
    assert served.reject()
    assert served.text() == BEFORE
    assert "relay_domains: " in served.records[-1].message
    assert served.look().result is Result.IN_SYNC


def test_very_many_lines_come_back_in_time_and_flood_nothing(served: World) -> None:
    junk = b"".join(b"junk%d = 1\n" % number for number in range(5_000))
    served.host.write(BEFORE + junk)
    settings = {**SERVED.settings, "x": "1"}
    served.asked = replace(SERVED, settings=settings, unmanaged=Unmanaged.COMMENT_OUT)
    served.look()
    served.records.clear()
    assert served.reject()
    assert served.text() == BEFORE + junk
    assert len(served.records) == MOST_NAMES + 1
    assert ": x, junk0, junk1, " in served.records[-1].message
    assert len(served.records[-1].message) < 1_000
    pending = served.state.pending()
    assert pending is not None
    assert len(pending.parameters) == MOST_NAMES


def test_what_was_never_served_goes_back_as_it_was_before_the_takeover(new: World) -> None:
    odd = BEFORE.replace(b"all", b"loopback-only")
    new.host.write(odd)
    new.asked = WISH
    new.look()
    assert new.parameters()["inet_interfaces"] == "127.0.0.9"
    assert new.reject()
    assert new.text() == odd
    assert "main.cf is as it was before, and is only watched" in new.records[-1].message
    assert new.in_force.desired(WISH) is None
    for _ in range(2):
        assert new.look().result is Result.OBSERVED
    assert new.text() == odd


def test_what_was_commented_out_at_the_takeover_comes_back(new: World) -> None:
    new.asked = replace(SERVED, unmanaged=Unmanaged.COMMENT_OUT)
    new.look()
    assert "relay_domains" not in new.parameters()
    assert new.reject()
    assert new.text() == BEFORE


@pytest.mark.parametrize(
    ("log", "telling"),
    [
        (("one", "a: fatal: cause", "b: fatal: it failed", "two"), "; a: fatal: cause"),
        (("a: warning: old", "b: warning: new", "two"), "; b: warning: new"),
        (("one", "two"), "; two"),
        ((), ""),
        (
            (
                "postfix/postfix-script: warning: stopping the Postfix mail system with force",
                "systemd: Starting postfix@-.service...",
                "postfix/master: fatal: bind: Address already in use",
                "systemd: postfix@-.service: Failed with result 'exit-code'.",
                "systemd: Starting postfix.service...",
            ),
            "; postfix/master: fatal: bind: Address already in use",
        ),
        (
            tuple(f"postfix/master: fatal: {number} {'x' * 370}" for number in range(10)),
            f"; postfix/master: fatal: 0 {'x' * 370}",
        ),
    ],
)
def test_the_sentence_has_the_line_that_tells_most(
    world: World, log: tuple[str, ...], telling: str
) -> None:
    world.in_force.ended(world.is_down(Standing.REJECTED, *log), world.policy)
    assert f": {REASON}{telling}; fix it" in world.records[-1].message


# --- nothing to go back to ------------------------------------------------------------------------


def main_cf_is_gone(world: World) -> None:
    world.host.remove()


def it_was_corrected_since(world: World) -> None:
    pending = world.state.pending()
    assert pending is not None
    world.state.mark_pending(replace(pending, cycle=pending.cycle + 1))


def it_was_edited_since(world: World) -> None:
    world.host.write(TRIED + b"# by hand\n")


def it_was_served_since(world: World) -> None:
    world.serve()


def it_cannot_run_either(world: World) -> None:
    world.unusable.add(BEFORE)


def nothing_was_ever_asked_for(world: World) -> None:
    world.state.keep_wishes(Wishes())


@pytest.mark.parametrize(
    "because",
    [
        main_cf_is_gone,
        it_was_corrected_since,
        it_was_edited_since,
        it_was_served_since,
        it_cannot_run_either,
        nothing_was_ever_asked_for,
    ],
)
def test_where_there_is_nothing_to_go_back_to_nothing_is_touched(
    world: World, because: Callable[[World], None]
) -> None:
    not_up = world.is_down(Standing.REJECTED, *LOG)
    because(world)
    before = world.host.read(), world.state.pending(), world.state.wishes()
    assert not world.in_force.ended(not_up, world.policy)
    assert (world.host.read(), world.state.pending(), world.state.wishes()) == before
    assert world.records == []


def test_a_wish_that_changed_nothing_in_main_cf_is_not_to_blame(served: World) -> None:
    served.asked = replace(SERVED, settings={**SERVED.settings, "relay_domains": "example.org"})
    assert served.look().result is Result.IN_SYNC
    assert not served.reject()
    assert served.in_force.desired(served.asked) == served.asked


def test_what_is_desired_as_before_is_never_taken_back(served: World) -> None:
    served.host.write(BEFORE.replace(b"127.0.0.0/8", b"0.0.0.0/0"))
    served.look()
    for _ in range(2):
        assert not served.reject()
        assert not served.rescue(*LOG)
        assert served.text() == BEFORE
    assert served.state.wishes().rejected is None


def test_where_postfix_only_fails_nothing_goes_back(world: World) -> None:
    assert not world.in_force.ended(world.is_down(Standing.FAILING, *LOG), world.policy)
    assert world.text() == TRIED


def test_what_somebody_writes_at_that_moment_is_tried_instead(world: World) -> None:
    """That is a change of main.cf, and may be what mends it."""
    other = TRIED + b"# by hand\n"
    before = world.state.wishes()
    world.host.before_exchange = [lambda: world.host.write(other)]
    assert not world.reject()
    assert world.text() == other
    assert world.state.wishes() == before
    pending = world.state.pending()
    assert pending is not None
    assert (pending.rolled_back, pending.wished) == (False, ("inet_interfaces", "smtpd_milters"))
    assert world.records == []
    assert world.reject()
    assert world.text() == BEFORE + b"# by hand\n"


def test_what_is_still_being_written_comes_back_when_it_is_whole(world: World) -> None:
    world.host.before_exchange = [lambda: world.host.hold_open(b"inet_inter")]
    assert world.reject()
    assert world.text() == BEFORE


# --- a crash on the way ---------------------------------------------------------------------------


class Crash(Exception):
    """The process ends here."""


def crash() -> None:
    raise Crash


def refuse() -> None:
    raise HostError("main.cf: no space left on device; free some")


def end_at(world: World, step: str, is_done: bool, which: int, how: Callable[[], None]) -> None:
    """The process ends, or the disk refuses, at the n-th step of that name in `FileStore`."""
    does = getattr(world.state, step)
    left = [which]

    def ends(*arguments: object) -> object:
        left[0] -= 1
        if left[0] >= 0:
            return does(*arguments)
        if is_done:
            does(*arguments)
        how()
        return None

    setattr(world.state, step, ends)


def end_with_a_record(world: World, how: Callable[[], None]) -> None:
    class Broken(Records):
        def __call__(self, record: Record) -> None:
            how()

    world.records = Broken()


def end_at_the_exchange(world: World, how: Callable[[], None]) -> None:
    world.host.before_exchange = [how]


STEPS = (
    ("keep_wishes", 0),
    ("next_cycle", 0),
    ("mark_pending", 0),
    ("keep_displaced", 0),
    ("keep_wishes", 1),
)
ENDS: dict[str, Callable[[World, Callable[[], None]], None]] = {}
for step, which in STEPS:
    for is_done in (False, True):
        ENDS[f"{'after' if is_done else 'before'} {step} {which}"] = (
            lambda w, how, s=step, n=which, d=is_done: (  # type: ignore[misc]
                end_at(w, s, d, n, how)
            )
        )
ENDS |= {"before the exchange": end_at_the_exchange, "after the exchange": end_with_a_record}


def go_on(world: World, asked: DesiredState) -> None:
    """The next process looks, and Postfix is seen not to come up with what stands there."""
    world.begin_anew()
    world.asked = asked
    world.look()
    if world.in_force.desired(asked) == asked:
        assert world.text() == TRIED, "it was not counted as tried, so it is tried"
        assert world.reject()
        world.look()


@pytest.mark.parametrize("at", ENDS)
def test_a_crash_at_any_step_ends_with_the_wish_taken_back(world: World, at: str) -> None:
    ENDS[at](world, crash)
    with pytest.raises(Crash):
        world.reject()
    go_on(world, WISH)
    assert world.text() == BEFORE
    assert world.in_force.desired(WISH) == SERVED
    kept = world.state.wishes()
    assert (kept.served, kept.applied, kept.before) == (SERVED, SERVED, {})
    assert kept.rejected is not None
    assert kept.rejected.says == WISH
    assert REASON in kept.rejected.reason
    assert TRIED in world.displaced()
    pending = world.state.pending()
    assert pending is not None, "Postfix gets its start"
    assert pending.rolled_back
    world.serve()
    assert world.look().result is Result.IN_SYNC
    assert world.in_force.rejected(WISH) is not None


@pytest.mark.parametrize("at", ENDS)
def test_after_a_crash_something_else_may_be_asked_for(world: World, at: str) -> None:
    ENDS[at](world, crash)
    with pytest.raises(Crash):
        world.reject()
    world.begin_anew()
    world.asked = SERVED
    world.look()
    assert world.parameters() == MainCf.parse(BEFORE).parameters()
    assert world.state.pending() is not None
    world.serve()
    assert world.state.wishes() == Wishes(SERVED, SERVED)


@pytest.mark.parametrize("at", ENDS)
def test_after_a_crash_at_the_takeover_main_cf_is_as_it_was(new: World, at: str) -> None:
    text = BEFORE.replace(b"127.0.0.0/8", b"127.0.0.0/16")
    new.host.write(text)
    new.asked = WISH
    new.look()
    ENDS[at](new, crash)
    with pytest.raises(Crash):
        new.reject()
    new.begin_anew()
    new.asked = WISH
    new.look()
    if new.text() != text:
        assert new.reject()
    assert new.text() == text
    assert new.in_force.desired(WISH) is None
    assert new.look().result is Result.OBSERVED


@pytest.mark.parametrize("at", ENDS)
def test_what_the_disk_refuses_is_done_at_the_next_try(world: World, at: str) -> None:
    ENDS[at](world, refuse)
    with pytest.raises(HostError):
        world.reject()
    go_on(world, WISH)
    assert world.text() == BEFORE
    assert world.in_force.desired(WISH) == SERVED


# --- Postfix is down for something else -----------------------------------------------------------

BROKEN = BEFORE + b"virtual_alias_maps = mysql:/x\nbiff = no\n"
NAMED = "postfix/smtpd: fatal: open mysql:/x: No such file or directory"


@pytest.fixture
def down(served: World) -> World:
    """By hand, and Postfix was restarted with it."""
    served.host.write(BROKEN)
    assert served.look().result is Result.IN_SYNC
    with served.state.lock():
        served.in_force.mark_unserved((), 900.0)
    return served


@pytest.mark.parametrize(
    "log", [NAMED, "postfix/smtpd: fatal: bad value for virtual_alias_maps: it is wrong"]
)
def test_what_the_log_names_goes_back_alone(down: World, log: str) -> None:
    assert down.rescue(log)
    assert down.text() == BEFORE + b"biff = no\n"
    pending = down.state.pending()
    assert pending is not None
    assert (pending.rolled_back, pending.parameters) == (True, ("virtual_alias_maps",))
    assert [record.fields.get(names.FIELD_PARAMETER) for record in down.records] == [
        "virtual_alias_maps",
        None,
    ]
    assert "unmanaged settings that it had not served with before were put back" in (
        down.records[-1].message
    )
    assert BROKEN in down.displaced()


def test_where_it_names_none_all_that_differs_goes_back(down: World) -> None:
    down.host.write((down.text() or b"").replace(b"example.org", b"example.com"))
    assert down.rescue("postfix/master: fatal: something")
    assert down.text() == BEFORE


def test_where_that_did_not_help_the_rest_goes_back_and_then_nothing(down: World) -> None:
    assert down.rescue(NAMED)
    assert down.rescue(NAMED)
    assert down.text() == BEFORE
    assert not down.rescue(NAMED)
    assert down.text() == BEFORE


def test_what_was_taken_out_comes_back(down: World) -> None:
    down.host.write(b"mynetworks = 127.0.0.0/8\ninet_interfaces = all\n")
    assert down.rescue("postfix/master: fatal: relay_domains: not set")
    assert down.parameters()["relay_domains"] == "example.org"


def test_a_desired_parameter_never_goes_back(down: World) -> None:
    """Not even where it is what the log names, and the last text had something else."""
    down.state.keep_ran_with(BROKEN.replace(b"127.0.0.0/8", b"0.0.0.0/0"))
    assert not down.rescue("postfix/smtpd: fatal: mynetworks: 127.0.0.0/8: it is wrong")
    assert down.parameters()["mynetworks"] == "127.0.0.0/8"


def test_the_first_drift_ever_that_keeps_it_down(new: World) -> None:
    """Postfix was never started by us: what it was seen to serve with is known all the same."""
    new.look()
    new.serve(is_started=False)
    assert new.state.ran_with() is None
    new.host.write(BROKEN.replace(b"127.0.0.0/8", b"0.0.0.0/0"))
    new.look()
    assert new.rescue(NAMED)
    assert new.text() == BEFORE + b"biff = no\n"


def test_what_cannot_run_either_is_left_out(down: World) -> None:
    down.unusable.add(BEFORE + b"biff = no\n")
    assert down.rescue(NAMED)
    assert down.text() == BEFORE
    assert down.rescue(NAMED) is False


def test_a_wish_beside_it_is_tried_by_itself_then(down: World) -> None:
    """Postfix was down before the wish, so that it was not laid to it."""
    down.asked = WISH
    down.look()
    assert down.rescue(NAMED)
    pending = down.state.pending()
    assert pending is not None
    assert (pending.wished, pending.before) == (("inet_interfaces", "smtpd_milters"), None)
    assert down.text() == TRIED.replace(b"smtpd_m", b"biff = no\nsmtpd_m")
    assert down.reject()
    assert down.text() == BEFORE + b"biff = no\n"


def test_where_nothing_was_ever_served_there_is_no_rescue(new: World) -> None:
    new.look()
    assert not new.rescue(NAMED)
    assert new.text() == BEFORE


def test_somebody_writes_while_it_is_rescued(down: World) -> None:
    other = BROKEN + b"# mended\n"
    down.host.before_exchange = [lambda: down.host.write(other)]
    assert not down.rescue(NAMED)
    assert down.text() == other
    pending = down.state.pending()
    assert pending is not None
    assert not pending.rolled_back


@pytest.mark.parametrize("at", [at for at in ENDS if "keep_wishes" not in at])
def test_a_crash_on_the_way_of_a_rescue_leaves_it_to_the_next_try(down: World, at: str) -> None:
    ENDS[at](down, crash)
    with pytest.raises(Crash):
        down.rescue(NAMED)
    down.begin_anew()
    down.look()
    if down.text() == BROKEN:
        assert down.rescue(NAMED)
    assert down.text() == BEFORE + b"biff = no\n"
    assert down.state.pending() is not None


# --- a wish that is withdrawn before it was served with -------------------------------------------


def test_the_faulty_dropin_is_deleted_before_postfix_served(world: World) -> None:
    world.asked = SERVED
    world.look()
    assert world.parameters() == MainCf.parse(BEFORE).parameters()
    assert world.state.pending() is not None
    world.serve()
    assert world.look().result is Result.IN_SYNC
    assert world.state.wishes() == Wishes(SERVED, SERVED)


def test_a_part_of_it_is_withdrawn(world: World) -> None:
    world.asked = replace(SERVED, settings={**SERVED.settings, "inet_interfaces": "127.0.0.9"})
    world.look()
    assert "smtpd_milters" not in world.parameters()
    assert world.parameters()["inet_interfaces"] == "127.0.0.9"
    assert world.state.wishes().before.keys() == {"inet_interfaces"}
    assert world.reject()
    assert world.text() == BEFORE


def test_what_somebody_has_changed_since_is_left(world: World) -> None:
    text = TRIED.replace(b"inet:a:1", b"inet:b:2")
    world.host.write(text)
    world.asked = SERVED
    world.look()
    assert world.parameters()["smtpd_milters"] == "inet:b:2"
    assert "smtpd_milters" not in world.state.wishes().before


def test_what_was_served_with_stays_when_nobody_asks_for_it_any_more(world: World) -> None:
    world.serve()
    world.asked = SERVED
    world.look()
    assert world.parameters()["smtpd_milters"] == "inet:a:1"
    assert world.parameters()["inet_interfaces"] == "all"


def test_what_cannot_go_back_now_goes_back_later(world: World) -> None:
    world.asked = SERVED
    world.host.before_exchange = [refuse]
    with pytest.raises(HostError):
        world.look()
    assert "smtpd_milters" in world.state.wishes().before
    world.look()
    assert world.parameters() == MainCf.parse(BEFORE).parameters()


@pytest.mark.parametrize("at", [at for at in ENDS if at.split()[-1] != "1"])
def test_a_crash_on_the_way_of_a_withdrawal(world: World, at: str) -> None:
    world.asked = SERVED
    ENDS[at](world, crash)
    with pytest.raises(Crash):
        world.look()
    world.begin_anew()
    world.look()
    assert world.parameters() == MainCf.parse(BEFORE).parameters()
    assert world.state.pending() is not None
    world.serve()
    assert world.state.wishes() == Wishes(SERVED, SERVED)


# --- what it was told ----------------------------------------------------------------------------


def test_a_wish_of_what_was_rejected_before_is_remembered_with_the_new_reason(
    world: World,
) -> None:
    world.reject()
    first = world.state.wishes().rejected
    with world.state.lock():
        world.in_force.try_again()
    world.look()
    assert world.text() == TRIED
    again = partial(world.is_down, Standing.REJECTED, "postfix/master: fatal: another reason")
    assert world.in_force.ended(again(), world.policy)
    second = world.state.wishes().rejected
    assert isinstance(first, Rejected)
    assert isinstance(second, Rejected)
    assert second.says == first.says
    assert "another reason" in second.reason
