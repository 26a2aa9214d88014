"""What the daemon asks of its other unit: a few errands, done or refused, and none of them lost.

Both ends are real, with a socket between them as systemd hands it over.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built, Source
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import (
    Fault,
    Greeting,
    Heard,
    Judgement,
    OnWarning,
    Package,
    Presence,
    Reference,
    Stamp,
    UnitPhase,
    UnitState,
)
from pf_agent.postfix.errands import Errands, listening
from pf_agent.postfix.errands_unit import Unit
from pf_agent.postfix.installed import Postfix
from pf_agent.postfix.postconf import POSTCONF
from tests.fakes import FakeLog

NOW = 1_764_000_000


class Host:
    """The other unit's socket, and Postfix's folders: the default one's and another's."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "errands")
        self.main_cf = folder / "postfix" / "main.cf"
        self.other = str(folder / "postfix-out")
        self.main_cf.parent.mkdir()
        self.main_cf.write_text(f"multi_instance_directories = /x, {self.other}\n")
        self.unit = Unit(str(self.main_cf), str(folder), str(folder))
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()

    def errands(self, directory: str | None = None) -> Errands:
        return Errands(directory or str(self.main_cf.parent), self.path)

    @contextmanager
    def served(self, idle: float = 0.1) -> Iterator[list[int]]:
        """As systemd does it: whenever somebody calls, the unit is started. Counts the starts."""
        starts: list[int] = []
        ended, end = os.pipe()

        def systemd() -> None:
            calls = [self.listener.fileno(), ended]
            while ended not in select.select(calls, [], [])[0]:
                starts.append(1)
                self.unit.serve(self.listener, idle)

        thread = threading.Thread(target=systemd)
        thread.start()
        try:
            yield starts
        finally:
            os.write(end, b".")
            thread.join()
            os.close(ended)
            os.close(end)

    def says(self, asked: bytes) -> dict[str, object]:
        """What the unit answers to any bytes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(30)
            client.connect(self.path)
            client.sendall(asked)
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answer:
                assert answer.readline() == b"\n"
                found: dict[str, object] = json.loads(answer.read())
        return found

    def will_say(self, answer: bytes, passed: Path | None = None) -> None:
        """Answer the next one so, whatever is asked, and pass a file with it."""

        def say() -> None:
            client, _ = self.listener.accept()
            with client, client.makefile("rb") as asking:
                asking.read()
                if passed is None:
                    client.sendall(answer)
                    return
                client.sendall(answer[:1])
                with passed.open("rb") as file:
                    socket.send_fds(client, [answer[1:]], [file.fileno()])

        threading.Thread(target=say, daemon=True).start()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.listener.close()


# --- what is done ---------------------------------------------------------------------------------


@pytest.mark.postfix
@pytest.mark.parametrize("line", [b"", b"oops\n", b"queue_run_delay = \xff\n", b"foo = 1\n"])
def test_a_judgement_comes_as_it_was_made(host: Host, line: bytes, tmp_path: Path) -> None:
    text = b"myhostname = host.example\nmynetworks = 127.0.0.1\n" + line
    here = Postfix(str(host.main_cf.parent), str(tmp_path)).judge(text)
    with host.served():
        assert host.errands().judge(text) == here


@pytest.mark.postfix
@pytest.mark.parametrize(
    "line",
    [
        b"2525 inet n - n - - smtpd\n",
        b"oops\n",
        b"nosuchport inet n - n - - smtpd\n",
        b"2525 inet n - n - - smtpd -o smtpd_timeout=\xff\n",
    ],
)
def test_a_judgement_of_master_cf_comes_as_it_was_made(
    host: Host, line: bytes, tmp_path: Path
) -> None:
    host.main_cf.write_text("myhostname = host.example\nmynetworks = 127.0.0.1\n")
    text = b"smtp inet n - y - - smtpd\n" + line
    (host.main_cf.parent / "master.cf").write_bytes(b"smtp inet n - y - - smtpd\n")
    here = Postfix(str(host.main_cf.parent), str(tmp_path)).judge_services(text)
    with host.served():
        assert host.errands().judge_services(text) == here


@pytest.mark.postfix
def test_only_managed_services_are_asked_at_their_ports(host: Host) -> None:
    host.main_cf.write_text("myhostname = host.example\nmynetworks = 127.0.0.1\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    line = f"127.0.0.1:{port} inet n - n - - smtpd\n"
    (host.main_cf.parent / "master.cf").write_text(line)
    os.utime(host.main_cf, (NOW, NOW))
    with host.served():
        assert host.errands().ask_services(["smtp/inet"]) == Heard()
        heard = host.errands().ask_services([f"127.0.0.1:{port}/inet"])
    assert f"127.0.0.1:{port}: no connection" in heard.trouble
    assert not heard.greeted


@pytest.mark.postfix
def test_the_probe_asks_where_postfix_has_to_greet_and_nowhere_else(host: Host) -> None:
    (host.main_cf.parent / "master.cf").write_text("127.0.0.3:25 inet n - y - - smtpd\n")
    os.utime(host.main_cf, (NOW, NOW))
    with host.served():
        found = host.errands().greeting()
        assert found is not None
        assert found.address == "127.0.0.3"
        with pytest.raises(HostError, match="the expected greeting has changed"):
            host.errands().probe(replace(found, address="127.0.0.4"))


@pytest.mark.skipif(os.path.exists(POSTCONF), reason="Postfix is installed")
@pytest.mark.parametrize(
    "ask", [lambda e: e.judge(b""), lambda e: e.greeting(), lambda e: e.newaliases()]
)
@pytest.mark.parametrize("is_other", [False, True])
def test_a_failure_is_told_in_its_own_words(
    host: Host, ask: Callable[[Errands], object], is_other: bool
) -> None:
    with host.served(), pytest.raises(HostError, match=r"^/.*; install the package postfix"):
        ask(host.errands(host.other if is_other else None))


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_a_socket_comes_that_listens(host: Host, address: str) -> None:
    bare = address.strip("[]")
    try:
        with socket.create_server(
            (bare, 0), family=socket.AF_INET6 if ":" in bare else socket.AF_INET
        ) as free:
            place = f"{address}:{free.getsockname()[1]}"
            taken = rf"^\[metrics\] listen {re.escape(place)}: Address already in use; choose"
            with host.served(), pytest.raises(HostError, match=taken):
                listening(place, host.path)
    except OSError as error:
        pytest.skip(f"no {address} here: {error}")
    with host.served(), listening(place, host.path) as listener:
        socket.create_connection(listener.getsockname()[:2], timeout=30).close()


@pytest.mark.parametrize("since", [NOW, NOW - 0.5])
def test_the_end_of_the_log_comes(
    host: Host, monkeypatch: pytest.MonkeyPatch, since: float
) -> None:
    log = FakeLog()
    monkeypatch.setitem(sys.modules, "systemd", SimpleNamespace(journal=log))
    log.add(NOW - 1, "before")
    log.add(NOW, b"fatal: caf\xe9")
    log.add(NOW, "of another", _SYSTEMD_UNIT="other.service")
    log.add(NOW, "Failed", SYSLOG_IDENTIFIER="systemd", UNIT="postfix@-.service")
    log.entries[-1] |= {"_PID": 1, "_UID": 0}
    with host.served():
        found = host.errands().log_tail(("postfix.service", "postfix@-.service"), since)
        assert found == ("postfix/master: fatal: caf\ufffd", "systemd: Failed")
        found = host.errands().fatal_lines(("postfix.service", "postfix@-.service"), since)
        assert found == ("postfix/master: fatal: caf\ufffd",)
        log.fault = OSError(errno.EACCES, "Permission denied")
        assert host.errands().log_tail(["postfix.service"], since) == ()


@pytest.mark.parametrize("job", ["stop", "restart"])
def test_whether_a_unit_was_stopped(host: Host, monkeypatch: pytest.MonkeyPatch, job: str) -> None:
    log = FakeLog()
    monkeypatch.setitem(sys.modules, "systemd", SimpleNamespace(journal=log))
    unit = UnitState("postfix.service", UnitPhase.DOWN, "success", "a" * 32)
    with host.served():
        assert host.errands().was_stopped(unit) is None
        log.add(NOW, "Stopped", JOB_TYPE=job, JOB_RESULT="done", INVOCATION_ID=unit.invocation)
        log.entries[-1]["MESSAGE_ID"] = "9d1aaa27d60140bd96365438aad20286"
        assert host.errands().was_stopped(unit) is (job == "stop")
    host.will_say(b'\n{"done": "yes"}')
    assert host.errands().was_stopped(unit) is None


@pytest.mark.skipif(not os.path.exists("/usr/bin/dpkg-query"), reason="no dpkg")
def test_a_server_is_called_only_where_the_configuration_names_it(host: Host) -> None:
    dropins = host.main_cf.parent.parent / names.DESIRED_DROPINS
    dropins.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server, host.served():
        place = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(HostError, match=r"not configured in"):
            host.errands().is_there(f"inet:{place}")
        (dropins / "50-site.toml").write_text(f'[settings]\nsmtpd_milters = "inet:{place}"\n')
        assert host.errands().is_there(f"inet:{place}")
        assert host.errands().is_there(str(dropins))


def test_what_dpkg_is_about(host: Host) -> None:
    with host.served():
        assert host.errands().package().state in ("", "installed", "config-files")
    host.will_say(b'\n{"done": [true, "half-configured"]}')
    assert host.errands().package() == Package(True, "half-configured")
    host.will_say(b'\n{"done": [true]}')
    with pytest.raises(HostError, match="invalid answer"):
        host.errands().package()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"errand": "run", "programs": [["/bin/sh", "-c", "id"]]}',
        b'{"errand": "judge", "text": ""}',
        b'{"errand": "judge", "directory": ["/etc/postfix"], "text": ""}',
        b'{"errand": "judge", "directory": "/etc/postfix", "text": 1}',
        b'{"errand": "judge-services", "directory": "/etc/postfix", "text": 1}',
        b'{"errand": "services", "directory": "/etc/postfix", "managed": "smtp/inet"}',
        b'{"errand": "newaliases", "directory": "/etc/postfix"}',
        b'{"errand": "newaliases", "directory": "/etc/postfix", "databases": null}',
        b'{"errand": "probe", "directory": "/etc/postfix", "greeting": "127.0.0.1"}',
        b'{"errand": "listen", "place": 25}',
        b'{"errand": "stopped", "unit": "postfix.service"}',
        b'{"errand": "stopped", "unit": ["postfix.service"], "invocation": ""}',
        b'{"errand": "log", "units": ["postfix.service"], "since": 1}',
        b'{"errand": "fatal", "directory": "/etc/postfix", "units": [1], "since": 1}',
        b'{"errand": "lives", "queue": "/var/spool/postfix"}',
        b'{"errand": "log", "directory": "/etc/postfix", "units": "postfix.service", "since": 1}',
        b'{"errand": "log", "units": ["postfix.service", 1], "since": 1}',
        b'{"errand": "log", "units": [["--file", "/x"]], "since": 1}',
        b'{"errand": "log", "units": [], "since": "1"}',
        b'{"errand": "log", "units": [], "since": null}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_errand_is_refused(host: Host, asked: bytes) -> None:
    with host.served():
        assert "unknown request" in str(host.says(asked)["failure"])


def test_a_text_that_is_none_of_bytes_is_refused(host: Host) -> None:
    errand = {"errand": "judge", "directory": str(host.main_cf.parent), "text": "\u20ac"}
    with host.served():
        assert "unknown request" in str(host.says(json.dumps(errand).encode())["failure"])


@pytest.mark.parametrize("ending", ["", "/", "/../postfix-out/..", "-out/../postfix/../elsewhere"])
def test_a_folder_of_no_instance_is_refused(host: Host, ending: str) -> None:
    folder = f"{host.main_cf.parent.parent}/elsewhere{ending}"
    with (
        host.served(),
        pytest.raises(HostError, match="no instance of Postfix; see `postmulti -l`"),
    ):
        host.errands(folder).judge(b"")


@pytest.mark.parametrize(
    "place",
    [
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "0.0.0.0:9825",
        "192.0.2.1:9825",
        "[::]:9825",
        "mail.example:25",
        "/run/x",
        "127.0.0.1:x",
        "",
    ],
)
def test_no_address_but_those_of_loopback_is_listened_at(host: Host, place: str) -> None:
    with host.served(), pytest.raises(HostError, match="not a loopback address"):
        listening(place, host.path)


def test_what_cannot_be_listened_at_is_told(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, host.served():
        place = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(HostError, match=f"listen {place}: Address already in use;"):
            listening(place, host.path)


# --- when there is nothing to do ------------------------------------------------------------------


def test_it_ends_when_nobody_asks(host: Host) -> None:
    host.unit.serve(host.listener, 0.01)


def test_what_is_asked_as_it_ends_is_done(host: Host) -> None:
    """The pauses are as long as its patience: some find it, some its end, some nobody."""
    with host.served(0.004) as starts:
        for _ in range(300):
            time.sleep(random.uniform(0, 0.008))
            with pytest.raises(HostError, match="not a loopback address"):
                listening("", host.path)
    assert 10 < len(starts) < 300


def test_it_does_not_end_while_an_errand_is_done(host: Host) -> None:
    """The one who asks takes longer over it than the unit's patience."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with host.served(0.01) as starts, client:
        client.settimeout(30)
        client.connect(host.path)
        assert client.recv(1) == b"\n"
        time.sleep(0.2)
        assert len(starts) == 1
        client.shutdown(socket.SHUT_WR)
        assert b"unknown request" in client.recv(1000)


def test_one_errand_does_not_hold_up_another(host: Host) -> None:
    with host.served(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        slow.connect(host.path)
        assert "failure" in host.says(b"{}")


# --- when the machine fails -----------------------------------------------------------------------


def test_a_call_that_fails_is_told_by_its_place(host: Host) -> None:
    class Failing(Unit):
        def _do(self, asked: object) -> None:
            raise OSError(errno.EIO, "Input/output error", "/run/x")

    host.unit = Failing("", "")
    with host.served(), pytest.raises(HostError, match=r"^/run/x: Input/output error; check"):
        host.errands().judge(b"")


def test_what_cannot_be_imported_is_told(host: Host) -> None:
    class Failing(Unit):
        def _do(self, asked: object) -> None:
            raise ModuleNotFoundError("No module named 'hashlib'")

    host.unit = Failing("", "")
    with host.served(), pytest.raises(HostError, match="No module named 'hashlib'; check Python"):
        host.errands().judge(b"")


def test_where_no_thread_is_to_be_had_the_next_call_is_served(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with host.served():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(HostError, match="no answer"):
                host.errands().judge(b"")
        assert "failure" in host.says(b"{}")


def test_where_no_descriptor_is_to_be_had_the_call_waits(host: Host) -> None:
    class Full(socket.socket):
        refusals = 2

        def accept(self) -> tuple[socket.socket, Any]:
            if self.refusals:
                self.refusals -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    host.listener = Full(fileno=host.listener.detach())
    with host.served() as starts:
        assert "failure" in host.says(b"{}")
    assert len(starts) == 1


# --- when there is no answer ----------------------------------------------------------------------


def test_without_the_other_unit_the_way_out_is_named(tmp_path: Path) -> None:
    words = (
        r"/none: no answer \(No such file or directory\); see `systemctl status pf-agent-errands"
    )
    with pytest.raises(HostError, match=words):
        Errands("/etc/postfix", str(tmp_path / "none")).judge(b"")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", r"no answer \(the connection was closed\)"),
        (b"\n", r"no answer \(the connection was closed\)"),
        (b"\n{", "an invalid answer"),
        (b"\n5", "an invalid answer"),
        (b"\n[]", "an invalid answer"),
        (b"\n{}", "an invalid answer"),
        (b'\n{"done": null}', "an invalid answer"),
        (b'\n{"done": ["", []]}', "an invalid answer"),
        (b'\n{"done": ["", [], [1]]}', "an invalid answer"),
    ],
)
def test_an_answer_that_is_none(host: Host, said: bytes, words: str) -> None:
    host.will_say(said)
    with pytest.raises(HostError, match=words):
        host.errands().judge(b"")


def test_what_became_of_each_database_is_read_back(host: Host) -> None:
    host.will_say(
        b'\n{"done": [[["/a", "/a.db"], "", ["one", "two"]], [["/b", "/b.db"], "no", []]]}'
    )
    good, bad = Source("/a", "/a.db"), Source("/b", "/b.db")
    assert host.errands().newaliases() == (Built(good, "", ("one", "two")), Built(bad, "no"))
    host.will_say(b'\n{"done": null}')
    with pytest.raises(HostError, match="an invalid answer"):
        host.errands().newaliases(["/a.db"])


def test_a_table_that_is_not_named_is_not_built(host: Host) -> None:
    with host.served(), pytest.raises(HostError, match="name no such table"):
        host.errands().table("/etc/shadow.db", OnWarning.KEEP)


@pytest.mark.parametrize("kind", ["texthash", "regexp", "", "hash:/etc/shadow", "../hash"])
def test_only_what_postmap_builds_is_tried(host: Host, kind: str) -> None:
    with host.served(), pytest.raises(HostError, match="unknown request"):
        host.errands().try_source(Table(kind, "/t"), b"a b\n")


def test_a_text_is_tried_for_instances_alone(host: Host) -> None:
    with host.served(), pytest.raises(HostError, match="no instance of Postfix"):
        host.errands("/srv").try_source(Table("hash", "/t"), b"a b\n")


def test_what_is_said_of_a_text_comes_back(host: Host) -> None:
    host.will_say(b'\n{"done": ["", 1, ["/t:1: bad"], 0, 2, [0, 0, 0, 0], null, false]}')
    found = host.errands().try_source(Table("hash", "/t"), b"\xff\n")
    assert found == Draft("", 1, ("/t:1: bad",), 0, 2)


def test_a_draft_comes_with_its_index_open(host: Host) -> None:
    """The file itself is handed over: it has no name that both units know."""
    said = b'\n{"done": ["", 1, ["/t:1: bad"], null, 2, [3, 4, 5, 6], [7, 8], false]}'
    host.will_say(said, passed=host.main_cf)
    draft, index = host.errands().table("/t.db", OnWarning.KEEP)
    assert draft == Draft("", 1, ("/t:1: bad",), None, 2, Stamp(3, 4, 5, 6), (7, 8))
    assert index is not None
    with index:
        assert index.read() == host.main_cf.read_bytes()
    host.will_say(said)
    assert host.errands().table("/t.db", OnWarning.KEEP) == (draft, None)
    host.will_say(b'\n{"done": [1]}')
    with pytest.raises(HostError, match="an invalid answer"):
        host.errands().table("/t.db", OnWarning.KEEP)


@pytest.mark.parametrize("said", [b"", b"\n", b'\n{"failure": "no"}', b'\n{"done": null}'])
def test_a_log_that_does_not_come_is_empty(host: Host, said: bytes) -> None:
    """A rollback goes on without."""
    host.will_say(said)
    assert host.errands().log_tail(["postfix.service"], NOW) == ()


@pytest.mark.parametrize(
    "greeting",
    [
        None,
        Greeting("::1", 25, "x ESMTP", proxy=True, tls=True, stranger="192.0.2.1", wrapped=True),
    ],
)
def test_a_greeting_is_read_back(host: Host, greeting: Greeting | None) -> None:
    said = None if greeting is None else astuple(greeting)
    host.will_say(b"\n" + json.dumps({"done": said}).encode())
    assert host.errands().greeting() == greeting


@pytest.mark.parametrize("heard", [Heard(), Heard("x: RCPT got 451 no", True, 451, "no")])
def test_what_was_heard_is_read_back(host: Host, heard: Heard) -> None:
    host.will_say(b"\n" + json.dumps({"done": astuple(heard)}).encode())
    assert host.errands().probe(Greeting("127.0.0.1", 25, "x")) == heard


def test_whether_master_lives_is_read_back(host: Host) -> None:
    for said in (True, False):
        host.will_say(b"\n" + json.dumps({"done": said}).encode())
        assert host.errands().lives() is said
    host.will_say(b'\n{"done": null}')
    with pytest.raises(HostError, match="an invalid answer"):
        host.errands().lives()


def test_a_judgement_is_read_back(host: Host) -> None:
    absent = '["relayhost", "table", "hash:/a", "absent", "/a.db", "none", "smtp/inet"]'
    host.will_say(f'\n{{"done": ["bad", ["one", "two"], [["name", "why"]], [{absent}]]}}'.encode())
    found = Reference(
        "relayhost", "table", "hash:/a", Presence.ABSENT, "/a.db", "none", "smtp/inet"
    )
    expected = Judgement("bad", ("one", "two"), (Fault("name", "why"),), (found,))
    assert host.errands().judge(b"x") == expected


def test_no_answer_quotes_a_secret(host: Host) -> None:
    """Of master.cf the agent reads nothing; who has read it does not tell it."""
    master = host.main_cf.parent / "master.cf"
    master.write_text("x unix - n n - - pipe -o relay_pass=Tr0ub4dor&3\n")
    host.main_cf.write_text("x_token =\n  an0ther&1\n")
    host.unit._postfix(str(host.main_cf.parent)).mail_log()
    with host.served():
        for secret in ("Tr0ub4dor&3", "an0ther&1"):
            asked = {"errand": "presence", "thing": f"inet:{secret}"}
            said = host.says(json.dumps(asked).encode())
            assert "(hidden): not configured in" in str(said["failure"])
