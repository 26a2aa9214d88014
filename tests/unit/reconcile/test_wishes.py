"""Which desired state is in force, what is a wish, and what goes back of one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.files import kept_wishes
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import (
    DesiredState,
    DocumentKind,
    Drift,
    DriftKind,
    Exposure,
    PendingActivation,
    Place,
    Rejected,
    Unmanaged,
    Wishes,
)
from pf_agent.reconcile import wishes
from pf_agent.reconcile.drift import corrected
from tests.fuzz.targets import STRANGERS

MAIN_CF = DocumentKind.MAIN_CF
SERVED = DesiredState(
    {"myorigin": "example.net", "message_size_limit": "1"},
    frozenset({"sendmail_path"}),
    provenance={"myorigin": Place("/etc/pf-agent/desired.toml", 3)},
)
NEW = replace(SERVED, settings={**SERVED.settings, "message_size_limit": "2", "relayhost": "x"})
DONE = Wishes(SERVED, SERVED)
TEXT = b"""\
# by hand
myorigin   = example.net
message_size_limit = 1
  # of anna's
mydestination = a,
\tb
# within
\tc
"""


def drift(name: str, actual: str | None = "9", kind: DriftKind = DriftKind.CHANGED) -> Drift:
    return Drift(name, kind, "1", actual)


def outing(desired: DesiredState, *ignore: str) -> DesiredState:
    return replace(desired, unmanaged=Unmanaged.COMMENT_OUT, ignore=ignore)


# --- what is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"provenance": {}}, True),
        ({"place": Place("/x", 1)}, True),
        ({"instances": {"out": SERVED}}, True),
        ({"settings": {"myorigin": "example.net"}}, False),
        ({"use_default": frozenset()}, False),
        ({"unmanaged": Unmanaged.COMMENT_OUT}, False),
        ({"ignore": ("x*",)}, False),
        ({"template": "/x"}, False),
    ],
)
def test_what_says_the_same(changes: dict[str, Any], is_same: bool) -> None:
    assert SERVED.says_the_same(replace(SERVED, **changes)) is is_same
    assert replace(SERVED, **changes).says_the_same(SERVED) is is_same


def test_what_asks_for_nothing_does_not_say_the_same_as_no_state() -> None:
    assert not DesiredState({}, frozenset()).says_the_same(None)


# --- which is in force ----------------------------------------------------------------------------


def test_what_is_asked_for_is_in_force() -> None:
    assert wishes.in_force(Wishes(), SERVED) is SERVED
    assert wishes.in_force(DONE, NEW) is NEW


def test_where_the_files_have_a_fault_what_was_served_with_is() -> None:
    assert wishes.in_force(Wishes(SERVED, NEW), None) is SERVED
    assert wishes.in_force(Wishes(), None) is None


def test_what_was_rejected_is_not_wherever_it_stands() -> None:
    found = wishes.rejected(Wishes(SERVED, NEW, {"relayhost": None}), Rejected(NEW, "451"))
    moved = replace(NEW, provenance={"relayhost": Place("/elsewhere", 1)})
    assert wishes.in_force(found, moved) == SERVED
    other = replace(NEW, settings={**NEW.settings, "relayhost": "y"})
    assert wishes.in_force(found, other) is other
    assert wishes.in_force(found.tried_again(), moved) is moved


def test_where_the_first_one_was_rejected_none_is() -> None:
    found = wishes.rejected(Wishes(None, NEW), Rejected(NEW, "451"))
    assert wishes.in_force(found, NEW) is None


# --- what differs ---------------------------------------------------------------------------------


def test_the_differing_parameters() -> None:
    other = DesiredState({"myorigin": "example.net", "relayhost": "x"}, frozenset({"inet_x"}))
    changed = {"message_size_limit", "relayhost", "sendmail_path", "inet_x"}
    assert wishes.differing(SERVED, other) == wishes.differing(other, SERVED) == changed
    assert wishes.differing(SERVED, SERVED) == wishes.differing(None, None) == frozenset()
    assert wishes.differing(None, SERVED) == SERVED.parameters()


def test_to_leave_alone_to_set_and_to_keep_at_the_default_are_three_things() -> None:
    states = [
        DesiredState({}, frozenset()),
        DesiredState({"a": ""}, frozenset()),
        DesiredState({}, frozenset({"a"})),
    ]
    for one in states:
        for other in states:
            assert wishes.differing(one, other) == (set() if one is other else {"a"})


# --- what is a wish, and no drift -----------------------------------------------------------------


def marked(
    known: Wishes,
    desired: DesiredState,
    *found: Drift,
    pending: PendingActivation | None = None,
) -> list[str]:
    """The parameters that are marked as wishes."""
    return [d.parameter for d in wishes.marked(found, known, desired, pending) if d.is_wished]


def test_what_is_newly_asked_for_is_a_wish_and_the_rest_is_drift() -> None:
    found = [drift("message_size_limit"), drift("myorigin"), drift("", kind=DriftKind.MODE)]
    assert marked(DONE, NEW, *found) == ["message_size_limit"]
    assert marked(DONE, SERVED, *found) == []


def test_at_the_takeover_all_that_is_asked_for_is_a_wish() -> None:
    found = [drift("myorigin"), drift("relayhost", kind=DriftKind.UNMANAGED)]
    assert marked(Wishes(), outing(SERVED), *found) == ["myorigin", "relayhost"]


def test_what_is_commented_out_from_now_on_is_a_wish() -> None:
    found = [drift("relayhost", kind=DriftKind.UNMANAGED)]
    assert marked(DONE, outing(SERVED), *found) == ["relayhost"]
    known = Wishes(outing(SERVED), outing(SERVED))
    assert marked(known, outing(SERVED), *found) == []
    known = Wishes(outing(SERVED, "relay*"), outing(SERVED, "relay*"))
    assert marked(known, outing(SERVED), *found) == ["relayhost"]


UNDER_WAY = Wishes(SERVED, NEW, {"message_size_limit": "message_size_limit = 1\n"})
CORRECTED = PendingActivation(3, ("message_size_limit",), Exposure(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("actual", "pending", "is_wished"),
    [
        ("1", None, True),
        ("1", replace(CORRECTED, exposure=Exposure(1.0, 1.0)), True),
        ("1", replace(CORRECTED, parameters=("myorigin",)), True),
        ("1", CORRECTED, False),
        ("9", None, False),
    ],
    ids=["no marker", "not exchanged", "another's", "exchanged", "another value"],
)
def test_a_wish_that_main_cf_was_not_yet_made_to_say_stays_one(
    actual: str, pending: PendingActivation | None, is_wished: bool
) -> None:
    """Its exchange failed or was cut off; who writes the old value after it makes a drift."""
    found = marked(UNDER_WAY, NEW, drift("message_size_limit", actual), pending=pending)
    assert found == (["message_size_limit"] if is_wished else [])


# --- what main.cf said before ---------------------------------------------------------------------


def test_the_lines_before_are_kept_of_what_changes_alone() -> None:
    asked = replace(NEW, settings={**NEW.settings, "mydestination": "d"})
    found = wishes.applied(DONE, asked, TEXT)
    assert found.before == {
        "message_size_limit": "message_size_limit = 1\n",
        "mydestination": "mydestination = a,\n\tb\n# within\n\tc\n",
        "relayhost": None,
    }
    assert (found.served, found.applied, found.rejected) == (SERVED, asked, None)


def test_of_several_wishes_the_lines_before_the_first_count() -> None:
    first = wishes.applied(DONE, NEW, TEXT)
    text = TEXT.replace(b"limit = 1", b"limit = 2") + b"relayhost = x\n"
    asked = replace(NEW, settings={**NEW.settings, "relayhost": "y", "biff": "no"})
    second = wishes.applied(first, asked, text)
    assert second.before == {**first.before, "biff": None}
    third = wishes.applied(second, SERVED, text)
    assert third.before == second.before, "what is asked for no more is still to go back"


def test_at_the_takeover_the_lines_of_all_that_is_asked_for_are_kept() -> None:
    found = wishes.applied(Wishes(), SERVED, TEXT)
    assert found.before.keys() == SERVED.parameters()
    assert wishes.applied(Wishes(), SERVED, None).before == dict.fromkeys(SERVED.parameters())


@pytest.mark.parametrize("served", [None, SERVED, outing(SERVED, "mydest*")])
def test_what_a_wish_comments_out_is_kept(served: DesiredState | None) -> None:
    text = TEXT + b"biff = no\n"
    found = wishes.applied(Wishes(served, served), outing(SERVED, "biff"), text)
    assert "mydestination" in found.before
    assert "biff" not in found.before, "it is ignored, and not the wish's"


def test_what_was_commented_out_before_a_wish_is_not_kept() -> None:
    known = Wishes(outing(SERVED), outing(SERVED))
    assert wishes.applied(known, outing(NEW), TEXT).before.keys() == {
        "message_size_limit",
        "relayhost",
    }


# --- how it ends ----------------------------------------------------------------------------------


def test_what_was_served_with_has_nothing_to_go_back_to() -> None:
    found = wishes.applied(DONE, NEW, TEXT).once_served()
    assert found == Wishes(NEW, NEW)


def test_a_rejection_outlives_that_another_state_is_served_with() -> None:
    refused = Rejected(NEW, "451")
    assert Wishes(SERVED, SERVED, {}, refused).once_served().rejected is refused
    assert Wishes(SERVED, NEW, {}, refused).once_served().rejected is None


def test_a_rejected_wish_that_did_not_go_back_yet_is_seen() -> None:
    refused = Rejected(NEW, "451")
    known = replace(wishes.applied(DONE, NEW, TEXT), rejected=refused)
    assert wishes.is_cut_off(known)
    assert not wishes.is_cut_off(wishes.rejected(known, refused))
    assert not wishes.is_cut_off(replace(known, rejected=None))
    assert not wishes.is_cut_off(Wishes(None, None, {}, refused))


ODD = (
    b"message_size_limit   =1\nb = 1\n",
    b"b = 1\n\nmessage_size_limit =\n# within\n\t 1\nc = 1\n",
    b"b = 1\r\nmessage_size_limit =   1\r\nc = 1\r\n",
    b"b = 1\nmessage_size_limit = 1",
)


@pytest.mark.parametrize("text", ODD)
def test_all_goes_back_to_the_byte(text: bytes) -> None:
    asked = DesiredState({"message_size_limit": "2"}, frozenset({"b"}))
    known = wishes.applied(Wishes(), asked, text)
    now = corrected(MainCf.parse(text), asked).render()
    assert now != text
    assert wishes.taken_back(MAIN_CF, now, known) == text


def test_what_a_wish_added_goes_and_what_it_commented_out_comes_back() -> None:
    asked = outing(DesiredState({"relayhost": "x", "myorigin": "example.net"}, frozenset()))
    known = wishes.applied(DONE, asked, TEXT)
    now = corrected(MainCf.parse(TEXT), asked).render()
    assert MainCf.parse(now).parameters() == {"relayhost": "x", "myorigin": "example.net"}
    assert wishes.taken_back(MAIN_CF, now, known) == TEXT


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (DocumentKind.TABLE, b"B\tx\n# c\nA   1\n# within\n\t2\nc y\n"),
        (DocumentKind.ALIASES, b"B: x\r\n\r\nA:  1,2 ,\r\n   3\r\nc: y\r\n"),
    ],
)
def test_entries_go_back_to_the_byte(kind: DocumentKind, text: bytes) -> None:
    asked = DesiredState({"a": "2", "new": "z"}, frozenset({"b"}), kind=kind)
    known = wishes.applied(Wishes(), asked, text)
    kept = kept_wishes.from_json(json.loads(json.dumps(kept_wishes.to_json(known))))
    assert kept == known
    grammar = grammar_of(kind)
    now = corrected(grammar.parse(text), asked).render()
    assert grammar.parse(now).parameters() == {"a": "2", "new": "z", "c": "y"}
    assert wishes.taken_back(kind, now, kept) == text


def test_an_alias_that_stands_as_it_did_is_served_whatever_would_be_stored_of_it() -> None:
    """postalias stores `[a]b]`, of which it would make `[a] b]`."""
    asked = DesiredState({"a": "[a\\]b]"}, frozenset(), kind=DocumentKind.ALIASES)
    text = b"a: [a\\]b]\n"
    assert wishes.unserved(asked, text + b"# c\n", text) == ()
    assert wishes.unserved(asked, b"a: [a]b]\n", text) == ("a",)


def test_what_others_have_written_meanwhile_stays() -> None:
    known = wishes.applied(DONE, NEW, TEXT)
    now = corrected(MainCf.parse(TEXT), NEW).render()
    by_hand = now.replace(b"# by hand", b"# by anna") + b"relay_domains = y\n"
    expected = TEXT.replace(b"# by hand", b"# by anna") + b"relay_domains = y\n"
    assert wishes.taken_back(MAIN_CF, by_hand, known) == expected


def test_drift_of_what_was_served_with_does_not_come_back() -> None:
    """It stood there at the moment of the wish."""
    known = wishes.applied(DONE, NEW, TEXT.replace(b"limit = 1", b"limit = 666"))
    now = corrected(MainCf.parse(TEXT), NEW).render()
    assert (
        MainCf.parse(wishes.taken_back(MAIN_CF, now, known)).parameters()["message_size_limit"]
        == "1"
    )


# --- a wish that is withdrawn before it was served with -------------------------------------------


def test_what_nobody_asks_for_any_more_goes_back() -> None:
    known = wishes.applied(DONE, NEW, TEXT)
    assert wishes.withdrawn(known, NEW) == {}
    assert wishes.withdrawn(known, SERVED) == {"relayhost": None}
    other = replace(SERVED, use_default=SERVED.use_default | {"relayhost"})
    assert wishes.withdrawn(known, other) == {}


def test_what_is_commented_out_no_more_goes_back() -> None:
    known = wishes.applied(DONE, outing(SERVED), TEXT)
    assert wishes.withdrawn(known, SERVED).keys() == {"mydestination"}
    assert wishes.withdrawn(known, outing(SERVED)) == {}
    assert wishes.withdrawn(known, outing(SERVED, "mydest*")).keys() == {"mydestination"}


def test_what_somebody_has_changed_since_is_not_the_wishes() -> None:
    known = Wishes(SERVED, NEW)
    names = ("relayhost", "sendmail_path", "other")
    text = b"relayhost =  x\n"
    assert wishes.untouched(MAIN_CF, known, names, text) == {"relayhost", "sendmail_path", "other"}
    text = b"relayhost = y\nsendmail_path = z\nother = 1\n"
    assert wishes.untouched(MAIN_CF, known, names, text) == frozenset()


# --- of the version before ------------------------------------------------------------------------


def test_as_much_of_a_state_as_a_text_says() -> None:
    asked = DesiredState(
        {"myorigin": "example.net", "message_size_limit": "2", "biff": "no"},
        frozenset({"mydestination", "sendmail_path"}),
        provenance={"myorigin": Place("/a", 1), "biff": Place("/a", 2)},
    )
    found = kept_wishes.agreed(asked, TEXT)
    assert found.settings == {"myorigin": "example.net"}
    assert found.use_default == {"sendmail_path"}
    assert found.provenance == {"myorigin": Place("/a", 1)}
    assert kept_wishes.agreed(SERVED, TEXT) == SERVED


# --- on disk --------------------------------------------------------------------------------------

KEPT = Wishes(
    SERVED,
    NEW,
    {"relayhost": None, "message_size_limit": "message_size_limit = \udcff\n # c\n 2\r\n"},
    Rejected(replace(NEW, ignore=("x",)), "it said \udcff", ("relayhost",), ("inet:a:1",), True),
)


@pytest.mark.parametrize("kept", [KEPT, Wishes(), DONE, Wishes(None, NEW, {}, Rejected(NEW, ""))])
def test_all_is_read_back_as_it_was_kept(kept: Wishes) -> None:
    assert kept_wishes.from_json(json.loads(json.dumps(kept_wishes.to_json(kept)))) == kept


def test_the_file_of_an_earlier_version_is_read() -> None:
    state: dict[str, object] = {"settings": {"relayhost": "a"}, "use_default": [], "template": None}
    state |= {"provenance": {"relayhost": {"file": "/f.toml", "line": 2}}, "unmanaged": "keep"}
    state |= {"ignore": [], "config_directory": None, "place": None}
    refused: dict[str, object] = {
        "says": state,
        "reason": "r",
        "parameters": ["relayhost"],
        "missing": [],
    }
    refused |= {"is_judged": True}
    document: dict[str, object] = {"served": None, "applied": state, "before": {"relayhost": None}}
    says = DesiredState({"relayhost": "a"}, frozenset(), None, {"relayhost": Place("/f.toml", 2)})
    assert kept_wishes.from_json(document | {"rejected": refused}) == Wishes(
        None, says, {"relayhost": None}, Rejected(says, "r", ("relayhost",), (), True)
    )


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=40))
def test_whatever_bytes_main_cf_has_are_read_back(value: bytes, more: bytes) -> None:
    text = b"a = " + value + b"\n" + more
    kept = wishes.applied(Wishes(), DesiredState({"a": "1"}, frozenset()), text)
    found = kept_wishes.from_json(json.loads(json.dumps(kept_wishes.to_json(kept))))
    assert found == kept
    assert wishes.put_back(MAIN_CF, text, found.before) == text


def damaged(document: Any) -> list[Any]:
    """The document with each of its values replaced by each stranger."""
    found = []

    def visit(node: Any, path: tuple[Any, ...]) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in keys:
            for stranger in STRANGERS:
                copy = json.loads(json.dumps(document))
                inside = copy
                for step in path:
                    inside = inside[step]
                inside[key] = stranger
                found.append(copy)
            if isinstance(node[key], (dict, list)):
                visit(node[key], (*path, key))

    visit(document, ())
    return [*STRANGERS, *found]


def test_a_damaged_file_is_read_or_refused_and_breaks_nothing() -> None:
    for document in damaged(kept_wishes.to_json(KEPT)):
        try:
            found = kept_wishes.from_json(document)
        except ValueError:
            continue
        again = json.loads(json.dumps(kept_wishes.to_json(found)))
        assert kept_wishes.from_json(again) == found
        wishes.taken_back(MAIN_CF, TEXT, found)


@pytest.mark.parametrize(
    "lines",
    ["", "x", "message_size_limit", "relayhost = 1\n", "\ud800", "# message_size_limit = 1\n"],
)
def test_lines_that_are_none_of_the_parameter_are_refused(lines: str) -> None:
    document = kept_wishes.to_json(KEPT) | {"before": {"message_size_limit": lines}}
    with pytest.raises(ValueError, match=r"not its lines|can't encode"):
        kept_wishes.from_json(document)


def test_what_is_in_force_instead_is_for_the_same_document() -> None:
    found = wishes.rejected(Wishes(SERVED, NEW, {"relayhost": None}), Rejected(NEW, "451"))
    asked = replace(NEW, document="hash:/etc/postfix/secret", is_secret=True)
    instead = wishes.in_force(found, asked)
    assert instead == replace(SERVED, document="hash:/etc/postfix/secret", is_secret=True)
