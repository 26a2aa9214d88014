"""Files as a whole: read where they are regular and not too large, and written whole or not at all.

Nobody who is asked for a file may hold us up or take our memory, so what is opened here is looked
at before it is read: a FIFO waits for a writer, and a device need not end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final, NamedTuple

from pf_agent.errors import HostError
from pf_agent.files import sandbox
from pf_agent.files.linux import READ, close, contents, fill

# No file of ours comes near it: the largest is a main.cf.
MOST_BYTES: Final = 64 * 1024 * 1024
_ROOM: Final = "free space or mend the folder"


class Unfit(OSError):
    """What stands there cannot be read as a whole: no regular file, or a huge one."""


class Opened(NamedTuple):
    """A regular file, open for reading."""

    handle: int
    status: os.stat_result


@contextmanager
def held(handle: int, otherwise: str = "it is no regular file") -> Iterator[Opened]:
    """Hold an open file until the end. Raises Unfit, with what is `otherwise`; OSError."""
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Unfit(errno.EINVAL, otherwise)
        yield Opened(handle, status)
    finally:
        close(handle)


def opened(path: str, is_followed: bool = False) -> AbstractContextManager[Opened]:
    """Open a file to be `held`; a link is one only where it `is_followed`. Raises OSError."""
    return held(os.open(path, READ if is_followed else READ | os.O_NOFOLLOW))


def read_whole(path: str, is_followed: bool = False) -> bytes:
    """Return a regular file's bytes. Raises Unfit, OSError."""
    with opened(path, is_followed) as file:
        if file.status.st_size > MOST_BYTES:
            raise Unfit(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes", path)
        return contents(file.handle, file.status.st_size, MOST_BYTES)


def read_ours(path: str) -> bytes | None:
    """Return what a file of ours holds; None where there is none. Raises HostError."""
    try:
        return read_whole(path)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise HostError(f"{path}: {error.strerror}; run as root") from error
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; move away what is there") from error


def half_written(path: str) -> str:
    """Return where the file is written before it gets its name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.new")


def write_whole(path: str, data: bytes, mode: int, durable: bool) -> None:
    """Put `data` in the file's place at once, synced first where `durable`. Raises HostError."""
    try:
        _put(path, data, mode, durable)
    except OSError as error:
        raise host_error(path, error) from error


def write_textfile(path: str, text: bytes) -> None:
    """Put a file of the metrics' collector in place, readable by everybody. Raises HostError.

    The collector passes over the name under which it is half written: it reads what ends in .prom.
    """
    try:
        _put(path, text, 0o644, durable=False)
    except OSError as error:
        way_out = _ROOM
        if error.errno == errno.ENOENT:
            way_out = "install prometheus-node-exporter, or mend [metrics] textfile in agent.toml"
        raise host_error(path, error, way_out) from error


def host_error(path: str, error: OSError, way_out: str = _ROOM) -> HostError:
    """Return what is told of an error at `path`; a read-only place has a way out of its own."""
    return HostError(f"{path}: {error.strerror or error}; {sandbox.way_out(path, error, way_out)}")


def remove(path: str) -> None:
    """Remove a file, there or not. Raises HostError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise host_error(path, error, "mend the folder") from error


def _put(path: str, data: bytes, mode: int, durable: bool) -> None:
    """Write it beside, and rename it over what is there. Raises OSError.

    Through a handle of the folder, so that both names are in the same one, whatever is done to it
    meanwhile. Neither is followed where it is a link: others may write to some of these folders.
    """
    folder, name = os.path.split(path)
    temporary = os.path.basename(half_written(path))
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)  # a crash left it
        try:
            _fill_new(temporary, place, data, mode, durable)
            os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=place)
            raise
        if durable:
            os.fsync(place)
    finally:
        close(place)


def _fill_new(name: str, folder: int, data: bytes, mode: int, durable: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    handle = os.open(name, flags, mode, dir_fd=folder)
    try:
        os.fchmod(handle, mode)
        fill(handle, data)
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)
