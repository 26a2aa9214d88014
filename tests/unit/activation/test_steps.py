"""What the activation does next, row by row: each row says in its id what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pf_agent.activation.states import Attempt, Conditions, Memory
from pf_agent.activation.steps import (
    DPKG_WORKS,
    JOB_SECONDS,
    Ask,
    AskAgain,
    Asked,
    AskPort,
    Build,
    Clear,
    Doubt,
    Fail,
    Gone,
    Hold,
    Leave,
    NotServed,
    Overtaken,
    Up,
    Wait,
    after_answer,
    after_job,
    is_urgent,
    is_wish,
    may_clear,
    may_reload,
    next_deed,
    reload_allowed_at,
    was_started_since,
)
from pf_agent.activation.verdict import Found
from pf_agent.model import (
    ActivationWay,
    Exposure,
    Heard,
    PendingActivation,
    Standing,
    UnitPhase,
    UnitState,
)

NOW, TICKS = 5_000.0, 100.0
UMBRELLA = UnitState("postfix.service", UnitPhase.UP, "success", "u1", began_at=10.0)
MASTER = UnitState("postfix@-.service", UnitPhase.UP, "success", "m1", began_at=10.0)
DRIFT = PendingActivation(7, ("mynetworks",), Exposure(4_990.0, 4_990.0, 4_991.0))
WISH = replace(DRIFT, wished=("mynetworks",))
BACK = replace(DRIFT, rolled_back=True)
LIVE = replace(DRIFT, live=True)
HOLDS = Conditions(TICKS, NOW, (UMBRELLA, MASTER))
STORM = (NOW - 30, NOW - 20, NOW - 1)  # the budget is spent until NOW + 30


def holding(holder: UnitState = MASTER, **more: Any) -> Conditions:
    return replace(HOLDS, units=(UMBRELLA, holder), **more)


def a_master(phase: UnitPhase = UnitPhase.UP, **more: Any) -> UnitState:
    return replace(MASTER, phase=phase, **more)


STOPPED, BROKEN, CHANGING = (
    a_master(phase) for phase in (UnitPhase.DOWN, UnitPhase.FAILED, UnitPhase.CHANGING)
)
ANEW = a_master(began_at=4_995.0)


@pytest.mark.parametrize(
    ("pending", "memory", "holds", "deed"),
    [
        pytest.param(DRIFT, Memory(), HOLDS, Build(), id="at rest"),
        pytest.param(WISH, Memory(), HOLDS, Build(), id="a wish at rest"),
        # systemd, a person, dpkg
        pytest.param(DRIFT, Memory(), holding(CHANGING), Hold(101), id="it changes"),
        pytest.param(
            BACK, Memory(), holding(a_master(has_job=True)), Hold(101), id="a job is queued"
        ),
        pytest.param(
            DRIFT, Memory(), holding(STOPPED, left="stopped"), Leave("stopped"), id="stopped"
        ),
        pytest.param(
            BACK, Memory(), holding(BROKEN, left="masked"), Leave("masked"), id="masked, urgent"
        ),
        pytest.param(
            DRIFT, Memory(), holding(left="disabled"), Build(), id="disabled, and up all the same"
        ),
        pytest.param(
            BACK,
            Memory(),
            holding(BROKEN, is_locked=True),
            Hold(101, DPKG_WORKS),
            id="dpkg is at work",
        ),
        pytest.param(DRIFT, Memory(), holding(is_locked=True), Build(), id="dpkg, and it is up"),
        pytest.param(DRIFT, Memory(), holding(BROKEN), Build(), id="it failed"),
        pytest.param(DRIFT, Memory(), holding(STOPPED), Build(), id="down, and nobody stopped it"),
        # started by others
        pytest.param(DRIFT, Memory(), holding(ANEW), AskPort(), id="started since by others"),
        pytest.param(
            DRIFT, Memory(), holding(ANEW, opens_in=60), AskPort(), id="so, in a closed window"
        ),
        pytest.param(
            DRIFT,
            Memory(failed_cycle=7, failed_at=4_996.0, retry_at=150),
            holding(ANEW),
            Hold(150),
            id="that start failed",
        ),
        pytest.param(
            DRIFT,
            Memory(failed_cycle=7, failed_at=4_994.0, retry_at=150),
            holding(ANEW),
            AskPort(),
            id="started by others after one that failed",
        ),
        # the budget
        pytest.param(
            DRIFT, Memory(), holding(restarts=(NOW - 1,)), Hold(TICKS + 2), id="the second soon"
        ),
        pytest.param(
            DRIFT, Memory(), holding(restarts=(NOW - 12, NOW - 2)), Hold(TICKS + 8), id="the third"
        ),
        pytest.param(DRIFT, Memory(), holding(restarts=STORM), Hold(TICKS + 30), id="the fourth"),
        pytest.param(
            DRIFT, Memory(), holding(wished=STORM), Hold(TICKS + 30), id="wishes' restarts count"
        ),
        pytest.param(
            replace(DRIFT, parameters=()),
            Memory(),
            holding(restarts=STORM),
            Hold(TICKS + 30),
            id="a marker that names nothing is no wish",
        ),
        pytest.param(
            DRIFT, Memory(), holding(BROKEN, restarts=STORM), Hold(TICKS + 30), id="down: so, too"
        ),
        # contest
        pytest.param(
            DRIFT,
            Memory(),
            holding(restarts=(NOW - 20,), apart=160),
            Hold(TICKS + 140),
            id="contested",
        ),
        pytest.param(
            DRIFT,
            Memory(),
            holding(BROKEN, restarts=(NOW - 20,), apart=160),
            Build(),
            id="contested, and mail is down",
        ),
        pytest.param(
            DRIFT,
            Memory(failure="why"),
            holding(restarts=(NOW - 20,), apart=160),
            Build(),
            id="contested, and it does not serve",
        ),
        pytest.param(
            DRIFT,
            Memory(overtaken_at=NOW - 20),
            holding(restarts=(NOW - 20,), apart=160),
            Build(),
            id="contested, and the last start failed",
        ),
        # what a person asks for
        pytest.param(
            WISH, Memory(), holding(restarts=STORM, apart=300), Build(), id="a wish in a contest"
        ),
        pytest.param(
            WISH, Memory(), holding(wished=(NOW - 1,)), Hold(TICKS + 2), id="a wish after another"
        ),
        pytest.param(WISH, Memory(), holding(wished=STORM), Hold(TICKS + 2), id="the fourth wish"),
        pytest.param(
            replace(WISH, parameters=("mynetworks", "relayhost")),
            Memory(),
            holding(restarts=STORM),
            Hold(TICKS + 30),
            id="a wish with drift beside it",
        ),
        pytest.param(
            WISH, Memory(failed_cycle=6, retry_at=400), HOLDS, Build(), id="what failed before it"
        ),
        pytest.param(
            WISH, Memory(failed_cycle=7, retry_at=400), HOLDS, Hold(400), id="it failed itself"
        ),
        pytest.param(
            DRIFT, Memory(failed_cycle=6, retry_at=400), HOLDS, Hold(400), id="drift waits for that"
        ),
        # the window
        pytest.param(DRIFT, Memory(), holding(opens_in=60), Hold(160), id="closed"),
        pytest.param(WISH, Memory(), holding(opens_in=60), Hold(160), id="closed for wishes, too"),
        pytest.param(
            DRIFT,
            Memory(),
            holding(opens_in=80_000),
            Hold(700),
            id="the clock may be set meanwhile",
        ),
        pytest.param(DRIFT, Memory(), holding(BROKEN, opens_in=60), Build(), id="closed, and down"),
        # urgent
        pytest.param(
            BACK, Memory(), holding(restarts=STORM, opens_in=60, apart=300), Build(), id="urgent"
        ),
        pytest.param(
            BACK,
            Memory(failed_cycle=6, retry_at=400),
            holding(BROKEN),
            Build(),
            id="urgent: what is taken back waits for no backoff",
        ),
        pytest.param(
            BACK,
            Memory(failed_cycle=7, retry_at=400),
            holding(BROKEN),
            Hold(400),
            id="it did not help",
        ),
        pytest.param(
            replace(BACK, failed=True),
            Memory(),
            holding(restarts=STORM),
            Hold(TICKS + 30),
            id="it did not help the process before",
        ),
        pytest.param(
            DRIFT,
            Memory(unserved=(7, "why")),
            holding(restarts=STORM, opens_in=60),
            Build(),
            id="a reload did not do",
        ),
        pytest.param(
            DRIFT,
            Memory(unserved=(6, "why")),
            holding(restarts=STORM),
            Hold(TICKS + 30),
            id="a reload for another cycle did not do",
        ),
        # nobody new is served with a drifted value
        pytest.param(LIVE, Memory(), HOLDS, Build(), id="the restart may be at once"),
        pytest.param(LIVE, Memory(), holding(restarts=STORM), Clear(), id="reloaded: budget"),
        pytest.param(
            LIVE, Memory(), holding(restarts=STORM, apart=300), Clear(), id="reloaded: contest"
        ),
        pytest.param(LIVE, Memory(), holding(opens_in=60), Clear(), id="reloaded: window"),
        pytest.param(
            LIVE, Memory(retry_at=400, failed_cycle=7), HOLDS, Clear(), id="reloaded: backoff"
        ),
        pytest.param(
            LIVE, Memory(reload_at=103), holding(opens_in=60), Hold(103), id="the next one trails"
        ),
        pytest.param(
            LIVE, Memory(reload_at=180), holding(opens_in=60), Hold(160), id="the restart is sooner"
        ),
        pytest.param(
            LIVE,
            Memory(),
            holding(BROKEN, restarts=STORM),
            Hold(TICKS + 30),
            id="nobody is there to reload",
        ),
        pytest.param(
            replace(LIVE, wished=("mynetworks",)),
            Memory(),
            holding(opens_in=60),
            Hold(160),
            id="what is asked for is no drift",
        ),
        # way = "auto"
        pytest.param(
            DRIFT,
            Memory(),
            holding(way=ActivationWay.AUTO, restarts=STORM, apart=300),
            Build(),
            id="auto: a reload is in no restart's budget",
        ),
        pytest.param(
            DRIFT,
            Memory(reload_at=103),
            holding(way=ActivationWay.AUTO),
            Hold(103),
            id="auto: it has one of its own",
        ),
        pytest.param(
            replace(DRIFT, parameters=("inet_interfaces",)),
            Memory(),
            holding(way=ActivationWay.AUTO, restarts=STORM),
            Hold(TICKS + 30),
            id="auto: where a restart is needed",
        ),
        pytest.param(
            LIVE,
            Memory(),
            holding(way=ActivationWay.AUTO, opens_in=60),
            Clear(),
            id="auto, in a closed window",
        ),
    ],
)
def test_next_deed(
    pending: PendingActivation, memory: Memory, holds: Conditions, deed: object
) -> None:
    assert next_deed(pending, memory, holds) == deed


@pytest.mark.parametrize(
    ("corrected_at", "failed_cycle", "failed_at", "began_at", "was_started"),
    [
        pytest.param(50.0, None, 0.0, 51.0, True, id="since"),
        pytest.param(50.0, None, 0.0, 50.0, False, id="at that very moment"),
        pytest.param(50.0, None, 0.0, 49.0, False, id="before"),
        pytest.param(None, None, 0.0, 51.0, False, id="a damaged marker"),
        pytest.param(50.0, 7, 60.0, 51.0, False, id="and it failed"),
        pytest.param(50.0, 7, 60.0, 61.0, True, id="and again, after it failed"),
        pytest.param(50.0, 6, 60.0, 51.0, True, id="what failed was another cycle"),
    ],
)
def test_was_started_since(
    corrected_at: float | None,
    failed_cycle: int | None,
    failed_at: float,
    began_at: float,
    was_started: bool,
) -> None:
    pending = replace(DRIFT, exposure=Exposure(1.0, 1.0, corrected_at))
    memory = Memory(failed_cycle=failed_cycle, failed_at=failed_at)
    assert was_started_since(pending, memory, a_master(began_at=began_at)) is was_started


@pytest.mark.parametrize(("began_at", "was_started"), [(59.0, False), (61.0, True)])
def test_a_start_with_a_text_that_is_gone_is_none(began_at: float, was_started: bool) -> None:
    pending = replace(DRIFT, exposure=Exposure(1.0, 1.0, 50.0))
    holder = a_master(began_at=began_at)
    assert was_started_since(pending, Memory(overtaken_at=60.0), holder) is was_started


@pytest.mark.parametrize(
    ("pending", "memory", "urgent"),
    [
        pytest.param(DRIFT, Memory(), False, id="drift"),
        pytest.param(BACK, Memory(), True, id="taken back"),
        pytest.param(BACK, Memory(failed_cycle=7), False, id="tried in vain"),
        pytest.param(replace(BACK, failed=True), Memory(), False, id="in vain, by another process"),
        pytest.param(DRIFT, Memory(unserved=(7, "why")), True, id="a reload did not do"),
        pytest.param(DRIFT, Memory(unserved=(6, "why")), False, id="for another cycle"),
        pytest.param(
            DRIFT, Memory(unserved=(7, "why"), failed_cycle=7), False, id="nor did the restart"
        ),
    ],
)
def test_is_urgent(pending: PendingActivation, memory: Memory, urgent: bool) -> None:
    assert is_urgent(pending, memory) is urgent


@pytest.mark.parametrize(
    ("parameters", "wished", "wish"),
    [
        pytest.param(("a", "b"), ("a", "b"), True, id="all of it"),
        pytest.param(("a",), ("a", "b"), True, id="part of what is asked for"),
        pytest.param(("a", "b"), ("a",), False, id="with drift beside it"),
        pytest.param(("a",), (), False, id="drift"),
        pytest.param((), (), False, id="nothing is named"),
    ],
)
def test_is_wish(parameters: tuple[str, ...], wished: tuple[str, ...], wish: bool) -> None:
    assert is_wish(replace(DRIFT, parameters=parameters, wished=wished)) is wish


AUTO = holding(way=ActivationWay.AUTO)


@pytest.mark.parametrize(
    ("pending", "memory", "holds", "may"),
    [
        pytest.param(DRIFT, Memory(), AUTO, True, id="it suffices"),
        pytest.param(WISH, Memory(), AUTO, True, id="for a wish"),
        pytest.param(DRIFT, Memory(), HOLDS, False, id="nobody asked for auto"),
        pytest.param(BACK, Memory(), AUTO, False, id="a text that is taken back"),
        pytest.param(DRIFT, Memory(failed_cycle=7), AUTO, False, id="after a failure"),
        pytest.param(DRIFT, Memory(unserved=(7, "x")), AUTO, False, id="it did not do"),
        pytest.param(DRIFT, Memory(unserved=(6, "x")), AUTO, True, id="it did not for another"),
        pytest.param(
            DRIFT, Memory(), replace(AUTO, units=(UMBRELLA, BROKEN)), False, id="it is down"
        ),
        pytest.param(replace(DRIFT, parameters=()), Memory(), AUTO, False, id="a damaged marker"),
        *(
            pytest.param(replace(DRIFT, parameters=("biff", name)), Memory(), AUTO, False, id=name)
            for name in ("inet_interfaces", "inet_protocols", "main.cf", "no_such_parameter")
        ),
    ],
)
def test_may_reload(
    pending: PendingActivation, memory: Memory, holds: Conditions, may: bool
) -> None:
    assert may_reload(pending, memory, holds) is may


@pytest.mark.parametrize(
    ("parameters", "more", "holds", "may"),
    [
        pytest.param(("mynetworks",), {}, HOLDS, True, id="an idle smtpd may have it"),
        pytest.param(("mynetworks",), {"live": False}, HOLDS, False, id="nobody can have it"),
        pytest.param(("mynetworks",), {}, holding(STOPPED), False, id="nobody is there"),
        pytest.param(("inet_interfaces",), {}, HOLDS, False, id="a reload does not take it"),
        pytest.param(("inet_interfaces", "biff"), {}, HOLDS, True, id="it takes one of them"),
        pytest.param(("main.cf",), {}, HOLDS, True, id="a file that was destroyed"),
        pytest.param(("made_up",), {}, HOLDS, False, id="a name that is not known"),
        pytest.param((), {}, HOLDS, False, id="nothing is named"),
        pytest.param(("biff",), {"wished": ("biff",)}, HOLDS, False, id="a wish alone"),
        pytest.param(("biff", "relayhost"), {"wished": ("biff",)}, HOLDS, True, id="drift beside"),
    ],
)
def test_may_clear(
    parameters: tuple[str, ...], more: dict[str, Any], holds: Conditions, may: bool
) -> None:
    assert may_clear(replace(LIVE, parameters=parameters, **more), holds) is may


@pytest.mark.parametrize(
    ("took", "wait"), [(0.0, 1.0), (0.08, 1.0), (0.1, 1.0), (0.2, 2.0), (3.0, 13.0), (30.0, 40.0)]
)
def test_a_reload_takes_a_tenth_of_the_time_and_the_next_waits_ten_seconds_at_most(
    took: float, wait: float
) -> None:
    assert reload_allowed_at(TICKS, TICKS + took) == pytest.approx(TICKS + wait)


# --- the end of a job -----------------------------------------------------------------------------

START = Attempt(7, b"text", (UMBRELLA, MASTER), TICKS, NOW, job="/job/1")
RELOAD = replace(START, is_reload=True)
UP = (replace(UMBRELLA, invocation="u2"), replace(MASTER, invocation="m2"))
OLD = (UP[0], MASTER)
FAILED = (UP[0], replace(UP[1], phase=UnitPhase.FAILED, result="exit-code"))
DOWN = (UP[0], replace(UP[1], phase=UnitPhase.DOWN))
MOVING = (UP[0], replace(UP[1], phase=UnitPhase.CHANGING))
IS_FAILED = "postfix@-.service is failed (exit-code); see `journalctl -u postfix@-.service`"
IS_DOWN = "postfix@-.service is down; see `journalctl -u postfix@-.service`"
NOT_ANEW = "postfix@-.service was not restarted; see `systemctl status postfix@-.service`"


@pytest.mark.parametrize(
    ("attempt", "result", "units", "after", "deed"),
    [
        pytest.param(START, None, (), 1, Wait(), id="it runs"),
        pytest.param(START, None, (), JOB_SECONDS, Wait(), id="it runs long"),
        pytest.param(
            START,
            None,
            (),
            JOB_SECONDS + 1,
            Fail("systemd did not report the end of the restart within 300 s"),
            id="too long",
        ),
        pytest.param(START, "done", UP, 1, Ask(), id="done"),
        pytest.param(START, "done", MOVING, 1, Wait(), id="somebody else's job took over"),
        pytest.param(START, "done", FAILED, 1, Ask(IS_FAILED), id="done, behind a wrapper"),
        pytest.param(START, "done", DOWN, 1, Ask(IS_DOWN), id="done, by an unmet condition"),
        pytest.param(START, "done", OLD, 1, Fail(NOT_ANEW), id="done, and nothing was started"),
        pytest.param(
            START,
            "failed",
            FAILED,
            1,
            Ask("the restart of postfix.service ended as failed"),
            id="f",
        ),
        pytest.param(
            START,
            "timeout",
            DOWN,
            1,
            Ask("the restart of postfix.service ended as timeout"),
            id="t",
        ),
        *(
            pytest.param(START, how, UP, 1, Ask(), id=f"{how}, and up")
            for how in ("gone", "canceled")
        ),
        *(
            pytest.param(START, how, DOWN, 1, Fail(IS_DOWN), id=f"{how}: somebody stopped it")
            for how in ("gone", "canceled")
        ),
        pytest.param(START, "canceled", OLD, 1, Fail(NOT_ANEW), id="canceled, not started"),
        *(
            pytest.param(
                START,
                how,
                UP,
                1,
                Fail(f"the restart of postfix.service ended as {how}"),
                id=f"{how}: it was not even tried",
            )
            for how in ("dependency", "skipped", "assert", "invalid")
        ),
        pytest.param(RELOAD, "done", OLD, 1, Ask(), id="a reload starts nothing anew"),
        pytest.param(
            RELOAD,
            "failed",
            OLD,
            1,
            Doubt("the reload of postfix.service ended as failed"),
            id="a failed reload: the old ones would answer",
        ),
        pytest.param(
            RELOAD,
            "timeout",
            OLD,
            1,
            Doubt("the reload of postfix.service ended as timeout"),
            id="a reload that took too long",
        ),
        pytest.param(RELOAD, "done", FAILED, 1, Doubt(IS_FAILED), id="master died of the reload"),
        pytest.param(RELOAD, "canceled", DOWN, 1, Fail(IS_DOWN), id="stopped while it reloads"),
    ],
)
def test_after_job(
    attempt: Attempt,
    result: str | None,
    units: tuple[UnitState, ...],
    after: float,
    deed: object,
) -> None:
    assert after_job(attempt, result, units, TICKS + after, "postfix.service") == deed


# --- the answer of the port -----------------------------------------------------------------------

SERVES = Found(Heard())
AWAY = Found(Heard("451", code=451, words="4.7.1 Service unavailable"))
NOBODY = Found(Heard("down", greeted=False), lives=False)
ASKED = Asked(DRIFT, b"text")
WISHED = Asked(replace(WISH, before=Heard()), b"text", {"mynetworks": "10.0.0.0/8"})
NEXT = replace(DRIFT, cycle=8)
OTHERS = replace(START, cycle=None, job="")
INTERRUPTED = {
    "others have it stopped or started": replace(ASKED, units=(UMBRELLA, CHANGING)),
    "others are about to": replace(ASKED, units=(UMBRELLA, a_master(has_job=True))),
    "others have": replace(ASKED, units=(UMBRELLA, a_master(invocation="m2"))),
    "others have stopped it": replace(ASKED, units=(UMBRELLA, STOPPED), left="stopped"),
}


@pytest.mark.parametrize(
    ("attempt", "found", "asked", "memory", "after", "answer"),
    [
        pytest.param(START, SERVES, ASKED, Memory(), 1, Up(), id="it serves"),
        pytest.param(START, SERVES, Asked(NEXT, b"x"), Memory(), 1, Up(), id="corrected since"),
        pytest.param(RELOAD, SERVES, ASKED, Memory(), 1, Up(), id="a reload serves"),
        pytest.param(RELOAD, AWAY, ASKED, Memory(), 2.9, AskAgain(), id="an old one may answer"),
        pytest.param(RELOAD, AWAY, ASKED, Memory(), 3, Doubt("451"), id="a reload did not do"),
        pytest.param(
            RELOAD, NOBODY, WISHED, Memory(), 3, Doubt("down"), id="master died of the reload"
        ),
        pytest.param(
            START, AWAY, ASKED, Memory(), 1, NotServed(Standing.FAILING, "451"), id="failing"
        ),
        pytest.param(
            START, NOBODY, ASKED, Memory(), 1, NotServed(Standing.DOWN, "down"), id="down"
        ),
        pytest.param(
            START, NOBODY, WISHED, Memory(), 1, NotServed(Standing.REJECTED, "down"), id="rejected"
        ),
        *(
            pytest.param(attempt, NOBODY, since, Memory(), 3, Gone(), id=why)
            for attempt in (START, OTHERS, RELOAD)
            for why, since in INTERRUPTED.items()
        ),
        pytest.param(
            START,
            NOBODY,
            replace(ASKED, units=(UMBRELLA, BROKEN)),
            Memory(),
            1,
            NotServed(Standing.DOWN, "down"),
            id="it ended by itself",
        ),
        pytest.param(
            START, NOBODY, Asked(NEXT, b"text"), Memory(), 1, Overtaken("down"), id="next cycle"
        ),
        pytest.param(
            START, NOBODY, Asked(DRIFT, b"other"), Memory(), 1, Overtaken("down"), id="other text"
        ),
        pytest.param(
            START, NOBODY, Asked(None, b"text"), Memory(), 1, Overtaken("down"), id="marker gone"
        ),
        pytest.param(
            START,
            NOBODY,
            Asked(NEXT, b"other"),
            Memory(overtaken_at=NOW),
            1,
            NotServed(Standing.DOWN, "down"),
            id="overtaken once alone",
        ),
        pytest.param(
            OTHERS,
            NOBODY,
            Asked(None, b"text"),
            Memory(),
            1,
            NotServed(Standing.DOWN, "down"),
            id="others' start, nothing is asked for",
        ),
        pytest.param(
            OTHERS,
            NOBODY,
            Asked(None, b"other"),
            Memory(),
            1,
            NotServed(Standing.DOWN, "down"),
            id="others' start, and somebody edits",
        ),
        *(
            pytest.param(
                OTHERS,
                NOBODY,
                WISHED,
                Memory(overtaken_at=was),
                1,
                Overtaken("down"),
                id=f"a wish since others' start is not to blame for it ({was})",
            )
            for was in (NOW, 0.0)
        ),
    ],
)
def test_after_answer(
    attempt: Attempt, found: Found, asked: Asked, memory: Memory, after: float, answer: object
) -> None:
    assert after_answer(attempt, found, asked, memory, TICKS + after) == answer
