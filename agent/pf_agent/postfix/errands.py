"""Postfix for the daemon: another unit starts the programs and opens the connections.

pf-agent.service has no network, starts no program and reads no log. errands_unit.py does that for
it, in pf-agent-errands.service, which systemd starts at the first call (systemd.socket(5)). Only
root can call. Each errand has its own connection, with one JSON object each way.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple
from io import FileIO
from typing import Any, TypeVar

from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built, Source
from pf_agent.maincf.indexed import Draft, Table, drafted
from pf_agent.model import (
    Fault,
    Greeting,
    Heard,
    Judgement,
    OnWarning,
    Package,
    Presence,
    Reference,
    UnitState,
)

# Seconds for the call to be accepted (if the unit is not running, Python starts first), and seconds
# for the errand to be done: longer than a program or the probe may take.
_PATIENCE = (10.0, 40.0)
# A database that the sandbox forbids is built in a second try.
_BUILD_PATIENCE = (10.0, 75.0)
# For postmap, and for counting the entries (postmap.py); also as the owner of the source.
_TABLE_PATIENCE = (10.0, 150.0)
# The log is read in the same turn as a judgement; together they stay below the unit's WatchdogSec=.
_LOG_PATIENCE = (5.0, 4.0)
_READ_BYTES = 1 << 16
_WAY_OUT = "see `systemctl status pf-agent-errands.socket pf-agent-errands`"
_UNCLEAR = "an invalid answer"

Said = TypeVar("Said")


class Errands:
    """The Postfix that uses the main.cf in `directory`, asked through a socket."""

    def __init__(self, directory: str, path: str) -> None:
        self._directory = directory
        self._path = path

    def judge(self, text: bytes) -> Judgement:
        """Have Postfix's own programs read `text`, as `Postfix.judge` does. Raises HostError."""
        return self._ask(_judgement, errand="judge", text=text.decode("latin-1"))

    def judge_services(self, text: bytes, served: Sequence[bytes] = ()) -> Judgement:
        """Have a text judged as master.cf, as `Postfix.judge_services` does. Raises HostError."""
        known = [each.decode("latin-1") for each in served]
        shown = text.decode("latin-1")
        return self._ask(_judgement, errand="judge-services", text=shown, served=known)

    def ask_services(self, managed: Collection[str]) -> Heard:
        """Ask the ports of these services, as `AtHand.ask_services` does. Raises HostError."""
        return self._ask(_heard_at_port, _TABLE_PATIENCE, errand="services", managed=list(managed))

    def references(self, text: bytes) -> tuple[Reference, ...]:
        """Return what the values of `text` name, as `Postfix.references` does. Raises HostError."""
        return self._ask(_references, errand="references", text=text.decode("latin-1"))

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        """Rebuild alias databases, as `postalias.AliasBuilder` does. Raises HostError."""
        return self._ask(_built, _BUILD_PATIENCE, errand="newaliases", databases=list(databases))

    def table(self, database: str, rule: OnWarning) -> tuple[Draft, FileIO | None]:
        """Have a draft of an index built, as `postmap.draft` does. Raises HostError."""
        asked = [database, rule.value]
        errand = {"directory": self._directory, "errand": "table", "table": asked}
        said, index = _call(self._path, errand, _TABLE_PATIENCE)
        try:
            return drafted(said), index
        except (TypeError, ValueError) as error:
            raise HostError(f"{self._path}: {_UNCLEAR} ({error}); {_WAY_OUT}") from error

    def try_source(self, table: Table, text: bytes) -> Draft:
        """Have a text tried as the source of a table, as `postmap.tried` does. Raises HostError."""
        return self._ask(
            drafted,
            _TABLE_PATIENCE,
            errand="source",
            table=[table.kind, table.path, table.is_of_aliases],
            text=text.decode("latin-1"),
        )

    def greeting(self) -> Greeting | None:
        """Return what port 25 must say, None without an SMTP service there. Raises HostError."""
        return self._ask(_greeting, errand="greeting")

    def probe(self, greeting: Greeting) -> Heard:
        """Ask Postfix at its port whether it serves, as `probe.probe` does. Raises HostError."""
        return self._ask(_heard_at_port, errand="probe", greeting=astuple(greeting))

    def lives(self) -> bool:
        """Tell whether Postfix's master runs, whichever process started it. Raises HostError."""
        return self._ask(_truth, errand="lives")

    def is_there(self, thing: str) -> bool:
        """Tell whether a file or an address exists (`presence.is_there`). Raises HostError."""
        return self._ask(bool, errand="presence", thing=thing)

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return the end of Postfix's log, as `log.log_tail` does; () without an answer."""
        return self._log("log", units, since)

    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return why programs of Postfix exited (`log.fatal_lines`); () without an answer."""
        return self._log("fatal", units, since)

    def _log(self, errand: str, units: Sequence[str], since: float) -> tuple[str, ...]:
        try:
            return self._ask(_lines, _LOG_PATIENCE, errand=errand, units=list(units), since=since)
        except HostError:
            return ()

    def was_stopped(self, unit: UnitState) -> bool | None:
        """Whether `unit` was stopped by hand (`unit_log.was_stopped`); None without an answer.

        Only to be asked about a unit that is inactive with result success: a failed one was not
        stopped.
        """
        errand = {"errand": "stopped", "unit": unit.name, "invocation": unit.invocation}
        try:
            return self._ask(_maybe, _LOG_PATIENCE, **errand)
        except HostError:
            return None

    def package(self) -> Package:
        """Return the state of dpkg and of the package (`dpkg.package`). Raises HostError."""
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
    """Return a socket that listens at `place`, a loopback address. Raises HostError."""
    _, found = _call(path, {"errand": "listen", "place": place})
    if found is None:
        raise HostError(f"{path}: {_UNCLEAR} (no socket was passed); {_WAY_OUT}")
    with found:
        return socket.socket(fileno=os.dup(found.fileno()))


def _call(
    path: str, errand: Mapping[str, object], patience: tuple[float, float] = _PATIENCE
) -> tuple[Any, FileIO | None]:
    """Return the errand's result, and the descriptor that came with it. Raises HostError."""
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
            raise ConnectionAbortedError("the connection was closed")
        reply = json.loads(data)
        if "failure" in reply:
            raise HostError(str(reply["failure"]))
        return reply["done"], found
    except OSError as error:
        why = error.strerror or str(error)
        raise HostError(f"{path}: no answer ({why}); {_WAY_OUT}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise HostError(f"{path}: {_UNCLEAR} ({error}); {_WAY_OUT}") from error


def _heard(client: socket.socket) -> tuple[FileIO | None, bytes]:
    heard, handles, _, _ = socket.recv_fds(client, _READ_BYTES, 1)
    found = FileIO(handles[0]) if handles else None
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
    address, port, banner, proxy, tls, stranger, wrapped, starttls, auth, auth_in_tls = said
    return Greeting(
        str(address),
        int(port),
        str(banner),
        bool(proxy),
        bool(tls),
        str(stranger),
        bool(wrapped),
        _maybe(starttls),
        _maybe(auth),
        _maybe(auth_in_tls),
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
        for (path, database), trouble, doubts, *_ in said
    )
