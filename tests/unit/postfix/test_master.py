"""Whether a master is seen to live by its sockets; a real master is asked on a machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pf_agent.postfix.master import lives


class Queue:
    """A queue of Postfix's with sockets in it, held or left behind."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def bind(self, name: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX, kind))
        here = os.open(path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
        if kind == socket.SOCK_STREAM:
            listener.listen(0)
        return listener

    def lives(self) -> bool:
        return lives(str(self.folder))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with ExitStack() as stack:
        yield Queue(tmp_path, stack)


def test_who_holds_a_socket_lives_and_is_not_disturbed(queue: Queue) -> None:
    listener = queue.bind("private/retry")
    assert queue.lives()
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_socket_that_was_left_behind_proves_nothing(queue: Queue) -> None:
    queue.bind("private/retry").close()
    assert (queue.folder / "private" / "retry").is_socket()
    assert not queue.lives()


def test_one_of_several_will_do(queue: Queue) -> None:
    queue.bind("private/anvil").close()
    queue.bind("public/showq")
    assert queue.lives()


def test_a_program_that_outlives_master_does_not_count(queue: Queue) -> None:
    """smtp that still delivers holds its service's socket."""
    queue.bind("private/retry").close()
    queue.bind("private/smtp")
    assert not queue.lives()


def test_another_master_cf_has_other_sockets(queue: Queue) -> None:
    queue.bind("public/postlog", socket.SOCK_DGRAM)
    assert queue.lives()


def test_a_queue_with_a_long_name(queue: Queue) -> None:
    queue.folder = queue.folder / ("x" * 120)
    queue.bind("private/retry")
    assert queue.lives()


def test_no_queue_no_master(queue: Queue) -> None:
    assert not queue.lives()
    assert not lives(str(queue.folder / "absent"))
    (queue.folder / "public").mkdir()
    (queue.folder / "public" / "showq").touch()
    assert not queue.lives()
