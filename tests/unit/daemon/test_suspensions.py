"""Whom a suspension concerns: all instances, or one alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.daemon.suspensions import Suspensions
from pf_agent.files.store import FileStore
from pf_agent.model import Event
from pf_agent.reconcile.suspension import resume, suspend
from tests.fakes import Records

DEFAULT = names.DEFAULT_INSTANCE


class Host:
    """Two instances, and what the daemon makes of what is written."""

    def __init__(self, folder: Path) -> None:
        both = str(folder / "lib"), str(folder / "run")
        self.state = FileStore(*both)
        self.out = FileStore.of_instance("out", *both)
        for store in (self.state, self.out):
            store.prepare()
        self.records, self.noted = Records(), list[str]()
        self.found = Suspensions(self.state.suspended, self.records, self.noted.append)
        self.found.take_on(DEFAULT, self.state.suspended_alone)
        self.found.take_on("out", self.out.suspended_alone)

    def follow(self) -> set[str | None]:
        self.found.follow()
        return self.found.changed()

    def are_suspended(self) -> tuple[bool, bool]:
        default, out = self.found.of(DEFAULT), self.found.of("out")
        return default is not None, out is not None


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_one_instance_alone_is_left_alone(host: Host) -> None:
    assert host.follow() == set()
    now = time.time()
    suspend(host.out.suspended_alone, "anna", now, 3600, "new disks")
    assert host.follow() == {"out"}
    assert host.are_suspended() == (False, True)
    assert host.found.ends() == (now + 3600,)
    assert host.follow() == set()
    (record,) = host.records
    assert record.message.startswith("out: suspended by anna until ")
    assert record.fields[names.FIELD_INSTANCE] == "out"
    suspend(host.out.suspended_alone, "anna", now, 0)
    assert host.follow() == {"out"}
    assert host.are_suspended() == (False, False)
    assert host.records.events() == [Event.SUSPENDED, Event.RESUMED]


def test_the_default_instance_can_be_left_alone_by_itself(host: Host) -> None:
    suspend(host.state.suspended_alone, "anna", time.time())
    assert host.follow() == {DEFAULT}
    assert host.are_suspended() == (True, False)
    assert host.found.ends() == ()


def test_all_are_suspended_and_what_is_of_one_alone_lasts(host: Host) -> None:
    suspend(host.out.suspended_alone, "anna", time.time())
    suspend(host.state.suspended, "bert", time.time())
    assert host.follow() == {None, "out"}
    assert host.are_suspended() == (True, True)
    assert resume(host.state.suspended, "bert", time.time())
    assert host.follow() == {None}
    assert host.are_suspended() == (False, True)


def test_what_the_version_before_wrote_suspends_all(host: Host) -> None:
    Path(host.state.directory, "suspension.json").write_text(
        '{"since": 900, "until": null, "who": "anna", "reason": "", "resumed_by": ""}'
    )
    host.follow()
    assert host.are_suspended() == (True, True)


def test_what_cannot_be_read_changes_nothing(host: Host) -> None:
    suspend(host.out.suspended_alone, "anna", time.time())
    host.follow()
    file = Path(host.out.directory, "suspension-alone.json")
    file.unlink()
    file.mkdir()
    assert host.follow() == set()
    assert host.are_suspended() == (False, True)
    assert host.noted[0].startswith(f"{file}: ")


def test_who_is_looked_after_no_more_is_forgotten_and_its_file_stays(host: Host) -> None:
    suspend(host.out.suspended_alone, "anna", time.time())
    host.follow()
    host.found.forget("out")
    assert host.are_suspended() == (False, False)
    assert host.follow() == set()
    host.found.take_on("out", host.out.suspended_alone)
    assert host.found.changed() == {"out"}
    assert host.are_suspended() == (False, True)


def test_the_store_knows_which_instances_may_be_suspended(host: Host) -> None:
    assert list(host.state.suspensions()) == [DEFAULT, "out"]
    suspend(host.state.suspensions()["out"], "anna", time.time())
    assert host.out.suspended_alone.suspension() is not None
    assert host.state.suspended_alone.suspension() is None
