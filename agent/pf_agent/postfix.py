"""Postfix's own programs: judge a candidate, rebuild the aliases, tell what it must greet with.

Every subprocess of the agent starts here: absolute paths, a clean environment, a time limit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.main_cf import COOL_SECONDS, MainCf
from pf_agent.model import Greeting, Judgement

POSTCONF = "/usr/sbin/postconf"
POSTMAP = "/usr/sbin/postmap"
NEWALIASES = "/usr/bin/newaliases"

_COMMAND_SECONDS = 30.0
_GREETING_NAMES = ("inet_interfaces", "inet_protocols", "smtpd_banner")
_SMTP_PORT = 25
_DEBIAN_ALIASES = "# See man 5 aliases for format\npostmaster:    root\n"
_DATABASE_ENDS = (".db", ".lmdb", ".cdb")

Fingerprint = tuple[int, int, int]


class Postfix:
    """The Postfix that obeys the main.cf in `directory`; candidates lie below `run_directory`."""

    def __init__(self, directory: str, run_directory: str) -> None:
        self._directory = directory
        self._run_directory = run_directory
        self._built_from: dict[str, Fingerprint] = {}

    def judge(self, text: bytes) -> Judgement:
        """Have Postfix's own programs read `text` in a private folder.

        `postconf -n` judges grammar and `$` expressions, any postmap call also the global
        parameters (mail_params_init in global/mail_params.c). Both together take about 15 ms.
        What only one daemon reads, neither sees. Raises HostError.
        """
        with tempfile.TemporaryDirectory(prefix="judge-", dir=self._run_directory) as folder:
            candidate = os.path.join(folder, "main.cf")
            with open(candidate, "wb") as file:
                file.write(text)
            cool = time.time() - COOL_SECONDS
            os.utime(candidate, (cool, cool))
            # Names made of a service's name (smtp_destination_...) are known by master.cf alone.
            with suppress(FileNotFoundError):
                shutil.copyfile(
                    os.path.join(self._directory, "master.cf"), os.path.join(folder, "master.cf")
                )
            syntax = _start([POSTCONF, "-c", folder, "-n"])
            values = _start([POSTMAP, "-c", folder, "-q", "x", "static:y"])
            said = [_end(syntax), _end(values)]
        for code, _, complaint in said:
            if code != 0:
                return Judgement(fatal=_reason(complaint, folder))
        complaints = said[0][2].splitlines()
        return Judgement(warnings=tuple(_plain(line, folder) for line in complaints if line))

    def newaliases(self, path: str) -> None:
        """Rebuild the alias databases, `path`'s among them. Raises HostError in Postfix's words.

        Where Debian's alias file is missing, it is made as the package's postinst makes it: without
        its database local(8) defers all mail, and Debian 13 under "No configuration" has none.
        """
        found = _fingerprint(path)
        code, _, complaint = _end(_start([NEWALIASES]))
        if code != 0 and path == names.DEFAULT_ALIASES and not os.path.lexists(path):
            _make_aliases(path)
            found = _fingerprint(path)
            code, _, complaint = _end(_start([NEWALIASES]))
        if code != 0:
            raise HostError(f"newaliases: {_reason(complaint)}; mend it and run newaliases")
        if found is not None:
            self._built_from[path] = found

    def aliases_are_stale(self, path: str) -> bool:
        """Tell whether `path` changed since its database was last built.

        By the database's own date at first, then by what the file was at our last `newaliases`:
        `mv` brings a file that is older than the database.
        """
        now = _fingerprint(path)
        if now is None:
            return False
        if path in self._built_from:
            return self._built_from[path] != now
        built = [_fingerprint(path + end) for end in _DATABASE_ENDS]
        return not any(database is not None and database[0] >= now[0] for database in built)

    def greeting(self) -> Greeting | None:
        """Return what port 25 must say; None where master.cf has no SMTP service on port 25.

        Raises HostError.
        """
        services = self._ask(["-M"])
        if not any(_serves_smtp(line.split()) for line in services.splitlines()):
            return None
        values = dict(
            (name.strip(), value.strip())
            for name, _, value in (
                line.partition("=") for line in self._ask(["-x", *_GREETING_NAMES]).splitlines()
            )
        )
        address = _address(values["inet_interfaces"], values["inet_protocols"])
        return Greeting(address, _SMTP_PORT, " ".join(values["smtpd_banner"].split()))

    def _ask(self, arguments: Sequence[str]) -> str:
        code, answer, complaint = _end(_start([POSTCONF, "-c", self._directory, *arguments]))
        if code != 0:
            raise HostError(f"postconf: {_reason(complaint)}")
        return answer


def alias_file(text: bytes) -> str:
    """Return the file that newaliases(1) reads first: postconf(5) alias_database."""
    main_cf = MainCf.parse(text)
    value = "$alias_database"
    for _ in range(4):  # "alias_database = $alias_maps" and its like, never round in a circle
        found = main_cf.get(value.removeprefix("$")) if value.startswith("$") else None
        if found is None:
            break
        value = (found.value.replace(",", " ").split() or [""])[0]
    path = value.partition(":")[2]
    return path if path.startswith("/") and "$" not in path else names.DEFAULT_ALIASES


def _make_aliases(path: str) -> None:
    try:
        with open(path, "x", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(_DEBIAN_ALIASES)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; make an alias file there") from error


def _fingerprint(path: str) -> Fingerprint | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _serves_smtp(columns: Sequence[str]) -> bool:
    """Tell whether a line of `postconf -M` (master(5)) is the SMTP service on port 25."""
    if len(columns) < 2 or columns[1] != "inet":
        return False
    return columns[0].rpartition(":")[2] in ("smtp", str(_SMTP_PORT))


def _address(interfaces: str, protocols: str) -> str:
    """Return an address of this host that Postfix listens on (postconf(5) inet_interfaces)."""
    names = interfaces.replace(",", " ").split()
    local = {"all", "loopback-only", "localhost", "127.0.0.1"}.intersection(names)
    if local or not names:
        return "::1" if protocols == "ipv6" else "127.0.0.1"
    return names[0].strip("[]")


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except OSError as error:
        raise HostError(f"{command[0]}: {error.strerror}; install the package postfix") from error


def _end(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for `process`; return its exit code, output and complaint."""
    try:
        output, complaint = process.communicate(timeout=_COMMAND_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise HostError(
            f"{process.args!r}: no end after {_COMMAND_SECONDS:.0f} s; it was killed"
        ) from error
    return (
        process.returncode,
        output.decode("utf-8", "backslashreplace"),
        complaint.decode("utf-8", "backslashreplace"),
    )


def _plain(line: str, folder: str = "") -> str:
    """A line of Postfix's stderr without the program's name and the candidate's folder."""
    for mark in ("fatal: ", "error: ", "warning: "):
        line = line.partition(mark)[2] or line
    return line.replace(f"{folder}/", "") if folder else line


def _reason(complaint: str, folder: str = "") -> str:
    """The line of Postfix's stderr that says why it ended."""
    lines = [line for line in complaint.splitlines() if line.strip()] or ["it gave no reason"]
    row = next((row for row, line in enumerate(lines) if "fatal: " in line), 0)
    reason = _plain(lines[row], folder)
    # It names neither parameter nor place; the warning right above it quotes the expression.
    if reason == "macro processing error" and row > 0:
        reason = f"{reason}: {_plain(lines[row - 1], folder)}"
    return reason
