"""How the end of a job is kept for who asks for it, and for whom it is not."""

from __future__ import annotations

import threading

import pytest

from pf_agent.bus.job_ends import JobEnds
from pf_agent.errors import HostError

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
