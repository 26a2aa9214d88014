"""The configuration files on disk: which are read, in what order, and what a fault changes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pf_agent.errors import ConfigError
from pf_agent.files.configuration import (
    Configuration,
    load_desired,
    load_desired_file,
    load_options,
    only_observing,
)
from pf_agent.files.kept_options import NAME, KeptOptions
from pf_agent.model import AgentOptions, DesiredState, Mode, Place

GOOD = 'use_default = ["d"]\n[settings]\na = "1"\nb = "1"\n'


class Etc:
    """/etc/pf-agent in a folder of the test's; Postfix was last seen to serve with `kept`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "etc"
        (self.path / "desired.d").mkdir(parents=True)
        self.kept: dict[str, DesiredState] = {}
        self.reports: list[str] = []

    def write(self, name: str, text: str) -> None:
        """As an editor does it, so that the file is a new one in every respect."""
        path = self.path / name
        new = path.with_name(f".{path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.rename(path)

    def load(self) -> DesiredState:
        return load_desired(str(self.path))

    def problems(self) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load()
        return caught.value.problems

    def configuration(self) -> Configuration:
        """What a process that starts now has, before its first look."""
        options = KeptOptions(str(self.path.parent))
        return Configuration(str(self.path), self.kept, options, self.reports.append)

    def refreshed(self) -> Configuration:
        found = self.configuration()
        found.refresh()
        return found


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


# --- which files, in what order ----------------------------------------------------------------


def test_dropins_lie_over_the_file_and_each_other_in_the_order_of_their_names(etc: Etc) -> None:
    etc.write("desired.d/90-last.toml", '[settings]\nc = "90"\n')
    etc.write("desired.d/10-first.toml", '[settings]\nb = "10"\nc = "10"\n')
    etc.write("desired.d/9-not-before-10.toml", 'use_default = ["a"]\n[settings]\nb = "9"\n')
    etc.write("desired.toml", GOOD)
    found = etc.load()
    assert found.settings == {"b": "9", "c": "90"}
    assert found.use_default == {"a", "d"}
    assert found.provenance["c"] == Place(str(etc.path / "desired.d" / "90-last.toml"), 2)
    assert found.provenance["d"] == Place(str(etc.path / "desired.toml"), 1)


@pytest.mark.parametrize("name", [".10-x.toml", ".#10-x.toml", "10-x.toml~", "10-x.toml.dpkg-new"])
def test_what_an_editor_or_dpkg_left_in_desired_d_is_not_read(etc: Etc, name: str) -> None:
    etc.write("desired.toml", GOOD)
    etc.write(f"desired.d/{name}", "not even TOML")
    assert etc.load().settings == {"a": "1", "b": "1"}


def test_dropins_alone_are_a_desired_state(etc: Etc) -> None:
    etc.write("desired.d/10-x.toml", '[settings]\na = "1"\n')
    assert etc.load().settings == {"a": "1"}


def test_without_a_folder_of_dropins_the_file_alone_counts(etc: Etc) -> None:
    etc.write("desired.toml", GOOD)
    (etc.path / "desired.d").rmdir()
    assert etc.load().settings == {"a": "1", "b": "1"}


def test_no_file_at_all_is_a_fault_with_its_place(etc: Etc) -> None:
    (problem,) = etc.problems()
    assert problem.startswith(f"{etc.path}/desired.toml: no such file; ")


def test_every_fault_of_every_file_is_told_at_once(etc: Etc) -> None:
    etc.write("desired.toml", '[settings]\na = 1.5\nb = "1\\n2"\n')
    (etc.path / "desired.d" / "10-dangling.toml").symlink_to("nowhere")
    (etc.path / "desired.d" / "20-folder.toml").mkdir()
    etc.write("desired.d/30-syntax.toml", "[settings\n")
    etc.write("desired.d/40-good.toml", '[settings]\nc = "1"\n')
    places = sorted(problem.partition(": ")[0] for problem in etc.problems())
    assert places == [
        f"{etc.path}/desired.d/10-dangling.toml",
        f"{etc.path}/desired.d/20-folder.toml",
        f"{etc.path}/desired.d/30-syntax.toml:1",
        f"{etc.path}/desired.toml:2",
        f"{etc.path}/desired.toml:3",
    ]


def test_a_file_that_cannot_be_read_says_why(etc: Etc) -> None:
    (etc.path / "desired.toml").symlink_to("desired.toml")
    (problem,) = etc.problems()
    assert problem == (
        f"{etc.path}/desired.toml: Too many levels of symbolic links; make it a readable file"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not read it")
def test_a_folder_of_dropins_that_may_not_be_read_is_a_fault(tmp_path: Path) -> None:
    etc = Etc(tmp_path)
    etc.write("desired.toml", GOOD)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    (etc.path / "desired.d").chmod(0o700)
    os.seteuid(65534)
    try:
        found = etc.refreshed()
        found.refresh()
    finally:
        os.seteuid(0)
    (problem,) = etc.reports
    assert problem.startswith(f"{etc.path}/desired.d: Permission denied; ")
    found.refresh()
    assert found.problems == ()
    assert found.asked == {"-": etc.load()}


def test_one_file_by_its_name(etc: Etc) -> None:
    etc.write("other.toml", '[settings]\na = "5"\n')
    etc.write("desired.d/10-x.toml", '[settings]\nb = "1"\n')
    assert load_desired_file(str(etc.path / "other.toml")).settings == {"a": "5"}
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file"):
        load_desired_file(str(etc.path / "missing.toml"))


def test_options_are_the_defaults_where_there_is_no_file(etc: Etc) -> None:
    assert load_options(str(etc.path)) == AgentOptions()
    etc.write("agent.toml", 'mode = "observe"\n')
    assert load_options(str(etc.path)).mode is Mode.OBSERVE


def test_options_that_should_be_there_and_cannot_be_read_are_a_fault(etc: Etc) -> None:
    (etc.path / "agent.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"agent\.toml: No such file"):
        load_options(str(etc.path))


# --- what is in force --------------------------------------------------------------------------


def test_nothing_is_asked_for_before_the_files_were_read(etc: Etc) -> None:
    etc.write("desired.toml", GOOD)
    assert etc.configuration().asked == {}
    found = etc.refreshed()
    assert found.asked == {"-": etc.load()}
    assert found.problems == ()
    assert etc.reports == []


# --- options with a fault when the process begins ------------------------------------------------

BOUND = 'mode = "observe"\n[activation]\nwindow = "02:00-04:00"\n'
FREE = "[watch]\nlook_every_seconds = 60\n"


@pytest.mark.parametrize("text", [BOUND, FREE])
def test_bad_options_at_the_start_leave_the_last_good_ones_in_force(etc: Etc, text: str) -> None:
    etc.write("desired.toml", GOOD)
    etc.write("agent.toml", text)
    good = etc.refreshed().options
    etc.write("agent.toml", "mode = 3\n")
    found = etc.configuration()
    assert found.options == good != AgentOptions()
    assert etc.reports == []
    found.refresh()
    assert found.options == good
    (told,) = found.problems
    assert "agent.toml:1: mode: " in told
    assert etc.reports == [told]


def test_bad_options_at_the_start_leave_the_absence_of_a_file_in_force(etc: Etc) -> None:
    etc.refreshed()
    etc.write("agent.toml", "mode = 3\n")
    assert etc.refreshed().options == AgentOptions()


@pytest.mark.parametrize("kept", [None, b"", b"mode = 4\n", b"\xff"])
def test_where_there_never_were_good_ones_nothing_is_changed(etc: Etc, kept: bytes | None) -> None:
    """The kept ones may be of another version, or damaged; empty ones are the defaults."""
    if kept is not None:
        (etc.path.parent / NAME).write_bytes(kept)
    etc.write("desired.toml", GOOD)
    etc.write("agent.toml", "mode = 3\n")
    found = etc.refreshed()
    assert found.asked == {"-": etc.load()}
    if kept == b"":
        assert found.options == AgentOptions()
        assert len(found.problems) == 1
        return
    assert found.options == AgentOptions(mode=Mode.OBSERVE)
    fault, until = found.problems
    assert "agent.toml:1: mode: " in fault
    assert until == only_observing(str(etc.path))
    assert etc.reports == [fault, until]
    etc.write("agent.toml", 'mode = "enforce"\n')
    found.refresh()
    assert (found.options, found.problems) == (AgentOptions(), ())
    etc.write("agent.toml", "mode = 3\n")
    found.refresh()
    assert found.options == AgentOptions()
    assert len(found.problems) == 1


def test_options_that_cannot_be_kept_are_kept_at_a_later_look(etc: Etc) -> None:
    etc.write("agent.toml", BOUND)
    in_its_way = etc.path.parent / NAME
    in_its_way.mkdir()
    found = etc.refreshed()
    assert found.options.mode is Mode.OBSERVE
    in_its_way.rmdir()
    found.refresh()
    assert in_its_way.read_text() == BOUND


@pytest.mark.parametrize(
    "fault",
    ["[settings]\na = 1.5\n", "[settings\n", "unknown = 1\n"],
)
def test_a_fault_changes_nothing_and_is_reported(etc: Etc, fault: str) -> None:
    etc.write("desired.toml", GOOD)
    found = etc.refreshed()
    good = found.asked
    etc.write("desired.toml", fault)
    found.refresh()
    assert found.asked == good
    assert list(found.problems) == etc.reports
    assert len(etc.reports) == 1


def test_all_files_gone_changes_nothing_either(etc: Etc) -> None:
    etc.write("desired.toml", GOOD)
    found = etc.refreshed()
    (etc.path / "desired.toml").unlink()
    found.refresh()
    assert found.asked["-"].settings == {"a": "1", "b": "1"}
    assert len(found.problems) == 1


def test_a_fault_of_the_options_leaves_the_desired_state_free_to_change(etc: Etc) -> None:
    etc.write("agent.toml", 'mode = "observe"\n')
    etc.write("desired.toml", GOOD)
    found = etc.refreshed()
    etc.write("agent.toml", 'mode = "watch"\n')
    etc.write("desired.toml", '[settings]\na = "2"\n')
    found.refresh()
    assert found.options.mode is Mode.OBSERVE
    assert found.asked["-"].settings == {"a": "2"}
    (problem,) = found.problems
    assert "agent.toml:1" in problem


def test_and_the_other_way_round(etc: Etc) -> None:
    etc.write("desired.toml", GOOD)
    found = etc.refreshed()
    etc.write("desired.toml", "[settings\n")
    etc.write("agent.toml", 'mode = "observe"\n')
    found.refresh()
    assert found.options.mode is Mode.OBSERVE
    assert len(found.problems) == 1


def test_a_problem_is_reported_once_and_again_when_it_came_back(etc: Etc) -> None:
    etc.write("desired.toml", "[settings]\na = 1.5\n")
    found = etc.refreshed()
    found.refresh()
    (first,) = etc.reports
    # Another file changes: the old problem stands, and only the new one is news.
    etc.write("desired.d/10-x.toml", "[settings]\nb = 1.5\n")
    found.refresh()
    assert len(etc.reports) == 2
    assert set(found.problems) == set(etc.reports)
    (etc.path / "desired.d" / "10-x.toml").unlink()
    etc.write("desired.toml", GOOD)
    found.refresh()
    assert found.problems == ()
    etc.write("desired.toml", "[settings]\na = 1.5\n")
    found.refresh()
    assert etc.reports[2:] == [first]


def test_a_reload_reports_again_what_still_stands(etc: Etc) -> None:
    etc.write("desired.toml", "[settings\n")
    found = etc.refreshed()
    found.refresh(again=True)
    assert len(etc.reports) == 2
    assert etc.reports[0] == etc.reports[1]
    assert found.problems == (etc.reports[0],)


# --- when the files are read again -------------------------------------------------------------


def test_a_new_a_changed_and_a_removed_dropin_each_count(etc: Etc) -> None:
    etc.write("desired.toml", GOOD)
    found = etc.refreshed()
    for text in ('[settings]\na = "2"\n', '[settings]\na = "3"\n'):
        etc.write("desired.d/10-x.toml", text)
        found.refresh()
        assert found.asked == {"-": etc.load()}
    (etc.path / "desired.d" / "10-x.toml").unlink()
    found.refresh()
    assert found.asked == {"-": etc.load()}


def test_a_change_of_the_options_counts(etc: Etc) -> None:
    etc.write("desired.toml", GOOD)
    found = etc.refreshed()
    etc.write("agent.toml", 'mode = "observe"\n')
    found.refresh()
    assert found.options.mode is Mode.OBSERVE


def test_a_file_that_was_moved_in_counts_however_old_it_is(etc: Etc) -> None:
    etc.write("desired.toml", '[settings]\na = "1"\n')
    found = etc.refreshed()
    older = etc.path / "older"
    older.write_text('[settings]\na = "2"\n', encoding="utf-8")
    os.utime(older, (1, 1))
    older.rename(etc.path / "desired.toml")
    found.refresh()
    assert found.asked == {"-": etc.load()}


def test_an_unchanged_folder_is_not_read_again(etc: Etc) -> None:
    etc.write("desired.toml", GOOD)
    found = etc.refreshed()
    first = found.asked
    found.refresh()
    assert found.asked is first
    found.refresh(again=True)
    assert found.asked is not first
    assert found.asked == first


# --- where no file was right yet ---------------------------------------------------------------

KEPT = DesiredState({"a": "kept"}, frozenset())


def test_what_was_served_with_stands_in_for_a_bad_file(etc: Etc) -> None:
    etc.kept = {"-": KEPT, "out": KEPT}
    etc.write("desired.toml", "[settings\n")
    found = etc.refreshed()
    assert found.asked == etc.kept
    assert len(found.problems) == 1
    etc.write("desired.toml", GOOD)
    found.refresh()
    assert found.asked == {"-": etc.load()}
    assert not found.problems


def test_where_nothing_was_ever_served_nothing_is_asked_for(etc: Etc) -> None:
    etc.write("desired.toml", "[settings\n")
    assert etc.refreshed().asked == {}


def test_an_instance_that_is_named_no_more_is_asked_for_no_more(etc: Etc) -> None:
    etc.write("desired.toml", '[settings]\na = "1"\n[instances.out.settings]\na = "1"\n')
    found = etc.refreshed()
    assert found.asked.keys() == {"-", "out"}
    etc.write("desired.toml", '[settings]\na = "2"\n')
    found.refresh()
    assert found.asked.keys() == {"-"}


def test_a_fault_of_a_folder_is_told_once(etc: Etc) -> None:
    for number in range(3):
        etc.write(f"desired.d/{number}.toml", "")
    dropins = etc.path / "desired.d"
    dropins.chmod(0o777)
    (problem,) = etc.problems()
    assert problem.startswith(f"{dropins}: writable by others; ")
    etc.write("agent.toml", "")
    etc.write("desired.toml", GOOD)
    etc_itself = etc.path
    configuration = etc.configuration()
    etc_itself.chmod(0o777)
    configuration.refresh()
    assert etc.reports == list(configuration.problems)
    assert len(set(configuration.problems)) == len(configuration.problems)
    assert any(problem.startswith(f"{etc_itself}: ") for problem in configuration.problems)


def test_a_start_with_the_options_that_are_kept_writes_nothing(etc: Etc) -> None:
    etc.write("agent.toml", 'mode = "observe"\n')
    etc.configuration()
    kept = etc.path.parent / NAME
    before = kept.stat()
    assert etc.configuration().options.mode is Mode.OBSERVE
    assert kept.stat().st_ino == before.st_ino
    etc.write("agent.toml", 'mode = "enforce"\n')
    etc.configuration()
    assert kept.read_text() == 'mode = "enforce"\n'


# --- who may read it -----------------------------------------------------------------------------


@pytest.fixture
def open_etc() -> Iterator[Etc]:
    """Not pytest's folder: nobody but its owner may look into that."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Etc(Path(folder))


@pytest.mark.parametrize("closed", ["desired.toml", "desired.d/10-x.toml", "desired.d", "."])
def test_whether_everybody_may_read_what_is_asked_for(open_etc: Etc, closed: str) -> None:
    open_etc.write("desired.toml", GOOD)
    open_etc.write("desired.d/10-x.toml", "")
    found = open_etc.refreshed()
    path = open_etc.path / closed
    mode = path.stat().st_mode
    seen = [found.is_public]
    for each in (mode & ~0o007, mode):
        path.chmod(each)
        found.refresh()
        seen.append(found.is_public)
    assert seen == [True, False, True]
