"""Runs inside the machine: asks Postfix as each client does, all at once, and prints the answers.

Its input is a JSON object: by the client's name, what clients.py's `Client` holds. Its output too:
by name, the codes that were answered; an empty one for no answer. The standard library only.
"""

from __future__ import annotations

import glob
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

_ANSWER_SECONDS = 12.0
_DELIVERY_SECONDS = 8.0


@dataclass(frozen=True)
class Client:
    """Somebody with mail for `recipients`, of which the last one may be elsewhere.

    `source` and `server` are addresses, `proxy` the client's address as a proxy tells it; `tls` is
    "starttls" or "wrapped". Without a port it is sendmail(1), and `maildir` is where the mail has
    to arrive.
    """

    recipients: tuple[str, ...]
    port: int = 0
    source: str = "127.0.0.1"
    server: str = "127.0.0.1"
    proxy: str = ""
    tls: str = ""
    maildir: str = ""

    def has_relayed(self, codes: list[str]) -> bool:
        """Whether the last recipient was taken, by the codes that this client was answered."""
        all_of_them = 4 + 2 * (self.tls == "starttls") + len(self.recipients)
        return len(codes) == all_of_them and codes[-2].startswith("2")


class _Refused(Exception):
    """The server has ended the talk."""


class _Talk:
    def __init__(self, client: Client) -> None:
        self.codes: list[str] = []
        where = (client.server, client.port)
        self._socket = socket.create_connection(where, _ANSWER_SECONDS, (client.source, 0))
        if client.proxy:
            told = f"PROXY TCP4 {client.proxy} {client.server} 4711 {client.port}\r\n"
            self._socket.sendall(told.encode())
        if client.tls == "wrapped":
            self.secure()
        else:
            self._file = self._socket.makefile("rb")

    def secure(self) -> None:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        self._socket = trusting.wrap_socket(self._socket)
        self._file = self._socket.makefile("rb")

    def hear(self) -> None:
        code = b""
        while line := self._file.readline():
            code = line[:3]
            if line[3:4] != b"-":
                break
        self.codes.append(code.decode())
        if code in (b"", b"421"):
            raise _Refused

    def say(self, line: str) -> None:
        self._socket.sendall(f"{line}\r\n".encode())
        self.hear()

    def close(self) -> None:
        self._socket.close()


def by_smtp(client: Client) -> list[str]:
    """Return the codes of the greeting, EHLO (after STARTTLS), MAIL and each RCPT."""
    try:
        talk = _Talk(client)
    except OSError:
        return [""]
    try:
        talk.hear()
        talk.say("EHLO client.elsewhere.test")
        if client.tls == "starttls":
            talk.say("STARTTLS")
            talk.secure()
            talk.say("EHLO client.elsewhere.test")
        talk.say("MAIL FROM:<somebody@elsewhere.test>")
        for recipient in client.recipients:
            talk.say(f"RCPT TO:<{recipient}>")
        talk.say("QUIT")
    except _Refused:
        pass  # what was heard until then is the answer
    except OSError:
        talk.codes.append("")
    finally:
        talk.close()
    return talk.codes


def by_sendmail(client: Client) -> list[str]:
    """Return sendmail's exit code, and whether the mail arrived."""
    token = f"token-{os.urandom(8).hex()}"
    done = subprocess.run(
        ["sendmail", "-i", "-f", "joe", *client.recipients],
        input=f"Subject: {token}\n\n",
        text=True,
        capture_output=True,
        check=False,
    )
    deadline = time.monotonic() + _DELIVERY_SECONDS
    while time.monotonic() < deadline and not done.returncode:
        if any(_holds(path, token) for path in glob.glob(f"{client.maildir}/new/*")):
            return ["0", "arrived"]
        time.sleep(0.1)
    return [str(done.returncode), ""]


def _holds(path: str, token: str) -> bool:
    with open(path, errors="replace") as file:
        return token in file.read()


def ask(client: Client) -> list[str]:
    """Ask once, as this client does."""
    return by_smtp(client) if client.port else by_sendmail(client)


def told(clients: dict[str, Client]) -> str:
    """Return what `main` reads."""
    return json.dumps({name: asdict(client) for name, client in clients.items()})


def main() -> None:
    """Ask as all of them."""
    clients = {name: Client(**found) for name, found in json.load(sys.stdin).items()}
    with ThreadPoolExecutor(max_workers=max(1, len(clients))) as pool:
        answers = dict(zip(clients, pool.map(ask, clients.values()), strict=True))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
