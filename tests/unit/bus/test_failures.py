"""What a failed call says, and the way out."""

from __future__ import annotations

from pf_agent.bus.failures import explain, no_library


class TestExplain:
    def test_a_unit_that_does_not_exist(self) -> None:
        words = explain("restart", "postfix.service", "org.freedesktop.systemd1.NoSuchUnit", "")
        assert words == (
            "restart of postfix.service: systemd has no such unit; is Postfix installed? "
            "See `systemctl cat postfix.service` (org.freedesktop.systemd1.NoSuchUnit)"
        )

    def test_any_other_refusal_keeps_its_name_and_text_on_one_line(self) -> None:
        words = explain("restart", "postfix.service", "org.example.Odd", "two\n lines")
        assert words == (
            "restart of postfix.service: org.example.Odd: two lines; "
            "see `systemctl status postfix.service`"
        )

    def test_no_bus(self) -> None:
        words = explain("state", "postfix.service", "", "Could not connect: No such file")
        assert "Could not connect: No such file" in words
        assert "dbus.service" in words


def test_a_library_that_finds_no_room_is_not_missing() -> None:
    full = ImportError("libblkid.so.1: failed to map segment from shared object")
    assert no_library(full).endswith("shared object); raise its limit (MemoryMax=)")
    gone = ImportError("No module named 'gi'")
    assert no_library(gone) == "no D-Bus library (No module named 'gi'); install python3-pydbus"
