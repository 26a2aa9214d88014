"""Messages of D-Bus as bytes, held to GLib's own reading and writing of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.bus.wire import (
    BUS,
    ERROR,
    METHOD_CALL,
    METHOD_RETURN,
    SIGNAL,
    Head,
    Messages,
    refusal,
    user_asked,
    user_told,
)

CALL = Head(METHOD_CALL, 0, 70_000, 0, ":1.7", "", is_little=True)
ASKED = user_asked(1 << 31, ":1.7")
REFUSED = refusal(9, CALL, f"{BUS}.Error.LimitsExceeded", "too many calls: ü")


def unbounded(_kind: int) -> None:
    """Whole messages, however long."""


def head_of(message: bytes) -> Head:
    ((head, whole),) = Messages(unbounded).feed(message)
    assert whole == message
    return head


@given(st.lists(st.integers(1, 50)), st.integers(1, 5))
def test_a_stream_is_cut_into_its_messages_wherever_it_was_broken(
    pieces: list[int], times: int
) -> None:
    stream, messages = (ASKED + REFUSED) * times, Messages(unbounded)
    found: list[bytes] = []
    for size in [*pieces, len(stream)]:
        found += [message for _, message in messages.feed(stream[:size])]
        stream = stream[size:]
    assert found == [ASKED, REFUSED] * times


@given(st.integers(1, 300))
def test_of_what_is_too_long_the_head_is_told_and_the_next_message_found(size: int) -> None:
    long = refusal(9, CALL, "a.b", "x" * 5_000)
    stream, messages = long + ASKED, Messages(lambda _: 1_000)
    found: list[tuple[Head, bytes]] = []
    while stream:
        found += messages.feed(stream[:size])
        stream = stream[size:]
    assert found == [(head_of(long), b""), (head_of(ASKED), ASKED)]


def test_a_message_whose_head_is_too_long_is_not_told() -> None:
    stream = refusal(9, CALL, "a." + "b" * 5_000, "") + ASKED
    assert [whole for _, whole in Messages(lambda _: 1_000).feed(stream)] == [ASKED]


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(ValueError, match="no D-Bus message begins with byte 72"):
        list(Messages(unbounded).feed(b"HTTP/1.1 400 Bad Request\r\n"))


def test_a_field_of_no_known_type_hides_those_behind_it() -> None:
    """The sender among them: nobody can name himself, and dbus-daemon writes it last."""
    fields = b"\x0a\1v\0\1u\0\0" + b"\7\1s\0\4\0\0\0:1.7\0"
    head = b"l\4\0\1" + bytes(4) + b"\1\0\0\0" + len(fields).to_bytes(4, "little")
    message = head + fields + bytes(-len(fields) % 8)
    assert head_of(message) == Head(SIGNAL, 0, 1, 0, "", "", is_little=True)


@pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")  # PyGObject 3.42
class TestAsGlib:
    """GLib reads what is written here, and what it writes is read here."""

    def test_the_question(self) -> None:
        gio = pytest.importorskip("gi.repository.Gio")
        read = gio.DBusMessage.new_from_blob(ASKED, gio.DBusCapabilityFlags.NONE)
        assert (read.get_member(), read.get_destination()) == ("GetConnectionUnixUser", BUS)
        assert (read.get_path(), read.get_interface()) == ("/org/freedesktop/DBus", BUS)
        assert (read.get_serial(), read.get_body().unpack()) == (1 << 31, (":1.7",))

    def test_the_refusal(self) -> None:
        gio = pytest.importorskip("gi.repository.Gio")
        read = gio.DBusMessage.new_from_blob(REFUSED, gio.DBusCapabilityFlags.NONE)
        assert read.get_error_name() == f"{BUS}.Error.LimitsExceeded"
        assert (read.get_destination(), read.get_reply_serial()) == (":1.7", 70_000)
        assert read.get_body().unpack() == ("too many calls: ü",)
        assert not head_of(REFUSED).wants_answer()

    @pytest.mark.parametrize("order", ["LITTLE_ENDIAN", "BIG_ENDIAN"])
    def test_its_call_and_its_answer(self, order: str) -> None:
        gio = pytest.importorskip("gi.repository.Gio")
        glib = pytest.importorskip("gi.repository.GLib")
        call = gio.DBusMessage.new_method_call("org.pfagent.Agent1", "/a/b", "org.c", "Suspend")
        call.set_body(glib.Variant("(ts)", (60, "ü")))
        call.set_serial(70_000)
        answer = gio.DBusMessage.new_method_reply(call)
        answer.set_body(glib.Variant("(u)", (1_000,)))
        answer.set_serial(3)
        for message in (call, answer):
            message.set_byte_order(getattr(gio.DBusMessageByteOrder, order))
            message.set_sender(":1.4711")
        little = order == "LITTLE_ENDIAN"
        read = head_of(call.to_blob(gio.DBusCapabilityFlags.NONE))
        assert read == Head(METHOD_CALL, 0, 70_000, 0, ":1.4711", "ts", little)
        assert read.wants_answer()
        blob = answer.to_blob(gio.DBusCapabilityFlags.NONE)
        head = head_of(blob)
        assert (head.kind, head.reply_serial, head.is_little) == (METHOD_RETURN, 70_000, little)
        assert user_told(head, blob) == 1_000


def test_an_error_names_no_user() -> None:
    assert user_told(head_of(REFUSED), REFUSED) is None
    assert head_of(REFUSED).kind == ERROR
