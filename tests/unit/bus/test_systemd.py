"""The parts of systemd.py that need no bus; tests/machine/inside_systemd.py proves the rest."""

from __future__ import annotations

import threading

import pytest

from pf_agent.bus.systemd import JobEnds, Systemd, explain
from pf_agent.errors import HostError
from pf_agent.model import Reason, Trigger

JOB = "/org/freedesktop/systemd1/job/7"


class TestJobEnds:
    def test_the_end_of_a_job_of_ours_is_kept(self) -> None:
        ends = JobEnds()
        with ends.starting():
            assert ends.started(JOB) is None
        assert ends.result(JOB) is None
        assert ends.open_jobs() == (JOB,)
        assert ends.heard(JOB, "done")
        assert ends.result(JOB) == "done"
        assert ends.open_jobs() == ()

    def test_an_end_before_the_call_has_returned_is_kept(self) -> None:
        ends = JobEnds()
        with ends.starting():
            assert not ends.heard(JOB, "failed")
            assert ends.started(JOB) == "failed"
        assert ends.result(JOB) == "failed"

    def test_the_end_of_a_job_that_a_second_start_joins_is_kept(self) -> None:
        ends = JobEnds()
        with ends.starting():
            ends.started(JOB)
        with ends.starting():
            assert ends.heard(JOB, "done")
            assert ends.started(JOB) == "done"
        assert ends.result(JOB) == "done"

    def test_jobs_of_others_are_forgotten(self) -> None:
        ends = JobEnds()
        with ends.starting():
            ends.heard("/job/other", "done")
            ends.started(JOB)
        assert not ends.heard("/job/third", "done")
        assert ends.result("/job/other") is None
        assert ends.result("/job/third") is None

    def test_an_early_end_is_not_kept_for_the_next_start(self) -> None:
        ends = JobEnds()
        with ends.starting():
            ends.heard(JOB, "done")
        with ends.starting():
            assert ends.started(JOB) is None

    def test_a_start_that_fails_leaves_no_trace(self) -> None:
        ends = JobEnds()
        with pytest.raises(HostError), ends.starting():
            raise HostError("refused")
        assert not ends.heard(JOB, "done")
        assert ends.result(JOB) is None

    def test_only_the_newest_are_remembered(self) -> None:
        ends = JobEnds()
        jobs = [f"/job/{number}" for number in range(100)]
        for job in jobs:
            with ends.starting():
                ends.started(job)
            ends.heard(job, "done")
        remembered = [job for job in jobs if ends.result(job)]
        assert remembered == jobs[-16:]

    def test_heard_in_one_thread_and_asked_in_another(self) -> None:
        ends = JobEnds()
        with ends.starting():
            thread = threading.Thread(target=ends.heard, args=(JOB, "done"))
            thread.start()
            thread.join()
            assert ends.started(JOB) == "done"


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
        with pytest.raises(HostError, match="signal of systemd"):
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
        assert posted == [Trigger(Reason.JOB, "the connection to the system bus is lost")]

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
        with pytest.raises(HostError, match="signal of systemd"):
            systemd.job_result(JOB)


def test_closing_what_was_never_opened() -> None:
    Systemd(lambda _trigger: None).close()


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
