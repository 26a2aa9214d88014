"""Whether Postfix's master runs, whichever process started it, checked without disturbing it.

systemd does not know: on Debian 12 a unit stays active when its master is killed, and a master may
be started by hand. The lock on pid/master.pid would tell, but testing it means taking it, and a
master that starts at that moment gives up.

master(8) binds the sockets of the services in private/ and public/. A datagram socket cannot
connect to a stream socket, and the kernel's error tells the two cases apart (unix(7)): EPROTOTYPE
if a process holds the socket, ECONNREFUSED if none does any more. No connection is made, so no
program of Postfix is woken. It ranks below installed.py, which knows where the queue is.
"""

from __future__ import annotations

import errno
import os
import socket

# A program that master started holds the socket of its service, and may outlive master while it is
# busy: smtp with a slow server, local with a slow command. These services do nothing that takes
# long, and exit as soon as master does.
_SHORT_LIVED = (
    *("private/retry", "private/error", "private/discard", "private/anvil", "private/scache"),
    *("private/verify", "private/trace", "public/showq", "public/flush"),
)
_FOLDERS = ("private", "public")


def lives(queue_directory: str) -> bool:
    """Tell whether a master runs with this queue; False if the queue cannot be examined."""
    try:
        queue = os.open(queue_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Through its descriptor: a socket's path may have at most 107 bytes (unix(7)).
        here = f"/proc/self/fd/{queue}"
        known = [name for name in _SHORT_LIVED if os.path.exists(f"{here}/{name}")]
        return any(_is_held(f"{here}/{name}") for name in known or _all(here))
    finally:
        os.close(queue)


def _all(queue: str) -> list[str]:
    """Return every socket, for a master.cf that has none of these services."""
    folders = [folder for folder in _FOLDERS if os.path.isdir(f"{queue}/{folder}")]
    return [f"{folder}/{name}" for folder in folders for name in os.listdir(f"{queue}/{folder}")]


def _is_held(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(path)
        except OSError as error:
            return error.errno == errno.EPROTOTYPE
    return True  # postlogd's is a datagram socket
