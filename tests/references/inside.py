"""Runs inside the machine: starts Postfix with each case's files, and looks what becomes of it.

A case is a JSON object on a line of the input, as campaigns/references.py makes it; what was
observed is one on a line of the output. The standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import syslog
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_QUEUE = Path("/var/spool/postfix")
_MASTER = "/usr/lib/postfix/sbin/master"
_MAILLOG = Path("/var/log/mail.log")
_INSIDE, _STRANGER = "127.0.0.1", "192.0.2.9"
_SENDERS = {_INSIDE: "bob@example.test", _STRANGER: "carol@example.org"}
ELSEWHERE = "eve@other.example.net"
_ANSWER_SECONDS = 20.0
_DELIVERY_SECONDS = 20.0
# Where Postfix has complained already, no answer is to be hoped for.
_HOPELESS_SECONDS = 5.0
# A master that dies of its configuration has done so by then.
_ALIVE_SECONDS = 2.0
_COMPLAINT = re.compile(r"\b(fatal|panic|error|warning): ")
_STATUS = re.compile(r"^postfix\S*/(\S+): .* status=(\w+) \((.*)")
_IN_MAILLOG = re.compile(r"(?m)^.*? (postfix\S*?)\[\d+\]: (.*)$")
_NONE = "none"


class Log:
    """What Postfix has logged since the last mark, by journal and in its own file."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._marks = 0
        command = ["journalctl", "--follow", "--lines=0", "--output=json"]
        command.append("--output-fields=SYSLOG_IDENTIFIER,MESSAGE")
        self._journal = subprocess.Popen(command, stdout=subprocess.PIPE)
        threading.Thread(target=self._follow, daemon=True).start()
        syslog.openlog("mark")

    def _follow(self) -> None:
        assert self._journal.stdout is not None
        for line in self._journal.stdout:
            record = json.loads(line)
            name, said = record.get("SYSLOG_IDENTIFIER", ""), record.get("MESSAGE", "")
            if isinstance(said, str) and name.startswith(("postfix", "mark")):
                self._lines.append(f"{name}: {said}")

    def sync(self) -> None:
        """Wait until all that was said before has been read."""
        self._marks += 1
        deadline = time.monotonic() + 20
        while f"mark: {self._marks}" not in self._lines and time.monotonic() < deadline:
            syslog.syslog(str(self._marks))
            time.sleep(0.05)

    def begin(self) -> None:
        self.sync()
        self._lines.clear()
        _MAILLOG.unlink(missing_ok=True)

    def lines(self) -> list[str]:
        found = [line for line in self._lines if line.startswith("postfix")]
        with contextlib.suppress(OSError):
            text = _MAILLOG.read_text(errors="replace")
            found += [f"{name}: {said}" for name, said in _IN_MAILLOG.findall(text)]
        return found

    def complaints(self) -> list[str]:
        """The lines that tell of trouble, each once, without what differs from run to run."""
        squeezed = (
            re.sub(r"\bpid \d+|\b0x[0-9a-f]+\b|[^ ]+\[\d+\]", "N", line)
            for line in self.lines()
            if _COMPLAINT.search(line)
        )
        return list(dict.fromkeys(re.sub(r": [0-9A-F]{9,12}: ", ": ID: ", s) for s in squeezed))


class Talk:
    """One client's session; once there is no answer, there is none to anything after."""

    def __init__(self, source: str, log: Log) -> None:
        self._log = log
        self._read = b""
        self.text = ""
        self._socket: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._socket = socket.create_connection(("127.0.0.1", 25), 5, (source, 0))

    def hear(self) -> str:
        """Return the code and the enhanced status of the next answer, "none" without one."""
        self.text = ""
        while not (done := re.match(rb"(?:\d{3}-.*\n)*\d{3}(?: .*)?\n", self._read)):
            got = self._more()
            if not got:
                self.close()
                return _NONE
            self._read += got
        self.text, self._read = done[0].decode("utf-8", "replace"), self._read[done.end() :]
        last = self.text.splitlines()[-1]
        found = re.match(r"(\d{3})(?: (\d\.\d\.\d+)\b)?", last)
        return " ".join(filter(None, found.groups())) if found else last

    def ask(self, line: str) -> str:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendall(f"{line}\r\n".encode())
        return self.hear()

    def begin_tls(self) -> str:
        """Return the protocol, or how it failed."""
        if self._socket is None or (answer := self.ask("STARTTLS")) != "220 2.0.0":
            return answer if self._socket else _NONE
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            self._socket.settimeout(10)
            secure = context.wrap_socket(self._socket, server_hostname="mail.example.test")
        except OSError:
            self.close()
            return "no handshake"
        self._socket = secure
        return secure.version() or "no handshake"

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _more(self) -> bytes:
        began = time.monotonic()
        while self._socket is not None:
            self._socket.settimeout(0.25)
            try:
                return self._socket.recv(65536)
            except TimeoutError:
                waited = time.monotonic() - began
                hopeless = waited > _HOPELESS_SECONDS and self._log.complaints()
                if hopeless or waited > _ANSWER_SECONDS:
                    return b""
            except OSError:
                return b""
        return b""


def session(source: str, recipient: str, log: Log) -> dict[str, str]:
    """Return what one client is answered; "queued" is the message's id in the queue."""
    talk, sender = Talk(source, log), _SENDERS[source]
    answers = {"connect": talk.hear(), "ehlo": talk.ask("EHLO client.example.org")}
    answers["tls"] = talk.begin_tls() if "STARTTLS" in talk.text else ""
    if answers["tls"].startswith("TLS"):
        talk.ask("EHLO client.example.org")
    talk.ask(f"MAIL FROM:<{sender}>")
    answers["relay"] = talk.ask(f"RCPT TO:<{ELSEWHERE}>")
    talk.ask("RSET")
    answers["mail"] = talk.ask(f"MAIL FROM:<{sender}>")
    answers["rcpt"] = talk.ask(f"RCPT TO:<{recipient}>")
    answers["data"] = answers["end"] = answers["queued"] = ""
    if answers["rcpt"].startswith("2"):
        answers["data"] = talk.ask("DATA")
    if answers["data"] == "354":
        message = f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: x\r\n\r\nx\r\n."
        answers["end"] = talk.ask(message)
        queued = re.search(r"queued as (\w+)", talk.text)
        answers["queued"] = queued[1] if queued else ""
    talk.ask("QUIT")
    talk.close()
    return answers


def fate(queued: str, log: Log) -> str:
    """Return what becomes of a message: delivered, deferred, bounced by a service, or waiting."""
    deadline = time.monotonic() + _DELIVERY_SECONDS
    while True:
        mine = [line for line in log.lines() if f": {queued}: " in line]
        statuses = [found for line in mine if (found := _STATUS.search(line))]
        if statuses:
            who, word, said = statuses[-1].groups()
            how = " in clear" * ("in clear" in said) + " with TLS" * ("with TLS" in said)
            return {"sent": f"delivered{how}", "bounced": f"bounced by {who}"}.get(word, word)
        late = time.monotonic() - (deadline - _DELIVERY_SECONDS) > _HOPELESS_SECONDS
        if time.monotonic() > deadline or (late and log.complaints()):
            return "waiting"
        time.sleep(0.05)


def _master() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((_QUEUE / "pid/master.pid").read_text())
    return 0


def _runs() -> bool:
    return subprocess.run([_MASTER, "-t"], capture_output=True, check=False).returncode != 0


def _stop() -> None:
    """End master and all its children, as `postfix stop` does, whatever main.cf says."""
    pid = _master()
    for number in [signal.SIGTERM] + [0] * 200 + [signal.SIGKILL] + [0] * 100:
        try:
            os.killpg(pid, number) if pid > 1 else None
        except ProcessLookupError:
            break
        time.sleep(0.03 if pid > 1 else 0)
    (_QUEUE / "pid/master.pid").unlink(missing_ok=True)
    for folder in ("active", "bounce", "corrupt", "defer", "deferred", "incoming", "maildrop"):
        for file in (_QUEUE / folder).rglob("*"):
            if file.is_file():
                file.unlink()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
    # Older than what Postfix takes for a file that is being written.
    os.utime(path, (time.time() - 60, time.time() - 60))


def _start(checked: bool) -> tuple[bool, list[str]]:
    """`postfix start`, without its look at the folders where that has nothing to find.

    Return whether that went well, and what it complained of, some of which no log has.
    """
    if not checked:
        (_QUEUE / "quick-start").touch()
    # Debian 13 hands on to systemd unless systemd asks.
    environment = {**os.environ, "INVOCATION_ID": "0" * 32}
    done = subprocess.run(
        ["postfix", "start"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    (_QUEUE / "quick-start").unlink(missing_ok=True)
    said = [line for line in done.stderr.splitlines() if _COMPLAINT.search(line)]
    return done.returncode == 0, said


def observe(case: dict[str, Any], log: Log) -> dict[str, Any]:
    """Return what real Postfix does with one case."""
    _write("/etc/postfix/main.cf", case["main_cf"])
    _write("/etc/postfix/master.cf", case["master_cf"])
    log.begin()
    began = time.monotonic()
    started, printed = _start(case["checked"])
    seen: dict[str, Any] = {"started": started, "alive": False}
    clients, message = {}, _NONE
    if started:
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(session, who, case["to"], log) for who in _SENDERS]
            clients = dict(zip(("inside", "stranger"), [a.result() for a in asked], strict=True))
        queued = clients["inside"]["queued"]
        message = fate(queued, log) if queued else _NONE
        log.sync()
        if any("fatal: " in line for line in log.complaints()):
            time.sleep(max(0.0, began + _ALIVE_SECONDS - time.monotonic()))
        seen["alive"] = _runs()
    log.sync()
    for answers in clients.values():
        del answers["queued"]
    seen |= {"message": message, **clients, "said": (log.complaints() or printed)[:4]}
    _stop()
    return seen


def main() -> None:
    log = Log()
    _stop()
    for line in sys.stdin:
        case = json.loads(line)
        began = time.monotonic()
        seen = observe(case, log)
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"name": case["name"], "seconds": seconds, "seen": seen}), flush=True)


if __name__ == "__main__":
    main()
