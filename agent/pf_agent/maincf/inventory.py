"""What exists for a value to name, as far as is known: pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pf_agent.maincf.service import Service
from pf_agent.model import Presence, Reference

# The versions from whose sources the names were taken (known_names.py).
_VERSIONS: Final = ("3.7.", "3.10.")


@dataclass(frozen=True)
class Inventory:
    """One Postfix and its host.

    `settings` are all its parameters, expanded; `types` the table types (postconf -m); `services`
    those of master.cf. None: unknown. `has` tells whether a file exists, None if unknown.
    """

    settings: Mapping[str, str]
    types: frozenset[str] | None
    services: tuple[Service, ...] | None
    has: Callable[[str], bool | None]

    @property
    def is_known(self) -> bool:
        """Whether the names of this version of Postfix are known."""
        return self.settings.get("mail_version", "").startswith(_VERSIONS)

    def under(self, options: Mapping[str, str]) -> Inventory:
        """Return the inventory as seen by a service with options of its own."""
        return replace(self, settings={**self.settings, **options})

    def file(self, path: str) -> Presence:
        """Tell whether a file exists."""
        found = self.has(path)
        if found is None:
            return Presence.UNKNOWN
        return Presence.EXISTS if found else Presence.ABSENT

    def service(self, name: str) -> Presence:
        """Tell whether master.cf has a service that Postfix's programs can reach by this name."""
        if self.services is None:
            return Presence.UNKNOWN
        return Presence.EXISTS if name in self.local_services() else Presence.ABSENT

    def local_services(self) -> frozenset[str]:
        """Return the names of the services that only listen on this host (master(5), "type")."""
        return frozenset(s.name for s in self.services or () if s.type != "inet")

    def socket(self, path: str) -> Presence:
        """Tell whether a socket in the queue directory exists: a service's, or another program's.

        `path` is relative to the queue directory; only `private/` and `public/` are Postfix's own.
        """
        folder, _, name = path.partition("/")
        if folder not in ("private", "public") or not name:
            return Presence.UNKNOWN
        if self.service(name) is Presence.EXISTS:
            return Presence.EXISTS
        queue = self.settings.get("queue_directory", "")
        if not queue.startswith("/") or self.services is None:
            return Presence.UNKNOWN
        return self.file(f"{queue}/{path}")


def reference(
    parameter: str, kind: str, name: str, presence: Presence, place: str = "", why: str = ""
) -> Reference:
    """Return a reference that gives a reason only if the thing is absent."""
    return Reference(
        parameter, kind, name, presence, place, why if presence is Presence.ABSENT else ""
    )
