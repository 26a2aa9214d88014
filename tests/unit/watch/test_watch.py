"""The watch on the real inotify: what is heard, what is not, and how a blind watch is mended."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from watchdog.observers import inotify_c

from pf_agent.files.trusted import is_guarded
from pf_agent.model import Reason, Trigger
from pf_agent.watch.watch import Watch
from tests.package import AGENT

PATIENCE = 20.0  # seconds; only a failing test waits that long

# Watchdog 7 watches a file by its folder, has one thread a path, and keeps overflows to itself.
one_descriptor = pytest.mark.skipif(
    not hasattr(inotify_c, "Inotify"), reason="left to the periodic look with this watchdog"
)


class Host:
    """An /etc of our own, and the mailbox that its watch posts to."""

    def __init__(self, root: Path) -> None:
        self.etc = root / "etc"
        self.main_cf = self.etc / "postfix" / "main.cf"
        self.aliases = self.etc / "aliases"
        self.config = self.etc / "pf-agent"
        self.elsewhere = root / "elsewhere"
        for folder in (self.main_cf.parent, self.config, self.elsewhere):
            folder.mkdir(parents=True)
        self.main_cf.write_text("a = 1\n")
        self.aliases.write_text("root: postmaster\n")
        # Not touched this instant, as a real one: chmod(2) then moves ctime away from mtime.
        os.utime(self.main_cf, (1e9, 1e9))
        self.mailbox: SimpleQueue[Trigger] = SimpleQueue()
        self.watch = self.watch_with(self.mailbox.put)

    def watch_with(self, post: Callable[[Trigger], None]) -> Watch:
        watch = Watch(str(self.config), post, is_guarded)
        assert watch.follow("-", str(self.main_cf), (str(self.aliases),)) == ""
        return watch

    def next(self) -> Trigger:
        try:
            return self.mailbox.get(timeout=PATIENCE)
        except Empty:
            pytest.fail("no trigger came")

    def wait_for(self, reason: Reason, detail: str = "") -> Trigger:
        while True:
            trigger = self.next()
            if trigger.reason is reason and detail in trigger.detail:
                return trigger

    def heard(self) -> list[Trigger]:
        """All that came until now: a change that must be heard is made, and ends the list."""
        fence = self.etc / "fence"
        self.aliases.rename(fence)
        heard = []
        while (trigger := self.next()).reason is not Reason.ALIASES:
            heard.append(trigger)
        fence.rename(self.aliases)
        self.wait_for(Reason.ALIASES)
        return heard


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    assert host.watch.ensure() == ""
    yield host
    host.watch.close()


def append(main_cf: Path) -> None:
    with main_cf.open("a") as file:
        file.write("b = 2\n")


def rewrite(main_cf: Path) -> None:
    main_cf.write_text("a = 2\n")


def truncate(main_cf: Path) -> None:
    main_cf.write_text("")


def rename_over(main_cf: Path) -> None:
    new = main_cf.with_name("main.cf.tmp")
    new.write_text("a = 3\n")
    new.replace(main_cf)


def exchange(main_cf: Path) -> None:
    new = main_cf.with_name("ours")
    new.write_text("a = 3\n")
    libc = ctypes.CDLL(None, use_errno=True)
    at_fdcwd, rename_exchange = -100, 2
    assert not libc.renameat2(
        at_fdcwd, os.fsencode(new), at_fdcwd, os.fsencode(main_cf), rename_exchange
    )


def move_in(main_cf: Path) -> None:
    new = main_cf.parents[2] / "elsewhere" / "new"
    new.write_text("a = 4\n")
    new.rename(main_cf)


def move_out(main_cf: Path) -> None:
    main_cf.rename(main_cf.parents[2] / "elsewhere" / "old")


def move_aside(main_cf: Path) -> None:
    main_cf.rename(main_cf.with_name("main.cf~"))


def delete(main_cf: Path) -> None:
    main_cf.unlink()


def chmod(main_cf: Path) -> None:
    main_cf.chmod(0o600)


def replace_by_symlink(main_cf: Path) -> None:
    main_cf.unlink()
    main_cf.symlink_to("/dev/null")


def replace_by_hard_link(main_cf: Path) -> None:
    other = main_cf.parents[2] / "elsewhere" / "other"
    other.write_text("a = 5\n")
    main_cf.unlink()
    os.link(other, main_cf)


def write_through_hard_link(main_cf: Path) -> None:
    other = main_cf.parents[2] / "elsewhere" / "other"
    os.link(main_cf, other)
    append(other)


@pytest.mark.parametrize(
    "save",
    [
        append,
        rewrite,
        truncate,
        rename_over,
        exchange,
        move_in,
        move_out,
        move_aside,
        delete,
        chmod,
        replace_by_symlink,
        replace_by_hard_link,
        pytest.param(write_through_hard_link, marks=one_descriptor),
    ],
)
def test_every_way_of_saving_is_heard_at_once(host: Host, save: Callable[[Path], None]) -> None:
    save(host.main_cf)
    host.wait_for(Reason.MAIN_CF, str(host.main_cf))


@one_descriptor
@pytest.mark.parametrize("change", [chmod, move_out, delete])
def test_a_change_without_a_writer_is_never_taken_for_a_write(
    host: Host, change: Callable[[Path], None]
) -> None:
    change(host.main_cf)
    assert {each.reason for each in host.heard()} == {Reason.MAIN_CF}


def test_a_writer_that_holds_the_file_open_is_told_apart(host: Host) -> None:
    with host.main_cf.open("a") as file:
        file.write("b = 2\n")
        file.flush()
        assert host.next().reason is Reason.MAIN_CF_OPEN
    host.wait_for(Reason.MAIN_CF)


@one_descriptor
def test_a_write_through_a_symbolic_link_is_heard(host: Host) -> None:
    target = host.elsewhere / "real"
    target.write_text("a = 1\n")
    host.main_cf.unlink()
    host.main_cf.symlink_to(target)
    host.watch.ensure()
    host.heard()
    append(target)
    host.wait_for(Reason.MAIN_CF, "closed")


@one_descriptor
def test_another_file_in_its_place_is_looked_at_again_once_it_is_watched(host: Host) -> None:
    """It may have been written through a second name after the look, and before it was watched."""
    rename_over(host.main_cf)
    host.heard()
    second = host.elsewhere / "second"
    second.hardlink_to(host.main_cf)
    append(second)
    host.heard()
    assert host.watch.ensure() == ""
    assert host.wait_for(Reason.MAIN_CF, "watching").instance == "-"
    append(second)
    host.wait_for(Reason.MAIN_CF, "closed")
    host.heard()
    assert host.watch.ensure() == ""
    assert host.heard() == []


def test_changes_are_told_in_their_order_where_that_is_said(host: Host) -> None:
    for _ in range(200):
        rewrite(host.config / "desired.toml")
        rename_over(host.main_cf)
    told = [trigger.reason is Reason.CONFIGURATION for trigger in host.heard()]
    turns = [kind for kind, _ in itertools.groupby(told)]
    if host.watch.is_in_order():
        assert turns == [True, False] * 200
    else:
        assert set(turns) == {True, False}


def test_reading_posts_nothing(host: Host) -> None:
    for _ in range(1000):
        host.main_cf.read_text()
        os.listdir(host.main_cf.parent)
    assert host.heard() == []


def test_other_files_post_nothing(host: Host) -> None:
    for folder in (host.etc, host.main_cf.parent, host.config):
        rewrite(folder / "master.cf")
        rename_over(folder / "main.cf.proto")
    host.main_cf.parent.chmod(0o755)
    assert host.heard() == []


@pytest.mark.parametrize("name", ["agent.toml", "desired.toml", "desired.d/10-site.toml"])
@pytest.mark.parametrize("save", [rewrite, rename_over])
def test_a_configuration_file_is_heard(host: Host, name: str, save: Callable[[Path], None]) -> None:
    (host.config / "desired.d").mkdir()
    host.wait_for(Reason.CONFIGURATION)
    host.watch.ensure()
    host.heard()
    save(host.config / name)
    assert host.next().reason is Reason.CONFIGURATION


def test_a_half_written_configuration_is_not_looked_at(host: Host) -> None:
    rewrite(host.config / "desired.toml")
    host.heard()
    with (host.config / "desired.toml").open("a") as file:
        file.write("[setti")
        file.flush()
        assert host.heard() == []
        file.write("ngs]\n")
    host.wait_for(Reason.CONFIGURATION, "closed")


def test_a_drop_in_in_a_new_folder_is_heard(host: Host) -> None:
    dropins = host.config / "desired.d"
    dropins.mkdir()
    host.wait_for(Reason.CONFIGURATION, "created")
    # Written before the look that the new folder asked for: that look posts another.
    rewrite(dropins / "early.toml")
    assert host.watch.ensure() == f"now watching {dropins}"
    host.wait_for(Reason.CONFIGURATION, "watching")
    assert host.watch.ensure() == ""
    rewrite(dropins / "late.toml")
    host.wait_for(Reason.CONFIGURATION, "late.toml")
    shutil.rmtree(dropins)
    host.wait_for(Reason.CONFIGURATION, f"deleted: {dropins}")


def test_a_configuration_folder_that_comes_later_is_heard(host: Host) -> None:
    host.config.rmdir()
    host.wait_for(Reason.CONFIGURATION, "deleted")
    assert host.watch.ensure() == ""
    host.config.mkdir()
    host.wait_for(Reason.CONFIGURATION, "created")
    host.watch.ensure()
    rewrite(host.config / "agent.toml")
    host.wait_for(Reason.CONFIGURATION, "agent.toml")


@pytest.mark.parametrize("save", [append, rename_over, delete])
def test_the_alias_file_is_heard(host: Host, save: Callable[[Path], None]) -> None:
    save(host.aliases)
    host.wait_for(Reason.ALIASES, str(host.aliases))


def kernel_watches() -> int:
    """How many inotify watches this process holds (proc(5), fdinfo)."""
    texts = [file.read_text() for file in Path("/proc/self/fdinfo").iterdir() if file.exists()]
    return sum(text.count("inotify wd:") for text in texts)


def test_another_alias_file(host: Host) -> None:
    watches = kernel_watches()
    aliases = host.elsewhere / "aliases"
    assert host.watch.follow("-", str(host.main_cf), (str(aliases),)) == ""
    rewrite(host.aliases)
    rewrite(aliases)
    assert str(aliases) in host.next().detail
    assert host.watch.follow("-", str(host.main_cf), (str(host.aliases),)) == ""
    rewrite(aliases)
    assert [each for each in host.heard() if "elsewhere" in each.detail] == []
    assert kernel_watches() == watches


def test_each_instance_hears_of_its_own_main_cf(host: Host) -> None:
    other = host.etc / "postfix-out" / "main.cf"
    other.parent.mkdir()
    other.write_text("a = 1\n")
    watches = kernel_watches()
    assert host.watch.follow("out", str(other), (str(host.aliases),)) == ""
    rename_over(other)
    assert {trigger.instance for trigger in host.heard()} == {"out"}
    rename_over(host.main_cf)
    assert {trigger.instance for trigger in host.heard()} == {"-"}
    rewrite(host.aliases)
    assert host.wait_for(Reason.ALIASES).instance is None
    host.watch.unfollow("out")
    assert host.watch.ensure() == ""
    host.heard()
    rename_over(other)
    assert host.heard() == []
    assert kernel_watches() == watches


def test_an_alias_file_behind_a_symbolic_link(host: Host) -> None:
    target = host.elsewhere / "shared-aliases"
    rewrite(target)
    host.aliases.unlink()
    host.aliases.symlink_to(target)
    host.watch.ensure()
    rewrite(target)
    host.wait_for(Reason.ALIASES, str(target))


# --- configuration files that are links -----------------------------------------------------------


@pytest.fixture
def checkout(host: Host) -> Path:
    """A folder of a checkout that a drop-in and desired.d may lead to."""
    (host.config / "desired.d").mkdir()
    hears(host, host.config / "desired.d")
    found = host.elsewhere / "checkout" / "mail"
    found.mkdir(parents=True)
    (found / "50.toml").write_text("[settings]\n")
    return found


def link_a_drop_in(host: Host, target: Path | str) -> None:
    link = host.config / "desired.d" / "50.toml"
    link.symlink_to(target)
    host.wait_for(Reason.CONFIGURATION, str(link))
    host.watch.ensure()
    assert host.watch.ensure() == ""
    host.heard()


def hears(host: Host, path: Path) -> None:
    """The change of it was heard, and a look has followed."""
    host.wait_for(Reason.CONFIGURATION, str(path))
    host.watch.ensure()
    host.heard()


@pytest.mark.parametrize("save", [append, rewrite, rename_over, delete, chmod])
def test_a_drop_in_that_is_a_link_is_heard_at_its_target(
    host: Host, checkout: Path, save: Callable[[Path], None]
) -> None:
    link_a_drop_in(host, checkout / "50.toml")
    save(checkout / "50.toml")
    hears(host, checkout / "50.toml")
    rename_over(checkout / "50.toml")
    hears(host, checkout / "50.toml")


@pytest.mark.parametrize("name", ["agent.toml", "desired.toml"])
def test_so_is_each_file_of_the_configuration(host: Host, checkout: Path, name: str) -> None:
    (host.config / name).symlink_to(checkout / "50.toml")
    hears(host, host.config / name)
    rewrite(checkout / "50.toml")
    hears(host, checkout / "50.toml")


def test_a_link_over_several_steps_is_heard_at_each(host: Host, checkout: Path) -> None:
    """As deployments have it that switch a link to a folder: the last step is relative."""
    current, other = host.elsewhere / "current", host.elsewhere / "other"
    shutil.copytree(checkout, other)
    current.symlink_to("checkout/mail")
    middle = host.elsewhere / "middle"
    middle.symlink_to(current / "50.toml")
    link_a_drop_in(host, middle)
    rewrite(checkout / "50.toml")
    hears(host, checkout / "50.toml")
    new = host.elsewhere / "new"
    new.symlink_to("other")
    new.rename(current)
    hears(host, current)
    rewrite(other / "50.toml")
    hears(host, other / "50.toml")
    rewrite(checkout / "50.toml")
    assert host.heard() == [], "nothing leads there any more"
    middle.unlink()
    hears(host, middle)


def test_the_link_itself_may_lead_elsewhere_by_now(host: Host, checkout: Path) -> None:
    link_a_drop_in(host, checkout / "50.toml")
    rewrite(checkout / "60.toml")
    assert host.heard() == []
    new = host.config / "desired.d" / ".new"
    new.symlink_to(checkout / "60.toml")
    new.rename(host.config / "desired.d" / "50.toml")
    hears(host, host.config / "desired.d" / "50.toml")
    rewrite(checkout / "60.toml")
    hears(host, checkout / "60.toml")


def test_a_checkout_that_is_replaced_is_heard(host: Host, checkout: Path) -> None:
    link_a_drop_in(host, checkout / "50.toml")
    shutil.copytree(checkout, checkout.with_name("new"))
    checkout.rename(checkout.with_name("old"))
    checkout.with_name("new").rename(checkout)
    hears(host, checkout)
    rewrite(checkout / "50.toml")
    hears(host, checkout / "50.toml")


def test_a_checkout_that_is_gone_is_awaited(host: Host, checkout: Path) -> None:
    link_a_drop_in(host, checkout / "50.toml")
    shutil.rmtree(checkout.parent)
    hears(host, checkout)
    checkout.parent.mkdir()
    hears(host, checkout.parent)
    checkout.mkdir()
    hears(host, checkout)
    rewrite(checkout / "50.toml")
    hears(host, checkout / "50.toml")


def test_a_folder_of_drop_ins_that_is_a_link_is_heard_at_its_target(
    host: Host, checkout: Path
) -> None:
    (host.config / "desired.d").rmdir()
    step = host.elsewhere / "step"
    step.symlink_to(checkout)
    (host.config / "desired.d").symlink_to(step)
    hears(host, host.config / "desired.d")
    rewrite(checkout / "60.toml")
    hears(host, checkout / "60.toml")
    shared = host.elsewhere / "shared.toml"
    rewrite(shared)
    (checkout / "70.toml").symlink_to(shared)
    hears(host, checkout / "70.toml")
    rewrite(shared)
    hears(host, shared)
    step.unlink()
    hears(host, step)


def test_a_circle_of_links_holds_nobody_up(host: Host, checkout: Path) -> None:
    one, other = checkout / "one", checkout / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    link_a_drop_in(host, one)
    other.unlink()
    hears(host, other)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("whose", ["the file", "the folder"])
def test_a_link_to_where_others_write_wakes_nobody(host: Host, checkout: Path, whose: str) -> None:
    """Nobody obeys it, so it is not worth a look either."""
    os.chown(checkout / "50.toml" if whose == "the file" else checkout, 65534, 65534)
    link_a_drop_in(host, checkout / "50.toml")
    rewrite(checkout / "50.toml")
    assert host.heard() == []


# --- the watch itself -----------------------------------------------------------------------------


def waits(threads: Iterable[threading.Thread]) -> dict[str, int]:
    """How often each of our threads has begun to wait, and so was woken up before (proc(5))."""
    found = {}
    for thread in threads:
        text = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        (line,) = (x for x in text.splitlines() if x.startswith("voluntary_ctxt_switches:"))
        found[thread.name] = int(line.split()[1])
    return found


@one_descriptor
def test_what_happens_wakes_one_thread_of_watchdogs_alone(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    host = Host(tmp_path)
    host.watch.ensure()
    threads = set(threading.enumerate()) - before
    assert len(threads) == 3

    def woken() -> set[str]:
        at_first = waits(threads)
        for name in (".main.cf.pf-agent-1", "main.cf.tmp", "main.cf"):
            rewrite(host.main_cf.with_name(name))
        host.wait_for(Reason.MAIN_CF, "closed")
        host.heard()
        return {name for name, count in waits(threads).items() if count > at_first[name]}

    # The others may not have come to their rest when it begins, and where the processors are busy
    # the one that is woken may find all there is before it waits again.
    rounds = [woken() for _ in range(10)]
    assert min(len(names) for names in rounds if names) == 1, rounds
    host.watch.close()


@one_descriptor
def test_the_new_inode_is_watched_and_the_old_one_is_not(host: Host) -> None:
    old, new = host.elsewhere / "old", host.elsewhere / "new"
    os.link(host.main_cf, old)
    rename_over(host.main_cf)
    os.link(host.main_cf, new)
    assert host.watch.ensure() == ""
    host.heard()
    append(old)
    assert host.heard() == []
    append(new)
    host.wait_for(Reason.MAIN_CF, "closed")


def test_what_values_name_is_watched_beside_the_rest(host: Host) -> None:
    tables = host.etc / "tables"
    tables.mkdir()
    named = tables / "clients.db"
    assert host.watch.follow_named("-", (str(named),)) == ""
    host.heard()
    named.write_text("a")
    host.wait_for(Reason.NAMED, "closed")
    named.unlink()
    host.wait_for(Reason.NAMED, "deleted")
    # To follow other alias files leaves it watched.
    assert host.watch.follow("-", str(host.main_cf), (str(host.etc / "others"),)) == ""
    named.write_text("a")
    host.wait_for(Reason.NAMED, "closed")


def test_sources_of_tables_are_watched_beside_what_values_name(host: Host) -> None:
    tables = host.etc / "tables"
    tables.mkdir()
    named, source = tables / "clients.db", tables / "clients"
    assert host.watch.follow_tables("-", (str(source),)) == ""
    assert host.watch.follow_named("-", (str(named),)) == ""
    host.heard()
    source.write_text("a")
    host.wait_for(Reason.NAMED, f"closed: {source}")
    named.write_text("a")
    host.wait_for(Reason.NAMED, f"closed: {named}")
    assert host.watch.follow_tables("-", ()) == ""
    host.heard()
    source.write_text("b")
    assert host.heard() == []
    # To follow other alias files leaves them watched.
    assert host.watch.follow_tables("-", (str(source),)) == ""
    assert host.watch.follow("-", str(host.main_cf), (str(host.etc / "others"),)) == ""
    source.write_text("c")
    host.wait_for(Reason.NAMED, f"closed: {source}")


def test_a_folder_moved_away_and_made_again(host: Host) -> None:
    folder = host.main_cf.parent
    folder.rename(host.etc / "gone")
    host.wait_for(Reason.MAIN_CF, str(folder))
    assert host.watch.ensure().startswith(f"cannot watch {folder}: No such file or directory")
    folder.mkdir()
    host.wait_for(Reason.MAIN_CF, f"created: {folder}")
    assert host.watch.ensure() == f"now watching {folder}"
    host.wait_for(Reason.MAIN_CF, "watching")
    assert host.watch.ensure() == ""
    append(host.etc / "gone" / "main.cf")
    assert host.heard() == []
    rewrite(host.main_cf)
    host.wait_for(Reason.MAIN_CF, "closed")


@one_descriptor
def test_a_folder_replaced_between_two_looks(host: Host) -> None:
    folder = host.main_cf.parent
    for _ in range(3):  # a file system may give the new folder the old one's inode number
        shutil.rmtree(folder)
        folder.mkdir()
        assert host.watch.ensure() == f"now watching {folder}"
        rewrite(host.main_cf)
        host.wait_for(Reason.MAIN_CF, "closed")


def test_a_folder_behind_a_symbolic_link(tmp_path: Path) -> None:
    host = Host(tmp_path)
    folder = host.main_cf.parent
    folder.rename(host.elsewhere / "first")
    shutil.copytree(host.elsewhere / "first", host.elsewhere / "second")
    folder.symlink_to(host.elsewhere / "first")
    assert host.watch.ensure() == ""
    append(host.elsewhere / "first" / "main.cf")
    host.wait_for(Reason.MAIN_CF, "closed")
    folder.unlink()
    folder.symlink_to(host.elsewhere / "second")
    host.wait_for(Reason.MAIN_CF, f"created: {folder}")
    host.watch.ensure()
    host.heard()
    append(host.elsewhere / "first" / "main.cf")
    assert host.heard() == []
    append(host.elsewhere / "second" / "main.cf")
    host.wait_for(Reason.MAIN_CF, "closed")
    host.watch.close()


@pytest.mark.parametrize("is_own", [True, False], ids=["its own", "the root"])
def test_a_link_to_a_folder_in_its_place_ends_no_watch(tmp_path: Path, is_own: bool) -> None:
    """The kernel has one watch for a folder, by whatever name it was asked for."""
    before = set(threading.enumerate())
    host = Host(tmp_path)
    host.watch.ensure()
    threads = set(threading.enumerate()) - before
    for _ in range(2):
        link = host.elsewhere / "link"
        link.symlink_to(host.main_cf.parent if is_own else "/")
        link.rename(host.main_cf)
        assert host.watch.ensure() == ""
        new = host.elsewhere / "new"
        new.write_text("a = 2\n")
        new.rename(host.main_cf)
        assert host.watch.ensure() == ""
        host.heard()
        rename_over(host.main_cf)
        host.wait_for(Reason.MAIN_CF, str(host.main_cf))
        assert host.watch.ensure() == ""
    host.watch.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_nothing_is_heard_after_close_and_no_thread_stays(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    host = Host(tmp_path)
    host.watch.ensure()
    threads = set(threading.enumerate()) - before
    assert threads
    host.watch.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    rewrite(host.main_cf)
    assert host.mailbox.empty()


def test_an_error_in_the_event_becomes_a_trigger(tmp_path: Path) -> None:
    host = Host(tmp_path)
    faults = [OSError("the mailbox is odd")]

    def post(trigger: Trigger) -> None:
        if faults:
            raise faults.pop()
        host.mailbox.put(trigger)

    host.watch = host.watch_with(post)
    host.watch.ensure()
    delete(host.main_cf)
    assert "the mailbox is odd" in host.wait_for(Reason.MAIN_CF).detail
    assert host.watch.ensure() == ""
    rewrite(host.main_cf)
    host.wait_for(Reason.MAIN_CF, "closed")
    host.watch.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_found_and_replaced(tmp_path: Path) -> None:
    host = Host(tmp_path)
    died = threading.Event()
    faults = [OSError("first"), OSError("second")]

    def post(trigger: Trigger) -> None:
        if faults:
            raise faults.pop()
        host.mailbox.put(trigger)

    before = set(threading.enumerate())
    host.watch = host.watch_with(post)
    host.watch.ensure()
    threads = set(threading.enumerate()) - before
    delete(host.main_cf)
    while all(thread.is_alive() for thread in threads):
        died.wait(0.01)
    assert host.watch.ensure() == "the watch had ended and was started again"
    # What went unheard meanwhile is asked for.
    assert {host.next().reason for _ in range(3)} == {
        Reason.MAIN_CF,
        Reason.CONFIGURATION,
        Reason.ALIASES,
    }
    assert host.watch.ensure() == ""
    rewrite(host.main_cf)
    host.wait_for(Reason.MAIN_CF, "closed")
    host.watch.close()


def test_renames_are_not_kept_for_ever(host: Host) -> None:
    names = [host.etc / "one", host.etc / "two"]
    rewrite(names[0])
    for number in range(2000):
        names[number % 2].rename(names[1 - number % 2])
    assert host.heard() == []
    kept = [each for each in gc.get_objects() if type(each).__name__ == "InotifyEvent"]
    assert len(kept) < 100


# A process of its own, which can be stopped, or started where the kernel grants little.
CHILD = """
import sys
from pf_agent.watch.watch import Watch
limit, main_cf, aliases, config = sys.argv[1:]
def say(text): print(text, flush=True)
def post(trigger): say(f"{trigger.reason.value}: {trigger.detail}")
watch = Watch(config, post, bool)
watch.follow("-", main_cf, (aliases,))
def set_limit(number):
    if limit:
        with open(f"/proc/sys/user/{limit}", "w") as file:
            file.write(str(number))
for line in sys.stdin:
    set_limit(line)
    say("ensure: " + watch.ensure())
    say(f"patience: {watch.patience()}")
"""


class Child:
    def __init__(self, host: Host, limit: str = "", *wrap: str) -> None:
        paths = (str(host.main_cf), str(host.aliases), str(host.config))
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "-c", CHILD, limit, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": AGENT},
        )
        self.said: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.put(line.rstrip("\n"))

    def ensure(self, limit: int = 0) -> str:
        assert self.process.stdin
        self.process.stdin.write(f"{limit}\n")
        self.process.stdin.flush()
        return self.wait_for("ensure: ").removeprefix("ensure: ")

    def wait_for(self, start: str) -> str:
        while True:
            try:
                line = self.said.get(timeout=PATIENCE)
            except Empty:
                pytest.fail(f"the child never said {start!r}")
            if line.startswith(start):
                return line

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@one_descriptor
def test_a_full_queue_is_heard(tmp_path: Path) -> None:
    host = Host(tmp_path)
    child = Child(host)
    assert child.ensure() == ""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    child.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.process.pid, os.WSTOPPED | os.WNOWAIT)
    other = host.etc / "other"
    for _ in range(limit // 3 + 100):  # created, closed, deleted
        other.touch()
        other.unlink()
    rewrite(host.main_cf)  # this one is lost
    child.process.send_signal(signal.SIGCONT)
    for reason in (Reason.MAIN_CF, Reason.CONFIGURATION, Reason.ALIASES):
        child.wait_for(f"{reason.value}: inotify queue overflow")
    assert child.ensure() == ""
    rewrite(host.main_cf)
    child.wait_for(f"{Reason.MAIN_CF.value}: closed: {host.main_cf}")
    child.end()


NEW_USER = ("unshare", "--user", "--map-root-user")


@pytest.fixture(scope="module")
def new_user() -> tuple[str, ...]:
    """A user namespace has limits of its own, so a test can lower them for itself alone."""
    if not shutil.which("unshare") or subprocess.run([*NEW_USER, "true"], check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    return NEW_USER


@pytest.mark.parametrize(
    ("limit", "low", "fact"),
    [
        ("max_inotify_instances", 0, "inotify instance limit reached"),
        ("max_inotify_watches", 0, "inotify watch limit reached"),
        ("max_inotify_watches", 2, "inotify watch limit reached"),
    ],
)
def test_limits_of_inotify_are_told_and_survived(
    tmp_path: Path, new_user: tuple[str, ...], limit: str, low: int, fact: str
) -> None:
    host = Host(tmp_path)
    child = Child(host, limit, *new_user)
    for _ in range(3):
        said = child.ensure(low)
        assert said.startswith("cannot watch ")
        assert f"{fact}; raise fs.inotify.max_user_" in said
        assert 9 < float(child.wait_for("patience: ").split()[1]) <= 10
        assert len(os.listdir(f"/proc/{child.process.pid}/fd")) < 12  # none is left open
    child.ensure(1000)
    assert child.ensure(1000) == ""
    child.wait_for("patience: None")
    rewrite(host.main_cf)
    child.wait_for(f"{Reason.MAIN_CF.value}: closed: {host.main_cf}")
    child.end()
