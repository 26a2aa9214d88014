"""adopt --cycle on the test's own files, and the records of orders as journald gets them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.files.displaced_texts import DISPLACED, path_of
from pf_agent.model import Event
from pf_agent.reporting.journal import MESSAGE_IDS
from tests.unit.cli.forks import Forks
from tests.unit.cli.test_main import RIGHT, command, forks, one_line
from tests.unit.cli.test_verbs_wish import HAS_POSTFIX, HEAD, LOCAL, NULL_CLIENT, Server

__all__ = ["forks"]  # fixtures

pytest.importorskip("tomlkit")

LIFE = "a1b2c3"
SECRET = "s3cr3t-of-anna"


class Corrected(Server):
    """A host whose main.cf was corrected in cycle 17; its /run and /var/lib are kept, too."""

    MOUNT = (
        "mount --make-rprivate / || exit 99; for folder in etc run usr/share var/lib; do "
        'mount --bind "$0"/$folder /$folder || exit 99; done'
    )

    def displace(self, text: bytes, cycle: int = 17, folder: str = "") -> Path:
        """Make this the text that the cycle replaced."""
        kept = self.folder / "var/lib/pf-agent" / folder / DISPLACED
        kept.mkdir(parents=True, exist_ok=True)
        path = Path(path_of(str(kept), cycle))
        path.write_bytes(text)
        path.chmod(0o600)
        (self.folder / "var/lib/pf-agent/life").write_text(f"{LIFE}\n")
        return path

    @contextmanager
    def journald(self) -> Iterator[list[dict[str, str]]]:
        """Listen in place of journald; at the end, the list has the fields of each record."""
        place = self.folder / "run/systemd/journal"
        place.mkdir(parents=True)
        folder = os.open(place, os.O_RDONLY)
        found: list[dict[str, str]] = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            # The path of a socket has at most 107 bytes (unix(7)).
            listener.bind(f"/proc/self/fd/{folder}/socket")
            listener.setblocking(False)
            yield found
            while True:
                try:
                    lines = listener.recv(65536).decode().splitlines()
                except BlockingIOError:
                    break
                found.append(dict(line.split("=", 1) for line in lines))
        os.close(folder)


@pytest.fixture
def server(tmp_path: Path, forks: Forks) -> Corrected:
    found = Corrected(tmp_path, forks)
    found.write("usr/share/pf-agent/desired/null-client.toml", NULL_CLIENT)
    return found


def test_a_cycle_is_kept(server: Corrected) -> None:
    server.displace(b"a = 2\nd = 4\nforeign = 7\nb = x y\n")
    answer = server.run("adopt", "--cycle", "17", "a", "d", "foreign")
    assert answer.code == 0  # a Postfix that is there warns of what it does not know
    assert answer.out.splitlines()[0] == f"/{LOCAL}: a, d, foreign"
    assert "pf-agent apply" in answer.out, "no daemon is there to do it"
    assert server.local() == "[settings]\na = 2\nd = 4\nforeign = 7\n"
    assert server.read("etc/postfix/main.cf") == RIGHT, "that is the daemon's to change"
    answer = server.run("adopt", "--cycle", f"{LIFE}/17", "a")
    assert answer.out.splitlines()[0] == "already desired: a"


def test_a_cycle_of_master_cf_is_restored(server: Corrected) -> None:
    folder = "var/lib/pf-agent/documents/master.cf/displaced"
    (server.folder / folder).mkdir(parents=True)
    server.write(f"{folder}/00000018.main.cf", "smtp inet n - y - - smtpd\n")
    answer = server.run("restore", "18")
    assert (answer.code, answer.err) == (0, "")
    assert server.read("etc/postfix/master.cf") == "smtp inet n - y - - smtpd\n"
    assert answer.out.endswith("`systemctl restart postfix` makes Postfix run with it\n")


def test_a_line_that_was_deleted_is_kept_deleted(server: Corrected) -> None:
    server.displace(b"b = x y\n")
    assert server.run("adopt", "--cycle", "17", "a").code == 0
    assert server.local() == 'use_default = ["a"]\n'


def test_a_secret_is_adopted_and_shown_nowhere(server: Corrected) -> None:
    server.displace(f"a = 1\nldap_bind_pw = {SECRET}\n".encode())
    with server.journald() as records:
        for options in ((), ("--json",)):
            answer = server.run("adopt", "--cycle", "17", "ldap_bind_pw", *options)
            assert answer.code == 0
            assert SECRET not in answer.out + answer.err
            assert "ldap_bind_pw" in answer.out
    assert f'ldap_bind_pw = "{SECRET}"' in server.local()
    (record,) = records
    assert record[names.FIELD_PARAMETER] == "ldap_bind_pw"
    assert SECRET not in str(record)


@pytest.mark.parametrize(
    ("cycle", "why"),
    [
        ("18", "cycle 18: /var/lib/pf-agent/displaced has no text of it (the newest 200 are kept)"),
        ("0/17", "cycle 0/17: /var/lib/pf-agent/displaced has no text of it"),
        ("ffffff/17", "cycle ffffff/17: /var/lib/pf-agent/displaced has no text of it"),
    ],
)
def test_a_text_that_is_gone_is_one_line(server: Corrected, cycle: str, why: str) -> None:
    server.displace(b"a = 2\n")
    answer = server.run("adopt", "--cycle", cycle, "a")
    assert answer.code == 1
    assert one_line(answer).startswith(f"pf-agent: {why}")
    assert not (server.folder / LOCAL).exists()


def test_what_is_no_cycle_is_wrong_usage(server: Corrected) -> None:
    answer = server.run("adopt", "--cycle", "x", "a")
    assert answer.code == 2
    assert 'expected a cycle, got "x"; write 17, or a1b2c3/17' in answer.err


@pytest.mark.parametrize("text", [b"", b"# nothing but this\n"])
def test_a_destroyed_text_makes_nothing_a_default(server: Corrected, text: bytes) -> None:
    path = server.displace(text)
    answer = server.run("adopt", "--cycle", "17", "a")
    assert answer.code == 1
    place = f"/{path.relative_to(server.folder)}"
    expected = f"pf-agent: {place}: it contains no settings, so there is nothing to adopt"
    assert one_line(answer) == expected
    assert not (server.folder / LOCAL).exists()


def test_a_value_that_toml_cannot_hold_is_told_with_its_place(server: Corrected) -> None:
    server.displace(b"b = 1\na = caf\xe9\n")
    answer = server.run("adopt", "--cycle", "17", "b", "a")
    assert answer.code == 2
    place = "/var/lib/pf-agent/displaced/00000017.main.cf:2"
    assert one_line(answer).startswith(f"pf-agent: {place}: a: it is not UTF-8")
    assert not (server.folder / LOCAL).exists()


@pytest.mark.postfix
@HAS_POSTFIX
def test_a_value_that_postfix_refuses_leaves_all_as_it_was(server: Corrected) -> None:
    server.displace(b"a = 1\nmessage_size_limit = lots\n")
    with server.journald() as records:
        answer = server.run("adopt", "--cycle", "17", "message_size_limit")
    assert answer.code == 2
    assert one_line(answer).startswith("pf-agent: message_size_limit: Postfix refuses it: ")
    assert not (server.folder / LOCAL).exists()
    assert records == []


def test_an_instance_has_texts_of_its_own(server: Corrected) -> None:
    server.write(
        "etc/pf-agent/desired.toml",
        '[settings]\na = "1"\n[instances.out.settings]\na = "1"\n',
    )
    (server.folder / "etc/postfix-out").mkdir()
    server.write("etc/postfix-out/main.cf", "a = 1\n")
    server.displace(b"a = 1\n", 18)
    server.displace(b"a = 9\n", 17, "instances/out")
    with server.journald() as records:
        assert server.run("adopt", "--cycle", "17", "a").code == 1
        assert server.run("adopt", "--instance", "out", "--cycle", "17", "a").code == 0
    assert server.local() == "[instances.out.settings]\na = 9\n"
    (record,) = records
    assert record[names.FIELD_INSTANCE] == "out"
    assert record["MESSAGE"].startswith("out: a adopted from the text that cycle 17 replaced, by ")


def test_each_order_is_on_record_with_who_gave_it(server: Corrected) -> None:
    server.displace(b"a = 2\n")
    with server.journald() as records:
        assert server.run("set", "--unknown", "a=3").code == 0
        assert server.run("adopt", "a").code == 0
        assert server.run("adopt", "--cycle", "17", "a").code == 0
        assert server.run("unset", "a").code == 0
        assert server.run("unset", "--default", "mynetworks").code == 0
        (server.folder / "etc/pf-agent/desired.toml").unlink()
        assert server.run("init", "--from", "null-client").code == 0
        assert server.run("restore", "17").code == 0
    told = [
        (each[names.FIELD_EVENT], each.get(names.FIELD_PARAMETER), each.get(names.FIELD_CYCLE))
        for each in records
    ]
    assert told == [
        ("set", "a", None),
        ("adopted", "a", None),
        ("adopted", "a", "17"),
        ("unset", "a", None),
        ("unset", "mynetworks", None),
        ("initialized", None, None),
        ("restored", None, "17"),
    ]
    for each in records:
        assert each["MESSAGE_ID"] == MESSAGE_IDS[Event(each[names.FIELD_EVENT])]
        assert each[names.FIELD_LIFE] == LIFE
        assert each["MESSAGE"].endswith(f" by {each[names.FIELD_BY]}")


def test_what_changes_nothing_is_not_on_record(server: Corrected) -> None:
    with server.journald() as records:
        assert server.run("set", "--unknown", "a=1").code == 0
        assert server.run("set", "a").code == 2
    assert records == []


def test_the_one_who_asks_is_named(server: Corrected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    with server.journald() as records:
        # In a process of its own, since the forks have another environment.
        assert server.inside(command("set", "--unknown", "a=3")).returncode == 0
    assert [each[names.FIELD_BY] for each in records] == ["anna"]
    assert records[0]["MESSAGE"] == "a set by anna"


def test_without_a_journal_an_order_is_given_all_the_same(server: Corrected) -> None:
    assert server.run("set", "--unknown", "a=3").code == 0
    assert server.read(LOCAL) == f"{HEAD}\n[settings]\na = 3\n"
