"""Answers, in a Debian root, what its own libpostfix and postconf read in configuration files.

Run there as one process for many files: `python3 inside.py FOLDER`, FOLDER on a tmpfs. A request
is an operation (`L` load, `P` postconf, `M` postconf on a master.cf), the length of the file as
four bytes, the file. With `D` a daemon is started, and the file is its arguments. `T` (postmap) and
`A` (postalias) build a table of each of several files, each with its length before it. A reply is
the length as four bytes and JSON; in it bytes stand as Latin-1. Python's own library only.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

# Set back by this much the file is not "hot", and no program waits for it to be written out.
COOL_SECONDS = 5

MSG_FATAL = 3  # util/msg.h
DICT_SEQ_FIRST, DICT_SEQ_NEXT = 0, 1  # util/dict.h
DICT_NAME = b"main"

PROGRAMS = {b"T": "postmap", b"A": "postalias"}

FatalHandler = Callable[[], None]
_MSG_OUTPUT_FN = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p)


class Vstring(ctypes.Structure):
    """VSTRING as util/vbuf.h lays it out, up to the address of its text."""

    _fields_ = [("flags", ctypes.c_int), ("data", ctypes.c_void_p)]


def latin1(text: bytes | None) -> str:
    return (text or b"").decode("latin-1")


class Library:
    """libpostfix-util, and the file that it is to read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "main.cf"
        self.log: list[str] = []
        self._on_fatal: FatalHandler = lambda: None
        self._util = util = ctypes.CDLL("/usr/lib/postfix/libpostfix-util.so")
        self._heard = _MSG_OUTPUT_FN(self._hear)
        util.msg_output(self._heard)
        util.vstring_alloc.restype = ctypes.POINTER(Vstring)
        util.vstring_alloc.argtypes = [ctypes.c_ssize_t]
        util.vstream_fopen.restype = ctypes.c_void_p
        util.vstream_fclose.argtypes = [ctypes.c_void_p]
        util.readllines.restype = ctypes.c_void_p
        util.readllines.argtypes = [ctypes.c_void_p, ctypes.c_void_p] + 2 * [ctypes.c_void_p]
        util.split_nameval.restype = ctypes.c_char_p
        util.split_nameval.argtypes = [ctypes.c_void_p] * 3
        self._buffer = util.vstring_alloc(100)

    def _hear(self, level: int, text: bytes | None) -> None:
        self.log.append(latin1(text))
        if level >= MSG_FATAL:
            self._on_fatal()

    def entries(self, path: Path) -> Iterator[tuple[int, str, str, str]]:
        """Each logical line: its number, name, value, error; what is unreadable ends nothing."""
        util, line, first = self._util, ctypes.c_int(0), ctypes.c_int(0)
        lines = ctypes.addressof(line), ctypes.addressof(first)
        name, value = ctypes.c_char_p(), ctypes.c_char_p()
        places = ctypes.addressof(name), ctypes.addressof(value)
        stream = util.vstream_fopen(bytes(path), os.O_RDONLY, 0)
        while util.readllines(self._buffer, stream, *lines):
            error = util.split_nameval(self._buffer.contents.data, *places)
            if error is None:
                yield first.value, latin1(name.value), latin1(value.value), ""
            else:
                yield first.value, "", "", latin1(error)
        util.vstream_fclose(stream)

    def load(self) -> dict[str, str]:
        """What every program of Postfix has after it started: mail_conf_suck() calls the same."""
        util, found = self._util, {}
        if not util.dict_load_file_xt(DICT_NAME, bytes(self.path)):
            raise FileNotFoundError(self.path)
        name, value = ctypes.c_char_p(), ctypes.c_char_p()
        places, step = (ctypes.byref(name), ctypes.byref(value)), DICT_SEQ_FIRST
        while util.dict_sequence(DICT_NAME, step, *places) == 0:
            found[latin1(name.value)] = latin1(value.value)
            step = DICT_SEQ_NEXT
        util.dict_unregister(DICT_NAME)
        return found

    def last_words(self) -> list[str]:
        """What a program says that ends at the file: a child, since msg_fatal() ends it."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:

            def end() -> None:
                with open(writer, "w", encoding="ascii") as pipe:
                    json.dump(self.log, pipe)
                os._exit(1)

            self._on_fatal = end
            self.load()
            os._exit(0)
        os.close(writer)
        with open(reader, encoding="ascii") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 1:
            return ["the loader read it all"]
        words: list[str] = json.loads(said)
        return words


def loaded(library: Library) -> dict[str, Any]:
    """Both of libpostfix's readers: line by line, and the whole file."""
    entries = list(library.entries(library.path))
    library.log.clear()
    if any(error for *_, error in entries):
        return {"entries": entries, "parameters": None, "log": library.last_words()}
    parameters = library.load()
    return {"entries": entries, "parameters": parameters, "log": library.log}


def asked(folder: Path, option: str) -> dict[str, Any]:
    """What postconf prints; a fatal error ends it at once, as it would only sleep first."""
    command = ["postconf", "-c", str(folder), option]
    with open(folder / "stdout", "w+b") as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE) as postconf:
            assert postconf.stderr is not None
            said = []
            for line in postconf.stderr:
                said.append(latin1(line.rstrip(b"\n")))
                if line.startswith(b"postconf: fatal:"):
                    postconf.kill()
        output.seek(0)
        return {"exit": postconf.returncode, "output": latin1(output.read()), "log": said}


def of_master_cf(library: Library, folder: Path) -> dict[str, Any]:
    """What postconf makes of a master.cf, and on which lines libpostfix finds something."""
    lines = [line for line, *_ in library.entries(folder / "master.cf")]
    entries = asked(folder, "-Mf")
    parameters = asked(folder, "-P") if entries["exit"] == 0 else None
    return {"lines": lines, "entries": entries, "parameters": parameters}


def daemon(folder: Path, arguments: bytes) -> dict[str, Any]:
    """What smtpd says that is started with these arguments, each on a line of its own."""
    command = ["/usr/lib/postfix/sbin/smtpd", *arguments.decode().split("\n")]
    environment = {**os.environ, "MAIL_CONFIG": str(folder)}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False
    )
    return {"exit": done.returncode, "output": "", "log": latin1(done.stderr).splitlines()}


def tables(folder: Path, program: str, texts: bytes) -> list[dict[str, Any]]:
    """What the program stores of each file, as it lists it, and its warnings."""
    paths: list[Path] = []
    stream = io.BytesIO(texts)
    while size := stream.read(4):
        paths.append(folder / str(len(paths)))
        paths[-1].write_bytes(stream.read(int.from_bytes(size, "big")))
    command = [program, "-c", str(folder)]
    sources = [f"hash:{path}" for path in paths]
    built = subprocess.run([*command, *sources], stderr=subprocess.PIPE, check=True)
    listings = [
        subprocess.Popen(
            [*command, "-s", source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for source in sources
    ]
    outputs = [listing.communicate()[0] for listing in listings]
    assert not any(listing.returncode for listing in listings)
    said = built.stderr.splitlines()
    heads = [
        re.compile(rb"%b: warning: %b(\.db)?[,:] " % (program.encode(), bytes(p))) for p in paths
    ]
    return [
        {
            "output": latin1(output),
            "exit": 0,
            "log": [latin1(line[head.end() :]) for line in said if (head := start.match(line))],
        }
        for start, output in zip(heads, outputs, strict=True)
    ]


def requests(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while operation := stream.read(1):
        yield operation, stream.read(int.from_bytes(stream.read(4), "big"))


def put(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    long_ago = time.time() - COOL_SECONDS
    os.utime(path, (long_ago, long_ago))


def main(folder: Path) -> None:
    library = Library(folder)
    beside = folder / "of-master"
    beside.mkdir()
    put(beside / "main.cf", b"")
    shelf = folder / "of-tables"
    shelf.mkdir()
    # As Debian has it; with it, smtputf8_enable is "yes".
    put(shelf / "main.cf", b"compatibility_level = 3.6\n")
    for operation, text in requests(sys.stdin.buffer):
        library.log.clear()
        found: Any
        if operation in PROGRAMS:
            found = tables(shelf, PROGRAMS[operation], text)
        elif operation == b"D":
            found = daemon(beside, text)
        elif operation == b"M":
            put(beside / "master.cf", text)
            found = of_master_cf(library, beside)
        else:
            put(library.path, text)
            found = loaded(library) if operation == b"L" else asked(folder, "-n")
        reply = json.dumps(found).encode()
        sys.stdout.buffer.write(len(reply).to_bytes(4, "big") + reply)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
