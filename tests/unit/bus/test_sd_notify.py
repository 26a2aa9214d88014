"""What systemd is told, on a real socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pf_agent.bus.sd_notify import assignments, sd_notify, watchdog_seconds
from pf_agent.errors import HostError


class TestNotify:
    def test_not_run_by_systemd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        assert not sd_notify("READY=1")

    def test_the_states_arrive(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(tmp_path / "notify"))
            listener.settimeout(10)
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            assert sd_notify("READY=1", "STATUS=in sync: \udcff\nREADY=0")
            assert listener.recv(4096) == b"READY=1\nSTATUS=in sync: \\udcff READY=0"

    def test_an_abstract_socket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name = f"pf-agent-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(f"\0{name}")
            listener.settimeout(10)
            monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
            assert sd_notify("READY=1")
            assert listener.recv(4096) == b"READY=1"

    def test_a_socket_that_is_gone(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
        with pytest.raises(HostError, match="NotifyAccess"):
            sd_notify("READY=1")

    def test_a_systemd_that_reads_nothing_holds_nobody_up(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(tmp_path / "notify"))
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            with pytest.raises(HostError, match="systemd does not read"):
                all(sd_notify("WATCHDOG=1") for _ in range(100_000))

    @pytest.mark.parametrize("word", ["x", "é", "\U0001f4ec"])
    def test_a_long_sentence_leaves_room_for_the_sign_of_life(self, word: str) -> None:
        found = assignments(["WATCHDOG=1", f"STATUS={word * 100_000}"])
        assert found.startswith(f"WATCHDOG=1\nSTATUS={word}")
        assert len(found.encode()) < 4096

    def test_a_value_cannot_make_a_line_of_its_own(self) -> None:
        assert assignments(["STATUS=a\nb\0c", "READY=1"]) == "STATUS=a b c\nREADY=1"


class TestWatchdog:
    @pytest.mark.parametrize(
        ("usec", "pid", "expected"),
        [
            ("30000000", str(os.getpid()), 30.0),
            ("500000", None, 0.5),
            ("30000000", "1", None),
            ("0", None, None),
            ("", None, None),
            ("-5", None, None),
            ("soon", None, None),
        ],
    )
    def test_what_systemd_sets(
        self, monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, expected: float | None
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", usec)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        if pid is not None:
            monkeypatch.setenv("WATCHDOG_PID", pid)
        assert watchdog_seconds() == expected

    def test_not_watched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        assert watchdog_seconds() is None
