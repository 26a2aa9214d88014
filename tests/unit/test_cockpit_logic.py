"""What the page's pure modules make of values: what a state shows and offers, and in which words.

node(1) runs them where it is installed. A browser runs them in any case: tests/machine/.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from pf_agent import names
from pf_agent.model import Drift, DriftKind, Event, Phase, Status, Suspension
from pf_agent.words.fields import drift_dict
from pf_agent.words.history import Entry
from pf_agent.words.rebuilds import rebuild_dict, rebuilds
from pf_agent.words.status import status_dict
from tests.checkout import CHECKOUT

_NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(_NODE is None, reason="node is not installed; browsers run it too")

# English, and no browser: as Cockpit's own functions answer without a translation.
_RUN = """
import { createInterface } from "node:readline";
globalThis.cockpit = {
    language: "en",
    gettext: text => text,
    ngettext: (one, many, number) => number === 1 ? one : many,
    format: (text, ...values) => text.replace(/\\$([0-9])/g, (whole, at) => values[at]),
};
for await (const line of createInterface({ input: process.stdin })) {
    const { module, name, calls } = JSON.parse(line);
    try {
        const found = await import(module);
        console.log(JSON.stringify(calls.map(values => found[name](...values))));
    } catch (error) {
        console.log(JSON.stringify(String(error.stack)));
    }
}
"""

NOW = 1_800_000_000.0
BOSS = {"isAdmin": True, "may": {}}
GUEST = {"isAdmin": False, "may": {"look": False, "suspend": False, "resume": False}}
ALLOWED = {"isAdmin": False, "may": {"look": True, "suspend": False, "resume": True}}


@cache
def node() -> subprocess.Popen[str]:
    """The one process that answers, a line each: most of what a call would cost is its start."""
    assert _NODE is not None
    return subprocess.Popen(
        [_NODE, "--input-type=module", "--eval", _RUN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture(scope="module", autouse=True)
def _node_ends() -> Iterator[None]:
    yield
    node().communicate()
    node.cache_clear()


def called(module: str, name: str, *calls: list[Any]) -> list[Any]:
    """What a function of a module returns for each list of arguments."""
    process = node()
    assert process.stdin is not None
    assert process.stdout is not None
    asked = {"module": str(CHECKOUT / "cockpit" / module), "name": name, "calls": calls}
    print(json.dumps(asked), file=process.stdin, flush=True)
    answers = json.loads(process.stdout.readline())
    assert isinstance(answers, list), answers
    return answers


def status(phase: Phase, **more: Any) -> dict[str, Any]:
    return status_dict(Status(phase, NOW - 100, 3, **more), NOW)


def view(found: dict[str, Any] | None, rights: dict[str, Any], owner: object = ":1.2") -> Any:
    known = {"status": found, "unit": {}, **rights}
    # JSON has no undefined, which is what a missing member is.
    known |= {} if owner == "unknown" else {"owner": owner}
    (answer,) = called("state.js", "viewOf", [known, NOW])
    return answer


def test_nothing_is_said_before_it_is_known() -> None:
    for found, owner in ((None, "unknown"), (status(Phase.IN_SYNC), "unknown"), (None, ":1.2")):
        shown = view(found, BOSS, owner)
        assert (shown["phase"], shown["label"], shown["orders"]) == ("loading", "...", [])
        assert "menu" not in shown


def test_a_status_that_was_left_behind_is_no_sign_of_life() -> None:
    shown = view(status(Phase.IN_SYNC), BOSS, None)
    assert (shown["phase"], shown["tone"]) == ("down", "danger")
    assert shown["orders"] == ["start-agent"]
    assert shown["menu"]["type"] == "error"


@pytest.mark.parametrize(
    ("phase", "orders", "may_differ", "menu"),
    [
        (Phase.STARTING, [], False, None),
        (Phase.IN_SYNC, ["look", "suspend"], False, None),
        (Phase.ACTIVATING, ["look", "suspend"], False, None),
        (Phase.OBSERVING, ["look"], True, None),
        (Phase.STALLED, ["look", "suspend"], True, "error"),
        (Phase.CONTESTED, ["suspend"], False, "error"),
        (Phase.FAILING, ["look", "suspend"], False, "error"),
        (Phase.STOPPED, ["start-postfix"], False, "warning"),
    ],
)
def test_each_phase_has_its_orders(
    phase: Phase, orders: list[str], may_differ: bool, menu: str | None
) -> None:
    shown = view(status(phase), BOSS)
    assert shown["phase"] == phase.value
    assert shown["orders"] == orders
    assert shown["mayDiffer"] is may_differ
    assert (shown["menu"] and shown["menu"]["type"]) == menu
    assert view(status(phase), GUEST)["orders"] == []


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.STALLED, Phase.OBSERVING])
def test_a_suspension_can_be_ended_whatever_is_told_first(phase: Phase) -> None:
    found = status(phase, suspension=Suspension(NOW - 50, None, "anna", "the queue moves"))
    shown = view(found, BOSS)
    assert shown["orders"] == ["resume"]
    assert ["who", "anna"] in [[name, value] for name, _, value in shown["facts"]]
    assert ["reason", "the queue moves"] in [[name, value] for name, _, value in shown["facts"]]


def test_a_rule_of_polkit_lets_some_orders_through() -> None:
    assert view(status(Phase.IN_SYNC), ALLOWED)["orders"] == ["look"]
    assert view(status(Phase.STOPPED), ALLOWED)["orders"] == []
    assert "only the orders" in view(status(Phase.IN_SYNC), ALLOWED)["limits"]
    assert "no orders" in view(status(Phase.IN_SYNC), GUEST)["limits"]
    assert view(status(Phase.IN_SYNC), BOSS)["limits"] == ""
    assert view(status(Phase.IN_SYNC), {"isAdmin": None, "may": {}})["limits"] == ""


def test_what_is_in_sync_with_a_doubt_is_not_shown_as_good() -> None:
    assert view(status(Phase.IN_SYNC), BOSS)["tone"] == "good"
    for more in ({"detail": "but ..."}, {"problems": ("x",)}, {"absent": ("x",)}):
        assert view(status(Phase.IN_SYNC, **more), BOSS)["tone"] == "warning"


@pytest.mark.parametrize("phase", [Phase.IN_SYNC, Phase.SUSPENDED])
def test_what_cannot_be_corrected_elsewhere_is_listed_and_marked(phase: Phase) -> None:
    why = {"master.cf": "/etc/postfix/master.cf: No space left on device", "hash:/t/one": ""}
    inner = {"out": Status(Phase.IN_SYNC, NOW, 3, documents={"hash:/t/two": "refused"})}
    detail = f"but {why['master.cf']}"
    shown = view(status(phase, detail=detail, documents=why, instances=inner), BOSS)
    assert shown["mayDiffer"] is True
    if phase is Phase.IN_SYNC:
        assert shown["problems"] == [why["master.cf"], "out: hash:/t/two: refused"]
        assert (shown["tone"], shown["menu"]["type"]) == ("warning", "warning")
        assert "found" not in [name for name, *_ in shown["facts"]]
    else:
        assert shown["problems"] == ["out: hash:/t/two: refused"]
    right = view(status(phase, documents={"master.cf": ""}), BOSS)
    assert right["mayDiffer"] is (phase is Phase.SUSPENDED)


STALE = {"stale": {"/t/one": "/t/one:2: odd"}}


def test_a_table_that_is_out_of_date_is_listed_once_and_marked() -> None:
    inner = {"out": Status(Phase.IN_SYNC, NOW, 3, stale={"/t/two": "/t/two: odd"})}
    detail = "but /t/one:2: odd; and 1 more"
    shown = view(status(Phase.IN_SYNC, detail=detail, instances=inner, **STALE), BOSS)
    assert shown["stale"] == ["/t/one:2: odd", "out: /t/two: odd"]
    assert (shown["tone"], shown["menu"]["type"]) == ("warning", "warning")
    assert "found" not in [name for name, *_ in shown["facts"]]
    shown = view(status(Phase.IN_SYNC, instances=inner), BOSS)
    assert (shown["tone"], shown["menu"]["title"]) == ("good", "A table is out of date")
    assert "found" in [
        name for name, *_ in view(status(Phase.FAILING, detail=detail), BOSS)["facts"]
    ]


@pytest.mark.parametrize("phase", [Phase.OBSERVING, Phase.SUSPENDED])
def test_where_no_table_is_built_a_stale_one_is_listed_and_not_marked(phase: Phase) -> None:
    shown = view(status(phase, **STALE), BOSS)
    assert shown["stale"] == ["/t/one:2: odd"]
    assert shown["menu"] == view(status(phase), BOSS)["menu"]


def rebuild(path: str, **more: Any) -> dict[str, Any]:
    """A rebuild as `history --json` has it."""
    (past,) = rebuilds([Entry(NOW, Event.TABLE_REBUILT, "", {names.FIELD_PATH: path, **more})])
    return rebuild_dict(past)


def test_a_rebuild_is_neither_a_cycle_nor_an_order() -> None:
    counts = {names.FIELD_ENTRIES_BEFORE: "1", names.FIELD_ENTRIES: "2"}
    one, two = rebuild("/t/one", **counts), rebuild("/t/two", **{names.FIELD_ENTRIES: "2"})
    assert called("cycles.js", "isCycle", [one]) == [False]
    assert called("cycles.js", "isRebuild", [one]) == [True]
    keys = called("cycles.js", "keyOf", [one], [two], [{**one, "table": None}])
    assert len(set(keys)) == 3
    assert called("cycles.js", "namesOf", [one]) == [["/t/one"]]
    assert called("cycles.js", "writtenBy", [one]) == [""]
    assert called("cycles.js", "liveFor", [one]) == [""]
    entries = called("cycles.js", "entriesOf", [one], [two], [rebuild("/t")])
    assert entries == ["Entries: 1 before, 2 now", "Entries: 2", ""]


def test_the_worst_of_all_instances_is_marked_in_the_menu() -> None:
    other = {"out": Status(Phase.FAILING, NOW, 3)}
    shown = view(status(Phase.IN_SYNC, instances=other), BOSS)
    assert shown["menu"]["type"] == "error"
    assert [(each["name"], each["phase"]) for each in shown["instances"]] == [
        ("-", "in-sync"),
        ("out", "failing"),
    ]
    assert view(status(Phase.IN_SYNC), BOSS)["instances"] == []


def test_a_phase_of_a_later_agent_is_shown_and_is_not_good() -> None:
    shown = view({**status(Phase.IN_SYNC), "phase": "dreaming"}, BOSS)
    assert (shown["label"], shown["tone"], shown["orders"]) == ("dreaming", "unknown", [])


def test_a_cycle_of_an_earlier_life_is_called_by_both() -> None:
    found = called(
        "cycles.js",
        "nameOf",
        [{"cycle": 7, "life": "a1b2c3"}, "a1b2c3"],
        [{"cycle": 7, "life": "a1b2c3"}, "d4e5f6"],
        [{"cycle": 7, "life": None}, "d4e5f6"],
    )
    assert found == ["7", "a1b2c3/7", "0/7"]


def test_what_differs_in_other_documents_and_instances_is_shown_with_them() -> None:
    def said(*drift: Drift, **more: Any) -> dict[str, Any]:
        return {"documents": {}, "drift": [drift_dict(each) for each in drift], **more}

    one = Drift("relayhost", DriftKind.CHANGED, "1", "2")
    transport = "hash:/etc/postfix/transport"
    table = said(replace(one, parameter="a.example", document=transport))
    master = said(replace(one, parameter="a/inet", document="master.cf"))
    other = said(one, documents={"master.cf": master})
    found = said(documents={transport: table}, instances={"out": other})
    (rows,) = called("cycles.js", "differencesOf", [found])
    assert [(r["instance"], r["document"], r["parameter"]) for r in rows] == [
        ("-", transport, "a.example"),
        ("out", "main.cf", "relayhost"),
        ("out", "master.cf", "a/inet"),
    ]
    prefixes = called("cycles.js", "prefixOf", *([r["document"]] for r in rows))
    assert prefixes == ["transport: ", "", "master.cf: "]
    adopt = ({"name": "adopt", **row} for row in rows)
    assert called("orders.js", "commandLine", *([each] for each in adopt)) == [
        "pf-agent adopt --instance - -- hash:/etc/postfix/transport a.example",
        "pf-agent adopt --instance out -- relayhost",
        "pf-agent adopt --instance out -- a/inet",
    ]


def test_a_difference_in_words() -> None:
    kinds = ("changed", "missing", "unwanted", "duplicated", "mode")
    drift = [{"kind": kind, "expected": "1", "actual": "2"} for kind in kinds]
    found = called("cycles.js", "valuesOf", *([each] for each in drift))
    assert [(each["expected"], each["actual"]) for each in found] == [
        ("1", "2"),
        ("1", "not set"),
        ("left at Postfix's default", "2"),
        ("1, once", "2, then set again"),
        ("1", "2"),
    ]


def test_the_command_of_a_dialog_can_be_given_to_a_shell() -> None:
    reason = 'it\'s $(late); "now"'
    lines = called(
        "orders.js",
        "commandLine",
        [{"name": "suspend", "span": "1h", "reason": reason, "instance": "out"}],
        [{"name": "keep", "parameter": "mynetworks", "cycle": "a1b2c3/17", "instance": None}],
        [{"name": "resume", "instance": "-"}],
    )
    script = f"set -- {lines[0]}; printf '%s\\n' \"$@\""
    done = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    words = ["pf-agent", "suspend", "--instance", "out", "--for", "1h", f"--reason={reason}"]
    assert done.stdout.splitlines() == words
    assert lines[1:] == [
        "pf-agent adopt --cycle a1b2c3/17 -- mynetworks",
        "pf-agent resume --instance -",
    ]
