"""Whole files: read if regular and not too large, and written completely or not at all.

No file that we read may block us or take our memory, so it is checked before it is read: a FIFO
waits for a writer, and a device may never end.
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

# No file of ours comes near this; the largest is a main.cf.
MOST_BYTES: Final = 64 * 1024 * 1024
_ROOM: Final = "free space or fix the directory"


class Unfit(OSError):
    """The file cannot be read as a whole: it is not a regular file, or it is huge."""


class Opened(NamedTuple):
    """A regular file, open for reading."""

    handle: int
    status: os.stat_result


@contextmanager
def held(handle: int, otherwise: str = "it is not a regular file") -> Iterator[Opened]:
    """Hold an open file until the end. Raises Unfit, with the reason `otherwise`; OSError."""
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Unfit(errno.EINVAL, otherwise)
        yield Opened(handle, status)
    finally:
        close(handle)


def opened(path: str, is_followed: bool = False) -> AbstractContextManager[Opened]:
    """Open a file to be `held`; links are followed only if `is_followed`. Raises OSError."""
    return held(os.open(path, READ if is_followed else READ | os.O_NOFOLLOW))


def read_whole(path: str, is_followed: bool = False) -> bytes:
    """Return a regular file's bytes. Raises Unfit, OSError."""
    with opened(path, is_followed) as file:
        if file.status.st_size > MOST_BYTES:
            raise Unfit(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes", path)
        return contents(file.handle, file.status.st_size, MOST_BYTES)


def read_if_fit(path: str) -> bytes:
    """Return what `read_whole` does, of a link its target's; b"" where it cannot be read."""
    try:
        return read_whole(path, is_followed=True)
    except OSError:
        return b""


def read_ours(path: str) -> bytes | None:
    """Return the contents of a file of ours; None if there is none. Raises HostError."""
    try:
        return read_whole(path)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise HostError(f"{path}: {error.strerror}; run as root") from error
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; move away what is there") from error


def half_written(path: str) -> str:
    """Return where the file is written before it gets its final name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.new")


def write_whole(path: str, data: bytes, mode: int, durable: bool) -> None:
    """Replace the file by `data` in one step, synced first if `durable`. Raises HostError."""
    try:
        _put(path, data, mode, durable)
    except OSError as error:
        raise host_error(path, error) from error


def write_textfile(path: str, text: bytes) -> None:
    """Put a file for the metrics' collector in place, readable by every user. Raises HostError.

    The collector ignores the temporary name: it only reads files that end in .prom.
    """
    try:
        _put(path, text, 0o644, durable=False)
    except OSError as error:
        way_out = _ROOM
        if error.errno == errno.ENOENT:
            way_out = "install prometheus-node-exporter, or fix [metrics] textfile in agent.toml"
        raise host_error(path, error, way_out) from error


def host_error(path: str, error: OSError, way_out: str = _ROOM) -> HostError:
    """Return the report of an error at `path`; a read-only place has its own remedy."""
    return HostError(f"{path}: {error.strerror or error}; {sandbox.way_out(path, error, way_out)}")


def remove(path: str) -> None:
    """Remove a file; it need not exist. Raises HostError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise host_error(path, error, "fix the directory") from error


def _put(path: str, data: bytes, mode: int, durable: bool) -> None:
    """Write it under a temporary name, and rename it over what is there. Raises OSError.

    Through a handle of the directory, so that both names are in the same one, whatever happens to
    it meanwhile. Links are not followed: others may write to some of these directories.
    """
    folder, name = os.path.split(path)
    temporary = os.path.basename(half_written(path))
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)  # left by a crash
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
