"""Postfix as the daemon has it: what starts a program or opens a connection, another unit does.

pf-agent.service has no network, starts no program and reads no log. errands_unit.py does that for
it, in pf-agent-errands.service, which systemd starts at the first call (systemd.socket(5)). Root
alone can call. There is one connection for each errand, and a JSON object each way.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any, TypeVar

from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built, Source
from pf_agent.model import (
    Fault,
    Greeting,
    Heard,
    Judgement,
    Package,
    Presence,
    Reference,
    UnitState,
)

# Within so many seconds somebody takes the call (Python starts first where the unit does not run),
# and within so many more the errand is done: that is longer than a program or the probe may take.
_PATIENCE = (10.0, 40.0)
# A database that the sandbox forbids is tried twice.
_BUILD_PATIENCE = (10.0, 75.0)
# The log is asked for in the same turn as a judgement, and both stay below the unit's WatchdogSec=.
_LOG_PATIENCE = (5.0, 4.0)
_READ_BYTES = 1 << 16
_WAY_OUT = "see `systemctl status pf-agent-errands.socket pf-agent-errands`"
_UNCLEAR = "an answer that makes no sense"

Said = TypeVar("Said")


class Errands:
    """The Postfix that obeys the main.cf in `directory`, asked by the way of a socket."""

    def __init__(self, directory: str, path: str) -> None:
        self._directory = directory
        self._path = path

    def judge(self, text: bytes) -> Judgement:
        """Have Postfix's own programs read `text`, as `Postfix.judge` does. Raises HostError."""
        return self._ask(_judgement, errand="judge", text=text.decode("latin-1"))

    def references(self, text: bytes) -> tuple[Reference, ...]:
        """Return what the values of `text` name, as `Postfix.references` does. Raises HostError."""
        return self._ask(_references, errand="references", text=text.decode("latin-1"))

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        """Rebuild alias databases, as `postalias.AliasBuilder` does. Raises HostError."""
        return self._ask(_built, _BUILD_PATIENCE, errand="newaliases", databases=list(databases))

    def greeting(self) -> Greeting | None:
        """Return what port 25 must say, None where there is no SMTP service. Raises HostError."""
        return self._ask(_greeting, errand="greeting")

    def probe(self, greeting: Greeting) -> Heard:
        """Ask Postfix at its port whether it serves, as `smtp.probe` does. Raises HostError."""
        return self._ask(_heard_at_port, errand="probe", greeting=astuple(greeting))

    def lives(self) -> bool:
        """Tell whether Postfix's master runs, whoever started it. Raises HostError."""
        return self._ask(_truth, errand="lives")

    def is_there(self, thing: str) -> bool:
        """Tell whether a file or an address is there, as `presence.is_there` does. HostError."""
        return self._ask(bool, errand="presence", thing=thing)

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return the end of Postfix's log, as `postfix_log.log_tail` does. () without an answer."""
        return self._log("log", units, since)

    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return why programs of Postfix ended, as `postfix_log.fatal_lines` does.

        () without an answer.
        """
        return self._log("fatal", units, since)

    def _log(self, errand: str, units: Sequence[str], since: float) -> tuple[str, ...]:
        try:
            return self._ask(_lines, _LOG_PATIENCE, errand=errand, units=list(units), since=since)
        except HostError:
            return ()

    def was_stopped(self, unit: UnitState) -> bool | None:
        """Whether somebody stopped `unit`, as `unit_log.was_stopped` tells. None without an answer.

        It is for a unit that is inactive with result success: one that failed was not stopped.
        """
        errand = {"errand": "stopped", "unit": unit.name, "invocation": unit.invocation}
        try:
            return self._ask(_maybe, _LOG_PATIENCE, **errand)
        except HostError:
            return None

    def package(self) -> Package:
        """Return what dpkg is about, as `dpkg.package` does. Raises HostError."""
        return self._ask(_package, errand="package")

    def _ask(
        self,
        read: Callable[[Any], Said],
        patience: tuple[float, float] = _PATIENCE,
        **errand: object,
    ) -> Said:
        said, _ = _call(self._path, {"directory": self._directory, **errand}, patience)
        try:
            return read(said)
        except (TypeError, ValueError) as error:
            raise HostError(f"{self._path}: {_UNCLEAR} ({error}); {_WAY_OUT}") from error


def listening(place: str, path: str) -> socket.socket:
    """Return a socket that listens at `place`, an address of loopback. Raises HostError."""
    _, found = _call(path, {"errand": "listen", "place": place})
    if found is None:
        raise HostError(f"{path}: {_UNCLEAR} (no socket came); {_WAY_OUT}")
    return found


def _call(
    path: str, errand: Mapping[str, object], patience: tuple[float, float] = _PATIENCE
) -> tuple[Any, socket.socket | None]:
    """Return what the errand came to, and the socket that came with it. Raises HostError."""
    begin_seconds, done_seconds = patience
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(begin_seconds)
            client.connect(path)
            client.sendall(json.dumps(errand).encode())
            client.shutdown(socket.SHUT_WR)
            is_taken = client.recv(1)
            client.settimeout(done_seconds)
            found, data = _heard(client)
        if not is_taken or not data:
            raise ConnectionAbortedError("it broke off")
        reply = json.loads(data)
        if "failure" in reply:
            raise HostError(str(reply["failure"]))
        return reply["done"], found
    except OSError as error:
        why = error.strerror or str(error)
        raise HostError(f"{path}: no answer ({why}); {_WAY_OUT}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise HostError(f"{path}: {_UNCLEAR} ({error}); {_WAY_OUT}") from error


def _heard(client: socket.socket) -> tuple[socket.socket | None, bytes]:
    heard, handles, _, _ = socket.recv_fds(client, _READ_BYTES, 1)
    found = socket.socket(fileno=handles[0]) if handles else None
    parts = [heard]
    while heard:
        heard = client.recv(_READ_BYTES)
        parts.append(heard)
    return found, b"".join(parts)


def _judgement(said: Any) -> Judgement:
    fatal, warnings, faults, absent = said
    found = tuple(Fault(str(parameter), str(reason)) for parameter, reason in faults)
    return Judgement(str(fatal), tuple(map(str, warnings)), found, tuple(map(_reference, absent)))


def _references(said: Any) -> tuple[Reference, ...]:
    return tuple(map(_reference, said))


def _reference(said: Any) -> Reference:
    parameter, kind, name, presence, *words = said
    place, why, service = map(str, words)
    return Reference(str(parameter), str(kind), str(name), Presence(presence), place, why, service)


def _greeting(said: Any) -> Greeting | None:
    if said is None:
        return None
    address, port, banner, proxy, tls, stranger, wrapped = said
    return Greeting(
        str(address), int(port), str(banner), bool(proxy), bool(tls), str(stranger), bool(wrapped)
    )


def _heard_at_port(said: Any) -> Heard:
    trouble, greeted, code, words = said
    return Heard(str(trouble), bool(greeted), int(code), str(words))


def _truth(said: Any) -> bool:
    if not isinstance(said, bool):
        raise TypeError("neither true nor false")
    return said


def _maybe(said: Any) -> bool | None:
    if said not in (True, False, None):
        raise ValueError(said)
    return None if said is None else bool(said)


def _package(said: Any) -> Package:
    is_locked, state = said
    return Package(bool(is_locked), str(state))


def _lines(said: Any) -> tuple[str, ...]:
    return tuple(map(str, said))


def _built(said: Any) -> tuple[Built, ...]:
    return tuple(
        Built(Source(str(path), str(database)), str(trouble), tuple(map(str, doubts)))
        for (path, database), trouble, doubts in said
    )
