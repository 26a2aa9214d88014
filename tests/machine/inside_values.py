"""Runs in a release's own root: what Postfix itself says about values; JSON in, JSON out.

Three questions: "typed" asks libpostfix to convert a value, "networks" to match addresses against a
list of networks, "daemon" starts the program that uses the parameter and reads its log.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

QUEUE = Path("/tmp/queue")
LOG_SOCKET = QUEUE / "public" / "postlog"
SETTINGS = f"""compatibility_level = 3.6
myhostname = host.example.test
inet_interfaces = loopback-only
queue_directory = {QUEUE}
maillog_file = /var/log/values
"""
FATAL = 3
MATCH_FLAG_RETURN = 2
OUTPUT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p)


def in_a_child(ask: Any) -> list[str]:
    """Return what libpostfix says in `ask(util, library)`; a fatal error only ends a child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        folder = "/usr/lib/postfix/libpostfix-"
        util = ctypes.CDLL(f"{folder}util.so", mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(f"{folder}global.so", mode=ctypes.RTLD_GLOBAL)

        def say(level: int, text: bytes) -> None:
            os.write(writing, text + b"\0")
            if level >= FATAL:
                os._exit(0)

        said_by = OUTPUT(say)
        util.msg_output(said_by)
        ask(util, library)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8", "surrogateescape").split("\0")[:-1]
    os.waitpid(pid, 0)
    return said


def typed(kind: str, name: str, value: str, default: str, least: int, most: int) -> Any:
    """Return the converted value: a number, or [the fatal error]."""
    result: list[str] = []

    def ask(util: Any, library: Any) -> None:
        encoded = name.encode()
        library.mail_conf_update(encoded, value.encode("utf-8", "surrogateescape"))
        if kind == "boolean":
            found = library.get_mail_conf_bool(encoded, 0)
        elif kind == "time":
            found = library.get_mail_conf_time(encoded, default.encode(), least, most)
        elif kind == "long":
            library.get_mail_conf_long.restype = ctypes.c_long
            bounds = (ctypes.c_long(0), ctypes.c_long(least), ctypes.c_long(most))
            found = library.get_mail_conf_long(encoded, *bounds)
        elif kind == "integer":
            found = library.get_mail_conf_int(encoded, 0, least, most)
        else:
            getter = library.get_mail_conf_raw if kind == "raw" else library.get_mail_conf_str
            getter(encoded, b"", least, most)
            found = 0
        util.msg_info(b"%s", str(found).encode())

    result = in_a_child(ask)
    return int(result[0]) if len(result) == 1 and result[0].lstrip("-").isdigit() else result


def networks(name: str, value: str) -> list[str]:
    """Return what a client from each kind of address brings to light."""

    def ask(util: Any, library: Any) -> None:
        util.match_list_init.restype = ctypes.c_void_p
        functions = (util.match_hostname, util.match_hostaddr)
        for host, address in ((b"a.example", b"203.0.113.77"), (b"a.example", b"2001:db8:7::77")):
            matched = util.match_list_init(
                name.encode(), MATCH_FLAG_RETURN, value.encode(), 2, *functions
            )
            util.match_list_match(ctypes.c_void_p(matched), host, address)

    return in_a_child(ask)


def words(value: str) -> list[str]:
    """Return the words of a list according to mystrtokq()."""
    util = ctypes.CDLL("/usr/lib/postfix/libpostfix-util.so")
    util.mystrtokq.restype = ctypes.c_char_p
    buffer = ctypes.create_string_buffer(value.encode())
    place = ctypes.c_void_p(ctypes.addressof(buffer))
    found = []
    while (word := util.mystrtokq(ctypes.byref(place), b", \t\r\n", b"{}")) is not None:
        found.append(word.decode())
    return found


class Log:
    """postlogd(8)'s socket, where every program of Postfix logs; its lines by process."""

    def __init__(self) -> None:
        LOG_SOCKET.parent.mkdir(parents=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(LOG_SOCKET))
        self.lines: dict[str, list[str]] = defaultdict(list)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        while True:
            line = self.socket.recv(65536).decode("utf-8", "replace")
            head, _, text = line.partition("]: ")
            self.lines[head.rpartition("[")[2]].append(text)


def daemon(log: Log, folder: Path, program: str, settings: dict[str, str]) -> list[str]:
    """Return what the program logs when it is started with these settings and gets no request."""
    folder.mkdir()
    text = SETTINGS + "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "main.cf").write_text(text)
    (folder / "master.cf").write_text("")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))  # otherwise Postfix waits for it to cool
    environment = {"MAIL_CONFIG": str(folder), "POSTLOG_SERVICE": str(LOG_SOCKET)}
    process = subprocess.Popen(
        [f"/usr/lib/postfix/sbin/{program}", "-S"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()  # it is running, and waits for a client
        process.wait()
    # A datagram is queued before its sender exits; one of our own marks the end.
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    mark = f"mark{process.pid}"
    probe.sendto(f"x[{mark}]: end".encode(), str(LOG_SOCKET))
    while mark not in log.lines:
        threading.Event().wait(0.01)
    return list(log.lines[str(process.pid)])


def main() -> None:
    questions = json.load(sys.stdin)
    answers: dict[str, list[Any]] = {
        "typed": [typed(*question) for question in questions["typed"]],
        "networks": [networks(*question) for question in questions["networks"]],
        "words": [words(question) for question in questions["words"]],
    }
    log = Log()
    # A program that exits with a fatal error sleeps for a second first.
    with ThreadPoolExecutor(16) as pool:
        started = [
            pool.submit(daemon, log, Path(f"/tmp/case{number}"), *question)
            for number, question in enumerate(questions["daemon"])
        ]
        answers["daemon"] = [each.result() for each in started]
    json.dump(answers, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
