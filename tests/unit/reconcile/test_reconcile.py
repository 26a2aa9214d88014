"""One cycle: what it changes, what it records, in which order; on FakeHost and a real FileStore."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.files.store import FileStore
from pf_agent.maincf.document import MainCf
from pf_agent.model import (
    DesiredState,
    DriftKind,
    Event,
    Exposure,
    Fault,
    FileKind,
    Heard,
    Judgement,
    Late,
    Outcome,
    PendingActivation,
    Result,
    Unmanaged,
    Wishes,
)
from pf_agent.reconcile.drift import MOST_LINES
from pf_agent.reconcile.judge import Judge
from pf_agent.reconcile.look import MOST_RECORDS, Look
from pf_agent.reconcile.plan import CorrectionFailed
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.reconcile import reconcile
from pf_agent.words.sentences import MOST_NAMES, drifted_names
from tests.fakes import FakeClock, FakeHost, Records

TEMPLATE = "/etc/postfix/main.cf.proto"
DESIRED = DesiredState(
    {"myorigin": "$myhostname", "mynetworks": "127.0.0.0/8"},
    frozenset({"sendmail_path"}),
    TEMPLATE,
)
IN_SYNC = b"""\
# by hand
myorigin = $myhostname
mynetworks = 127.0.0.0/8
relayhost = mail.example.net
"""
DRIFTED = IN_SYNC.replace(b"127.0.0.0/8", b"0.0.0.0/0")


class World:
    """One main.cf, one state on disk, the records; `look` is one cycle.

    The desired state was served with before, and is asked for still: what differs has drifted.
    """

    def __init__(self, folder: Path, text: bytes | None = DRIFTED) -> None:
        self.host = FakeHost(text)
        self.host.templates[TEMPLATE] = b"# template\nmyorigin = $mydomain\nbiff = no\n"
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.state.keep_wishes(Wishes(DESIRED, DESIRED))
        self.records = Records()
        self.clock = FakeClock()
        self.policy = Policy(judge=judge_of_grammar, clock=self.clock)
        self.last: Outcome | None = None

    def look(self, desired: DesiredState = DESIRED) -> Outcome:
        look = Look(self.host, desired, self.policy, self.state, self.records, self.last)
        self.last = reconcile(look)
        return self.last

    def text(self) -> bytes | None:
        return self.host.read().text

    def serve(self) -> None:
        """Postfix is seen to serve with main.cf as it is."""
        pending = self.state.pending()
        cycle = None if pending is None else pending.cycle
        self.state.note_served(cycle, self.text(), is_started=True, is_good=True)

    def displaced(self) -> list[bytes]:
        folder = Path(self.state.displaced_directory)
        return [entry.read_bytes() for entry in sorted(folder.iterdir())]


def judge_of_grammar(text: bytes) -> Judgement:
    """A Postfix that runs with everything but `poison`, and reads its file in earnest."""
    parameters = MainCf.parse(text).parameters()
    return Judgement(fatal="bad value: poison" if "poison" in parameters.values() else "")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- in sync --------------------------------------------------------------------------------------


def test_in_sync_records_nothing_and_touches_nothing(world: World) -> None:
    world.host.write(IN_SYNC)
    assert world.look() == Outcome(Result.IN_SYNC, "")
    assert world.records == []
    assert world.displaced() == []
    assert world.state.last_good() is None, "whether Postfix serves with it is not known"


def test_that_postfix_would_not_start_with_what_is_in_sync_is_told(world: World) -> None:
    world.host.write(IN_SYNC + b"inet_interfaces = poison\n")
    outcome = world.look()
    assert outcome.result is Result.IN_SYNC
    assert "bad value: poison" in outcome.summary


@pytest.mark.parametrize("observe_only", [False, True])
def test_what_main_cf_says_already_is_applied_whoever_made_it_say_so(
    world: World, observe_only: bool
) -> None:
    world.policy = replace(world.policy, observe_only=observe_only)
    asked = replace(DESIRED, settings={**DESIRED.settings, "relayhost": "mail.example.net"})
    world.host.write(IN_SYNC)
    assert world.look(asked).result is Result.IN_SYNC
    kept = world.state.wishes()
    assert (kept.served, kept.applied) == (DESIRED, asked)
    assert kept.before == {"relayhost": "relayhost = mail.example.net\n"}


def test_another_hosts_text_is_not_applied(world: World) -> None:
    world.policy = replace(world.policy, own=False)
    world.host.write(IN_SYNC)
    world.look(replace(DESIRED, use_default=frozenset()))
    assert world.state.wishes() == Wishes(DESIRED, DESIRED)


def test_another_hosts_text_is_not_remembered(world: World) -> None:
    world.policy = replace(world.policy, own=False)
    world.host.write(IN_SYNC)
    assert world.look().result is Result.IN_SYNC
    assert world.state.last_good() is None


# --- each kind of drift ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "corrected"),
    [
        (DRIFTED, DriftKind.CHANGED, IN_SYNC),
        (
            IN_SYNC.replace(b"myorigin = $myhostname\n", b""),
            DriftKind.MISSING,
            IN_SYNC.replace(b"myorigin = $myhostname\n", b"") + b"myorigin = $myhostname\n",
        ),
        (
            IN_SYNC + b"sendmail_path = /bin/false\n",
            DriftKind.UNWANTED,
            IN_SYNC + b"#sendmail_path = /bin/false\n",
        ),
        (b"mynetworks = 0.0.0.0/0\n" + IN_SYNC, DriftKind.DUPLICATED, IN_SYNC),
        (IN_SYNC + b"nonsense\n", DriftKind.UNREADABLE, IN_SYNC + b"#nonsense\n"),
    ],
    ids=lambda value: value.value if isinstance(value, DriftKind) else "",
)
def test_each_kind_of_drift_in_the_text(
    world: World, text: bytes, kind: DriftKind, corrected: bytes
) -> None:
    world.host.write(text)
    outcome = world.look()
    assert outcome.result is Result.CORRECTED
    assert [drift.kind for drift in outcome.drift] == [kind]
    assert world.text() == corrected
    assert world.displaced() == [text]
    assert world.look().result is Result.IN_SYNC


def chmod(host: FakeHost) -> None:
    host.actual = replace(host.actual, mode=0o600)


def chown(host: FakeHost) -> None:
    host.actual = replace(host.actual, owner=65534)


def symlink(host: FakeHost) -> None:
    host.put_symlink(IN_SYNC)


@pytest.mark.parametrize("damage", [chmod, chown, symlink])
def test_owner_mode_and_kind_are_put_right_without_any_restart(
    world: World, damage: Callable[[FakeHost], None]
) -> None:
    world.host.write(IN_SYNC)
    damage(world.host)
    outcome = world.look()
    assert outcome.result is Result.CORRECTED
    assert [drift.kind for drift in outcome.drift] == [DriftKind.MODE]
    found = world.host.read()
    assert (found.text, found.kind) == (IN_SYNC, FileKind.REGULAR)
    assert (found.owner, found.group, found.mode) == (0, 0, 0o644)
    assert world.state.pending() is None


@pytest.mark.parametrize(("mode", "was_closed"), [(0o640, True), (0o600, True), (0o664, False)])
def test_why_a_main_cf_is_opened_is_said(world: World, mode: int, was_closed: bool) -> None:
    world.host.write(IN_SYNC)
    world.host.actual = replace(world.host.actual, mode=mode)
    summary = world.look().summary
    assert ("all users can read it again: sendmail, mailq and other" in summary) is was_closed
    (record,) = [each for each in world.records if each.event is Event.DRIFT_CORRECTED]
    assert record.message == summary


def test_another_hosts_owner_and_mode_are_none_of_ours(world: World) -> None:
    world.host.wanted = None
    world.host.write(IN_SYNC)
    chmod(world.host)
    assert world.look().result is Result.IN_SYNC


# --- destroyed ------------------------------------------------------------------------------------


def test_no_main_cf_ever_begins_with_the_template(world: World) -> None:
    world.host.remove()
    outcome = world.look()
    assert [drift.kind for drift in outcome.drift] == [DriftKind.ABSENT_FILE]
    assert world.text() == (
        b"# template\nmyorigin = $myhostname\nbiff = no\nmynetworks = 127.0.0.0/8\n"
    )
    assert world.state.pending() is not None


@pytest.mark.parametrize("end", [b"", b"\n", b"\n \n"])
def test_what_holds_comments_alone_keeps_them_above_the_template(world: World, end: bytes) -> None:
    comments = b"# main.cf\n\n  # of anna\n#relayhost = [192.0.2.1]" + end
    world.host.write(comments)
    outcome = world.look()
    assert [drift.kind for drift in outcome.drift] == [DriftKind.ABSENT_FILE]
    assert (world.text() or b"").startswith(comments.rstrip(b"\n") + b"\n")
    assert (world.text() or b"").endswith(
        b"# template\nmyorigin = $myhostname\nbiff = no\nmynetworks = 127.0.0.0/8\n"
    )


def test_no_main_cf_and_no_template_is_an_error_and_nothing_is_touched(world: World) -> None:
    world.host.remove()
    world.host.templates.clear()
    with pytest.raises(HostError, match=TEMPLATE):
        world.look()
    assert world.text() is None
    assert world.state.pending() is None


@pytest.mark.parametrize(
    "destroyed",
    [
        None,
        b"",
        b"# a comment\n\n",
        IN_SYNC[: IN_SYNC.index(b"mynetworks")],
        IN_SYNC[: IN_SYNC.index(b"host =")],
        IN_SYNC[: IN_SYNC.index(b".example.net")],
    ],
    ids=["absent", "emptied", "no setting", "cut at a line", "cut in a name", "cut in a value"],
)
def test_a_destroyed_main_cf_gets_the_last_good_text_back(
    world: World, destroyed: bytes | None
) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    if destroyed is None:
        world.host.remove()
    else:
        world.host.write(destroyed)
    outcome = world.look()
    assert outcome.result is Result.CORRECTED
    assert world.text() == IN_SYNC
    assert world.displaced() == [destroyed] * (destroyed is not None)


def refuse(host: FakeHost) -> None:
    """Somebody puts a link to a secret there."""
    host.actual = replace(host.actual, text=None, kind=FileKind.SYMLINK, refused="it leads away")


def overfill(host: FakeHost) -> None:
    host.write(DRIFTED + b"#\n" * MOST_LINES)


@pytest.mark.parametrize("spoil", [refuse, overfill])
def test_what_is_not_looked_into_gives_way_to_the_last_good_text(
    world: World, spoil: Callable[[FakeHost], None]
) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    spoil(world.host)
    spoiled = world.text()
    outcome = world.look()
    assert outcome.result is Result.CORRECTED
    assert outcome.drift[0].kind is DriftKind.ABSENT_FILE
    assert world.text() == IN_SYNC
    assert world.displaced() == ([] if spoiled is None else [spoiled])
    assert len(outcome.diff) < 1000


@pytest.mark.parametrize("spoil", [refuse, overfill])
def test_what_was_never_good_and_is_not_looked_into_stays(
    world: World, spoil: Callable[[FakeHost], None]
) -> None:
    """The template would take the place of settings that nobody has seen."""
    spoil(world.host)
    before = world.host.read()
    with pytest.raises(HostError, match=r"put a main.cf there that every user can read"):
        world.look()
    assert world.host.read() == before


def test_an_unnamed_setting_that_postfix_cannot_run_with_brings_the_last_good_text_back(
    world: World,
) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    poisoned = DRIFTED + b"inet_interfaces = poison\n"
    world.host.write(poisoned)
    outcome = world.look()
    assert outcome.result is Result.CORRECTED
    assert "-inet_interfaces = poison" in outcome.diff
    assert world.text() == IN_SYNC
    assert world.displaced() == [poisoned]
    assert world.state.pending() is not None


def test_very_many_names_flood_neither_the_journal_nor_the_status(world: World) -> None:
    """Records that come too fast are dropped, those that matter among them."""
    world.look()
    world.records.clear()
    junk = b"".join(b"junk%d = 1\n" % number for number in range(5_000))
    world.host.write(DRIFTED + junk)
    outcome = world.look(replace(DESIRED, unmanaged=Unmanaged.COMMENT_OUT))
    assert outcome.result is Result.CORRECTED
    assert len(world.records) == MOST_RECORDS + 2
    assert world.records[-2].message.endswith(" and 4998 more")
    pending = world.state.pending()
    assert pending is not None
    assert len(pending.parameters) == MOST_NAMES


# --- refused --------------------------------------------------------------------------------------


def test_what_postfix_refuses_is_not_installed(world: World) -> None:
    poisoned = DRIFTED + b"inet_interfaces = poison\n"
    world.host.write(poisoned)
    outcome = world.look()
    assert outcome.result is Result.REJECTED
    assert "bad value: poison" in outcome.summary
    assert world.text() == poisoned
    assert world.displaced() == []
    assert world.state.pending() is None
    assert world.records[-1].event is Event.CONFIG_REJECTED
    assert world.records[-1].fields == {names.FIELD_REASON: "bad value: poison"}


def test_what_is_refused_once_alone_was_no_fault_of_the_text(world: World) -> None:
    """A judge that gets no socket or no memory ends as if main.cf were to blame."""
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    refusals = ["getifaddrs: Permission denied"]

    def judge(text: bytes) -> Judgement:
        return Judgement(fatal=refusals.pop() if refusals else "")

    world.policy = replace(world.policy, judge=judge)
    world.host.write(DRIFTED + b"# somebody's own\n")
    assert world.look().result is Result.CORRECTED
    assert world.text() == IN_SYNC + b"# somebody's own\n"


class FullOnceExchanged(FileStore):
    """Nothing more can be written once main.cf was exchanged."""

    def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None:
        if durable:
            raise HostError("pending.json: no space left on device; free space")
        super().mark_pending(pending, durable)

    def keep_ran_with(self, text: bytes) -> None:
        raise HostError("ran-with.main.cf: no space left on device; free space")


def test_what_was_exchanged_is_told_as_corrected_whatever_fails_then(world: World) -> None:
    world.state = FullOnceExchanged(world.state.directory, world.state.run_directory)
    assert world.look().result is Result.CORRECTED
    assert world.records[-1].event is Event.DRIFT_CORRECTED
    assert world.state.pending() is not None
    assert world.text() == IN_SYNC


def test_what_is_still_refused_is_not_recorded_again(world: World) -> None:
    world.host.write(DRIFTED + b"inet_interfaces = poison\n")
    first = world.look()
    count = len(world.records)
    assert world.look() == first
    assert len(world.records) == count


def with_fault(fault: Fault, *said: str) -> Callable[[bytes], Judgement]:
    return lambda _text: Judgement(warnings=said, faults=(fault,))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("mynetworks", "bad net/mask pattern"),
        # Two contradict each other, and only the other one is asked for.
        Fault("mailbox_size_limit", "mailbox_size_limit is smaller than mynetworks"),
    ],
)
def test_a_value_that_a_daemon_would_end_with_is_refused_where_it_is_asked_for(
    world: World, fault: Fault
) -> None:
    judge = with_fault(fault)
    stands = world.text()
    world.policy = replace(
        world.policy, judge=lambda text: Judgement() if text == stands else judge(text)
    )
    outcome = world.look()
    assert outcome.result is Result.REJECTED
    assert fault.reason in outcome.summary
    assert world.text() == DRIFTED


@pytest.mark.parametrize("was_served", [False, True])
def test_a_fault_that_runs_already_is_told_of_and_withholds_no_correction(
    world: World, was_served: bool
) -> None:
    """virtual_mailbox_limit, say, where Dovecot delivers and nobody runs virtual(8)."""
    fault = Fault("virtual_mailbox_limit", "virtual_mailbox_limit is smaller than mynetworks")
    if was_served:
        world.host.write(IN_SYNC)
        world.look()
        world.state.note_served(None, IN_SYNC, True, True)
        world.records.clear()
        world.host.write(DRIFTED)
    world.policy = replace(world.policy, judge=with_fault(fault))
    outcome = world.look()
    assert outcome.summary == f"corrected: mynetworks; but {fault.reason}"
    assert world.text() == IN_SYNC
    assert world.look().summary == ""


def test_somebodys_own_fault_is_told_of_and_no_reason_to_leave_drift_standing(
    world: World,
) -> None:
    judge = with_fault(Fault("smtp_x", "bad time value"), "overriding an earlier entry")
    world.policy = replace(world.policy, judge=judge)
    outcome = world.look()
    assert outcome.result is Result.CORRECTED
    assert outcome.summary == "corrected: mynetworks; but overriding an earlier entry (and 1 more)"
    (record,) = world.records.of(Event.DRIFT_CORRECTED)
    assert record.fields[names.FIELD_WARNINGS].split("\n") == [
        "overriding an earlier entry",
        "smtp_x: bad time value",
    ]
    assert world.text() == IN_SYNC


# --- what nobody named ----------------------------------------------------------------------------

REPORTING = replace(DESIRED, unmanaged=Unmanaged.REPORT)


def test_what_nobody_named_is_reported_once(world: World) -> None:
    world.host.write(IN_SYNC)
    outcome = world.look(REPORTING)
    assert outcome.result is Result.IN_SYNC
    assert outcome.summary == "but main.cf also sets relayhost"
    (record,) = world.records
    assert record.event is Event.DRIFT_DETECTED
    assert record.fields[names.FIELD_PARAMETER] == "relayhost"
    assert record.fields[names.FIELD_KIND] == "unmanaged"
    world.look(REPORTING)
    assert len(world.records) == 1
    assert world.text() == IN_SYNC
    assert world.state.pending() is None


def test_a_report_is_not_repeated_because_other_drift_was_corrected(world: World) -> None:
    world.look(REPORTING)
    world.look(REPORTING)
    reported = [r for r in world.records if r.fields.get(names.FIELD_KIND) == "unmanaged"]
    assert len(reported) == 1
    assert world.text() == IN_SYNC
    world.host.write(IN_SYNC + b"biff = no\n")
    world.look(REPORTING)
    reported = [r for r in world.records if r.fields.get(names.FIELD_KIND) == "unmanaged"]
    assert [r.fields[names.FIELD_PARAMETER] for r in reported] == ["relayhost", "biff"]


def test_what_nobody_named_is_commented_out_as_any_drift(world: World) -> None:
    world.host.write(IN_SYNC)
    outcome = world.look(replace(DESIRED, unmanaged=Unmanaged.COMMENT_OUT))
    assert outcome.result is Result.CORRECTED
    assert [d.kind for d in outcome.drift] == [DriftKind.UNMANAGED]
    assert world.text() == IN_SYNC.replace(b"relayhost", b"#relayhost")
    assert world.state.pending() is not None


def test_a_disk_that_refuses_leaves_main_cf_and_says_so(world: World) -> None:
    def refuse() -> None:
        raise HostError("main.cf: operation not permitted; see lsattr")

    world.host.before_exchange.append(refuse)
    with pytest.raises(HostError, match="not permitted"):
        world.look()
    assert world.text() == DRIFTED
    assert Event.DRIFT_CORRECTED not in world.records.events()


def test_drift_that_stays_is_put_on_record_once_and_keeps_its_cycle(world: World) -> None:
    def refuse() -> None:
        raise HostError("main.cf: operation not permitted; see lsattr")

    for _ in range(3):
        world.host.before_exchange.append(refuse)
        with pytest.raises(CorrectionFailed, match="not permitted") as caught:
            world.look()
        world.last = caught.value.outcome
        assert world.last.result is Result.FAILED
        assert world.records.events() == [Event.DRIFT_DETECTED] * 2
    failed, outcome = world.last, world.look()
    assert outcome.result is Result.CORRECTED
    assert failed is not None
    assert outcome.cycle == failed.cycle
    assert world.text() == IN_SYNC


def test_drift_is_put_on_record_where_the_folder_is_read_only(world: World) -> None:
    world.host.unlockable = "main.cf: read-only file system; make its file system writable"
    for _ in range(3):
        with pytest.raises(CorrectionFailed, match="read-only") as caught:
            world.look()
        world.last = caught.value.outcome
        assert world.records.events() == [Event.DRIFT_DETECTED] * 2
    assert world.text() == DRIFTED
    world.host.unlockable = ""
    assert world.look().cycle == caught.value.outcome.cycle
    assert world.text() == IN_SYNC


def test_nothing_drifts_and_nothing_is_locked(world: World) -> None:
    world.host.write(IN_SYNC)
    world.host.unlockable = "main.cf: read-only file system"
    assert world.look().result is Result.IN_SYNC
    world.host.left.append(DRIFTED)
    with pytest.raises(HostError, match="read-only"):
        world.look()
    assert world.host.left == [DRIFTED]


# --- observing ------------------------------------------------------------------------------------


def test_observing_changes_nothing(world: World) -> None:
    world.policy = replace(world.policy, observe_only=True)
    outcome = world.look()
    assert outcome.result is Result.OBSERVED
    assert outcome.summary == "would change: mynetworks"
    assert world.text() == DRIFTED
    assert world.displaced() == []
    assert world.state.pending() is None
    assert set(world.records.events()) == {Event.DRIFT_DETECTED}


def test_observed_drift_is_recorded_once_and_other_drift_anew(world: World) -> None:
    world.policy = replace(world.policy, observe_only=True)
    first = world.look()
    count = len(world.records)
    assert world.look().cycle == first.cycle
    assert len(world.records) == count
    world.host.write(DRIFTED.replace(b"0.0.0.0/0", b"10.0.0.0/8"))
    assert world.look().cycle != first.cycle
    assert len(world.records) == 2 * count


def test_of_observed_drift_only_what_is_new_is_put_on_record(world: World) -> None:
    """A wish is judged while the agent observes, and so is the next: each differs a little more."""
    world.policy = replace(world.policy, observe_only=True)
    first = world.look()
    count = len(world.records)
    asked = replace(DESIRED, settings={**DESIRED.settings, "mailbox_size_limit": "0"})
    second = world.look(asked)
    assert second.cycle != first.cycle
    assert drifted_names(second.drift) == ("mynetworks", "mailbox_size_limit")
    new = [record.message for record in world.records[count:]]
    assert len(new) == 2
    assert new[0].startswith("mailbox_size_limit is not set")
    assert new[1] == "the desired state changed: mailbox_size_limit"
    # Lines that move are no news, nor is what is left when something is mended by hand.
    count = len(world.records)
    world.host.write(b"# a comment\n" + DRIFTED)
    assert world.look(asked).cycle == second.cycle
    rest = world.look(DESIRED)
    assert rest.cycle == second.cycle
    assert drifted_names(rest.drift) == ("mynetworks",)
    assert len(world.records) == count


def test_observed_drift_is_corrected_under_its_own_cycle_once_that_is_allowed(
    world: World,
) -> None:
    world.policy = replace(world.policy, observe_only=True)
    first = world.look()
    count = len(world.records)
    world.policy = replace(world.policy, observe_only=False)
    assert world.look().cycle == first.cycle
    assert world.records.events()[count:] == [Event.DRIFT_CORRECTED]


def test_drift_that_comes_back_right_after_its_correction_is_a_cycle_of_its_own(
    world: World,
) -> None:
    """Else a restart that began before it would count as the one that it asks for."""
    first = world.look()
    count = len(world.records)
    world.host.write(DRIFTED)
    second = world.look()
    assert second.cycle != first.cycle
    assert len(world.records) == 2 * count
    pending = world.state.pending()
    assert pending is not None
    assert pending.cycle == second.cycle


# --- records and the marker -----------------------------------------------------------------------


def test_each_drifted_parameter_and_the_cycle_have_a_record(world: World) -> None:
    text = DRIFTED.replace(b"$myhostname", b"$mydomain") + b"sendmail_path = /bin/false\n"
    world.host.write(text)
    outcome = world.look()
    detected = world.records.of(Event.DRIFT_DETECTED)
    assert [record.cycle for record in world.records] == [outcome.cycle] * 5
    assert [dict(record.fields) for record in detected[:-1]] == [
        {
            names.FIELD_PARAMETER: "myorigin",
            names.FIELD_KIND: "changed",
            names.FIELD_EXPECTED: "$myhostname",
            names.FIELD_ACTUAL: "$mydomain",
            names.FIELD_LINE: "2",
        },
        {
            names.FIELD_PARAMETER: "mynetworks",
            names.FIELD_KIND: "changed",
            names.FIELD_EXPECTED: "127.0.0.0/8",
            names.FIELD_ACTUAL: "0.0.0.0/0",
            names.FIELD_LINE: "3",
        },
        {
            names.FIELD_PARAMETER: "sendmail_path",
            names.FIELD_KIND: "unwanted",
            names.FIELD_ACTUAL: "/bin/false",
            names.FIELD_LINE: "5",
        },
    ]
    cycle = detected[-1]
    assert cycle.message == "drift: myorigin, mynetworks, sendmail_path"
    changed = {line for line in cycle.fields[names.FIELD_DIFF].splitlines() if line[0] in "+-"}
    assert {"-myorigin = $mydomain", "+myorigin = $myhostname"} < changed


def test_the_corrections_record_says_when_and_where_the_old_text_is(world: World) -> None:
    world.state.keep_last_good(IN_SYNC)
    world.host.actual = replace(world.host.actual, written_at=990.0)
    world.host.before_exchange.append(lambda: setattr(world.clock, "now", 1_001.5))
    outcome = world.look()
    assert outcome.exposure == Exposure(990.0, 1_000.0, 1_001.5)
    (record,) = world.records.of(Event.DRIFT_CORRECTED)
    assert record.message == outcome.summary == "corrected: mynetworks"
    assert Path(record.fields[names.FIELD_DISPLACED]).read_bytes() == DRIFTED
    assert record.fields[names.FIELD_DIFF] == outcome.diff != ""
    assert record.fields[names.FIELD_CORRECTED_AT] == "1970-01-01T00:16:41.500Z"


def test_all_is_on_record_and_the_marker_on_disk_before_main_cf_changes(world: World) -> None:
    seen: list[PendingActivation | None] = []

    def look_around() -> None:
        assert world.records.events() == [Event.DRIFT_DETECTED] * 2
        assert world.text() == DRIFTED
        seen.append(world.state.pending())

    world.host.before_exchange.append(look_around)
    outcome = world.look()
    assert outcome.cycle is not None
    assert outcome.exposure is not None
    before = replace(outcome.exposure, corrected_at=None)
    assert seen == [PendingActivation(outcome.cycle, ("mynetworks",), before, live=True)]
    after = PendingActivation(outcome.cycle, ("mynetworks",), outcome.exposure, live=True)
    assert world.state.pending() == after


def test_the_marker_is_synced_when_main_cf_is_right(world: World) -> None:
    synced: list[tuple[bool, bytes | None]] = []

    class Watched(FileStore):
        def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None:
            synced.append((durable, world.text()))
            super().mark_pending(pending, durable)

    world.state = Watched(world.state.directory, world.state.run_directory)
    world.look()
    assert synced == [(False, DRIFTED), (True, IN_SYNC)]


def test_the_marker_goes_on_naming_what_an_earlier_cycle_waits_to_activate(world: World) -> None:
    world.look()
    world.host.write(IN_SYNC.replace(b"$myhostname", b"$mydomain"))
    outcome = world.look()
    pending = world.state.pending()
    assert pending is not None
    assert (pending.cycle, pending.parameters) == (outcome.cycle, ("mynetworks", "myorigin"))


@pytest.mark.parametrize(
    ("in_sync_at", "modified_at", "live"),
    [
        (999.5, 999.8, False),
        (999.5, 999.5, False),
        (None, 999.8, True),
        (999.9, 999.8, True),
        (990.0, 999.0, True),
        (990.0, 1_000.1, True),
    ],
    ids=["hot", "at once", "unknown", "older", "cold", "of the future"],
)
def test_what_was_hot_and_healed_at_once_reached_nobody(
    world: World, in_sync_at: float | None, modified_at: float, live: bool
) -> None:
    """Who finds main.cf modified within the last second reads it again until it is not."""
    world.policy = replace(world.policy, in_sync_at=in_sync_at)
    world.host.actual = replace(world.host.actual, modified_at=modified_at)
    world.look()
    pending = world.state.pending()
    assert pending is not None
    assert pending.live is live


def test_a_value_that_reached_somebody_did_so_also_after_the_next_correction(
    world: World,
) -> None:
    world.look()
    world.host.write(DRIFTED)
    world.host.actual = replace(world.host.actual, modified_at=999.8)
    world.policy = replace(world.policy, in_sync_at=999.5)
    world.look()
    pending = world.state.pending()
    assert pending is not None
    assert pending.live


HEARD = Heard("", True, 220, "220 mail.example.net")
ASKED = replace(DESIRED, settings={**DESIRED.settings, "relayhost": "other.example.net"})


def test_the_marker_of_a_wish_says_what_was_wished_and_heard_before(world: World) -> None:
    world.host.write(IN_SYNC)
    world.policy = replace(world.policy, before=HEARD)
    outcome = world.look(ASKED)
    assert [drift.is_wished for drift in outcome.drift] == [True]
    pending = world.state.pending()
    assert pending is not None
    assert (pending.wished, pending.before, pending.live) == (("relayhost",), HEARD, False)
    assert world.state.wishes() == Wishes(
        DESIRED, ASKED, {"relayhost": "relayhost = mail.example.net\n"}
    )


def test_the_marker_of_drift_alone_says_nothing_of_it(world: World) -> None:
    world.policy = replace(world.policy, before=HEARD)
    world.look()
    pending = world.state.pending()
    assert pending is not None
    assert (pending.wished, pending.before) == ((), None)


def test_what_was_heard_before_the_first_of_several_wishes_counts(world: World) -> None:
    world.host.write(IN_SYNC)
    world.policy = replace(world.policy, before=HEARD)
    world.look(ASKED)
    world.policy = replace(world.policy, before=replace(HEARD, trouble="451"))
    world.look(replace(ASKED, settings={**ASKED.settings, "biff": "no"}))
    pending = world.state.pending()
    assert pending is not None
    assert (pending.wished, pending.before) == (("relayhost", "biff"), HEARD)


def test_who_wrote_is_not_asked_for_a_wish(world: World) -> None:
    world.host.write(IN_SYNC)
    world.policy = replace(world.policy, writer=lambda _at: {names.FIELD_WRITER: "vi"})
    world.look(ASKED)
    assert not any(names.FIELD_WRITER in record.fields for record in world.records)
    outcome = world.look(DESIRED)
    assert outcome.exposure is None
    world.host.write(DRIFTED)
    world.look(ASKED)
    assert any(names.FIELD_WRITER in record.fields for record in world.records)


def test_owner_and_mode_alone_leave_an_earlier_marker_as_it_was(world: World) -> None:
    world.look()
    before = world.state.pending()
    chmod(world.host)
    world.look()
    assert world.state.pending() == before is not None


# --- overtaken ------------------------------------------------------------------------------------


def test_an_edit_at_the_last_instant_survives(world: World) -> None:
    his = DRIFTED.replace(b"mail.example.net", b"his.example.net")
    world.host.before_exchange.append(lambda: world.host.write(his))
    outcome = world.look()
    assert outcome.result is Result.CORRECTED
    assert world.text() == IN_SYNC.replace(b"mail.example.net", b"his.example.net")
    assert his in world.displaced()


@pytest.mark.parametrize("destroyed", [None, b""], ids=["deleted", "emptied"])
def test_what_is_destroyed_at_the_last_instant_keeps_the_unnamed_settings(
    world: World, destroyed: bytes | None
) -> None:
    """The candidate, made of the text before, is newer than the last good text or a template."""
    action = world.host.remove if destroyed is None else lambda: world.host.write(b"")
    world.host.before_exchange.append(action)
    world.look()
    assert world.text() == IN_SYNC


def test_what_postfix_refuses_is_not_installed_for_who_wrote_at_the_last_instant(
    world: World,
) -> None:
    poisoned = IN_SYNC + b"inet_interfaces = poison\n"
    world.host.before_exchange.append(lambda: world.host.write(poisoned))
    world.look()
    assert not judge_of_grammar(world.text() or b"").fatal
    assert world.displaced() == [poisoned]


writers_texts = st.one_of(
    st.none(),
    st.builds(
        b"%b\nrelayhost = %d.example.net\n%b".__mod__,
        st.tuples(
            st.sampled_from([b"myorigin = $myhostname", b"myorigin = x", b"nonsense", b""]),
            st.integers(0, 9),
            st.sampled_from([b"mynetworks = 127.0.0.0/8\n", b"mynetworks = 0.0.0.0/0", b""]),
        ),
    ),
    st.sampled_from([b"", b"\xff\0", b"# nothing\n", IN_SYNC, DRIFTED, DRIFTED[:70]]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(writers_texts, max_size=25))
def test_no_text_that_an_exchange_met_is_lost(texts: list[bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        met: list[bytes] = []

        def act(text: bytes | None) -> None:
            if text is None:
                world.host.remove()
            else:
                world.host.write(text)
                met.append(text)

        world.host.before_exchange += [partial(act, text) for text in texts]
        world.look()
        assert set(met) <= {*world.displaced(), world.text()}
        world.host.before_exchange.clear()
        world.look()
        assert set(met) <= {*world.displaced(), world.text()}
        assert world.look().result is Result.IN_SYNC


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), max_size=15))
def test_the_last_writers_unnamed_edit_survives(drifts: list[bool]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        wanted = IN_SYNC
        for number, drifted in enumerate(drifts):
            name = b"%d.example.net" % number
            wanted = IN_SYNC.replace(b"mail.example.net", name)
            his = DRIFTED.replace(b"mail.example.net", name) if drifted else wanted
            world.host.before_exchange.append(partial(world.host.write, his))
        world.look()
        assert world.text() == wanted


# --- Judge ----------------------------------------------------------------------------------------


def test_a_text_that_passed_is_not_judged_again_and_a_refused_one_is() -> None:
    said = [Judgement(), Judgement(fatal="no such host"), Judgement(warnings=("resolved",))]
    judge = Judge(lambda _text: said.pop(0))
    assert judge(b"good") == Judgement()
    assert judge(b"good") == Judgement()
    assert judge(b"other") == Judgement(fatal="no such host")
    assert judge(b"other") == Judgement(warnings=("resolved",))
    assert judge(b"other") == Judgement(warnings=("resolved",))
    assert said == []


def test_comments_blanks_and_folding_are_no_reason_to_judge_again() -> None:
    asked: list[bytes] = []

    def ask(text: bytes) -> Judgement:
        asked.append(text)
        return Judgement(warnings=("main.cf, line 1: old",)) if b"old" in text else Judgement()

    judge = Judge(ask)
    same = [b"a = 1\nb = 2 3\n", b"# more\na=1\n\nb = 2\n# between\n 3\n"]
    other = [b"b = 2 3\na = 1\n", b"a = 1\nb = 2 3\nb = 2 3\n", b"a = 1\nb 2\n", b"a = 1\nb 3\n"]
    other += [b"old = 1\n", b"\nold = 1\n"]
    assert [judge(text).warnings for text in (*same, *other)][-2:] == [
        ("main.cf, line 1: old",)
    ] * 2
    assert asked == [same[0], *other]


# --- somebody who has it open for writing ---------------------------------------------------------

HALF = b"# by hand\nmyorigin = $myhostname\nmynetworks = 0.0.0.0/0\n"
WHOLE = HALF + b"relayhost = his.example.net\n"


def test_half_a_text_gives_way_to_the_last_good_one_and_the_whole_counts(world: World) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    world.host.hold_open(HALF)
    outcome = world.look()
    assert world.text() == IN_SYNC, "relayhost did not go with the half that was not yet written"
    assert [d.kind for d in outcome.drift] == [DriftKind.ABSENT_FILE, DriftKind.CHANGED]
    world.host.closed = Late(WHOLE, is_newest=True)
    assert world.look().result is Result.IN_SYNC
    assert world.text() == WHOLE.replace(b"0.0.0.0/0", b"127.0.0.0/8")
    assert WHOLE in world.displaced()
    assert world.records[-1].event is Event.DRIFT_CORRECTED
    assert "+relayhost = his.example.net" in world.records[-1].fields[names.FIELD_DIFF]
    assert world.host.late() is None


def test_who_closes_it_at_the_last_instant_had_written_all_of_it(world: World) -> None:
    """As postconf does, which renames its file into place and then closes it."""
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    world.host.hold_open(WHOLE)
    world.host.before_exchange = [lambda: world.host.write(WHOLE)]
    world.look()
    assert world.text() == WHOLE.replace(b"0.0.0.0/0", b"127.0.0.0/8")


def test_who_writes_as_an_older_text_comes_back_has_the_last_word(world: World) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    newest = DRIFTED + b"# the newest\n"
    world.host.closed = Late(WHOLE, is_newest=True)
    world.host.before_exchange = [lambda: world.host.write(newest)]
    assert world.look().result is Result.CORRECTED
    assert world.text() == IN_SYNC + b"# the newest\n"
    assert {WHOLE, newest} <= set(world.displaced())


def test_what_he_closes_destroyed_changes_nothing(world: World) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    world.host.closed = Late(b"", is_newest=True)
    records = len(world.records)
    assert world.look().result is Result.IN_SYNC
    assert (world.text(), len(world.records)) == (IN_SYNC, records)
    assert world.host.late() is None


def test_what_he_closes_and_postfix_refuses_is_kept_and_not_installed(world: World) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    world.host.closed = Late(WHOLE + b"inet_interfaces = poison\n", is_newest=True)
    world.look()
    assert world.text() == IN_SYNC
    assert WHOLE + b"inet_interfaces = poison\n" in world.displaced()


def test_what_others_have_changed_since_stays_and_his_is_kept(world: World) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    world.host.closed = Late(WHOLE, is_newest=False)
    world.look()
    assert world.text() == IN_SYNC
    assert world.displaced() == [WHOLE]
    assert world.records[-1].fields[names.FIELD_DISPLACED].endswith(".main.cf")


def test_who_only_holds_a_right_file_open_is_left_in_peace(world: World) -> None:
    world.host.write(IN_SYNC)
    world.look()
    world.serve()
    world.host.hold_open(IN_SYNC + b"biff = no\n")
    assert world.look().result is Result.IN_SYNC
    assert world.text() == IN_SYNC + b"biff = no\n"


def test_drift_that_overtakes_a_cycle_is_on_record_too(world: World) -> None:
    banner = DRIFTED.replace(b"$myhostname", b"$mydomain")
    world.host.before_exchange = [lambda: world.host.write(banner)]
    world.look()
    assert world.text() == IN_SYNC
    drifted = {r.fields.get(names.FIELD_PARAMETER) for r in world.records}
    assert {"mynetworks", "myorigin"} <= drifted


# --- what a crash left ----------------------------------------------------------------------------


def test_what_a_cut_off_cycle_displaced_is_kept_under_its_number(world: World) -> None:
    world.host.write(IN_SYNC)
    world.host.left = [DRIFTED]
    cycle = world.state.next_cycle()
    world.state.mark_pending(PendingActivation(cycle, ("mynetworks",), Exposure(1.0, 2.0)))
    assert world.look().result is Result.IN_SYNC
    assert world.state.displaced(cycle) == DRIFTED
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.DRIFT_CORRECTED, cycle)
    assert record.fields[names.FIELD_DISPLACED].endswith(f"{cycle:08d}.main.cf")
    assert not world.host.is_cut_off()


def test_our_own_text_that_was_not_yet_exchanged_is_no_correction(world: World) -> None:
    world.host.left = [IN_SYNC[:20]]
    assert world.look().result is Result.CORRECTED
    assert world.text() == IN_SYNC
    assert world.displaced() == [IN_SYNC[:20], DRIFTED]
    assert len(world.records.of(Event.DRIFT_CORRECTED)) == 1


def test_observing_leaves_it_where_it_is(world: World) -> None:
    world.host.left = [DRIFTED]
    world.policy = replace(world.policy, observe_only=True)
    world.look()
    assert world.host.left == [DRIFTED]
    assert world.displaced() == []
