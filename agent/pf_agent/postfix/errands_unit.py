"""What pf-agent-errands.service runs: the work that the sandbox of pf-agent.service forbids.

The agent does not choose which program is run, with which arguments, or what it connects to. It
names one of fifteen errands, and one of Postfix's own instances or the units whose log is read; a
candidate is sent as text.

systemd passes the listening socket (sd_listen_fds(3)). After some time without an errand the
process exits, so that it takes no memory at rest. A call that arrives meanwhile waits in the
socket's queue: systemd sees it there and starts the unit again.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, fields
from typing import Any, BinaryIO, TextIO, cast

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.maincf.aliases import BUILT
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import Greeting, OnWarning
from pf_agent.postfix import presence, probe
from pf_agent.postfix.installed import Postfix
from pf_agent.postfix.postalias import AliasBuilder
from pf_agent.words.outgoing import PROCESS, Stream

# SD_LISTEN_FDS_START in sd_listen_fds(3).
_FIRST_HANDLE = 3
_IDLE_SECONDS = 10.0
# How long the agent may take to send its request, and to read the answer.
_TALK_SECONDS = 20.0
_BACKLOG = 5
# No desired state is larger; a server named beyond this size is not contacted.
_MOST_CONFIGURATION = 1 << 20
_UNIT = "pf-agent-errands.service"
_TRIED = ("judge", "judge-services", "references")
_NO_ERRAND = f"{_UNIT}: unknown request; restart pf-agent"
_STRANGER = [field.name for field in fields(Greeting)].index("stranger")
# How long to wait before accepting again after a failed accept.
_PAUSE_SECONDS = 0.1


class Unit:
    """The errands, for the Postfix whose default instance uses `main_cf`."""

    def __init__(
        self,
        main_cf: str,
        run_directory: str,
        config_directory: str = names.CONFIG_DIRECTORY,
    ) -> None:
        self._main_cf = main_cf
        self._config_directory = config_directory
        self._run_directory = run_directory
        self._known: dict[str, Postfix] = {}

    def serve(self, listener: socket.socket, idle: float) -> None:
        """Do errands, each in a thread, until none came and none is running for `idle` seconds."""
        busy: list[threading.Thread] = []
        listener.settimeout(idle)
        while True:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                if not any(thread.is_alive() for thread in busy):
                    return
                continue
            except OSError:
                # No file descriptor is left, for example. If the unit exited, systemd would start
                # it again at once for the call that still waits, and soon refuse to.
                time.sleep(_PAUSE_SECONDS)
                continue
            busy = [thread for thread in busy if thread.is_alive()]
            # A probe must not delay a judgement.
            thread = threading.Thread(target=self._attend, args=[client], daemon=True)
            try:
                thread.start()
            except RuntimeError:
                client.close()  # no thread available; the caller sees the connection close
            else:
                busy.append(thread)

    def _attend(self, client: socket.socket) -> None:
        client.settimeout(_TALK_SECONDS)
        # If the agent was killed meanwhile, nothing reads the answer.
        with client, suppress(ConnectionError, TimeoutError):
            client.sendall(b"\n")
            with client.makefile("rb") as asking:
                reply, found = self._reply(asking.read())
            data = json.dumps(reply).encode()
            if found is not None:
                with found:
                    data = data[socket.send_fds(client, [data], [found.fileno()]) :]
            client.sendall(data)

    def _reply(self, asked: bytes) -> tuple[dict[str, Any], socket.socket | BinaryIO | None]:
        try:
            errand = json.loads(asked)
            done = self._do(errand)
        except HostError as error:
            return {"failure": PROCESS.text(str(error))}, None
        except OSError as error:  # a system call that is not expected to fail
            place = error.filename or _UNIT
            return {"failure": f"{place}: {error.strerror}; check its file system"}, None
        except ImportError as error:  # an errand's modules are imported when it is asked for
            return {"failure": f"{_UNIT}: {error}; check Python's file system"}, None
        except (ValueError, RecursionError):  # no JSON, or a text that cannot be encoded as bytes
            return {"failure": _NO_ERRAND}, None
        if isinstance(done, socket.socket):
            return {"done": None}, done
        if errand["errand"] == "table":
            draft, index = done
            return {"done": PROCESS.document(list(draft))}, index
        # The expected greeting is sent back with the next question, so it must not be altered.
        is_exact = errand["errand"] == "greeting"
        return {"done": done if is_exact else PROCESS.document(done)}, None

    def _do(self, asked: object) -> Any:
        """Do one errand. Raises HostError, and ValueError for an invalid request."""
        match asked:
            case {"errand": str(e), "directory": str(directory), "text": str(text)} if e in _TRIED:
                return self._tried(e, directory, _bytes(text), asked)
            case {"errand": "services", "directory": str(directory), "managed": list(managed)}:
                return astuple(self._postfix(directory).ask_services(tuple(map(str, managed))))
            case {"errand": "newaliases", "directory": str(directory), "databases": list(asked)}:
                self._postfix(directory)  # raises if there is no such instance
                return AliasBuilder(os.path.normpath(directory)).newaliases(asked)
            case {"errand": "table" | "source", "directory": str(directory), "table": list(table)}:
                return self._of_table(directory, table, asked)
            case {"errand": "greeting", "directory": str(directory)}:
                greeting = self._postfix(directory).greeting()
                return None if greeting is None else astuple(greeting)
            case {"errand": "probe", "directory": str(directory), "greeting": list(members)}:
                return self._probe(directory, members)
            case {"errand": "presence", "thing": str(thing)}:
                return self._is_there(thing)
            case {"errand": "listen", "place": str(place)}:
                return listening(place)
            case {"errand": "stopped", "unit": str(unit), "invocation": str(invocation)}:
                return self._was_stopped(unit, invocation)
            case {"errand": "package"}:
                return self._package()
            case {"errand": "lives", "directory": str(directory)}:
                return self._postfix(directory).lives()
            case {
                "errand": "log" | "fatal" as errand,
                "directory": str(directory),
                "units": list(units),
                "since": int() | float() as since,
            }:
                return self._log(errand, directory, units, since)
        raise ValueError(asked)

    def _tried(self, errand: str, directory: str, text: bytes, asked: Any) -> Any:
        postfix = self._postfix(directory)
        if errand == "references":
            return list(map(astuple, postfix.references(text)))
        if errand == "judge":
            return astuple(postfix.judge(text))
        match asked:
            case {"served": [*served]}:
                return astuple(postfix.judge_services(text, [_bytes(str(t)) for t in served]))
        raise ValueError(asked)

    def _of_table(self, directory: str, table: list[Any], asked: Any) -> Any:
        match asked["errand"], table, asked.get("text"):
            case "table", [str(index), str(rule)], None:
                return self._table(directory, index, OnWarning(rule))
            case "source", [str(kind), str(path), bool(is_of_aliases)], str(text):
                source = Table(kind, path, is_of_aliases)
                return list(self._try_source(directory, source, _bytes(text)))
        raise ValueError(asked)

    def _table(
        self, directory: str, database: str, rule: OnWarning
    ) -> tuple[Draft, BinaryIO | None]:
        from pf_agent.postfix.postmap import draft  # few hosts have tables that change

        self._postfix(directory)  # raises where it is none
        return draft(os.path.normpath(directory), database, rule)

    def _try_source(self, directory: str, table: Table, text: bytes) -> Draft:
        from pf_agent.postfix.postmap import tried  # few hosts have entries that are desired

        self._postfix(directory)  # raises where it is none
        if table.kind not in BUILT:
            raise ValueError(table)
        return tried(os.path.normpath(directory), table, text)

    # Imported in these: they are for a Postfix that is down.

    def _was_stopped(self, unit: str, invocation: str) -> bool | None:
        from pf_agent.postfix.unit_log import was_stopped

        return was_stopped(unit, invocation)

    def _package(self) -> tuple[Any, ...]:
        from pf_agent.postfix.dpkg import package

        return astuple(package())

    def _postfix(self, directory: str) -> Postfix:
        """Return one of Postfix's own instances: postconf(5), multi_instance_directories."""
        directory = os.path.normpath(directory)
        if directory not in self._known:
            if directory != os.path.dirname(self._main_cf) and directory not in self._others():
                raise HostError(f"{directory}: no instance of Postfix; see `postmulti -l`")
            self._known[directory] = Postfix(directory, self._run_directory)
        return self._known[directory]

    def _is_there(self, thing: str) -> bool:
        """Check a file or an address; a server only if pf-agent's configuration names it.

        The agent must not choose what this unit connects to.
        """
        kind, _, called = thing.partition(":")
        if kind in ("inet", "unix") and not self._is_named(called.encode()):
            raise HostError(
                f"{called}: not configured in {self._config_directory}; see pf-agent(8)"
            )
        return presence.is_there(thing)

    def _is_named(self, called: bytes) -> bool:
        dropins = os.path.join(self._config_directory, names.DESIRED_DROPINS)
        with suppress(OSError):
            paths = [os.path.join(dropins, name) for name in sorted(os.listdir(dropins))]
            for path in [os.path.join(self._config_directory, names.DESIRED_TOML), *paths]:
                with suppress(OSError), open(path, "rb") as file:
                    if called in file.read(_MOST_CONFIGURATION):
                        return True
        return False

    def _others(self) -> list[str]:
        try:
            with open(self._main_cf, "rb") as file:
                named = MainCf.parse(file.read()).get("multi_instance_directories")
        except OSError as error:
            raise HostError(f"{self._main_cf}: {error.strerror}; fix the file") from error
        words = [] if named is None else named.value.replace(",", " ").split()
        return [os.path.normpath(word) for word in words]

    def _probe(self, directory: str, members: list[Any]) -> tuple[Any, ...]:
        greeting = self._postfix(directory).greeting()
        # The stranger may be any of the host's own addresses, and may have changed since.
        if greeting is None or _without_stranger(astuple(greeting)) != _without_stranger(members):
            raise HostError(f"{directory}: the expected greeting has changed")
        return astuple(probe.probe(greeting))

    def _log(self, errand: str, directory: str, units: list[Any], since: float) -> tuple[str, ...]:
        # Imported here: no other errand produces text for people.
        from pf_agent.postfix.log import fatal_lines, log_tail

        if not all(isinstance(unit, str) for unit in units):
            raise ValueError(units)
        read = fatal_lines if errand == "fatal" else log_tail
        return read(units, since, self._postfix(directory).mail_log())


def _bytes(text: str) -> bytes:
    """Return a candidate, which was sent as text with a character for each byte."""
    return text.encode("latin-1")


def _without_stranger(members: Sequence[object]) -> list[object]:
    return [*members[:_STRANGER], *members[_STRANGER + 1 :]]


def listening(place: str) -> socket.socket:
    """Return a socket that listens at `place`, a loopback address. Raises HostError."""
    host, _, port = place.rpartition(":")
    try:
        # The name is not resolved: a hosts file may map it to any address.
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
        number = int(port)
    except ValueError:
        address, number = ipaddress.IPv4Address(0), 0
    if not (address.is_loopback and 0 < number < 1 << 16):
        raise HostError(f"{place}: not a loopback address; fix [metrics] listen in agent.toml")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        return socket.create_server((str(address), number), family=family, backlog=_BACKLOG)
    except OSError as error:
        # Not its strerror: create_server adds to it what the message says already.
        why = os.strerror(error.errno) if error.errno else str(error)
        raise HostError(
            f"[metrics] listen {place}: {why}; choose another port in agent.toml"
        ) from error


def main() -> None:
    """Serve at the socket passed by systemd."""
    sys.stderr = cast(TextIO, Stream(sys.stderr, PROCESS))
    unit = Unit(names.MAIN_CF, names.ERRANDS_DIRECTORY)
    unit.serve(socket.socket(fileno=_FIRST_HANDLE), _IDLE_SECONDS)


if __name__ == "__main__":
    main()
