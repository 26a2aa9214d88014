"""Whether a file or an address that a value of main.cf names exists (maincf/things.py)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from pf_agent.maincf.things import is_address

_SMTP_PORT = "25"
_SECONDS = 1.0
_OUR_OWN = ("/tmp/", "/var/tmp/", "/dev/")


def is_there(thing: str) -> bool:
    """Return whether a path exists, a server accepts connections, or an address is the host's own.

    An address counts if no other server uses its port 25. False for anything else.
    """
    # An invalid name such as `a..b`, or a path with a NUL, raises ValueError.
    with suppress(OSError, ValueError):
        kind, _, rest = thing.partition(":")
        if kind == "inet":
            host, _, port = rest.rpartition(":")
            return _answers(host.strip("[]"), port)
        if kind == "unix":
            return _takes(socket.AF_UNIX, rest)
        if thing.startswith("/"):
            return os.path.exists(thing)
        address = thing.strip("[]")
        return is_address(thing) and is_own(address) and not _answers(address, _SMTP_PORT)
    return False


def has_file(path: str) -> bool | None:
    """Tell whether a file exists, None if that cannot be told (EACCES, ESTALE and so on).

    /tmp and /dev are private to our unit (systemd.exec(5), PrivateTmp=, PrivateDevices=).
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None if path.startswith(_OUR_OWN) else False
    except (OSError, ValueError):
        return None
    return True


def _answers(host: str, port: str) -> bool:
    """Whether one of a host's addresses accepts connections; `port` may be a service name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return any(_takes(family, address) for family, *_, address in found)


def _takes(family: int, address: Any) -> bool:
    with suppress(OSError), socket.socket(family) as client:
        client.settimeout(_SECONDS)
        client.connect(address)
        return True
    return False


def is_own(address: str) -> bool:
    """Tell whether an address is the host's own: a server can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family) as server:
        server.bind((address, 0))
        return True
    return False
