"""What there is for a value to name, as far as that can be told: pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pf_agent.maincf.master_cf import Service
from pf_agent.model import Presence, Reference

# Of these the names were taken from the sources (known_names.py).
_VERSIONS: Final = ("3.7.", "3.10.")


@dataclass(frozen=True)
class Inventory:
    """One Postfix and its host.

    `settings` are all of its parameters, expanded; `types` the types of tables (postconf -m);
    `services` those of master.cf. None: it could not be told. `has` tells whether there is a file,
    None where that cannot be told.
    """

    settings: Mapping[str, str]
    types: frozenset[str] | None
    services: tuple[Service, ...] | None
    has: Callable[[str], bool | None]

    @property
    def is_known(self) -> bool:
        """Whether this is a Postfix whose names are known."""
        return self.settings.get("mail_version", "").startswith(_VERSIONS)

    def under(self, options: Mapping[str, str]) -> Inventory:
        """Return what a service finds that has options of its own."""
        return replace(self, settings={**self.settings, **options})

    def file(self, path: str) -> Presence:
        """Tell whether a file is there."""
        found = self.has(path)
        if found is None:
            return Presence.UNKNOWN
        return Presence.EXISTS if found else Presence.ABSENT

    def service(self, name: str) -> Presence:
        """Tell whether master.cf has a service that Postfix's programs reach by this name."""
        if self.services is None:
            return Presence.UNKNOWN
        return Presence.EXISTS if name in self.local_services() else Presence.ABSENT

    def local_services(self) -> frozenset[str]:
        """Return the names of the services that listen on the host alone (master(5), "type")."""
        return frozenset(s.name for s in self.services or () if s.kind != "inet")

    def socket(self, path: str) -> Presence:
        """Tell whether there is a socket of the queue: a service's, or somebody else's.

        `path` is as Postfix takes it, from its queue; only `private/` and `public/` are Postfix's.
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
    """Return a reference that says why only where there is an absence."""
    return Reference(
        parameter, kind, name, presence, place, why if presence is Presence.ABSENT else ""
    )
