"""Whether a place is read-only only to our own unit's sandbox, and the drop-in that opens it.

ProtectSystem= and ProtectHome= make a read-only mount of a file system that is writable
(systemd.exec(5)). /proc/self/mountinfo tells the two apart: it lists the options of the mount, and
after the hyphen those of the file system (proc(5)).

It ranks below the other effects, which may import it: each of them may be asked to write to such a
place.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Final, NamedTuple

from pf_agent import names

# ReadWritePaths= of our units: if something is read-only here, the sandbox is not the cause.
OPEN: Final = ("/etc", "/var")
_OURS: Final = re.compile(rf"/({names.PROGRAM}[\w-]*\.service)$", re.MULTILINE)
_READ_ONLY: Final = "make its file system writable"


class _Mount(NamedTuple):
    point: str
    is_read_only: bool
    file_system_is_read_only: bool


def way_out(path: str, error: OSError, otherwise: str) -> str:
    """Return the remedy for an error at `path`, a file or a directory.

    That is `otherwise`, unless something there is read-only.
    """
    if error.errno != errno.EROFS:
        return otherwise
    folder = os.path.realpath(path if os.path.isdir(path) else os.path.dirname(path))
    return closed(folder, _text("mountinfo"), _text("cgroup")) or _READ_ONLY


def closed(folder: str, mounts: str, cgroups: str) -> str:
    """Return how to open `folder` to our unit; "" if the sandbox is not what keeps us out.

    `mounts` and `cgroups` are the texts of these files in /proc/self; outside our units there is no
    sandbox.
    """
    unit = _OURS.search(cgroups)
    if unit is None or any(_is_below(folder, place) for place in OPEN):
        return ""
    # The longest path, and of several mounts on the same path the last one.
    above = [mount for mount in map(_mount, mounts.splitlines()) if _is_below(folder, mount.point)]
    found = max(enumerate(above), key=lambda each: (len(each[1].point), each[0]), default=None)
    if found is None or not found[1].is_read_only or found[1].file_system_is_read_only:
        return ""
    return (
        f"it is read-only for {unit[1]} only: add the lines `[Service]` and"
        f" `ReadWritePaths={_quoted(folder)}` to /etc/systemd/system/{unit[1]}.d/writable.conf, and"
        f" run `systemctl daemon-reload` and `systemctl restart {unit[1]}`"
    )


def _mount(line: str) -> _Mount:
    ours, _, theirs = line.partition(" - ")
    words = ours.split()
    point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[4])
    return _Mount(point, "ro" in words[5].split(","), "ro" in theirs.split()[2].split(","))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _quoted(path: str) -> str:
    """Quote a path for systemd: `%` begins a specifier, a blank ends a path (systemd.syntax(7))."""
    path = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{path}"' if re.search(r"[\s\"'\\]", path) else path


def _text(name: str) -> str:
    try:
        with open(f"/proc/self/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""  # without /proc it cannot be told
