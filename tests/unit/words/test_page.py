"""What `status` prints, as a table of texts: each phase, and what may be wrong beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.model import UNSERVED_DETAIL, LastDrift, Phase, Status, Suspension
from pf_agent.words.page import MOST_COLUMNS, columns, page
from tests.unit.words.test_sentences import ANY_TEXT, LAST, NOW, STATUS, shows_raw

SUSPENSION = Suspension(NOW - 60, NOW + 3600, "anna", "the queue moves")
SEEN = LastDrift(7, NOW - 200, ("mynetworks",))
REFUSED = (
    "/etc/pf-agent/desired.toml:3: smtpd_banner: Postfix refuses it: fatal: bad string length"
    " 0 < 1; choose another value (postconf(5))"
)
CONTEST = (
    "something keeps changing mynetworks: 5 times since 15:50:00; main.cf is corrected each time,"
    " Postfix restarted every 20 s"
)
MANY = tuple(f"smtpd_parameter_number_{number}_restrictions" for number in range(40))
DRIFT = "  drift: 3 min ago, cycle 7: mynetworks, corrected in 8 ms, Postfix up after 0.7 s"
SINCE = "  since: 2025-11-24 15:00:00, 60 min ago"
RESUME = "  to do: `pf-agent resume` ends it"

TEXTS = {
    "starting": (
        Status(Phase.STARTING, NOW),
        "starting: pf-agent takes its first look",
    ),
    "in sync": (
        replace(STATUS, last=LAST),
        f"""\
in sync: 21 parameters
{DRIFT}""",
    ),
    "in sync, and what was undone may be kept": (
        replace(STATUS, last=replace(LAST, keep="pf-agent adopt --cycle 7 mynetworks")),
        f"""\
in sync: 21 parameters
{DRIFT}
  to do: `pf-agent adopt --cycle 7 mynetworks` keeps the change, if it was right""",
    ),
    "in sync, and something more urgent than to keep it": (
        replace(STATUS, problems=("a:1: x",), last=replace(LAST, keep="pf-agent adopt")),
        f"""\
in sync: 21 parameters; 1 configuration error
  error: a:1: x
{DRIFT}
  to do: fix the file; the last good state is in force until then""",
    ),
    "in sync, and what was undone is old": (
        replace(STATUS, last=replace(LAST, at=NOW - 90_000, keep="pf-agent adopt")),
        f"""\
in sync: 21 parameters
{DRIFT.replace("3 min ago", "25 h ago")}""",
    ),
    "in sync, old aliases": (
        replace(STATUS, detail="but the aliases are out of date: no space left"),
        """\
in sync: 21 parameters, with a warning
  wrong: the aliases are out of date: no space left""",
    ),
    "in sync, two things absent": (
        replace(
            STATUS,
            detail="but relayhost: a is not there; and 1 more",
            absent=("relayhost: a is not there", "alias_maps: b is not there"),
        ),
        """\
in sync: 21 parameters, with a warning
  wrong: relayhost: a is not there
  wrong: alias_maps: b is not there""",
    ),
    "in sync, a table out of date and a thing absent": (
        replace(
            STATUS,
            detail="but /t:2: no value after the key; the old index stays; and 1 more",
            stale={"/t": "/t:2: no value after the key; the old index stays"},
            absent=("relayhost: a is not there",),
        ),
        """\
in sync: 21 parameters, with a warning
  wrong: /t:2: no value after the key; the old index stays
  wrong: relayhost: a is not there""",
    ),
    "in sync, a wish was rejected": (
        replace(STATUS, problems=("Postfix did not come up with biff=no: port 25 is taken",)),
        """\
in sync: 21 parameters; 1 configuration error
  error: Postfix did not come up with biff=no: port 25 is taken
  to do: fix the file; the last good state is in force until then""",
    ),
    "restarting": (
        replace(STATUS, phase=Phase.ACTIVATING),
        "main.cf is correct; Postfix is restarting",
    ),
    "a window is closed": (
        replace(
            STATUS,
            phase=Phase.ACTIVATING,
            last=LAST,
            restart_due=NOW + 7200,
            detail="Postfix restart due after 18:00:00; until then it runs with the old biff",
        ),
        f"""\
main.cf is correct; Postfix restart due after 18:00:00
  waits: Postfix restart due after 18:00:00; until then it runs with the old biff
{DRIFT}""",
    ),
    "dpkg is at work": (
        replace(
            STATUS,
            phase=Phase.ACTIVATING,
            last=LAST,
            restart_due=NOW + 1,
            detail="Postfix start is waiting for apt or dpkg to finish",
        ),
        f"""\
main.cf is correct; Postfix start is waiting for apt or dpkg to finish
  waits: Postfix start is waiting for apt or dpkg to finish
{DRIFT}""",
    ),
    "failing": (
        replace(
            STATUS,
            phase=Phase.FAILING,
            last=LAST,
            restart_due=NOW + 8,
            detail="Postfix does not serve as it should: 127.0.0.1:25: 421 4.3.2 All busy",
        ),
        f"""\
failing: Postfix does not serve as it should
  wrong: 127.0.0.1:25: 421 4.3.2 All busy
{SINCE}
  waits: for the cause to end; Postfix is tried again after 16:00:08
{DRIFT}
  to do: fix that; `journalctl -xu pf-agent` shows what was tried""",
    ),
    "failing, and dpkg is at work": (
        replace(
            STATUS,
            phase=Phase.FAILING,
            restart_due=NOW + 1,
            detail="Postfix does not serve as it should: postfix.service is failed",
            awaited="Postfix start is waiting for apt or dpkg to finish",
        ),
        f"""\
failing: Postfix does not serve as it should
  wrong: postfix.service is failed
{SINCE}
  waits: Postfix start is waiting for apt or dpkg to finish
  to do: fix that; `journalctl -xu pf-agent` shows what was tried""",
    ),
    "served, and a full disk": (
        replace(
            STATUS,
            phase=Phase.FAILING,
            detail="Postfix serves, but that cannot be recorded: /var/lib/pf-agent: No space left",
        ),
        f"""\
failing: Postfix serves, but that cannot be recorded
  wrong: /var/lib/pf-agent: No space left
{SINCE}
  waits: for the cause to end; Postfix is tried again by itself
  to do: fix that; `journalctl -xu pf-agent` shows what was tried""",
    ),
    "stopped": (
        replace(
            STATUS,
            phase=Phase.STOPPED,
            detail="postfix@-.service was stopped by an administrator and is left stopped;"
            " `systemctl start postfix` starts it",
        ),
        f"""\
stopped: main.cf is kept correct; Postfix is not started
  wrong: postfix@-.service was stopped by an administrator and is left stopped; \
`systemctl start postfix` starts it
{SINCE}
  waits: for Postfix to be started; the start is verified""",
    ),
    "observing": (
        replace(STATUS, phase=Phase.OBSERVING, detail="would change: mynetworks", last=SEEN),
        """\
observe mode, would change: mynetworks
  drift: 3 min ago, cycle 7
  to do: `pf-agent diff` shows it, `pf-agent apply --force` corrects it once""",
    ),
    "observing, and nothing differs": (
        replace(STATUS, phase=Phase.OBSERVING, detail="in sync", last=SEEN),
        """\
observe mode, in sync
  drift: 3 min ago, cycle 7: mynetworks""",
    ),
    "observing, and Postfix was not restarted": (
        replace(STATUS, phase=Phase.OBSERVING, detail=UNSERVED_DETAIL),
        """\
observe mode, main.cf is correct, but Postfix runs with former values
  to do: `systemctl restart postfix` makes Postfix run with it""",
    ),
    "observing, many long names": (
        replace(
            STATUS,
            phase=Phase.OBSERVING,
            detail=f"would change: {', '.join(MANY[:4])} and 36 more",
            last=LastDrift(7, NOW - 200, MANY),
        ),
        """\
observe mode, would change: smtpd_parameter_number_0_restrictions, smtpd_para...
  wrong: would change: smtpd_parameter_number_0_restrictions,\
 smtpd_parameter_number_1_restrictions, smtpd_parameter_number_2_restrictions,\
 smtpd_parameter_number_3_restrictions and 36 more
  drift: 3 min ago, cycle 7
  to do: `pf-agent diff` shows it, `pf-agent apply --force` corrects it once""",
    ),
    "nothing is desired": (
        Status(
            Phase.OBSERVING,
            NOW,
            detail="there has never been a valid desired state",
            problems=("/etc/pf-agent/desired.toml:9: not valid TOML: x",),
        ),
        """\
observe mode, there has never been a valid desired state; 1 configuration error
  error: /etc/pf-agent/desired.toml:9: not valid TOML: x
  to do: `pf-agent check` names every error, `pf-agent init --list` shows what to start from""",
    ),
    "suspended": (
        replace(
            STATUS,
            phase=Phase.SUSPENDED,
            suspension=SUSPENSION,
            detail="would change: mynetworks",
            last=SEEN,
        ),
        f"""\
suspended by anna until 2025-11-24 17:00:00: the queue moves
  found: would change: mynetworks
  drift: 3 min ago, cycle 7
{RESUME}""",
    ),
    "suspended, with a long story": (
        replace(
            STATUS,
            phase=Phase.SUSPENDED,
            suspension=replace(SUSPENSION, until=None, reason="the disk of the queue " * 4),
        ),
        f"""\
suspended by anna until resumed: the disk of the queue the disk of the queue ...
  cause: {"the disk of the queue " * 4}
{RESUME}""",
    ),
    "stalled": (
        replace(
            STATUS,
            phase=Phase.STALLED,
            detail=REFUSED,
            problems=(REFUSED,),
            next_look=NOW + 30,
            last=SEEN,
        ),
        f"""\
stalled: main.cf cannot be kept as desired; 1 configuration error
  wrong: {REFUSED}
{SINCE}
  waits: for the next try at 16:00:30
  drift: 3 min ago, cycle 7: mynetworks
  to do: fix that; `systemctl reload pf-agent` retries at once""",
    ),
    "contested": (
        replace(STATUS, phase=Phase.CONTESTED, detail=CONTEST, last=LAST, restart_due=NOW + 20),
        f"""\
contested: something keeps changing mynetworks
  wrong: {CONTEST}
{SINCE}
  waits: Postfix restart due after 16:00:20
  drift: 3 min ago, cycle 7, corrected in 8 ms, Postfix up after 0.7 s
  to do: find who writes it (`pf-agent history`), or make it desired (`pf-agent set`)""",
    ),
    "contested, and dpkg is at work": (
        replace(
            STATUS,
            phase=Phase.CONTESTED,
            detail=CONTEST,
            restart_due=NOW + 1,
            awaited="Postfix start is waiting for apt or dpkg to finish",
        ),
        f"""\
contested: something keeps changing mynetworks
  wrong: {CONTEST}
{SINCE}
  waits: Postfix start is waiting for apt or dpkg to finish
  to do: find who writes it (`pf-agent history`), or make it desired (`pf-agent set`)""",
    ),
    "contested, and Postfix has it": (
        replace(STATUS, phase=Phase.CONTESTED, detail=CONTEST),
        f"""\
contested: something keeps changing mynetworks
  wrong: {CONTEST}
{SINCE}
  waits: for nothing: Postfix runs with the desired settings
  to do: find who writes it (`pf-agent history`), or make it desired (`pf-agent set`)""",
    ),
    "an instance is wrong": (
        replace(
            STATUS,
            last=LAST,
            problems=("/etc/pf-agent/desired.d/90.toml:1: not valid TOML: x",) * 2,
            instances={
                "out": replace(
                    STATUS, phase=Phase.STALLED, detail="no such file; make it", parameters=2
                ),
                "in": replace(STATUS, parameters=1),
            },
        ),
        f"""\
in sync: 21 parameters; 2 configuration errors; out: stalled
  error: /etc/pf-agent/desired.d/90.toml:1: not valid TOML: x
{DRIFT}
  to do: fix the file; the last good state is in force until then
instance out: stalled: main.cf cannot be kept as desired
  wrong: no such file; make it
{SINCE}
  to do: fix that; `systemctl reload pf-agent` retries at once
instance in: in sync: 1 parameter""",
    ),
    "an instance is suspended by itself": (
        replace(
            STATUS,
            instances={
                "out": replace(
                    STATUS, phase=Phase.SUSPENDED, suspension=replace(SUSPENSION, reason="")
                )
            },
        ),
        """\
in sync: 21 parameters; out: suspended
instance out: suspended by anna until 2025-11-24 17:00:00
  to do: `pf-agent resume --instance out` ends it""",
    ),
    "two instances are not well": (
        replace(
            STATUS,
            instances={name: Status(Phase.STARTING, NOW) for name in ("a", "b")},
        ),
        """\
in sync: 21 parameters; 2 other instances are not in sync
instance a: starting: pf-agent takes its first look
instance b: starting: pf-agent takes its first look""",
    ),
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(("status", "text"), TEXTS.values(), ids=TEXTS)
def test_what_status_prints(status: Status, text: str) -> None:
    assert "\n".join(page(status, NOW)) == text


def test_every_phase_is_in_the_table() -> None:
    assert {status.phase for status, _ in TEXTS.values()} == set(Phase)


@pytest.mark.parametrize("status", [status for status, _ in TEXTS.values()], ids=TEXTS)
def test_a_line_is_a_fact_and_the_first_of_a_block_fits(status: Status) -> None:
    for line in page(status, NOW):
        if line.startswith("  "):
            assert line[2:7] in (
                "wrong",
                "found",
                "cause",
                "error",
                "waits",
                "drift",
                "since",
                "to do",
            )
            assert line[7:9] == ": "
        else:
            assert columns(line) <= MOST_COLUMNS


WIDE = st.text(st.sampled_from("a \u4e2d\U0001f4e7e\u0301\t\n\x1b\udcff"), max_size=120)


@given(st.sampled_from(Phase), ANY_TEXT | WIDE, ANY_TEXT | WIDE)
def test_whatever_is_told_moves_no_cursor_and_the_first_line_fits(
    phase: Phase, detail: str, name: str
) -> None:
    inner = Status(
        phase,
        NOW,
        detail=detail,
        problems=(detail, name),
        absent=(name,),
        last=replace(LAST, parameters=(name,)),
        suspension=Suspension(NOW, None, name, detail),
    )
    lines = page(replace(inner, instances={name: inner}), NOW)
    assert not any(shows_raw(line, but="") for line in lines)
    first = [line for line in lines if not line.startswith("  ")]
    assert len(first) == 2
    assert all(columns(line) <= MOST_COLUMNS for line in first)


def test_columns_are_those_of_a_terminal() -> None:
    assert columns("abc") == 3
    assert columns("\u4e2d\u6587") == 4
    assert columns("e\u0301") == 1


@pytest.mark.parametrize("phase", [Phase.IN_SYNC, Phase.SUSPENDED, Phase.OBSERVING])
def test_what_differs_in_other_documents_is_told_in_every_phase(phase: Phase) -> None:
    documents = {"hash:/etc/postfix/t": "would change: a", "hash:/etc/postfix/u": ""}
    status = replace(STATUS, phase=phase, documents=documents, detail="in sync")
    lines = page(status, NOW)
    assert "  wrong: hash:/etc/postfix/t: would change: a" in lines
    assert not any("/etc/postfix/u" in line for line in lines)
