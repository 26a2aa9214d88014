"""The agent's own files: each read whole, where it is one, and written whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from pf_agent.errors import HostError
from pf_agent.files import sandbox
from pf_agent.files.linux import READ, close, contents, fill, sync_directory

# No file of ours comes near it: the largest is a main.cf.
MOST_BYTES = 64 * 1024 * 1024


def half_written(path: str) -> str:
    """Return where the file is written before it gets its name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.new")


def contents_of(path: str) -> bytes:
    """Return a regular file's bytes; a FIFO would hold us up until somebody writes to it.

    Raises OSError.
    """
    handle = os.open(path, READ | os.O_NOFOLLOW)
    try:
        opened = os.fstat(handle)
        if not stat.S_ISREG(opened.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        if opened.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes", path)
        return contents(handle, opened.st_size, MOST_BYTES)
    finally:
        close(handle)


def unwritten(path: str, error: OSError) -> HostError:
    """Return what is told of a file that could not be written."""
    cure = sandbox.way_out(path, error, "free space or mend the folder")
    return HostError(f"{path}: {error.strerror}; {cure}")


def write_whole(path: str, data: bytes, mode: int, durable: bool) -> None:
    """Put `data` in the file's place at once, synced first where `durable`. Raises HostError."""
    temporary = half_written(path)
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # a crash left it
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = os.open(temporary, flags, mode)
        try:
            os.fchmod(handle, mode)
            fill(handle, data)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(temporary, path)
        if durable:
            sync_directory(os.path.dirname(path))
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise unwritten(path, error) from error


def write_textfile(path: str, text: bytes) -> None:
    """Put a whole file in place at once, readable by everybody. Raises HostError.

    The temporary file stands beside it, under a name that the collector passes over: it reads what
    ends in .prom. Neither name is followed where it is a link, since the folder may be writable
    for the exporter's user.
    """
    folder, name = os.path.split(path)
    temporary = f".{name}.new"
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=handle)  # a crash left it
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o644, dir_fd=handle), "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(text)
            os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
        finally:
            os.close(handle)
    except OSError as error:
        way_out = "free space or mend the folder"
        if error.errno == errno.ENOENT:
            way_out = "install prometheus-node-exporter, or mend [metrics] textfile in agent.toml"
        way_out = sandbox.way_out(path, error, way_out)
        raise HostError(f"{path}: {error.strerror}; {way_out}") from error
