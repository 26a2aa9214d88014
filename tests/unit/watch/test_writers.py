"""Who wrote main.cf: the kernel's events taken apart, and real writers where they are told of."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.watch.writers import UNKNOWN, Writers, events

HANDLE = struct.pack("=Ii", 4, 1) + b"abcd"


def event(pid: int, name: bytes, handle: bytes = HANDLE, kind: int = 2) -> bytes:
    """One event as the kernel writes it (fanotify(7)), padded as it pads."""
    body = bytes(8) + handle + name + b"\0"
    body += bytes(-len(body) % 4)
    record = struct.pack("=BBH", kind, 0, 4 + len(body)) + body
    return struct.pack("=IBBHQii", 24 + len(record), 3, 0, 24, 8, -1, pid) + record


def test_an_event_names_process_folder_and_file() -> None:
    data = event(7, b"main.cf") + event(8, b"main.cf.tmp")
    assert list(events(data)) == [(7, HANDLE, b"main.cf"), (8, HANDLE, b"main.cf.tmp")]


def test_records_of_another_kind_are_passed_over() -> None:
    assert list(events(event(7, b"x", kind=1) + event(8, b"y"))) == [(8, HANDLE, b"y")]


@given(st.binary(max_size=200), st.integers(0, 60))
def test_a_cut_or_odd_event_ends_it_without_an_error(noise: bytes, cut: int) -> None:
    list(events(noise))
    list(events((event(7, b"main.cf") + noise)[: -cut or None]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text("a = 1\n")
    return tmp_path


@pytest.fixture
def writers(folder: Path) -> Writers:
    found = Writers()
    if not found.is_permitted or os.geteuid() != 0:
        pytest.skip("the kernel tells only root who wrote")
    found.follow(str(folder / "main.cf"))
    return found


def assert_named(writers: Writers, folder: Path) -> None:
    """Somebody writes main.cf, and is named while he is still there."""
    script = 'import sys, time; print("b = 1", file=open(sys.argv[1], "a"), flush=True); input()'
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", script, str(folder / "main.cf")], stdin=subprocess.PIPE
    ) as process:
        while b"b" not in (folder / "main.cf").read_bytes():
            time.sleep(0.001)
        written_at = os.stat(folder / "main.cf").st_ctime
        # On a busy host the kernel's word may be taken later than a record waits for it.
        for _ in range(500):
            found = writers.fields(str(folder / "main.cf"), written_at)
            if names.FIELD_WRITER_PID in found:
                break
            time.sleep(0.02)
        process.communicate(b"\n")
    assert found[names.FIELD_WRITER_PID] == str(process.pid)
    assert found[names.FIELD_WRITER].startswith("python3")


def test_a_writer_that_is_still_there_is_named(writers: Writers, folder: Path) -> None:
    assert_named(writers, folder)


def test_it_is_named_though_the_thread_got_no_processor(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    writers = Writers()
    if not writers.is_permitted or os.geteuid() != 0:
        pytest.skip("the kernel tells only root who wrote")
    writers.follow(str(folder / "main.cf"))
    script = 'import sys; print("b = 1", file=open(sys.argv[1], "a"))'
    subprocess.run(["/usr/bin/python3", "-c", script, str(folder / "main.cf")], check=True)
    found = writers.fields(str(folder / "main.cf"), os.stat(folder / "main.cf").st_ctime)
    assert found[names.FIELD_WRITER_PID].isdigit()


def test_a_writer_in_a_folder_that_was_replaced_is_named(writers: Writers, folder: Path) -> None:
    for number in range(3):
        folder.rename(folder.with_name(f"old-{number}"))
        folder.mkdir()
        (folder / "main.cf").write_text("a = 1\n")
        writers.follow(str(folder / "main.cf"))
    assert_named(writers, folder)


def test_one_that_wrote_before_is_not_taken_for_a_later_one(writers: Writers, folder: Path) -> None:
    subprocess.run(["sed", "-i", "s/1/2/", str(folder / "main.cf")], check=True)
    assert writers.fields(str(folder / "main.cf"), time.time() + 1) == UNKNOWN


def test_our_own_writing_is_nobody_elses(writers: Writers, folder: Path) -> None:
    (folder / "main.cf").write_text("a = 3\n")
    assert writers.fields(str(folder / "main.cf"), os.stat(folder / "main.cf").st_ctime) == UNKNOWN


def test_a_folder_that_is_not_followed_is_unknown(writers: Writers) -> None:
    writers.follow("/no/such/main.cf")
    assert writers.fields("/no/such/main.cf", 0.0) == UNKNOWN


def test_two_files_are_told_apart_also_in_one_folder(writers: Writers, folder: Path) -> None:
    for name in ("transport", "other/aliases"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a b\n")
        writers.follow(str(path))
        before = os.stat(path).st_ctime
        subprocess.run(["sed", "-i", "s/b/c/", str(path)], check=True)
        found: dict[str, str] = {}
        for _ in range(500):
            found = dict(writers.fields(str(path), os.stat(path).st_ctime))
            if names.FIELD_WRITER_PID in found:
                break
            time.sleep(0.02)
        assert found[names.FIELD_WRITER_PID].isdigit()
        assert os.stat(path).st_ctime >= before
    assert writers.fields(str(folder / "main.cf"), time.time() - 0.5) == UNKNOWN
    assert_named(writers, folder)
