"""Orders as records, and as history reads them back."""

from __future__ import annotations

import pytest

from pf_agent import names
from pf_agent.model import Event, Record
from pf_agent.words import history, orders
from pf_agent.words.history import CycleName, Entry

LIFE = "a1b2c3"


def read_back(record: Record, at: float = 5.0) -> orders.PastOrder:
    """Return the order as the journal gives it back."""
    fields = {names.FIELD_LIFE: LIFE, **record.fields}
    if record.cycle is not None:
        fields[names.FIELD_CYCLE] = str(record.cycle)
    (past,) = orders.orders([Entry(at, record.event, record.message, fields)])
    return past


def test_who_adopted_what_from_which_cycle() -> None:
    record = orders.order(Event.ADOPTED, "anna", ["mynetworks", "relayhost"], 17)
    text = "mynetworks, relayhost adopted from the text that cycle 17 replaced, by anna"
    assert record.message == text
    assert record.fields[names.FIELD_BY] == "anna"
    past = read_back(record)
    assert (past.event, past.by, past.parameters) == (
        Event.ADOPTED,
        "anna",
        ("mynetworks", "relayhost"),
    )
    assert past.about == CycleName(LIFE, 17)
    assert orders.order_row(past)[2:] == ("mynetworks, relayhost", "anna", "-", "adopted")
    assert orders.order_dict(past)["about"] == "a1b2c3/17"
    assert orders.order_dict(past)["cycle"] is None


@pytest.mark.parametrize("event", [Event.ADOPTED, Event.SET, Event.UNSET])
def test_an_order_about_no_cycle(event: Event) -> None:
    record = orders.order(event, "anna", ["relayhost"])
    assert record.message == f"relayhost {event.value} by anna"
    past = read_back(record)
    assert past.about is None
    assert orders.order_dict(past)["about"] is None


def test_an_order_about_a_table_names_its_file() -> None:
    record = orders.order(Event.SET, "anna", ["a.example"], document="hash:/etc/postfix/transport")
    assert record.message == "hash:/etc/postfix/transport: a.example set by anna"
    (past,) = orders.orders([Entry(0.0, record.event, record.message, record.fields)])
    assert past.document == "hash:/etc/postfix/transport"
    assert orders.order_row(past)[2] == "transport: a.example"
    assert orders.order_dict(past)["document"] == past.document


@pytest.mark.parametrize(
    ("parameter", "document"), [("relayhost", "main.cf"), ("submission/inet/chroot", "master.cf")]
)
def test_an_order_about_a_file_names_it_by_the_names_of_its_parts(
    parameter: str, document: str
) -> None:
    past = read_back(orders.order(Event.SET, "anna", [parameter], document=document))
    assert orders.order_dict(past)["document"] == document
    assert orders.order_dict(read_back(orders.initialized("anna", "a", "b")))["document"] is None


def test_what_was_restored_and_what_was_there() -> None:
    past = read_back(orders.restored("anna", 17, ["/var/a", "/var/b"]))
    assert past.message == "the text that cycle 17 replaced was restored by anna"
    assert past.about == CycleName(LIFE, 17)
    assert past.parameters == ()
    assert orders.order_row(past)[2] == "-"


def test_a_state_that_was_begun_anew() -> None:
    past = read_back(orders.initialized("anna", "/etc/pf-agent/desired.toml", "guide"))
    assert past.message == "/etc/pf-agent/desired.toml initialized from guide by anna"


def test_very_many_names_are_cut_between_two() -> None:
    many = [f"parameter_{number}" for number in range(1000)]
    past = read_back(orders.order(Event.SET, "anna", many))
    assert 100 < len(past.parameters) < 1000
    assert past.parameters == tuple(many[: len(past.parameters)])
    assert len(", ".join(past.parameters)) < 4000


def test_an_order_is_no_record_of_the_cycle_that_it_names() -> None:
    drift = {names.FIELD_CYCLE: "17", names.FIELD_LIFE: LIFE, names.FIELD_KIND: "changed"}
    adopted = {names.FIELD_CYCLE: "17", names.FIELD_LIFE: LIFE, names.FIELD_BY: "anna"}
    other = {**adopted, names.FIELD_INSTANCE: "out"}
    entries = [
        Entry(1.0, Event.DRIFT_DETECTED, "drift", drift),
        Entry(2.0, Event.ADOPTED, "adopted", adopted),
        Entry(3.0, Event.ADOPTED, "adopted", other),
    ]
    (past,) = history.cycles(entries)
    assert (past.outcome, past.messages) == ("observed", ("drift",))
    about = [orders.is_about(each, past) for each in orders.orders(entries)]
    assert about == [True, False]


def test_a_name_of_control_characters_moves_no_cursor() -> None:
    fields = {names.FIELD_BY: "\x1b[2Janna"}
    (past,) = orders.orders([Entry(1.0, Event.SET, "", fields)])
    assert past.by == "\\x1b[2Janna"


def test_a_restored_table_is_named() -> None:
    record = orders.restored("anna", 7, ["/d/7"], "hash:/etc/postfix/t")
    assert record.message.startswith("hash:/etc/postfix/t: the text that cycle 7 replaced")
    assert record.fields["PF_AGENT_TABLE"] == "hash:/etc/postfix/t"
    assert "PF_AGENT_TABLE" not in orders.restored("anna", 7, []).fields
