"""Words for people."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.model import (
    Contest,
    Drift,
    DriftKind,
    LastDrift,
    Phase,
    Status,
    Suspension,
)
from pf_agent.words import sentences
from pf_agent.words.fields import (
    drift_fields,
)

NOW = 1_764_000_000.0
LAST = LastDrift(7, NOW - 200, ("mynetworks",), corrected_seconds=0.008, up_seconds=0.7)
STATUS = Status(Phase.IN_SYNC, NOW - 3600, parameters=21, version="1.2", pid=42)
# Any text, control characters and bytes that are not UTF-8 (surrogates) among them.
ANY_TEXT = st.text(st.characters() | st.sampled_from("\0\n\r\t\x1b\x9b\u202e\udc80\udcff"))


def shows_raw(text: str, but: str = "\t") -> set[str]:
    """The characters of `text` that could steer a terminal or a log."""
    return {c for c in text if not c.isprintable() and c not in but}


# --- drift -------------------------------------------------------------------------------------

SENTENCES = [
    (
        Drift("mynetworks", DriftKind.CHANGED, "127.0.0.0/8", "0.0.0.0/0", 12),
        'mynetworks is "0.0.0.0/0", must be "127.0.0.0/8" (line 12)',
    ),
    (
        Drift("myorigin", DriftKind.MISSING, "$myhostname", None),
        'myorigin is not set, must be "$myhostname"',
    ),
    (
        Drift("mailq_path", DriftKind.UNWANTED, None, "", 3),
        'mailq_path is "", must be left at Postfix\'s default (line 3)',
    ),
    (
        Drift("biff", DriftKind.UNMANAGED, None, "no", 4),
        'biff is "no", which is not managed (line 4)',
    ),
    (
        Drift("biff", DriftKind.DUPLICATED, "no", "yes", 1),
        'biff is set more than once, first to "yes" (line 1)',
    ),
    (
        Drift("", DriftKind.UNREADABLE, None, "<<<< HEAD", 9),
        'not a valid main.cf line: "<<<< HEAD" (line 9)',
    ),
    (
        Drift("", DriftKind.MODE, "owner 0:0 mode 0644", "owner 0:0 mode 0600"),
        "main.cf is owner 0:0 mode 0600, must be owner 0:0 mode 0644",
    ),
    (
        Drift("", DriftKind.ABSENT_FILE, "the last good text", "it contains no settings"),
        "main.cf: it contains no settings; it is recreated as the last good text",
    ),
]


@pytest.mark.parametrize(("drift", "sentence"), SENTENCES, ids=[d.kind.value for d, _ in SENTENCES])
def test_each_difference_has_its_sentence(drift: Drift, sentence: str) -> None:
    assert sentences.drift_sentence(drift) == sentence
    wished = sentences.drift_sentence(replace(drift, is_wished=True))
    assert wished == f"{sentence}: the desired state changed"


def test_every_kind_has_a_sentence() -> None:
    assert {drift.kind for drift, _ in SENTENCES} == set(DriftKind)


@pytest.mark.parametrize(
    "drift", [d for d, _ in SENTENCES], ids=[d.kind.value for d, _ in SENTENCES]
)
def test_a_row_says_what_the_sentence_says(drift: Drift) -> None:
    name, is_now, must_be, line = sentences.drift_row(drift)
    sentence = sentences.drift_sentence(drift)
    assert name == (drift.parameter or "main.cf")
    assert line == ("" if drift.line is None else str(drift.line))
    assert is_now.removesuffix(", then set again") in sentence
    if drift.expected is not None:
        assert drift.expected in must_be
    assert len(sentences.DRIFT_HEADINGS) == len((name, is_now, must_be, line))


@given(st.sampled_from(DriftKind), ANY_TEXT, ANY_TEXT | st.none(), ANY_TEXT | st.none())
def test_no_control_character_of_main_cf_reaches_a_terminal(
    kind: DriftKind, name: str, expected: str | None, actual: str | None
) -> None:
    sentence = sentences.drift_sentence(Drift(name, kind, expected, actual, 1))
    assert not shows_raw(sentence)
    sentence.encode()


def test_bytes_that_are_no_text_are_shown_as_what_they_are() -> None:
    drift = Drift("a", DriftKind.CHANGED, "1", "\udcff\x1b[2J\té\u202e", 1)
    assert sentences.drift_sentence(drift) == (
        'a is "\\xff\\x1b[2J\\té\\x202e", must be "1" (line 1)'
    )


def test_a_long_value_does_not_fill_the_screen() -> None:
    shown = sentences.shortened("x" * 5_000_000)
    assert shown == '"' + "x" * 160 + '..." (5000000 characters)'
    assert sentences.shortened("x" * 160) == '"' + "x" * 160 + '"'


@pytest.mark.parametrize("kind", DriftKind)
@pytest.mark.parametrize("character", ["x", "\x1b", "\udcff", "é", "\U0010ffff"])
def test_nothing_that_is_told_is_longer_than_it_can_be_read(
    kind: DriftKind, character: str
) -> None:
    long = character * 60_000  # more than any of the limits
    drift = Drift(long, kind, long, long, 1)
    assert len(sentences.drift_sentence(drift)) < 30_000
    assert max(map(len, sentences.drift_row(drift))) < 15_000
    assert max(len(value) for value in drift_fields(drift).values()) < 50_000
    names = sentences.drifted_names([drift])
    assert len(names[0]) < 2_000
    assert len(sentences.listed([long] * 5)) < 10_000


def test_names_of_a_sentence() -> None:
    change = Drift("a", DriftKind.CHANGED, "1", "2", 1)
    drift = [change, replace(change, line=4), Drift("", DriftKind.MODE, "x", "y")]
    assert sentences.drifted_names(drift) == ("a", "main.cf")
    assert sentences.listed(["a", "b", "c", "d"]) == "a, b, c, d"
    assert sentences.listed(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d and 2 more"
    assert sentences.listed(["a\x1b[m"]) == "a\\x1b[m"


# --- durations and moments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 ms"),
        (0, "0 ms"),
        (0.0084, "8 ms"),
        (0.0999, "100 ms"),
        (0.1, "0.1 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172799, "47 h"),
        (172800, "2 days"),
        (864000, "10 days"),
    ],
)
def test_a_duration(seconds: float, text: str) -> None:
    assert sentences.duration(seconds) == text


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_longer_duration_never_reads_shorter(one: float, other: float) -> None:
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}

    def read(seconds: float) -> float:
        number, unit = sentences.duration(seconds).split()
        return float(number) * units[unit]

    assert (read(min(one, other))) <= read(max(one, other))


def test_how_long_ago() -> None:
    assert sentences.ago(-3) == sentences.ago(59.9) == "less than a minute ago"
    assert sentences.ago(60) == "1 min ago"


# --- the status --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "detail", "sentence"),
    [
        (Phase.STARTING, "", "starting"),
        (Phase.IN_SYNC, "", "in sync: 21 parameters"),
        (Phase.IN_SYNC, "but why", "in sync: 21 parameters, but why"),
        (Phase.ACTIVATING, "", "main.cf is correct; Postfix is restarting"),
        (Phase.OBSERVING, "would change: a", "observe mode, would change: a"),
        (Phase.SUSPENDED, "", "suspended"),
        (Phase.STALLED, "no template", "stalled: no template"),
        (Phase.CONTESTED, "", "contested"),
        (Phase.FAILING, "no greeting", "failing: no greeting"),
        (Phase.STOPPED, "by an administrator", "stopped: by an administrator"),
    ],
)
def test_the_sentence_of_each_phase(phase: Phase, detail: str, sentence: str) -> None:
    assert sentences.summary(replace(STATUS, phase=phase, detail=detail), NOW) == sentence


@pytest.mark.parametrize("phase", Phase)
def test_no_phase_is_without_a_sentence(phase: Phase) -> None:
    assert sentences.summary(Status(phase, NOW), NOW)


def test_who_suspended_it_stands_before_what_is_found() -> None:
    suspension = Suspension(NOW, None, "anna", "upgrade")
    status = replace(STATUS, phase=Phase.SUSPENDED, suspension=suspension)
    assert sentences.summary(status, NOW) == "suspended by anna until resumed: upgrade"
    found = replace(status, detail="would change: biff")
    said = "suspended by anna until resumed: upgrade; would change: biff"
    assert sentences.summary(found, NOW) == said


def test_in_a_contest_it_says_when_postfix_is_restarted() -> None:
    status = replace(STATUS, phase=Phase.CONTESTED, detail="x", restart_due=NOW)
    assert re.fullmatch(
        r"contested: x; Postfix restart due after \d\d:00:00", sentences.summary(status, NOW)
    )


@pytest.mark.parametrize("phase", [Phase.CONTESTED, Phase.FAILING])
def test_what_a_start_waits_for_is_named(phase: Phase) -> None:
    waits = "Postfix start is waiting for apt or dpkg to finish"
    status = replace(STATUS, phase=phase, detail="x", restart_due=NOW, awaited=waits)
    assert sentences.summary(status, NOW) == f"{phase.value}: x; {waits}"


@pytest.mark.parametrize("most", [1, 4, 9])
def test_no_name_is_told_twice(most: int) -> None:
    names = tuple(f"name_{number}" for number in range(most))
    last = LastDrift(7, NOW, names, corrected_seconds=0.5)
    for detail in (f"would change: {sentences.listed(names)}", f"{sentences.listed(names)}; done"):
        status = replace(STATUS, phase=Phase.OBSERVING, detail=detail, last=last)
        told = "last drift less than a minute ago, corrected in 0.5 s"
        assert sentences.summary(status, NOW) == f"observe mode, {detail}; {told}"
    status = replace(status, detail="would change: name")
    assert sentences.summary(status, NOW).count("name_0") == 1


def test_a_long_reason_is_not_the_whole_sentence() -> None:
    status = replace(STATUS, phase=Phase.STALLED, detail="no room; " * 100)
    text = sentences.summary(status, NOW)
    assert len(text) < 220
    assert text.endswith("no room;...")
    assert len(sentences.summary(replace(status, detail="x" * 900), NOW)) < 220


def test_each_other_instance_has_its_own_sentence() -> None:
    inner = Status(Phase.STALLED, NOW, detail="no such file", last=LAST)
    text = sentences.summary(replace(STATUS, instances={"out": inner, "in": STATUS}), NOW)
    assert text == (
        "in sync: 21 parameters; instance out: stalled: no such file;"
        " instance in: in sync: 21 parameters"
    )


def test_a_contest_names_what_and_how_often_and_how_long_a_restart_waits() -> None:
    text = sentences.contest_sentence(Contest(("mynetworks", "relayhost"), 5, NOW - 120, 20.0))
    assert re.fullmatch(
        r"something keeps changing mynetworks, relayhost: 5 times since \d\d:\d\d:\d\d;"
        r" main\.cf is corrected each time, Postfix restarted every 20 s",
        text,
    )


@pytest.mark.parametrize(
    ("parameters", "corrected"),
    [
        (("smtp/inet/chroot", "smtp/inet/a"), "master.cf is corrected each time"),
        (("mynetworks", "smtp/inet/chroot"), "main.cf and master.cf are corrected each time"),
    ],
)
def test_a_contest_names_the_files(parameters: tuple[str, ...], corrected: str) -> None:
    text = sentences.contest_sentence(Contest(parameters, 5, NOW - 120, 20.0))
    assert f"; {corrected}, Postfix restarted" in text


def test_one_parameter_is_no_plural() -> None:
    assert sentences.summary(replace(STATUS, parameters=1), NOW) == "in sync: 1 parameter"


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (LAST, "last drift 3 min ago: mynetworks, corrected in 8 ms, Postfix up after 0.7 s"),
        (replace(LAST, up_seconds=None), "last drift 3 min ago: mynetworks, corrected in 8 ms"),
        (
            LastDrift(7, NOW, tuple("abcdef")),
            "last drift less than a minute ago: a, b, c, d and 2 more",
        ),
    ],
)
def test_the_last_drift_in_a_summary(last: LastDrift, words: str) -> None:
    assert sentences.summary(replace(STATUS, last=last), NOW) == f"in sync: 21 parameters; {words}"


def test_faults_of_the_configuration_are_counted_before_the_last_drift() -> None:
    one = sentences.summary(replace(STATUS, problems=("x",), last=LAST), NOW).split("; ")
    assert one[1:3] == ["1 configuration error", "still using the last good state"]
    assert one[3].startswith("last drift ")
    both = sentences.summary(replace(STATUS, problems=("x", "y")), NOW)
    assert "; 2 configuration errors; " in both


@given(ANY_TEXT, ANY_TEXT)
def test_a_summary_is_one_line_without_control_characters(detail: str, name: str) -> None:
    last = replace(LAST, parameters=(name,))
    for phase in (Phase.IN_SYNC, Phase.STALLED):
        text = sentences.summary(replace(STATUS, phase=phase, detail=detail, last=last), NOW)
        assert not shows_raw(text)


TABLE = "hash:/etc/postfix/transport"


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        (
            Drift("a", DriftKind.UNWANTED, None, "x", 3, document=TABLE),
            'a is "x", must be absent (line 3)',
        ),
        (
            Drift("a", DriftKind.CHANGED, "y", "x", 3, document=TABLE),
            'a is "x", must be "y" (line 3)',
        ),
        (
            Drift("a", DriftKind.CHANGED, "y", "x", 3, document=TABLE, is_secret=True),
            'a is "(hidden)", must be "(hidden)" (line 3)',
        ),
        (
            Drift("", DriftKind.ABSENT_FILE, "a new file", "there is no such file", document=TABLE),
            f"{TABLE}: there is no such file; it is recreated as a new file",
        ),
        (
            Drift("", DriftKind.MODE, "mode 0600", "mode 0644", document=TABLE),
            f"{TABLE} is mode 0644, must be mode 0600",
        ),
    ],
)
def test_a_drift_in_another_document(drift: Drift, words: str) -> None:
    assert sentences.drift_sentence(drift) == words
    fields = drift_fields(drift)
    assert fields["PF_AGENT_TABLE"] == TABLE
    assert fields["PF_AGENT_KEY"] == drift.parameter
    assert "PF_AGENT_PARAMETER" not in fields


def test_what_is_wrong_with_documents_names_each_once() -> None:
    troubles = {TABLE: "would change: a", "hash:/b": "", "hash:/c": "hash:/c: odd"}
    assert sentences.troubles(troubles) == (f"{TABLE}: would change: a", "hash:/c: odd")
