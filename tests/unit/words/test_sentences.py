"""Words for people, diffs, and the JSON that programs read."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.model import (
    Contest,
    Drift,
    DriftKind,
    Exposure,
    LastDrift,
    Outcome,
    Phase,
    Result,
    Status,
    Suspension,
)
from pf_agent.words import sentences
from pf_agent.words.status import status_dict, status_from_dict

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
        'biff is "no", the desired state does not name it (line 4)',
    ),
    (
        Drift("biff", DriftKind.DUPLICATED, "no", "yes", 1),
        'biff is set more than once, first to "yes" (line 1)',
    ),
    (
        Drift("", DriftKind.UNREADABLE, None, "<<<< HEAD", 9),
        'no Postfix program can read "<<<< HEAD" (line 9)',
    ),
    (
        Drift("", DriftKind.MODE, "owner 0:0 mode 0644", "owner 0:0 mode 0600"),
        "main.cf is owner 0:0 mode 0600, must be owner 0:0 mode 0644",
    ),
    (
        Drift("", DriftKind.ABSENT_FILE, "the last good text", "it holds no setting"),
        "main.cf: it holds no setting; it begins again as the last good text",
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
    long = character * 1_000_000
    drift = Drift(long, kind, long, long, 1)
    assert len(sentences.drift_sentence(drift)) < 30_000
    assert max(map(len, sentences.drift_row(drift))) < 15_000
    assert max(len(value) for value in sentences.drift_fields(drift).values()) < 50_000
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


# --- the diff ----------------------------------------------------------------------------------


def test_a_diff_shows_three_lines_around_each_change() -> None:
    before = b"".join(b"p%d = 1\n" % number for number in range(1, 31))
    after = before.replace(b"p2 = 1\n", b"p2 = 2\n").replace(b"p20 = 1\n", b"") + b"new = 1\n"
    assert sentences.unified_diff(before, after, "main.cf") == (
        "--- main.cf\n+++ main.cf (desired)\n"
        "@@ -1,5 +1,5 @@\n p1 = 1\n-p2 = 1\n+p2 = 2\n p3 = 1\n p4 = 1\n p5 = 1\n"
        "@@ -17,7 +17,6 @@\n p17 = 1\n p18 = 1\n p19 = 1\n-p20 = 1\n p21 = 1\n p22 = 1\n p23 = 1\n"
        "@@ -28,3 +27,4 @@\n p28 = 1\n p29 = 1\n p30 = 1\n+new = 1\n"
    )


@pytest.mark.parametrize(
    ("before", "after", "hunk"),
    [
        (None, b"a = 1\n", "@@ -0,0 +1 @@\n+a = 1\n"),
        (b"", b"a = 1\nb = 2\n", "@@ -0,0 +1,2 @@\n+a = 1\n+b = 2\n"),
        (b"a = 1\n", b"", "@@ -1 +0,0 @@\n-a = 1\n"),
        (b"a = \xff\n", b"a = \xc3\xa9\n", "@@ -1 +1 @@\n-a = \\xff\n+a = é\n"),
        (b"a = 1\r\n", b"a = 1\n", "@@ -1 +1 @@\n-a = 1\\x0d\n+a = 1\n"),
        (b"a\x0bb\x0cc\xe2\x80\xa8d\n", b"\0\n", "@@ -1 +1 @@\n-a\\x0bb\\x0cc\\x2028d\n+\\x00\n"),
        (b"a = 1\n\n", b"a = 1\n", "@@ -1,2 +1 @@\n a = 1\n-\n"),
    ],
)
def test_a_diff_of_odd_texts(before: bytes | None, after: bytes, hunk: str) -> None:
    old = "/dev/null" if before is None else "f"
    assert sentences.unified_diff(before, after, "f") == f"--- {old}\n+++ f (desired)\n{hunk}"


@pytest.mark.parametrize("blank", ["\r", "\v", "\f", "\r \t"])
def test_a_secret_is_known_by_any_blank_that_postfix_knows(blank: str) -> None:
    lines = [f"a_password{blank}= s3cret", f"{blank}s3cret", "a = 1", "b = 2", "c = 3", "d = 4"]
    before = "\n".join(lines)
    for old, new in ((before, ""), (before, before.replace("d = 4", "d = 5"))):
        diff = sentences.unified_diff(old.encode(), new.encode(), "f")
        assert "s3cret" not in diff


def test_no_diff_where_nothing_differs() -> None:
    assert sentences.unified_diff(b"a = 1\r\n\xff", b"a = 1\r\n\xff", "f") == ""


def test_a_very_long_change_is_shown_as_replaced_whole() -> None:
    changes = b"".join(b"a%d = 1\nsame = 1\n" % number for number in range(4000))
    before = b"head = 1\n" + changes + b"end = 1\n"
    after = before.replace(b"\na", b"\nb")
    lines = sentences.unified_diff(before, after, "f").splitlines()
    assert lines[2] == "@@ -1,8002 +1,8002 @@"
    assert [line[0] for line in lines[3:]] == ["-"] * 8002 + ["+"] * 8002


LINES = st.lists(st.sampled_from([b"a", b"b", b"c", b"", b"\r", b"\xff"]), max_size=30)


@given(LINES, LINES)
def test_a_diff_applied_to_the_old_lines_gives_the_new_ones(
    old: list[bytes], new: list[bytes]
) -> None:
    before, after = (b"".join(line + b"\n" for line in lines) for lines in (old, new))
    diff = sentences.unified_diff(before, after, "f")
    assert patched(shown(before), diff) == shown(after)
    assert not shows_raw(diff, but="\t\n")


def shown(text: bytes) -> list[str]:
    return [sentences.printable(line) for line in sentences.as_text(text).split("\n")[:-1]]


def patched(lines: list[str], diff: str) -> list[str]:
    """What patch(1) makes of it, and an error where a hunk does not fit."""
    result: list[str] = []
    done = 0
    for line in diff.splitlines()[2:]:
        if line.startswith("@@"):
            start, _, count = line.split()[1][1:].partition(",")
            first = int(start) if count == "0" else int(start) - 1
            result += lines[done:first]
            done = first
            continue
        if line[0] in " -":
            assert lines[done] == line[1:]
            done += 1
        if line[0] in " +":
            result.append(line[1:])
    return result + lines[done:]


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


def test_a_moment_is_utc_with_milliseconds() -> None:
    assert sentences.moment(1_764_000_000.0625) == "2025-11-24T16:00:00.062Z"
    assert sentences.moment(0) == "1970-01-01T00:00:00.000Z"


def test_a_diff_in_colours_is_the_same_diff() -> None:
    diff = sentences.unified_diff(b"a = 1\nb = 2\n", b"a = 2\nb = 2\n", "/etc/postfix/main.cf")
    shown = sentences.coloured(diff)
    assert "\x1b[31m-a = 1\x1b[m\n" in shown
    assert "\x1b[32m+a = 2\x1b[m\n" in shown
    assert "\x1b[1m--- /etc/postfix/main.cf\x1b[m\n" in shown
    assert "\n b = 2\n" in shown
    assert re.sub(r"\x1b\[\d*m", "", shown) == diff


# --- the status --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "detail", "sentence"),
    [
        (Phase.STARTING, "", "starting"),
        (Phase.IN_SYNC, "", "in sync: 21 parameters"),
        (Phase.IN_SYNC, "but why", "in sync: 21 parameters, but why"),
        (Phase.ACTIVATING, "", "main.cf is right, Postfix restarts"),
        (Phase.OBSERVING, "drift: a", "observing only: drift: a"),
        (Phase.SUSPENDED, "", "suspended"),
        (Phase.STALLED, "no template", "stalled: no template"),
        (Phase.CONTESTED, "", "contested"),
        (Phase.FAILING, "no greeting", "failing: no greeting"),
        (Phase.STOPPED, "by somebody", "stopped: by somebody"),
    ],
)
def test_the_sentence_of_each_phase(phase: Phase, detail: str, sentence: str) -> None:
    assert sentences.summary(replace(STATUS, phase=phase, detail=detail), NOW) == sentence


@pytest.mark.parametrize("phase", Phase)
def test_no_phase_is_without_a_sentence(phase: Phase) -> None:
    assert sentences.summary(Status(phase, NOW), NOW)


def test_each_other_instance_has_its_own_sentence() -> None:
    inner = Status(Phase.STALLED, NOW, detail="no such file")
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
    assert one[1].startswith("1 fault in the configuration, ")
    assert one[2].startswith("last drift ")
    assert "; 2 faults in " in sentences.summary(replace(STATUS, problems=("x", "y")), NOW)


@given(ANY_TEXT, ANY_TEXT)
def test_a_summary_is_one_line_without_control_characters(detail: str, name: str) -> None:
    last = replace(LAST, parameters=(name,))
    for phase in (Phase.IN_SYNC, Phase.STALLED):
        text = sentences.summary(replace(STATUS, phase=phase, detail=detail, last=last), NOW)
        assert not shows_raw(text)


@pytest.mark.parametrize(
    "status",
    [
        Status(Phase.STARTING, NOW),
        replace(STATUS, detail="x", problems=("a", "b"), last=LAST, next_look=NOW + 3),
        replace(STATUS, last=LastDrift(1, NOW, ())),
        replace(STATUS, instances={"out": replace(STATUS, last=LAST), "in": STATUS}),
        replace(STATUS, suspension=Suspension(NOW, None, "anna", "why")),
    ],
)
def test_a_status_comes_back_from_its_json(status: Status) -> None:
    found = json.loads(json.dumps(status_dict(status, NOW)))
    assert found["summary"] == sentences.summary(status, NOW)
    assert status_from_dict(found) == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"phase": "asleep"},
        {"since": "yesterday"},
        {"problems": 3},
        {"last_drift": {"cycle": 1}},
        {"last_drift": {"parameters": [], "unknown": 1}},
    ],
)
def test_a_status_of_another_make_is_refused(wrong: dict[str, object]) -> None:
    found = status_dict(replace(STATUS, last=LAST), NOW)
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: "):
        status_from_dict({**found, **wrong})
    del found["phase"]
    with pytest.raises(ValueError, match=r"^there is no phase$"):
        status_from_dict(found)


# --- JSON and journal fields -------------------------------------------------------------------


def test_the_json_of_a_diff() -> None:
    drift = (
        Drift("a", DriftKind.CHANGED, "é", "\udcff\x1b", 3),
        Drift("d", DriftKind.UNWANTED, None, "", 4),
        Drift("b", DriftKind.MISSING, "1", None),
    )
    assert json.loads(json.dumps(sentences.diff_dict(drift, "text"))) == {
        "in_sync": False,
        "drift": [
            {
                "parameter": "a",
                "kind": "changed",
                "expected": "é",
                "actual": "\\xff\\x1b",
                "line": 3,
            },
            {"parameter": "d", "kind": "unwanted", "expected": None, "actual": "", "line": 4},
            {"parameter": "b", "kind": "missing", "expected": "1", "actual": None, "line": None},
        ],
        "diff": "text",
    }
    assert sentences.diff_dict((), "") == {"in_sync": True, "drift": [], "diff": ""}


def test_the_json_of_an_outcome() -> None:
    drift = (Drift("b", DriftKind.MISSING, "1", None),)
    outcome = Outcome(Result.CORRECTED, "corrected: b", 5, drift, "text")
    assert sentences.outcome_dict(outcome) == {
        "result": "corrected",
        "summary": "corrected: b",
        "cycle": 5,
        **sentences.diff_dict(drift, "text"),
    }


def test_the_fields_of_a_drift() -> None:
    changed = Drift("a", DriftKind.CHANGED, "1", "", 3)
    assert sentences.drift_fields(changed) == {
        names.FIELD_PARAMETER: "a",
        names.FIELD_KIND: "changed",
        names.FIELD_EXPECTED: "1",
        names.FIELD_ACTUAL: "",
        names.FIELD_LINE: "3",
    }
    missing = sentences.drift_fields(Drift("b", DriftKind.MISSING, "1", None))
    assert names.FIELD_ACTUAL not in missing
    assert names.FIELD_LINE not in missing


def test_the_fields_of_an_exposure() -> None:
    assert sentences.exposure_fields(Exposure(0.0, 1.5, corrected_at=2.0)) == {
        names.FIELD_WRITTEN_AT: "1970-01-01T00:00:00.000Z",
        names.FIELD_SEEN_AT: "1970-01-01T00:00:01.500Z",
        names.FIELD_CORRECTED_AT: "1970-01-01T00:00:02.000Z",
    }
    whole = sentences.exposure_fields(Exposure(0.0, 1.0, 2.0, 3.25))
    assert whole[names.FIELD_ACTIVATED_AT] == "1970-01-01T00:00:03.250Z"


def test_a_secret_is_in_no_diff_and_in_no_sentence() -> None:
    head = "".join(f"p{number} = 1\n" for number in range(9))
    before = f"{head}my_password = hunter2,\n  hunter3\na = 1\n".encode()
    after = f"{head}my_password = hunter2,\n  hunter4\na = 2\n".encode()
    diff = sentences.unified_diff(before, after, "main.cf")
    assert "hunter" not in diff
    assert "-  (hidden)\n-a = 1\n+  (hidden)\n+a = 2\n" in diff
    drift = Drift("my_password", DriftKind.CHANGED, "hunter4", "hunter2", 10)
    bad = Drift("", DriftKind.UNREADABLE, None, "my_password hunter2", 3)
    for each in (drift, bad):
        told = f"{sentences.drift_sentence(each)}{sentences.drift_dict(each)}"
        told += str(sentences.drift_fields(each))
        told += "".join(sentences.drift_row(each))
        assert "(hidden)" in told
        assert "hunter" not in told
