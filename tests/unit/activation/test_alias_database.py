"""Which alias databases are old, whoever built them; and what newaliases came to, told once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from pf_agent.activation.alias_database import Newaliases
from pf_agent.activation.databases import Databases
from pf_agent.errors import HostError
from pf_agent.files.linux import stamp
from pf_agent.maincf.aliases import Built, Source
from pf_agent.model import Event, Reason, Trigger
from tests.fakes import FakeClock, Records, newaliases_at_once

LONG_AGO = 1_600_000_000


class World:
    """Two alias files, and a postalias that writes their databases but where `troubles` names one.

    `spoils`: it has written half of the database when it fails. `anothers` are not root's.
    """

    def __init__(self, folder: Path) -> None:
        self.one, self.two = folder / "one", folder / "two"
        self.troubles: dict[str, str] = {}
        self.doubts: dict[str, tuple[str, ...]] = {}
        self.down = ""
        self.spoils = False
        self.anothers: set[str] = set()
        self.meanwhile: Callable[[], object] = lambda: None
        self.runs: list[list[str]] = []
        self.records, self.clock = Records(), FakeClock()
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.remarks: list[str] = []
        self.aliases = Databases(
            Newaliases(self, lambda path: path in self.anothers),
            self.posted.put,
            self.records,
            self.remarks.append,
            stamp,
            newaliases_at_once,
            self.clock,
        )
        for path in (self.one, self.two):
            write(path, LONG_AGO)
            write(database_of(path), LONG_AGO)
        self.follow(self.one, self.two)

    def follow(self, *paths: Path) -> tuple[str, ...]:
        words = " ".join(f"hash:{path}" for path in paths)
        return self.aliases.follow(f"alias_database = {words}\n".encode())

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        if self.down:
            raise HostError(self.down)
        self.meanwhile()
        asked = [
            path
            for path in (self.one, self.two)
            if (
                str(database_of(path)) in databases if databases else str(path) not in self.anothers
            )
        ]
        self.runs.append([path.name for path in asked])
        for path in asked:
            if path.name not in self.troubles or self.spoils:
                database_of(path).write_text("made")
        return tuple(
            Built(
                source_of(path),
                self.troubles.get(path.name, ""),
                self.doubts.get(path.name, ()),
            )
            for path in asked
        )

    def stale(self) -> list[str]:
        return [os.path.basename(source.path) for source in self.aliases.stale()]

    def look(self) -> list[str]:
        """One look: what is stale is rebuilt at once."""
        stale = self.aliases.stale()
        if stale:
            assert self.aliases.rebuild(stale).worked() is not None
        return [os.path.basename(source.path) for source in stale]

    def messages(self, event: Event) -> list[str]:
        return [record.message for record in self.records.of(event)]


def write(path: Path, at: float | None = None) -> None:
    path.write_text("x")
    if at is not None:
        os.utime(path, (at, at))


def source_of(path: Path) -> Source:
    return Source(str(path), str(database_of(path)))


def database_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.db")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- which are old --------------------------------------------------------------------------------


def test_a_file_newer_than_its_database_is_stale(world: World) -> None:
    assert world.stale() == []
    os.utime(world.two, (LONG_AGO + 1, LONG_AGO + 1))
    assert world.stale() == ["two"]
    os.utime(database_of(world.two), (LONG_AGO + 1, LONG_AGO + 1))
    assert world.stale() == []


def test_a_file_without_a_database_is_stale_and_a_database_without_a_file_not(world: World) -> None:
    database_of(world.one).unlink()
    world.two.unlink()
    assert world.stale() == ["one"]


def test_a_database_of_the_future_proves_nothing(world: World) -> None:
    future = time.time() + 86_400
    os.utime(database_of(world.one), (future, future))
    assert world.stale() == ["one"]


def test_a_file_from_long_ago_that_takes_the_place_of_another_is_stale(world: World) -> None:
    write(world.one)
    assert world.look() == ["one"]
    write(new := world.one.with_name("new"), LONG_AGO)
    new.rename(world.one)
    assert world.look() == ["one"]
    assert world.look() == []


def test_a_file_that_changed_while_its_database_was_made_is_stale(world: World) -> None:
    write(world.one)
    world.meanwhile = lambda: write(world.one)
    assert world.look() == ["one"]
    world.meanwhile = lambda: None
    assert world.look() == ["one"]
    assert world.look() == []


def test_a_database_that_is_removed_is_made_again(world: World) -> None:
    write(world.one)
    world.look()
    database_of(world.one).unlink()
    assert world.look() == ["one"]
    assert database_of(world.one).exists()


def test_a_folder_is_no_database_however_new(world: World) -> None:
    """What was made in one tick of the files' clock has the same date."""
    write(world.one)
    world.look()
    write(world.one)
    database_of(world.one).unlink()
    database_of(world.one).mkdir()
    assert world.stale() == ["one"]


def test_what_somebody_else_has_built_since_is_not_built_again(world: World) -> None:
    write(world.one)
    world.look()
    write(world.one)
    write(database_of(world.one))
    assert world.look() == []


def test_both_a_file_and_its_database_are_watched(world: World) -> None:
    paths = [world.one, database_of(world.one), world.two, database_of(world.two)]
    assert list(world.follow(world.one, world.two)) == [str(path) for path in paths]


# --- what fails -----------------------------------------------------------------------------------


def test_one_that_fails_does_not_keep_the_other_from_being_built(world: World) -> None:
    world.troubles["one"] = "newaliases: one: bad"
    write(world.one)
    write(world.two)
    assert world.look() == ["one", "two"]
    assert world.aliases.trouble == "newaliases: one: bad"
    assert world.messages(Event.ACTIVATION_FAILED) == ["newaliases: one: bad"]
    assert world.messages(Event.ACTIVATED) == [f"{world.two} changed; newaliases was run"]


def test_each_failure_is_told_once_and_by_itself(world: World) -> None:
    world.troubles = {"one": "one: bad", "two": "two: bad"}
    for _ in range(3):
        assert world.aliases.rebuild().worked() is False
    assert world.messages(Event.ACTIVATION_FAILED) == ["one: bad", "two: bad"]
    assert world.aliases.trouble == "one: bad; two: bad"
    del world.troubles["one"]
    world.aliases.rebuild()
    world.aliases.rebuild().worked()
    assert world.aliases.trouble == "two: bad"


def test_runs_that_fail_meanwhile_put_off_no_try_that_is_to_come(world: World) -> None:
    """Each cycle and each change of a file runs it, too: soon nobody would try for minutes."""
    world.troubles["one"] = "one: bad"
    write(world.one)
    world.look()
    for _ in range(6):
        world.aliases.rebuild(cycle=7).worked()
    assert world.aliases.patience() == 10


def test_what_a_crash_may_have_cut_off_is_built_again_once(world: World) -> None:
    write(world.one)
    write(world.two)
    assert world.look() == ["one", "two"]
    assert world.look() == []
    world.aliases.distrust()
    assert world.look() == ["one", "two"]
    assert world.messages(Event.ACTIVATED)[-1].endswith("the last run may have been interrupted")
    assert world.look() == []


def test_what_is_put_off_is_asked_for_again(world: World) -> None:
    write(world.one)
    write(world.two)
    world.look()
    world.aliases.distrust()
    one, two = world.aliases.stale()
    for _ in range(2):
        world.aliases.put_off([one])
        assert world.aliases.stale() == (one,)
    assert world.aliases.stale() == ()
    world.aliases.put_off([two])
    world.two.unlink()
    world.aliases.follow(b"alias_database = hash:/dev/null\n")
    assert two not in world.aliases.stale()


def test_only_what_failed_is_tried_again_and_more_and_more_seldom(world: World) -> None:
    world.troubles["one"] = "one: bad"
    write(world.one)
    write(world.two)
    assert world.aliases.patience() is None
    world.look()
    waits = []
    for _ in range(6):
        assert world.look() == []
        wait = world.aliases.patience()
        assert wait
        waits.append(wait)
        assert not world.aliases.is_due()
        world.clock.now += wait
        assert [world.aliases.is_due(), world.aliases.is_due()] == [True, False]
        assert world.look() == ["one"]
    assert waits == sorted(waits)
    assert waits[0] == 10
    assert waits[-1] == 300
    assert world.messages(Event.ACTIVATION_FAILED) == ["one: bad"]
    world.troubles.clear()
    world.clock.now += 300
    assert world.aliases.is_due()
    assert world.look() == ["one"]
    assert (world.aliases.trouble, world.aliases.patience()) == ("", None)
    assert world.messages(Event.ACTIVATED)[-1] == (
        f"newaliases succeeded after an earlier failure, for {world.one}"
    )


def test_a_look_before_our_own_run_is_reported_takes_it_for_nobody_elses(world: World) -> None:
    world.troubles["one"] = "one: bad"
    write(world.one)
    world.look()
    world.troubles.clear()
    run = world.aliases.rebuild([source_of(world.one)])
    assert world.stale() == []
    assert world.messages(Event.ACTIVATED) == []
    assert run.worked() is not None
    assert world.messages(Event.ACTIVATED) == [
        f"newaliases succeeded after an earlier failure, for {world.one}"
    ]


def test_a_run_that_nobody_reports_hides_nothing(world: World) -> None:
    world.troubles["one"] = "one: bad"
    write(world.one)
    world.look()
    run = world.aliases.rebuild([source_of(world.one)])
    write(database_of(world.one))
    del run
    assert world.stale() == []
    assert world.aliases.trouble == ""


def test_a_file_that_is_mended_is_built_at_once(world: World) -> None:
    world.troubles["one"] = "one: bad"
    write(world.one)
    world.look()
    world.troubles.clear()
    assert world.look() == []
    write(world.one)
    assert world.look() == ["one"]
    assert world.aliases.trouble == ""


def test_a_database_that_a_person_has_built_is_no_trouble(world: World) -> None:
    world.troubles = {"one": "one: read-only", "two": "two: read-only"}
    write(world.one)
    write(world.two)
    world.look()
    write(database_of(world.one))
    assert world.look() == []
    assert world.aliases.trouble == "two: read-only"
    assert world.messages(Event.ACTIVATED) == [
        f"newaliases had failed; another process has since run it for {world.one}"
    ]
    write(database_of(world.two))
    assert world.look() == []
    assert (world.aliases.trouble, world.aliases.patience()) == ("", None)


def test_half_a_database_is_no_good_one(world: World) -> None:
    """It is newer than its source, and Postfix waits for a whole one."""
    world.troubles["one"], world.spoils = "one: no space left", True
    write(world.one)
    world.look()
    assert world.look() == []
    assert world.aliases.trouble == "one: no space left"
    write(database_of(world.one))
    world.look()
    assert world.aliases.trouble == ""


def test_what_main_cf_names_no_more_is_no_trouble(world: World) -> None:
    world.troubles["one"] = "one: bad"
    world.aliases.rebuild().worked()
    world.follow(world.two)
    assert (world.aliases.trouble, world.aliases.patience()) == ("", None)


def test_where_newaliases_could_not_be_run_all_is_old(world: World) -> None:
    write(world.one)
    write(world.two)
    world.down = "no answer"
    world.look()
    assert world.messages(Event.ACTIVATION_FAILED) == ["no answer"]
    assert world.aliases.trouble == "no answer"
    world.down = ""
    world.clock.now += 10
    assert world.aliases.is_due()
    assert world.look() == ["one", "two"]
    assert world.aliases.trouble == ""


# --- what is told ---------------------------------------------------------------------------------


def test_a_failure_is_told_once_more_for_each_cycle(world: World) -> None:
    world.troubles["one"] = "one: bad"
    for number in (None, 1, None, 1, 2, None):
        world.aliases.rebuild(cycle=number).worked()
    assert [record.cycle for record in world.records.of(Event.ACTIVATION_FAILED)] == [None, 1, 2]


def test_a_run_for_an_activation_leaves_its_record_to_that(world: World) -> None:
    assert world.aliases.rebuild(cycle=1).worked()
    assert world.runs == [["one", "two"]]
    assert world.records == []
    assert world.posted.get_nowait().reason is Reason.NEWALIASES


def test_what_is_left_out_is_told_once_until_it_changes(world: World) -> None:
    def rebuild(*doubts: str) -> None:
        world.doubts["one"] = doubts
        assert world.aliases.rebuild().worked()

    rebuild()
    rebuild("/a, line 1: no", "/a, line 2: no")
    rebuild("/a, line 1: no", "/a, line 2: no")
    rebuild("/a, line 2: no")
    rebuild()
    rebuild("/a, line 2: no")
    second = "newaliases: /a, line 2: no; fix the file"
    first = second.replace("/a, line 2", "/a, line 1: no; /a, line 2")
    assert world.remarks == [first, second, second]


def test_a_run_for_an_activation_is_without_what_is_anothers(world: World) -> None:
    """A restart waits for it, and another could have it wait."""
    world.anothers.add(str(world.two))
    for path in (world.one, world.two):
        path.touch()
    assert world.aliases.apart(world.aliases.stale()) == {
        False: [source_of(world.one)],
        True: [source_of(world.two)],
    }
    rebuild = world.aliases.rebuild(cycle=1)
    assert rebuild.worked()
    assert world.runs == [["one"]]
    assert world.aliases.stale() == (source_of(world.two),)


def test_a_run_for_root_does_not_wait_for_one_for_another(world: World) -> None:
    world.anothers.add(str(world.two))
    of_root: list[bool | None] = []

    def meanwhile() -> None:
        world.meanwhile = lambda: None
        of_root.append(world.aliases.rebuild(cycle=1).worked())

    world.meanwhile = meanwhile
    assert world.aliases.rebuild([source_of(world.two)], of_others=True).worked()
    assert of_root == [True]
    assert world.runs == [["one"], ["two"]]
