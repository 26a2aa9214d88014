"""journald's native protocol (systemd.journal-fields(7)): one record, sent without waiting.

It keeps a value with line breaks as one value, so nothing written into main.cf can forge a record.
Not through python3-systemd: the protocol is one datagram, and libsystemd with its libraries would
add 1 MiB to the daemon at rest.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from functools import cache
from typing import Final

from pf_agent import names

TRACEBACK: Final = "PF_AGENT_TRACEBACK"
# journalctl -o json prints null for a field of more than 4 KiB unless --all is given; a diff is
# worth that, a value is not.
_VALUE_BYTES = 4000
_DIFF_BYTES = 256 * 1024
# journald does not accept a file that can still be changed.
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_FIELD_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def field(name: str, value: str) -> bytes:
    """Return one field in journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

    Raises ValueError for a name that journald would silently drop.
    """
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a journal field name")
    # Bytes that are not UTF-8 would make journalctl -o json print an array of numbers.
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    data = text.encode()
    most = _DIFF_BYTES if name in (names.FIELD_DIFF, TRACEBACK) else _VALUE_BYTES
    if len(data) > most:
        cut = data[:most].decode("utf-8", "ignore")
        data = f"{cut}... ({len(data)} bytes)".encode()
    if b"\n" in data:
        return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
    return b"%b=%b\n" % (name.encode(), data)


@cache
def _link() -> socket.socket:
    """Return the process's socket: not connected, it outlives a journald that is restarted."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    link.setblocking(False)
    return link


def send_record(record: bytes, place: str) -> None:
    """Send journald a record: in a datagram or, if that is too long, in a sealed file.

    Raises BlockingIOError if it has not read what came before, OSError if it is not there.
    """
    try:
        _link().sendto(record, place)
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
        handle = os.memfd_create("record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(handle, "wb") as file, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            file.write(record)
            file.flush()
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            link.setblocking(False)
            link.connect(place)  # send_fds takes no address in Python before 3.13
            socket.send_fds(link, [b""], [file.fileno()])
