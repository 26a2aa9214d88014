"""What outlives a look: cycle numbers, the marker, displaced texts, locks, status.json."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.config import saved
from pf_agent.errors import HostError
from pf_agent.files import whole
from pf_agent.files.displaced_texts import DISPLACED_BYTES, DISPLACED_COUNT, DisplacedTexts
from pf_agent.files.locks import REPLACING, Locks, held
from pf_agent.files.served_states import served_of_all
from pf_agent.files.status_file import read_status
from pf_agent.files.store import FileStore
from pf_agent.model import (
    DesiredState,
    Exposure,
    Heard,
    PendingActivation,
    Rejected,
    Suspension,
    Wishes,
)
from tests.package import AGENT

PENDING = PendingActivation(7, ("mynetworks", "main.cf"), Exposure(1.5, 2.5, 3.5))


SERVED = DesiredState({"mynetworks": "127.0.0.0/8"}, frozenset({"sendmail_path"}))
WISH = replace(SERVED, settings={"mynetworks": "127.0.0.0/8", "biff": "no"})
WISHES = Wishes(
    SERVED, WISH, {"biff": "biff = \udcff\n"}, Rejected(WISH, "451", ("biff",), ("/x",))
)


def a_store(folder: Path) -> FileStore:
    store = FileStore(str(folder / "lib"), str(folder / "run"))
    store.prepare()
    return store


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return a_store(tmp_path)


def file_of(store: FileStore, name: str) -> Path:
    return Path(store.directory, name)


# --- cycles ---------------------------------------------------------------------------------------


def test_cycles_count_from_one_and_over_a_restart(store: FileStore, tmp_path: Path) -> None:
    assert [store.next_cycle(), store.next_cycle()] == [1, 2]
    assert a_store(tmp_path).next_cycle() == 3


@pytest.mark.parametrize("damage", [None, b"", b"\0\0\0", b"twelve, say\nand more\n", b"3\n"])
def test_a_lost_damaged_or_old_counter_gives_no_number_twice(
    store: FileStore, damage: bytes | None
) -> None:
    store.keep_displaced(12, b"text")
    store.keep_displaced(12, b"second text of this cycle")
    store.mark_pending(PENDING)
    if damage is None:
        file_of(store, "cycle").unlink(missing_ok=True)
    else:
        file_of(store, "cycle").write_bytes(damage)
    assert [store.next_cycle(), store.next_cycle()] == [13, 14]
    assert int(file_of(store, "cycle").read_bytes()) == 14


def test_a_lost_counter_goes_on_after_the_marker(store: FileStore) -> None:
    store.mark_pending(PENDING)
    assert store.next_cycle() == PENDING.cycle + 1


COUNT = """
import sys
from pf_agent.files.store import FileStore
name, lib, run = sys.argv[1:]
store = FileStore.of_instance(name, lib, run)
store.prepare()
for _ in range(40):
    print(store.life(), store.next_cycle())
"""


def test_no_two_processes_and_no_two_instances_have_a_number_twice(tmp_path: Path) -> None:
    """Each begins in a folder that is new: one of them gives the life its name."""
    folders = [str(tmp_path / "lib"), str(tmp_path / "run")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, name, *folders],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(AGENT)},
        )
        for name in ("-", "-", "in", "out")
    ]
    found = [line for each in running for line in each.communicate()[0].splitlines()]
    lives, numbers = zip(*map(str.split, found), strict=True)
    assert sorted(map(int, numbers)) == list(range(1, 161))
    assert len(set(lives)) == 1


def test_a_life_has_one_name_until_its_folder_is_gone(tmp_path: Path) -> None:
    first, again = a_store(tmp_path), a_store(tmp_path)
    inner = FileStore.of_instance("out", first.directory, first.run_directory)
    assert re.fullmatch("[0-9a-f]{6}", first.life())
    assert first.life() == again.life() == inner.life()
    assert [first.next_cycle(), inner.next_cycle(), again.next_cycle()] == [1, 2, 3]
    shutil.rmtree(tmp_path / "lib")
    new = a_store(tmp_path)
    assert new.life() != first.life()
    assert new.next_cycle() == 1


def test_an_upgrade_goes_on_above_all_counters_and_in_the_life_that_has_no_name(
    tmp_path: Path,
) -> None:
    """The version before had a counter for each instance, and told of no life."""
    inner = tmp_path / "lib" / "instances" / "out"
    inner.mkdir(parents=True)
    (tmp_path / "lib" / "cycle").write_bytes(b"000000000004\n")
    (inner / "cycle").write_bytes(b"000000000109\n")
    store = a_store(tmp_path)
    assert store.life() == ""
    assert [store.next_cycle(), a_store(tmp_path).next_cycle()] == [110, 111]
    assert store.life() == a_store(tmp_path).life() == ""


@pytest.mark.parametrize("damage", [b"", b"a1b2\n", b"\0" * 7, b"a1b2c3\nmore"])
def test_a_damaged_name_of_a_life_is_none(tmp_path: Path, damage: bytes) -> None:
    store = a_store(tmp_path)
    file_of(store, "life").write_bytes(damage)
    again = a_store(tmp_path)  # nothing was counted yet: it is new
    assert re.fullmatch("[0-9a-f]{6}", again.life())
    again.next_cycle()
    file_of(store, "life").write_bytes(damage)
    assert a_store(tmp_path).life() == ""


# --- the marker -----------------------------------------------------------------------------------


def clear(store: FileStore, cycle: int | None) -> bool:
    """Postfix was seen to serve, whatever main.cf says."""
    return store.note_served(cycle, None, False, False)


def test_marker_round_trip(store: FileStore, tmp_path: Path) -> None:
    assert store.pending() is None
    store.mark_pending(PENDING)
    assert a_store(tmp_path).pending() == PENDING
    assert clear(store, PENDING.cycle)
    assert store.pending() is None


@pytest.mark.parametrize("before", [None, Heard("4xx", True, 451, "451 \udcff")])
def test_all_of_a_marker_is_read_back(
    store: FileStore, tmp_path: Path, before: Heard | None
) -> None:
    marker = replace(PENDING, wished=("mynetworks",), before=before, live=True, failed=True)
    store.mark_pending(marker)
    assert a_store(tmp_path).pending() == marker


def test_clearing_no_marker_is_no_error(store: FileStore) -> None:
    assert clear(store, PENDING.cycle)
    assert clear(store, None)


def test_the_marker_of_another_cycle_stays(store: FileStore) -> None:
    store.mark_pending(PENDING)
    for cycle in (PENDING.cycle - 1, None):
        assert not clear(store, cycle)
    assert store.pending() == PENDING


def test_a_damaged_marker_can_be_cleared(store: FileStore) -> None:
    file_of(store, "pending.json").write_bytes(b"{")
    found = store.pending()
    assert found is not None
    assert clear(store, found.cycle)
    assert store.pending() is None


def test_that_it_was_reloaded_is_noted_in_the_marker_of_its_cycle(store: FileStore) -> None:
    store.note_reloaded(PENDING.cycle)
    assert store.pending() is None
    marker = replace(PENDING, live=True)
    store.mark_pending(marker)
    store.note_reloaded(PENDING.cycle - 1)
    assert store.pending() == marker
    store.note_reloaded(PENDING.cycle)
    assert store.pending() == replace(marker, live=False)


@given(st.one_of(st.binary(), st.recursive(st.integers() | st.text(), st.lists).map(json.dumps)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_damaged_marker_counts_as_one(store: FileStore, damage: bytes | str) -> None:
    data = damage if isinstance(damage, bytes) else damage.encode()
    file_of(store, "pending.json").write_bytes(data)
    assert store.pending() is not None


@pytest.mark.parametrize(
    "damage",
    [
        '{"cycle": 7}',
        '{"cycle": "x", "parameters": [], "exposure": {}}',
        '{"cycle": 7, "parameters": 5, "exposure": {}}',
        '{"cycle": 7, "parameters": [], "exposure": []}',
        '{"cycle": 7, "parameters": [], "exposure": {"written_at": 1, "seen_at": null}}',
    ],
)
def test_a_marker_of_another_shape_counts_as_one(store: FileStore, damage: str) -> None:
    file_of(store, "pending.json").write_text(damage)
    found = store.pending()
    assert found is not None
    assert (found.cycle, found.parameters) == (0, ())


def test_a_write_that_was_cut_short_changes_nothing(store: FileStore) -> None:
    store.mark_pending(PENDING)
    file_of(store, ".pending.json.new").write_text('{"cycle"')
    assert store.pending() == PENDING
    store.mark_pending(PENDING)
    assert not file_of(store, ".pending.json.new").exists()


def test_a_write_that_fails_leaves_nothing(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_disk(_handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = set(Path(store.directory).iterdir())
    monkeypatch.setattr(os, "fsync", failing_disk)
    with pytest.raises(HostError, match=r"pending.json: Input/output error; "):
        store.mark_pending(PENDING)
    assert set(Path(store.directory).iterdir()) == before


def half_written(store: FileStore) -> list[Path]:
    """What a crash leaves of a marker, a displaced text, and a note for the next process."""
    folders = (store.directory, store.displaced_directory, store.run_directory)
    named = zip(folders, ("pending.json", "00000001.main.cf", "restarts.json"), strict=True)
    paths = [Path(folder, f".{name}.new") for folder, name in named]
    for path in paths:
        path.touch()
    return paths


def test_what_a_crash_left_half_written_is_removed(store: FileStore) -> None:
    store.mark_pending(PENDING)
    kept = Path(store.keep_displaced(1, b"a"))
    paths = half_written(store)
    store.tidy()
    assert [path for path in paths if path.exists()] == []
    assert kept.exists()
    assert store.pending() == PENDING
    assert store.hold_activation()


def test_what_another_process_may_be_writing_stays(store: FileStore, tmp_path: Path) -> None:
    suspension = file_of(store, ".suspension.json.new")
    suspension.touch()  # `pf-agent suspend` writes it without a lock
    store.tidy()
    assert suspension.exists()
    paths = half_written(store)
    other = a_store(tmp_path)
    assert other.hold_activation()
    store.tidy()
    assert [path for path in paths if not path.exists()] == []


def test_a_marker_of_a_text_that_was_brought_back(store: FileStore, tmp_path: Path) -> None:
    pending = replace(PENDING, rolled_back=True, failed=True)
    store.mark_pending(pending)
    assert a_store(tmp_path).pending() == pending


def test_a_failure_is_noted_in_the_marker_of_its_cycle(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.note_failed(PENDING.cycle)
    assert store.pending() is None
    store.mark_pending(PENDING)
    store.note_failed(PENDING.cycle - 1)
    assert store.pending() == PENDING
    store.note_failed(PENDING.cycle)
    assert store.pending() == replace(PENDING, failed=True)


def test_a_marker_of_the_version_before_is_understood(store: FileStore) -> None:
    file_of(store, "pending.json").write_text(
        '{"cycle": 7, "parameters": ["mynetworks", "main.cf"], "exposure": {"written_at": 1.5,'
        ' "seen_at": 2.5, "corrected_at": 3.5, "activated_at": null}}'
    )
    # Nothing tells that no process has the drifted value.
    assert store.pending() == replace(PENDING, live=True)


# --- texts ----------------------------------------------------------------------------------------


def displaced(store: FileStore) -> dict[str, bytes]:
    folder = Path(store.displaced_directory)
    return {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir())}


def test_displaced_texts_are_kept_by_cycle(store: FileStore) -> None:
    paths = [store.keep_displaced(*kept) for kept in ((3, b"a"), (3, b"b\xff\0"), (4, b"c"))]
    assert displaced(store) == {
        "00000003.main.cf": b"a",
        "00000003.1.main.cf": b"b\xff\0",
        "00000004.main.cf": b"c",
    }
    assert [Path(path).read_bytes() for path in paths] == [b"a", b"b\xff\0", b"c"]


def test_a_text_that_the_cycle_keeps_already_is_not_kept_twice(store: FileStore) -> None:
    """A crash came between keeping it and removing the file that it stood in."""
    first, second = store.keep_displaced(3, b"a"), store.keep_displaced(3, b"b")
    assert store.keep_displaced(3, b"a") == first
    assert store.keep_displaced(3, b"b") == second
    assert displaced(store) == {"00000003.main.cf": b"a", "00000003.1.main.cf": b"b"}


def test_displaced_texts_are_for_root_alone(store: FileStore) -> None:
    path = store.keep_displaced(1, b"a secret")
    assert stat.S_IMODE(os.stat(store.displaced_directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def keep_all(store: FileStore, *texts: bytes) -> None:
    """Keep `texts` as cycles 1, 2, ... while somebody sets the clock back before each."""
    for cycle, text in enumerate(texts, start=1):
        path = store.keep_displaced(cycle, text)
        os.utime(path, (5_000_000_000 - cycle, 5_000_000_000 - cycle))


def test_the_newest_200_displaced_texts_stay(store: FileStore) -> None:
    assert DISPLACED_COUNT == 200
    keep_all(store, *(b"%d" % cycle for cycle in range(1, 204)))
    assert list(displaced(store)) == [f"{cycle:08d}.main.cf" for cycle in range(4, 204)]


def test_what_was_kept_last_is_there_however_many_its_cycle_kept(store: FileStore) -> None:
    for number in range(250):
        path = store.keep_displaced(1, b"%d" % number)
        assert Path(path).read_bytes() == b"%d" % number
    assert len(displaced(store)) == 200


def kept_within(folder: Path, most_bytes: int, *texts: bytes) -> list[str]:
    """The names of what is kept of these texts in a folder for so many bytes."""
    folder = folder / "texts"
    folder.mkdir()
    kept = DisplacedTexts(str(folder), most_bytes=most_bytes)
    for cycle, text in enumerate(texts, start=1):
        kept.keep(cycle, text)
    return sorted(entry.name for entry in folder.iterdir())


def test_at_most_50_mib_of_displaced_texts_stay(store: FileStore, tmp_path: Path) -> None:
    half = b"x" * (DISPLACED_BYTES // 2 + 1)
    assert DISPLACED_BYTES == 50 * 1024 * 1024
    keep_all(store, b"a", half, half[:-2])
    assert list(displaced(store)) == ["00000002.main.cf", "00000003.main.cf"]
    found = kept_within(tmp_path, 100, b"a" * 60, b"b" * 50, b"c" * 50)
    assert found == ["00000002.main.cf", "00000003.main.cf"]


def test_the_newest_text_stays_however_large(tmp_path: Path) -> None:
    assert kept_within(tmp_path, 100, b"a" * 10, b"b" * 101) == ["00000002.main.cf"]


def test_what_else_lies_among_the_displaced_texts_is_left_alone(store: FileStore) -> None:
    folder = Path(store.displaced_directory)
    for name in (".x.new", "00000001.main.cf"):
        (folder / name).mkdir()
    (folder / "00000002.main.cf").symlink_to("/nonexistent")
    for cycle in range(3, 3 + DISPLACED_COUNT + 2):
        store.keep_displaced(cycle, b"text")
    names_there = {entry.name for entry in folder.iterdir()}
    assert {".x.new", "00000001.main.cf", "00000002.main.cf"} <= names_there
    assert len(names_there) == 3 + DISPLACED_COUNT


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a FIFO", "a directory"])
def test_what_is_no_file_is_told_and_holds_nobody_up(
    store: FileStore, make: Callable[[str], None]
) -> None:
    for name in ("pending.json", "desired.json", "wishes.json", "last-good.main.cf"):
        make(os.path.join(store.directory, name))
    for name in ("restarts.json", "drifts.json", "status.json"):
        make(os.path.join(store.run_directory, name))
    told = partial(read_status, store.run_directory)
    for read in (store.pending, store.last_good, store.wishes, told):
        with pytest.raises(HostError, match=r"(not a regular file|Is a directory)"):
            read()
    assert store.restarts() == ()
    assert store.drifts() == {}


# --- what another put in the place of ours --------------------------------------------------------

OUTSIDE = b"root:$y$j9T$secret\n"


def planted_link(path: str) -> None:
    os.symlink("/nonexistent/outside", path)


def planted_device(path: str) -> None:
    os.symlink("/dev/zero", path)


STRANGE = pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, planted_link, planted_device],
    ids=["a FIFO", "a directory", "a dangling link", "a link to a device"],
)
KEPT = ["cycle", "life", "pending.json", "last-good.main.cf", "ran-with.main.cf", "desired.json"]
KEPT += ["wishes.json", "suspension.json", "suspension-alone.json"]
NOTED = ["lock", "activation.lock", "tables.lock", "status.json", "drifts.json"]
NOTED += [names.RESTARTS, names.WISHED_RESTARTS]


def use(store: FileStore) -> None:
    """All that the agent keeps and notes, written and read back."""
    cycle = store.next_cycle()
    store.mark_pending(replace(PENDING, cycle=cycle))
    for keep in (store.keep_last_good, store.keep_ran_with):
        keep(b"text")
    store.keep_wishes(WISHES)
    for kept in (store.suspended, store.suspended_alone):
        kept.keep_suspension(Suspension(1.5, None, "anna", "a test"))
        assert kept.suspension() is not None
    store.write_status({"pid": os.getpid()})
    store.note_restarts((1.5,))
    store.note_restarts((2.5,), names.WISHED_RESTARTS)
    store.note_drifts({"a": (1.5,)})
    with store.lock(), held(os.path.join(store.run_directory, REPLACING)):
        assert store.hold_activation()
        store.release_activation()
    assert (store.last_good(), store.ran_with()) == (b"text", b"text")
    assert store.wishes() == WISHES
    assert (store.restarts(), store.restarts(names.WISHED_RESTARTS)) == ((1.5,), (2.5,))
    assert store.drifts() == {"a": (1.5,)}
    assert read_status(store.run_directory) == {"pid": os.getpid()}
    assert clear(store, cycle)
    assert store.pending() is None


@STRANGE
@pytest.mark.parametrize("prefix", ["", "."], ids=["whole", "half written"])
def test_what_stands_in_the_place_of_a_file_is_moved_away_and_told(
    store: FileStore, make: Callable[[str], None], prefix: str
) -> None:
    places = [*(os.path.join(store.directory, name) for name in KEPT)]
    places += (os.path.join(store.run_directory, name) for name in NOTED)
    if prefix:
        places = [str(Path(place).with_name(f".{Path(place).name}.new")) for place in places]
    for place in places:
        Path(place).unlink(missing_ok=True)
        make(place)
    moved = store.prepare()
    assert len(moved) == len(places)
    for place in places:
        (told,) = (sentence for sentence in moved if sentence.startswith(f"{place}: "))
        away = told.partition("; it is now ")[2]
        assert os.path.lexists(away)
        assert not os.path.lexists(place)
    assert store.prepare() == ()
    use(store)
    store.tidy()


def test_a_file_of_ours_that_is_huge_is_moved_away(store: FileStore) -> None:
    with open(file_of(store, "pending.json"), "wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(HostError, match="it is larger than"):
        store.pending()
    (told,) = store.prepare()
    assert f"it was larger than {whole.MOST_BYTES} bytes" in told
    assert store.pending() is None


def test_what_is_in_order_is_left_where_it_is(store: FileStore) -> None:
    use(store)
    store.keep_displaced(1, b"text")
    file_of(store, "of-another").mkdir()
    before = sorted(Path(store.directory).rglob("*")) + sorted(Path(store.run_directory).iterdir())
    assert store.prepare() == ()
    after = sorted(Path(store.directory).rglob("*")) + sorted(Path(store.run_directory).iterdir())
    assert after == before


@pytest.mark.parametrize(
    "name", ["00000005.main.cf", ".00000005.main.cf.new", "00000005.1.main.cf"]
)
@STRANGE
def test_a_text_is_kept_whatever_is_planted_under_its_name(
    store: FileStore, make: Callable[[str], None], name: str
) -> None:
    make(os.path.join(store.displaced_directory, name))
    paths = [Path(store.keep_displaced(5, text)) for text in (b"first", b"second")]
    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert not any(path.is_symlink() for path in paths)
    store.tidy()


def test_what_a_link_leads_to_is_neither_read_nor_written(store: FileStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(OUTSIDE)
    outside.chmod(0o640)
    for name in (*KEPT, "displaced/00000005.main.cf", "displaced/.00000006.main.cf.new"):
        file_of(store, name).unlink(missing_ok=True)
        file_of(store, name).symlink_to(outside)
    for name in NOTED:
        Path(store.run_directory, name).symlink_to(outside)
    for read in (store.last_good, store.ran_with, lambda: store.displaced(5)):
        with pytest.raises(HostError):
            read()
    store.prepare()
    assert store.last_good() is None
    use(store)
    for cycle in (5, 6):
        assert Path(store.keep_displaced(cycle, OUTSIDE)).is_symlink() is False
    assert outside.read_bytes() == OUTSIDE
    assert stat.S_IMODE(outside.stat().st_mode) == 0o640


@pytest.mark.parametrize("instance", [names.DEFAULT_INSTANCE, "out"])
def test_a_link_in_the_place_of_a_folder_leads_nothing_outside(
    tmp_path: Path, instance: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    lib, run = tmp_path / "lib", tmp_path / "run"
    lib.mkdir()
    (lib / ("displaced" if instance == names.DEFAULT_INSTANCE else "instances")).symlink_to(outside)
    store = FileStore.of_instance(instance, str(lib), str(run))
    (told,) = store.prepare()
    assert "it was not a directory" in told
    store.keep_displaced(1, b"text")
    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_where_the_folders_lie_is_the_administrators_choice(tmp_path: Path) -> None:
    for name in ("lib", "run"):
        (tmp_path / f"real-{name}").mkdir()
        (tmp_path / name).symlink_to(f"real-{name}")
    store = FileStore(str(tmp_path / "lib"), str(tmp_path / "run"))
    assert store.prepare() == ()
    assert Path(store.keep_displaced(1, b"text")).resolve().parent.parent.name == "real-lib"


def test_folders_that_were_open_to_others_are_closed(tmp_path: Path) -> None:
    store = FileStore.of_instance("out", str(tmp_path / "lib"), str(tmp_path / "run"))
    store.prepare()
    kept = [*tmp_path.glob("lib/**/"), *tmp_path.glob("run/instances/**/")]
    for folder in kept:
        folder.chmod(0o777)
    store.prepare()
    modes = {str(f.relative_to(tmp_path)): stat.S_IMODE(f.stat().st_mode) for f in kept}
    assert modes == {
        "lib": 0o777,  # the default instance's
        "lib/instances": 0o700,
        "lib/instances/out": 0o700,
        "lib/instances/out/displaced": 0o700,
        "run/instances": 0o755,
        "run/instances/out": 0o755,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_was_given_away_is_ours_again(store: FileStore) -> None:
    os.chown(store.displaced_directory, 65534, 65534)
    store.prepare()
    found = os.stat(store.displaced_directory)
    assert (found.st_uid, found.st_gid) == (0, 0)


def test_last_good_round_trip(store: FileStore, tmp_path: Path) -> None:
    assert store.last_good() is None
    store.keep_last_good(b"a\xff\0\r\n")
    assert a_store(tmp_path).last_good() == b"a\xff\0\r\n"


def test_the_text_that_postfix_ran_with(store: FileStore, tmp_path: Path) -> None:
    assert store.ran_with() is None
    store.keep_ran_with(b"a\xff\0\r\n")
    store.keep_ran_with(b"a\xff\0\r\n")
    assert a_store(tmp_path).ran_with() == b"a\xff\0\r\n"
    store.keep_ran_with(b"b")
    assert store.ran_with() == b"b"


# --- what was seen to serve -----------------------------------------------------------------------


def served_with(store: FileStore, *, is_started: bool = True, is_good: bool = True) -> bool:
    return store.note_served(PENDING.cycle, b"text", is_started, is_good)


def test_what_postfix_was_started_with_and_serves_is_good_and_no_wish_any_more(
    store: FileStore,
) -> None:
    store.mark_pending(PENDING)
    store.keep_wishes(replace(WISHES, rejected=None))
    assert served_with(store)
    assert (store.last_good(), store.ran_with()) == (b"text", b"text")
    assert store.wishes() == Wishes(WISH, WISH)
    assert store.pending() is None


def test_what_it_was_not_started_with_it_did_not_run_with(store: FileStore) -> None:
    assert served_with(store, is_started=False)
    assert (store.last_good(), store.ran_with()) == (b"text", None)


def test_what_is_not_as_desired_is_not_good(store: FileStore) -> None:
    store.keep_wishes(WISHES)
    assert served_with(store, is_good=False)
    assert (store.last_good(), store.ran_with()) == (None, b"text")
    assert store.wishes() == WISHES


def test_what_was_corrected_since_is_still_to_be_served_with(store: FileStore) -> None:
    store.mark_pending(replace(PENDING, cycle=PENDING.cycle + 1))
    store.keep_wishes(WISHES)
    assert not served_with(store)
    assert store.wishes() == WISHES


def test_where_the_text_before_did_not_help_either_the_wish_may_return(store: FileStore) -> None:
    kept = Wishes(SERVED, SERVED, {}, WISHES.rejected)
    store.keep_wishes(kept)
    store.mark_pending(replace(PENDING, rolled_back=True))
    assert served_with(store)
    assert store.wishes() == kept
    store.mark_pending(replace(PENDING, rolled_back=True, failed=True))
    assert served_with(store)
    assert store.wishes() == Wishes(SERVED, SERVED)


# --- wishes ---------------------------------------------------------------------------------------


def test_wishes_that_cannot_be_read_are_not_taken_for_none(
    store: FileStore, tmp_path: Path
) -> None:
    """What was served with would be forgotten for good, for what may be over in a moment."""
    store.keep_wishes(WISHES)
    assert store.wishes() == WISHES
    path = file_of(store, "wishes.json")
    kept = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert store.wishes() == WISHES
    with pytest.raises(HostError, match=r"wishes.json"):
        FileStore(store.directory, store.run_directory).wishes()
    assert served_of_all(store.directory, store.run_directory) == {}
    path.rmdir()
    path.write_bytes(kept)
    assert a_store(tmp_path).wishes() == WISHES


def test_wishes_round_trip(store: FileStore, tmp_path: Path) -> None:
    assert store.wishes() == Wishes()
    store.keep_wishes(WISHES)
    assert a_store(tmp_path).wishes() == WISHES
    assert store.wishes() == WISHES
    assert stat.S_IMODE(file_of(store, "wishes.json").stat().st_mode) == 0o600


def test_what_another_process_keeps_is_seen(store: FileStore, tmp_path: Path) -> None:
    store.keep_wishes(WISHES)
    other = a_store(tmp_path)
    for kept in (Wishes(SERVED, SERVED), WISHES, Wishes()):
        other.keep_wishes(kept)
        assert store.wishes() == kept


def test_what_is_kept_already_is_not_written_again(store: FileStore) -> None:
    store.keep_wishes(WISHES)
    first = file_of(store, "wishes.json").stat()
    store.keep_wishes(WISHES)
    assert os.path.samestat(file_of(store, "wishes.json").stat(), first)


@pytest.mark.parametrize("damage", ["", "{", "5", "null", "[]", "{}", '{"served": 5}', "[" * 9999])
def test_damaged_wishes_are_none(store: FileStore, damage: str) -> None:
    store.keep_wishes(WISHES)
    file_of(store, "wishes.json").write_text(damage)
    assert store.wishes() == Wishes()
    store.keep_wishes(WISHES)
    assert store.wishes() == WISHES


def test_what_cannot_be_kept_is_an_error(store: FileStore) -> None:
    file_of(store, "wishes.json").mkdir()
    with pytest.raises(HostError, match=r"wishes\.json"):
        store.keep_wishes(WISHES)


def legacy(store: FileStore, **approved: DesiredState) -> None:
    document = saved.to_json({name.replace("_", "-"): a for name, a in approved.items()})
    file_of(store, "desired.json").write_text(json.dumps(document))


def test_what_the_version_before_has_approved_counts_as_served(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    out = replace(SERVED, config_directory="/etc/postfix-out")
    legacy(store, _=SERVED, out=out)
    file_of(store, "rolled-back.json").write_text("{}")
    assert store.wishes() == Wishes(SERVED, SERVED)
    folders = str(tmp_path / "lib"), str(tmp_path / "run")
    other = FileStore.of_instance("out", *folders)
    other.prepare()
    assert other.wishes() == Wishes(out, out)
    assert served_of_all(*folders) == {"-": SERVED, "out": out}
    store.keep_wishes(WISHES)
    assert store.wishes() == WISHES
    assert other.wishes() == Wishes(out, out)


def test_of_it_only_what_postfix_ran_with_counts(store: FileStore) -> None:
    """It was approved before Postfix was started with it."""
    legacy(store, _=WISH)
    store.keep_ran_with(b"mynetworks = 127.0.0.0/8\n")
    assert store.wishes() == Wishes(SERVED, SERVED)
    assert store.wishes().served == SERVED


@pytest.mark.parametrize("damage", ["", "{", "[]", "5", '{"-": {}}', '{"-": 5}'])
def test_of_a_damaged_one_nothing_counts(store: FileStore, damage: str) -> None:
    file_of(store, "desired.json").write_text(damage)
    assert store.wishes() == Wishes()


def test_two_instances_never_get_the_same_main_cf(tmp_path: Path) -> None:
    """Whatever has come into the folders: a name that is none, a state of another's folder."""
    folders = str(tmp_path / "lib"), str(tmp_path / "run")
    out = replace(SERVED, config_directory="/etc/postfix-out")
    kept = {"-": SERVED, "good": out, "none": SERVED, "no name": out, "new": None}
    for name, served in kept.items():
        store = FileStore.of_instance(name, *folders)
        store.prepare()
        store.keep_wishes(Wishes(served, served))
    (tmp_path / "lib" / "instances" / "a-file").touch()
    assert served_of_all(*folders) == {"-": SERVED, "good": out}
    FileStore(*folders).keep_wishes(Wishes(out, out))
    assert served_of_all(*folders) == {"good": out}


def test_where_nothing_was_ever_served_there_is_none(tmp_path: Path) -> None:
    assert served_of_all(str(tmp_path / "lib"), str(tmp_path / "run")) == {}


def test_what_cannot_be_written_is_an_error_of_one_line(store: FileStore) -> None:
    file_of(store, "pending.json").mkdir()
    with pytest.raises(HostError) as caught:
        store.mark_pending(PENDING)
    assert str(caught.value).startswith(f"{file_of(store, 'pending.json')}: ")
    assert "\n" not in str(caught.value)


# --- locks ----------------------------------------------------------------------------------------

HOLDER = """
import sys
from pf_agent.files.store import FileStore
store = FileStore(*sys.argv[1:3])
if sys.argv[3] == "activation":
    assert store.hold_activation()
    print("held", flush=True)
    sys.stdin.readline()
else:
    with store.lock():
        print("held", flush=True)
        sys.stdin.readline()
"""


@contextmanager
def held_elsewhere(store: FileStore, lock: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `lock` until a line comes, or its end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.directory, store.run_directory, lock],
        env={**os.environ, "PYTHONPATH": AGENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_one_process_reconciles_at_a_time(store: FileStore) -> None:
    impatient = Locks(store.run_directory, seconds=0.0)
    with held_elsewhere(store, "reconcile") as holder:
        told = pytest.raises(HostError, match="another pf-agent has held it for 0 s")
        with told, impatient.reconciling():
            pytest.fail("two processes hold the lock")
        holder.communicate("go on\n")
        with store.lock():
            pass


def test_the_lock_of_a_killed_process_is_free(store: FileStore) -> None:
    with held_elsewhere(store, "reconcile") as holder:
        holder.kill()
        holder.wait()
        with store.lock():
            pass


def test_the_lock_is_freed_after_an_error(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with a_store(tmp_path).lock():
        pass


def test_one_process_activates_at_a_time(store: FileStore) -> None:
    with held_elsewhere(store, "activation") as holder:
        assert not store.hold_activation()
        holder.kill()
        holder.wait()
        assert store.hold_activation()


def test_activation_may_be_asked_for_again_and_is_released(
    store: FileStore, tmp_path: Path
) -> None:
    assert store.hold_activation()
    assert store.hold_activation()
    assert not a_store(tmp_path).hold_activation()
    store.release_activation()
    assert a_store(tmp_path).hold_activation()


def test_who_activates_does_not_hinder_who_reconciles(store: FileStore) -> None:
    with held_elsewhere(store, "activation"), store.lock():
        assert not store.hold_activation()


# --- for readers of the moment --------------------------------------------------------------------


def test_everybody_may_read_the_status_whatever_the_umask(store: FileStore) -> None:
    before = os.umask(0o077)
    try:
        store.write_status({"summary": "in sync", "pid": os.getpid()})
    finally:
        os.umask(before)
    path = Path(store.run_directory, "status.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert read_status(store.run_directory) == {"summary": "in sync", "pid": os.getpid()}


def test_no_status_once_it_is_withdrawn_or_its_daemon_is_dead(store: FileStore) -> None:
    assert read_status(store.run_directory) is None
    store.write_status({"pid": os.getpid()})
    store.remove_status()
    assert read_status(store.run_directory) is None
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    store.write_status({"pid": process.pid})
    assert read_status(store.run_directory) is None


@pytest.mark.parametrize("damage", ["", "[]", "{"])
def test_a_damaged_status_is_an_error(store: FileStore, damage: str) -> None:
    Path(store.run_directory, "status.json").write_text(damage)
    with pytest.raises(HostError, match=r"status\.json: .*restart pf-agent\.service"):
        read_status(store.run_directory)


def test_restarts_round_trip(store: FileStore, tmp_path: Path) -> None:
    assert store.restarts() == ()
    store.note_restarts((1.5, 2.5))
    assert store.restarts(names.WISHED_RESTARTS) == ()
    store.note_restarts((9.0,), names.WISHED_RESTARTS)
    assert a_store(tmp_path).restarts() == (1.5, 2.5)
    assert a_store(tmp_path).restarts(names.WISHED_RESTARTS) == (9.0,)


@pytest.mark.parametrize("damage", [b"", b"{", b"5", b"null", b'["x"]', b"[null]", b"\xff"])
def test_damaged_restarts_are_none(store: FileStore, damage: bytes) -> None:
    Path(store.run_directory, "restarts.json").write_bytes(damage)
    assert store.restarts() == ()


def test_drifts_round_trip(store: FileStore, tmp_path: Path) -> None:
    assert store.drifts() == {}
    store.note_drifts({"mynetworks": (1.5, 2.5), "relayhost": (3.0,)})
    assert a_store(tmp_path).drifts() == {"mynetworks": (1.5, 2.5), "relayhost": (3.0,)}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"5", b"null", b"[1]", b'{"a": 5}', b'{"a": ["x"]}', b"\xff"]
)
def test_damaged_drifts_are_none(store: FileStore, damage: bytes) -> None:
    Path(store.run_directory, "drifts.json").write_bytes(damage)
    assert store.drifts() == {}


# --- more than one Postfix ------------------------------------------------------------------------


def test_each_instance_has_its_own_folders(tmp_path: Path) -> None:
    folders = str(tmp_path / "lib"), str(tmp_path / "run")
    default = FileStore.of_instance(names.DEFAULT_INSTANCE, *folders)
    other = FileStore.of_instance("out", *folders)
    for store in (other, default):
        store.prepare()
    assert (default.directory, default.run_directory) == folders
    assert other.directory == f"{folders[0]}/instances/out"
    assert other.run_directory == f"{folders[1]}/instances/out"
    other.mark_pending(PENDING)
    assert default.pending() is None
    with other.lock(), default.lock():
        assert other.hold_activation()
        assert default.hold_activation()
