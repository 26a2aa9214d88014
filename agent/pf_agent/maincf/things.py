"""The files and addresses that values of main.cf name and that may be missing. Pure.

Not a full reading of the values, only what may appear later: a wish that was rejected for the lack
of it is then tried again.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from pf_agent.maincf.aliases import BUILT

# postconf(5), "smtpd_milters", "check_policy_service": inet:host:port, unix:path; tcp_table(5):
# tcp:host:port; socketmap_table(5): socketmap:inet:host:port:name. The port may be a service name.
_INET = re.compile(r"(?:inet|tcp):(\[[0-9a-fA-F:.]+\]|[^\s,:\[\]{}]+):([A-Za-z0-9_-]+)")
# postconf(5) as above, and socketmap:unix:/path:name.
_UNIX = re.compile(r"(?:unix|local):(/[^\s,:{}]+)")
_PATH = re.compile(r"(?:^|[\s,{]|[a-z0-9]:)(/[^\s,:{}]+)")
# The files that postmap(1) builds from a source; only these are opened (DATABASE_README).
_INDEXED = re.compile(rf"(?:^|[\s,{{:])({'|'.join(BUILT)}):(/[^\s,:{{}}]+)")
_WORD = re.compile(r"[^\s,{}]+")


def things_in(values: Iterable[str]) -> tuple[str, ...]:
    """Return `inet:host:port`, `unix:/path`, `/path` and `address` for what the values name."""
    found: dict[str, None] = {}
    for value in values:
        found.update((f"inet:{host}:{port}", None) for host, port in _INET.findall(value))
        sockets = _UNIX.findall(value)
        found.update((f"unix:{path}", None) for path in sockets)
        indexed = _INDEXED.findall(value)
        sources = [path for _, path in indexed]
        found.update((f"{path}{BUILT[kind]}", None) for kind, path in indexed)
        others = (path for path in _PATH.findall(value) if path not in (*sockets, *sources))
        found.update((path, None) for path in others)
        found.update((word, None) for word in _WORD.findall(value) if is_address(word))
    return tuple(found)


def is_address(word: str) -> bool:
    """Tell whether a word is an IP address."""
    try:
        ipaddress.ip_address(word.strip("[]"))
    except ValueError:
        return False
    return True
