"""The truth about Postfix's files: the Postfix of a Debian root, asked without booting it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INSIDE = Path(__file__).with_name("inside.py")
# In a mount namespace of its own, which ends with it: the root is bound over itself to be
# read-only there, and its /tmp is a tmpfs.
_ENTER = """
set -eu
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs none "$1/tmp"
mount -t tmpfs none "$1/dev"
mknod -m 666 "$1/dev/null" c 1 3
mknod -m 666 "$1/dev/urandom" c 1 9
mkdir "$1/tmp/conf"
cp "$2" "$1/tmp/inside.py"
cp "$1/usr/share/postfix/master.cf.dist" "$1/tmp/conf/master.cf"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C \\
    python3 -IB /tmp/inside.py /tmp/conf
"""


class TruthEnded(Exception):
    """Postfix's library ended the process that reads with it, which none of the files should."""


@dataclass(frozen=True)
class Entry:
    """One logical line as libpostfix takes it apart; `error` is empty where it can."""

    line: int
    name: bytes
    value: bytes
    error: str


@dataclass(frozen=True)
class Loaded:
    """A file as a program of Postfix loads it; `parameters` is None where it ends instead.

    `log` is what the program warns of, and its last words, in order.
    """

    entries: tuple[Entry, ...]
    parameters: dict[bytes, bytes] | None
    log: tuple[bytes, ...]


@dataclass(frozen=True)
class Printed:
    """What postconf printed, line by line, and said."""

    exit: int
    output: tuple[bytes, ...]
    log: tuple[bytes, ...]


@dataclass(frozen=True)
class Services:
    """A master.cf: the lines on which libpostfix finds something, and `postconf -Mf` and `-P`.

    The last is None if the one before ended with an error: it would, too.
    """

    lines: tuple[int, ...]
    entries: Printed
    parameters: Printed | None


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _printed(reply: dict[str, Any]) -> Printed:
    output = _bytes(reply["output"]).split(b"\n")[:-1]
    return Printed(reply["exit"], tuple(output), tuple(map(_bytes, reply["log"])))


class Truth:
    """The Postfix of a release's root folder, which is not written to; root only.

    Use it as a context manager. One process answers for any number of files; should a file end it,
    the next one gets a new process.
    """

    def __init__(self, root: Path) -> None:
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", _ENTER, "sh"]
        self._command = [*command, str(root), str(_INSIDE)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Truth:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def load(self, text: bytes) -> Loaded:
        """Return what libpostfix reads in `text`. Raises TruthEnded."""
        reply = self._ask(b"L", text)
        parameters = reply["parameters"]
        if parameters is not None:
            parameters = {_bytes(name): _bytes(value) for name, value in parameters.items()}
        return Loaded(
            tuple(
                Entry(line, _bytes(n), _bytes(v), error) for line, n, v, error in reply["entries"]
            ),
            parameters,
            tuple(map(_bytes, reply["log"])),
        )

    def postconf(self, text: bytes) -> Printed:
        """Return what `postconf -n` makes of `text`. Raises TruthEnded."""
        return _printed(self._ask(b"P", text))

    def services(self, text: bytes) -> Services:
        """Return what is read in `text` as a master.cf. Raises TruthEnded."""
        reply = self._ask(b"M", text)
        parameters = reply["parameters"]
        return Services(
            tuple(reply["lines"]),
            _printed(reply["entries"]),
            None if parameters is None else _printed(parameters),
        )

    def tables(self, program: str, texts: Sequence[bytes]) -> list[Printed]:
        """Return what postmap or postalias lists of a table of each text, and warned of.

        Raises TruthEnded.
        """
        framed = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
        operation = {"postmap": b"T", "postalias": b"A"}[program]
        return list(map(_printed, self._ask(operation, framed)))

    def daemon(self, *arguments: str) -> Printed:
        """Return what smtpd says when it is started with these arguments. Raises TruthEnded."""
        return _printed(self._ask(b"D", "\n".join(arguments).encode()))

    def _ask(self, operation: bytes, text: bytes) -> Any:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None
        assert replies is not None
        requests.write(operation + len(text).to_bytes(4, "big") + text)
        requests.flush()
        head = replies.read(4)
        if not head:
            self._process.communicate()
            code, self._process = self._process.returncode, None
            raise TruthEnded(f"exit code {code}")
        return json.loads(replies.read(int.from_bytes(head, "big")))


def version(root: Path) -> str:
    """Return the version of the Postfix in a root folder, as dpkg has it."""
    command = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Version}", "postfix"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
