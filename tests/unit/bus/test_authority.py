"""Who may ask for what, without the bus; tests/machine/test_polkit.py proves the rest."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest

from pf_agent.bus.authority import Authority, Caller, Verdict

ANNA = 60_001  # nobody knows a name for it


class Answer:
    """What a call over the bus brings."""

    def __init__(self, *values: Any) -> None:
        self._values = values

    def unpack(self) -> tuple[Any, ...]:
        return self._values


class Connection:
    """The bus, where polkit allows anna everything."""

    def call_sync(self, name: str, *_: Any) -> Answer:
        return Answer((True, False, {})) if "PolicyKit" in name else Answer(ANNA)


@pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")  # PyGObject 3.42
def test_where_no_thread_is_granted_the_caller_is_told_and_may_ask_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("gi")
    authority, told = Authority(), SimpleQueue[Verdict]()

    def ask() -> Verdict:
        caller = Caller(Connection(), ":1.7", None)
        authority.ask(caller, "org.example.act", False, told.put)
        return told.get(timeout=20)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(20):  # more than may be open at a time
            assert "not enough memory or tasks; raise" in ask().why
    assert ask() == Verdict(f"uid {ANNA}")
