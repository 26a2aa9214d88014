"""One judgement for each text, as long as it holds."""

from __future__ import annotations

from pf_agent.model import Judgement, Presence, Reference
from pf_agent.reconcile.judge import Judge

ABSENT = Reference("relocated_maps", "table", "hash:/a", Presence.ABSENT, "/a.db", "there is none")


def test_no_drift_waits_for_a_text_that_was_judged_though_something_is_absent() -> None:
    asked: list[bytes] = []

    def ask(text: bytes) -> Judgement:
        asked.append(text)
        return Judgement(absent=(ABSENT,))

    judge = Judge(ask)
    assert judge(b"a = 1\n").absent == judge(b"a = 1\n").absent == (ABSENT,)
    assert asked == [b"a = 1\n"]
    judge.forget()
    judge(b"a = 1\n")
    assert len(asked) == 2
