"""The JSON and the journal fields that programs read."""

from __future__ import annotations

import json

import pytest

from pf_agent import names
from pf_agent.model import Applied, Drift, DriftKind, Exposure, Outcome, Result
from pf_agent.words import sentences
from pf_agent.words.diffs import unified_diff
from pf_agent.words.fields import (
    applied_dict,
    diff_dict,
    drift_dict,
    drift_fields,
    drift_in,
    exposure_fields,
    moment,
    moment_in,
    outcome_dict,
)


def test_a_moment_is_utc_with_milliseconds() -> None:
    assert moment(1_764_000_000.0625) == "2025-11-24T16:00:00.062Z"
    assert moment(0) == "1970-01-01T00:00:00.000Z"


def test_the_json_of_a_diff() -> None:
    drift = (
        Drift("a", DriftKind.CHANGED, "é", "\udcff\x1b", 3),
        Drift("d", DriftKind.UNWANTED, None, "", 4),
        Drift("b", DriftKind.MISSING, "1", None, document="hash:/t"),
    )
    assert json.loads(json.dumps(diff_dict(drift, "text"))) == {
        "in_sync": False,
        "drift": [
            {
                "document": "main.cf",
                "parameter": "a",
                "kind": "changed",
                "expected": "é",
                "actual": "\\xff\\x1b",
                "line": 3,
            },
            {
                "document": "main.cf",
                "parameter": "d",
                "kind": "unwanted",
                "expected": None,
                "actual": "",
                "line": 4,
            },
            {
                "document": "hash:/t",
                "parameter": "b",
                "kind": "missing",
                "expected": "1",
                "actual": None,
                "line": None,
            },
        ],
        "diff": "text",
    }
    assert diff_dict((), "") == {"in_sync": True, "drift": [], "diff": ""}


def test_the_json_of_an_outcome() -> None:
    drift = (Drift("b", DriftKind.MISSING, "1", None),)
    outcome = Outcome(Result.CORRECTED, "corrected: b", 5, drift, "text")
    assert outcome_dict(outcome) == {
        "result": "corrected",
        "summary": "corrected: b",
        "cycle": 5,
        **diff_dict(drift, "text"),
    }


def test_the_json_of_what_was_applied_has_its_tables() -> None:
    outcome = Outcome(Result.IN_SYNC, "")
    rebuilt, stale = {"/t/one": "changed"}, {"/t/tw\x1b": "/t/tw\x1b:2: odd"}
    documents = {"hash:/t/one": Outcome(Result.CORRECTED, "corrected: b", 5)}
    applied = Applied("-", outcome, "", rebuilt, stale, documents)
    assert applied_dict(applied) == {
        **outcome_dict(outcome),
        "failure": None,
        "rebuilt_tables": ["/t/one"],
        "stale_tables": {"/t/tw\\x1b": "/t/tw\\x1b:2: odd"},
        "documents": {name: outcome_dict(each) for name, each in documents.items()},
    }


def test_the_fields_of_a_drift() -> None:
    changed = Drift("a", DriftKind.CHANGED, "1", "", 3)
    assert drift_fields(changed) == {
        names.FIELD_PARAMETER: "a",
        names.FIELD_KIND: "changed",
        names.FIELD_EXPECTED: "1",
        names.FIELD_ACTUAL: "",
        names.FIELD_LINE: "3",
    }
    missing = drift_fields(Drift("b", DriftKind.MISSING, "1", None))
    assert names.FIELD_ACTUAL not in missing
    assert names.FIELD_LINE not in missing


def test_the_fields_of_an_exposure() -> None:
    assert exposure_fields(Exposure(0.0, 1.5, corrected_at=2.0)) == {
        names.FIELD_WRITTEN_AT: "1970-01-01T00:00:00.000Z",
        names.FIELD_SEEN_AT: "1970-01-01T00:00:01.500Z",
        names.FIELD_CORRECTED_AT: "1970-01-01T00:00:02.000Z",
    }
    whole = exposure_fields(Exposure(0.0, 1.0, 2.0, 3.25))
    assert whole[names.FIELD_ACTIVATED_AT] == "1970-01-01T00:00:03.250Z"


def test_a_secret_is_in_no_diff_and_in_no_sentence() -> None:
    head = "".join(f"p{number} = 1\n" for number in range(9))
    before = f"{head}my_password = hunter2,\n  hunter3\na = 1\n".encode()
    after = f"{head}my_password = hunter2,\n  hunter4\na = 2\n".encode()
    diff = unified_diff(before, after, "main.cf")
    assert "hunter" not in diff
    assert "-  (hidden)\n-a = 1\n+  (hidden)\n+a = 2\n" in diff
    drift = Drift("my_password", DriftKind.CHANGED, "hunter4", "hunter2", 10)
    bad = Drift("", DriftKind.UNREADABLE, None, "my_password hunter2", 3)
    for each in (drift, bad):
        told = f"{sentences.drift_sentence(each)}{drift_dict(each)}"
        told += str(drift_fields(each))
        told += "".join(sentences.drift_row(each))
        assert "(hidden)" in told
        assert "hunter" not in told


def test_a_moment_is_read_back_from_its_field() -> None:
    assert moment_in({"AT": moment(1_764_000_000.0625)}, "AT") == 1_764_000_000.062
    for fields in ({}, {"AT": ""}, {"AT": "yesterday"}):
        assert moment_in(fields, "AT") is None


@pytest.mark.parametrize(
    ("part", "document"),
    [
        ("mynetworks", ""),
        ("", ""),
        ("submission/inet", "master.cf"),
        ("submission/inet/chroot", "master.cf"),
        ("", "master.cf"),
        ("a/b", "hash:/etc/postfix/transport"),
        ("", "hash:/etc/postfix/transport"),
    ],
)
def test_a_drift_comes_back_from_its_fields_with_its_document(part: str, document: str) -> None:
    drift = Drift(part, DriftKind.CHANGED, "y", "n", 3, document=document)
    assert drift_in(drift_fields(drift)) == drift
