"""The parts of systemd.py that need no bus; tests/machine/inside_systemd.py proves the rest."""

from __future__ import annotations

import pytest

from pf_agent.bus.systemd import Systemd
from pf_agent.errors import HostError
from pf_agent.model import Reason, Trigger

JOB = "/org/freedesktop/systemd1/job/7"


class TestListener:
    """What arrives in the listening thread, without the bus that brings it."""

    def test_the_end_of_a_job_of_others_wakes_nobody(self) -> None:
        posted: list[Trigger] = []
        systemd = Systemd(posted.append)
        systemd._job_removed(":1.1", "/", "Manager", "JobRemoved", (7, JOB, "x.service", "done"))
        assert posted == []

    def test_a_signal_that_cannot_be_understood_is_told_at_the_next_call(self) -> None:
        systemd = Systemd(lambda _trigger: None)
        systemd._job_removed(":1.1", "/", "Manager", "JobRemoved", ("nonsense",))
        with pytest.raises(HostError, match="signal from systemd"):
            systemd.job_result(JOB)

    def test_a_lost_connection_wakes_for_each_open_job(self) -> None:
        posted: list[Trigger] = []
        systemd = Systemd(posted.append)
        with systemd._ends.starting():
            systemd._ends.started(JOB)
        systemd._lost()
        assert posted == [Trigger(Reason.JOB, f"{JOB} unheard")]

    def test_a_lost_connection_wakes_who_follows_once(self) -> None:
        posted: list[Trigger] = []
        systemd = Systemd(posted.append)
        systemd._followed = frozenset(["postfix.service", "postfix@-.service"])
        systemd._lost(None, False)  # it was we who hung up
        assert posted == []
        systemd._lost(None, True)
        assert posted == [Trigger(Reason.JOB, "the connection to the system bus was lost")]

    def test_a_unit_that_is_followed_wakes(self) -> None:
        posted: list[Trigger] = []
        systemd = Systemd(posted.append)
        properties = {"ActiveState": "failed", "Job": (0, "/")}
        unchanged: list[str] = []
        body = ("org.freedesktop.systemd1.Unit", properties, unchanged)
        systemd._unit_changed("postfix.service", ":1.1", "/", "Properties", "Changed", body)
        assert posted == [Trigger(Reason.JOB, "postfix.service failed")]

    def test_a_change_that_cannot_be_understood_is_told_at_the_next_call(self) -> None:
        systemd = Systemd(lambda _trigger: None)
        systemd._unit_changed("postfix.service", ":1.1", "/", "Properties", "Changed", ())
        with pytest.raises(HostError, match="signal from systemd"):
            systemd.job_result(JOB)


def test_closing_what_was_never_opened() -> None:
    Systemd(lambda _trigger: None).close()
