"""The verbs set, adopt and init as their users meet them, on files of the test's in /etc."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from pf_agent.postfix.postconf import POSTCONF
from tests.checkout import CHECKOUT
from tests.unit.cli.forks import Forks
from tests.unit.cli.test_main import (
    Command,
    Desk,
    Host,
    command,
    desk,
    environment,
    forks,
    one_line,
    pf_agent,
)

__all__ = ["desk", "forks", "pf_agent"]  # fixtures

pytest.importorskip("tomlkit")

LOCAL = "etc/pf-agent/desired.d/50-local.toml"
SITE = "etc/pf-agent/desired.d/50-site.toml"
FLEET = "etc/pf-agent/desired.d/60-fleet.toml"
HEAD = "# What `pf-agent set` and `pf-agent adopt` wrote. Edit it as you like: comments stay.\n"
STOPPED = "the daemon is not running; `pf-agent apply` changes main.cf\n"
GUIDE = '[settings]\nmyorigin = "$myhostname"\n'
NULL_CLIENT = '[settings]\ninet_interfaces = "loopback-only"\n'
HAS_POSTFIX = pytest.mark.skipif(not os.path.exists(POSTCONF), reason=f"no {POSTCONF}")


class Server(Host):
    """The same host, its /etc kept, with the ready-made desired states."""

    FOLDERS = (*Host.FOLDERS, "etc/pf-agent/desired.d", "usr/share/pf-agent/desired")
    MOUNT = (
        "mount --make-rprivate / || exit 99; "
        'mount --bind "$0"/etc /etc && mount --bind "$0"/usr/share /usr/share || exit 99; '
        "for folder in run var/lib; do mount -t tmpfs tmpfs /$folder || exit 99; done"
    )

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def local(self) -> str:
        """What the drop-in says below its head."""
        return self.read(LOCAL).removeprefix(f"{HEAD}\n")

    def asked(self, keys: str, *arguments: str) -> tuple[int, str, str]:
        """Run a verb on a terminal where somebody types `keys`; its code, output and questions."""
        ours, its = pty.openpty()
        os.write(ours, keys.encode())
        done = subprocess.run(
            self.entered(command(*arguments)),
            stdin=its,
            stdout=subprocess.PIPE,
            stderr=its,
            encoding="utf-8",
            env=environment(),
            check=False,
        )
        os.close(its)
        shown = ""
        with suppress(OSError):  # Linux's way to say that nothing more will come
            while data := os.read(ours, 65536):
                shown += data.decode()
        os.close(ours)
        assert "Traceback" not in shown
        return done.returncode, done.stdout, shown


@pytest.fixture
def server(tmp_path: Path, forks: Forks) -> Server:
    found = Server(tmp_path, forks)
    found.write("usr/share/pf-agent/desired/guide.toml", GUIDE)
    found.write("usr/share/pf-agent/desired/null-client.toml", NULL_CLIENT)
    return found


# --- set -----------------------------------------------------------------------------------------


def test_the_parts_of_master_cf_keep_their_case(server: Server) -> None:
    twice = server.run("set", "Out/unix/chroot=no", "out/unix/chroot=no", "Out/unix/chroot=no")
    assert twice.code == 2
    assert 'set "Out/unix/chroot": given twice; keep one of the two' in one_line(twice)
    answer = server.run("unset", "Out/unix/chroot")
    assert one_line(answer).startswith('pf-agent: unset "Out/unix/chroot": it is not managed')


def test_set_writes_the_drop_in_and_main_cf_stays(server: Server) -> None:
    before = server.read("etc/postfix/main.cf")
    answer = server.run("set", "--unknown", "a=3", "relayhost = [mail]:25 ", "d=")
    assert answer.code == 0
    assert answer.out == f"/{LOCAL}: a, relayhost, d\n{STOPPED}"
    assert server.local() == '[settings]\na = 3\nrelayhost = "[mail]:25"\nd = ""\n'
    assert (server.folder / LOCAL).stat().st_mode & 0o7777 == 0o644
    assert os.listdir(server.folder / "etc/pf-agent/desired.d") == ["50-local.toml"]
    assert server.read("etc/postfix/main.cf") == before
    assert server.run("diff", "--json").json["drift"][0]["expected"] == "3"


def test_set_of_what_is_desired_already_writes_nothing(server: Server) -> None:
    answer = server.run("set", "--unknown", "a=1")
    assert (answer.code, answer.out) == (0, f"already desired: a\n{STOPPED}")
    assert not (server.folder / LOCAL).exists()


def test_set_keeps_the_file_its_mode_and_its_comments(server: Server) -> None:
    server.write(LOCAL, "# mine\n[settings]\na = 7  # seven\n")
    (server.folder / LOCAL).chmod(0o640)
    assert server.run("set", "--unknown", "a=8").code == 0
    assert server.read(LOCAL) == "# mine\n[settings]\na = 8  # seven\n"
    assert (server.folder / LOCAL).stat().st_mode & 0o7777 == 0o640


def test_set_writes_through_a_symbolic_link(server: Server) -> None:
    server.write("etc/pf-agent/kept.toml", "")
    (server.folder / LOCAL).symlink_to("../kept.toml")
    assert server.run("set", "--unknown", "a=8").code == 0
    assert (server.folder / LOCAL).is_symlink()
    assert "a = 8" in server.read("etc/pf-agent/kept.toml")


@pytest.mark.parametrize("verb", ["set", "init"])
def test_nothing_is_written_where_others_may_change_it(server: Server, verb: str) -> None:
    """There was no file yet whose place would have been judged."""
    folder = server.folder / "etc/pf-agent" / ("desired.d" if verb == "set" else "")
    if verb == "init":
        (folder / "desired.toml").unlink()
    folder.chmod(0o777)
    arguments = ("set", "--unknown", "a=8") if verb == "set" else ("init", "--from", "guide")
    answer = server.run(*arguments)
    assert answer.code == 2
    assert one_line(answer).endswith(f"chmod go-w /{folder.relative_to(server.folder)}")
    assert [path for path in folder.iterdir() if path.is_file()] == []


def test_nobody_keeps_root_waiting_by_a_lock_on_the_folder(server: Server) -> None:
    """Anybody may open it, and what can be opened can be locked (flock(2))."""
    handle = os.open(server.folder / "etc/pf-agent", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        assert server.run("set", "--unknown", "a=8").code == 0
    finally:
        os.close(handle)


def test_a_fifo_in_place_of_the_drop_in_is_told(server: Server) -> None:
    os.mkfifo(server.folder / LOCAL)
    answer = server.run("set", "--unknown", "a=8")
    assert answer.code == 2
    assert "it is not a regular file" in one_line(answer)


def test_set_as_json(server: Server) -> None:
    answer = server.run("set", "--unknown", "a=8", "b=x y", "--json")
    assert answer.code == 0
    found = answer.json
    found.pop("warnings")
    assert found == {
        "files": {f"/{LOCAL}": ["a"]},
        "instance": "-",
        "document": "main.cf",
        "settings": {"a": "8", "b": "x y"},
        "use_default": [],
    }


def test_set_for_an_instance(server: Server) -> None:
    answer = server.run("set", "--unknown", "--instance", "out", "a=8")
    assert answer.code == 2
    assert "instance out: not configured" in one_line(answer)
    server.write(SITE, '[instances.out.settings]\nb = "1"\n')
    (server.folder / "etc/postfix-out").mkdir()
    server.write("etc/postfix-out/main.cf", "a = 1\n")
    assert server.run("set", "--unknown", "--instance", "out", "a=8").code == 0
    assert server.local() == "[instances.out.settings]\na = 8\n"


def test_set_where_a_later_file_wins_is_refused(server: Server) -> None:
    server.write(FLEET, "[settings]\na = 5\n")
    answer = server.run("set", "--unknown", "a=8")
    assert answer.code == 2
    place = f"pf-agent: /{FLEET}:2: a: this file is read after /{LOCAL} and wins; "
    assert one_line(answer).startswith(place)
    assert not (server.folder / LOCAL).exists()


def test_the_answers_of_the_installation_are_changed_where_they_stand(server: Server) -> None:
    server.write(SITE, "# ours\n[settings]\na = 5  # asked for\n")
    answer = server.run("set", "--unknown", "a=8", "d=4")
    assert answer.code == 0
    assert answer.out == f"/{LOCAL}: d\n/{SITE}: a\n{STOPPED}"
    assert server.read(SITE) == "# ours\n[settings]\na = 8  # asked for\n"
    assert server.local() == "[settings]\nd = 4\n"


def test_an_answer_that_is_overruled_is_not_changed(server: Server) -> None:
    server.write(SITE, "[settings]\na = 5\n")
    server.write(FLEET, "[settings]\na = 6\n")
    assert server.run("set", "--unknown", "a=8").code == 2
    assert server.read(SITE) == "[settings]\na = 5\n"


def test_each_fault_of_what_is_given_is_a_line(server: Server) -> None:
    answer = server.run("set", "--unknown", "a", "x y=1", "b=1\n2", "c=1", "c=2")
    assert (answer.code, answer.out) == (2, "")
    assert [line.split(": ")[1] for line in answer.err.splitlines()] == [
        "set a",
        'set "x y"',
        "set b",
        "set c",
    ]


def test_a_file_that_is_faulty_is_not_touched(server: Server) -> None:
    server.write(LOCAL, "[settings]\nb = 1.5\n")
    answer = server.run("set", "--unknown", "a=8")
    assert answer.code == 2
    assert f"/{LOCAL}:2: [settings] b: " in one_line(answer)
    assert server.read(LOCAL) == "[settings]\nb = 1.5\n"


@pytest.mark.postfix
@HAS_POSTFIX
def test_what_postfix_refuses_is_not_written(server: Server) -> None:
    answer = server.run("set", "inet_protocols=ipv5")
    assert answer.code == 2
    line = one_line(answer)
    assert line.startswith("pf-agent: inet_protocols: Postfix refuses it: ")
    assert "; nothing was written, " in line
    assert not (server.folder / LOCAL).exists()


@pytest.mark.postfix
@HAS_POSTFIX
def test_two_faults_can_be_mended_one_by_one(server: Server) -> None:
    server.write("etc/postfix/main.cf", "smtpd_relay_restrictions = reject_unauth_destination\n")
    server.write("etc/pf-agent/desired.toml", '[settings]\ninet_protocols = "ipv5"\n')
    answer = server.run("set", "inet_interfaces=all")
    assert answer.code == 0
    assert "warning: /etc/pf-agent/desired.toml:2: inet_protocols: " in answer.err
    answer = server.run("set", "inet_protocols=all")
    assert (answer.code, answer.err) == (0, "")


# --- unset ---------------------------------------------------------------------------------------


def test_unset_takes_it_out_and_main_cf_stays(server: Server) -> None:
    server.write("etc/postfix/main.cf", "a = 1\nc = 9\n")
    server.write(LOCAL, "# mine\n[settings]\nc = 9  # nine\ne = 4\n")
    answer = server.run("unset", "c")
    assert (answer.code, answer.out) == (0, f"/{LOCAL}: removed c\n")
    # A Postfix that is there warns, besides, of what it does not know.
    assert answer.err.startswith(
        'pf-agent: warning: /etc/postfix/main.cf:2: c: no longer managed; main.cf still says "9";'
        " `pf-agent unset --default c` keeps it at Postfix's own default\n"
    )
    assert server.read(LOCAL) == "# mine\n[settings]\ne = 4\n"
    assert server.read("etc/postfix/main.cf") == "a = 1\nc = 9\n"
    told = server.run("unset", "e", "--json").json
    assert told.pop("warnings")[0] == "e: no longer managed; main.cf does not set it"
    assert told == {"files": {f"/{LOCAL}": ["e"]}, "instance": "-", "parameters": ["e"]}


def test_unset_of_what_another_file_states_as_well_says_so(server: Server) -> None:
    server.write(LOCAL, "[settings]\na = 7\n")
    answer = server.run("unset", "a")
    assert answer.code == 0
    place = "/etc/pf-agent/desired.toml:3"
    assert answer.err.startswith(
        f"pf-agent: warning: {place}: a: this file sets it too, and takes effect now\n"
    )


def test_unset_of_an_answer_of_the_installation(server: Server) -> None:
    server.write(SITE, '# ours\n[settings]\nc = "1"\n')
    assert server.run("unset", "c").code == 0
    assert server.read(SITE) == "# ours\n[settings]\n"


def test_unset_for_an_instance(server: Server) -> None:
    server.write(SITE, '[instances.out.settings]\nc = "1"\n[settings]\nc = "2"\n')
    (server.folder / "etc/postfix-out").mkdir()
    server.write("etc/postfix-out/main.cf", "c = 1\n")
    answer = server.run("unset", "--instance", "out", "c")
    assert answer.code == 0
    assert "/etc/postfix-out/main.cf:1: c: no longer managed; " in answer.err
    assert server.read(SITE) == '[instances.out.settings]\n[settings]\nc = "2"\n'


def test_unset_refuses_what_stands_in_no_file_of_its_own(server: Server) -> None:
    server.write(FLEET, "[settings]\nc = 5\n")
    server.write(LOCAL, "[settings]\ne = 4\n")
    answer = server.run("unset", "e", "a", "c", "zz")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines() == [
        "pf-agent: /etc/pf-agent/desired.toml:3: a: unset does not edit this file; remove it"
        " there, or keep it at Postfix's own default: pf-agent unset --default a",
        f"pf-agent: /{FLEET}:2: c: unset does not edit this file; remove it there",
        "pf-agent: unset zz: it is not managed; see `pf-agent explain zz`",
    ]
    assert server.read(LOCAL) == "[settings]\ne = 4\n"


def test_unset_with_the_default_has_it_hold(server: Server) -> None:
    server.write(LOCAL, "[settings]\nbiff = true\n")
    answer = server.run("unset", "--default", "biff")
    assert (answer.code, answer.out) == (0, f"/{LOCAL}: biff\n{STOPPED}")
    assert 'use_default = ["biff"]' in server.read(LOCAL)
    assert "biff = true" not in server.read(LOCAL)


@pytest.mark.parametrize("verb", ["unset", "adopt", "explain"])
def test_what_no_parameter_can_be_called_is_told(server: Server, verb: str) -> None:
    answer = server.run(verb, "a b")
    assert answer.code == 2
    assert "may not contain whitespace; remove it" in one_line(answer)


# --- adopt ---------------------------------------------------------------------------------------

DRIFTED = "a = 2\nd = 4\nforeign = x\n\t y=1;\n# more\n\t'z'\n"


def test_adopt_takes_what_main_cf_says(server: Server) -> None:
    server.write("etc/postfix/main.cf", DRIFTED)
    assert server.run("diff").code == 3
    answer = server.run("adopt", "a", "b", "d", "foreign")
    assert (answer.code, answer.out) == (0, f"/{LOCAL}: a, b, d, foreign\n")
    assert server.local() == (
        'use_default = ["b"]\n\n[settings]\na = 2\nd = 4\nforeign = "x\\t y=1;\\t\'z\'"\n'
    )
    assert server.run("diff") == (0, "", "")
    assert server.run("adopt", "a", "b").out == "already desired: a, b\n"


def test_adopt_of_a_default_that_postfix_knows(server: Server) -> None:
    assert server.run("adopt", "relayhost").code == 0
    assert server.local() == 'use_default = ["relayhost"]\n'


@pytest.mark.postfix
@HAS_POSTFIX
def test_adopt_of_what_nobody_knows(server: Server) -> None:
    answer = server.run("adopt", "relayhots")
    assert answer.code == 2
    fact = "relayhots: unknown Postfix parameter, so nothing was written"
    assert one_line(answer) == f"pf-agent: {fact}; did you mean relayhost?"


def test_adopt_of_what_toml_cannot_hold(server: Server) -> None:
    (server.folder / "etc/postfix/main.cf").write_bytes(b"a = caf\xe9\nb = x y\n")
    answer = server.run("adopt", "a")
    assert answer.code == 2
    assert one_line(answer).startswith("pf-agent: /etc/postfix/main.cf:1: a: it is not UTF-8")


def test_adopt_says_what_stays_to_be_corrected(server: Server) -> None:
    server.write("etc/postfix/main.cf", "a = 5\na = 2\nb = x y\n")
    answer = server.run("adopt", "a")
    assert answer.code == 0
    assert answer.err.splitlines()[-1].startswith("pf-agent: warning: a ")


def test_adopt_from_a_destroyed_file(server: Server) -> None:
    server.write("etc/postfix/main.cf", "")
    answer = server.run("adopt", "a")
    assert answer.code == 1
    assert "it contains no settings, so there is nothing to adopt; " in one_line(answer)


def test_adopt_without_names_and_without_a_terminal(server: Server) -> None:
    answer = server.run("adopt")
    assert answer.code == 2
    assert one_line(answer).endswith("name the parameters")


def test_adopt_asks_of_each_difference(server: Server) -> None:
    server.write("etc/postfix/main.cf", "a = 2\nd = 4\n")
    code, out, shown = server.asked("what?\nn\ny\nyes\n", "adopt")
    assert (code, out) == (0, f"/{LOCAL}: d, b\n")
    assert server.local() == 'use_default = ["b"]\n\n[settings]\nd = 4\n'
    assert 'a is "2", must be "1" (line 1) - /etc/pf-agent/desired.toml:3\r\n' in shown
    assert shown.count("adopt it? [y]es, [n]o, [q]uit: ") == 4


@pytest.mark.parametrize("keys", ["y\nq\n", "y\n\x04"], ids=["q", "end"])
def test_quitting_keeps_what_was_said_before(server: Server, keys: str) -> None:
    server.write("etc/postfix/main.cf", "a = 2\nd = 4\n")
    code, out, _ = server.asked(keys, "adopt")
    assert (code, out) == (0, f"/{LOCAL}: a\n")


def test_where_nothing_differs_nothing_is_asked(server: Server) -> None:
    assert server.asked("", "adopt")[:2] == (0, "nothing was adopted\n")


# --- init ----------------------------------------------------------------------------------------


def test_init_copies_a_ready_made_state(server: Server) -> None:
    desired = server.folder / "etc/pf-agent/desired.toml"
    desired.unlink()
    answer = server.run("init", "--from", "guide")
    assert (answer.code, answer.err) == (0, "")
    ready = "/usr/share/pf-agent/desired"
    assert answer.out == f"/etc/pf-agent/desired.toml: now the same as {ready}/guide.toml\n"
    assert desired.read_text() == GUIDE
    assert desired.stat().st_mode & 0o7777 == 0o644
    answer = server.run("init", "--from", "null-client", "--json")
    assert answer.json == {
        "file": "/etc/pf-agent/desired.toml",
        "from": "null-client",
        "changed": True,
    }
    assert desired.read_text() == NULL_CLIENT
    assert not server.run("init", "--from", "null-client", "--json").json["changed"]


def test_init_lists_what_there_is_with_a_line_each(server: Server) -> None:
    folder = server.folder / "usr/share/pf-agent/desired"
    shipped = {"guide": "etc/desired.toml", "null-client": "etc/ready/null-client.toml"}
    shipped["relay-docker"] = "etc/ready/relay-docker.toml"
    shipped["submission"] = "etc/ready/submission.toml"
    for name, path in shipped.items():
        (folder / f"{name}.toml").write_bytes((CHECKOUT / path).read_bytes())
    (folder / "site.toml").write_text("[settings]\n")
    before = server.read("etc/pf-agent/desired.toml")
    answer = server.run("init", "--list")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted([*shipped, "site"])
    assert lines[1] == "null-client   A null client: this host sends mail and receives none."
    assert all(len(line) <= 100 for line in lines)
    assert all(len(line.split(None, 1)) == 2 for line in lines)
    assert server.read("etc/pf-agent/desired.toml") == before
    assert list(server.run("init", "--list", "--json").json) == sorted([*shipped, "site"])
    assert server.run("init").code == 2
    assert server.run("init", "--list", "--from", "guide").code == 2


def test_init_does_not_overwrite_what_somebody_wrote(server: Server) -> None:
    before = server.read("etc/pf-agent/desired.toml")
    answer = server.run("init", "--from", "guide")
    assert answer.code == 1
    assert "it was edited, and this would be lost; move it away first" in one_line(answer)
    assert server.read("etc/pf-agent/desired.toml") == before


def test_init_leaves_a_symbolic_link(server: Server) -> None:
    desired = server.folder / "etc/pf-agent/desired.toml"
    desired.unlink()
    desired.symlink_to("/usr/share/pf-agent/desired/guide.toml")
    answer = server.run("init", "--from", "null-client")
    assert answer.code == 1
    assert "it is a symbolic link" in one_line(answer)


@pytest.mark.parametrize("name", ["x", "", "../guide"])
def test_init_lists_the_names(server: Server, name: str) -> None:
    answer = server.run("init", "--from", name)
    assert answer.code == 2
    assert one_line(answer).endswith("; choose guide, null-client")


# --- who may -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["set", "a=1"], ["unset", "a"], ["adopt", "a"]])
def test_only_root_may(desk: Desk, pf_agent: Command, arguments: list[str]) -> None:
    answer = pf_agent(*arguments)
    assert answer.code == 1
    assert one_line(answer).endswith("belongs to root; run as root")


# --- the entries of tables -----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["set", "unset", "adopt"])
def test_what_is_no_source_of_entries_is_told(server: Server, verb: str) -> None:
    answer = server.run(verb, "regexp:/etc/postfix/rules", "a=b")
    assert answer.code == 2
    assert "can be desired; name one of the types hash, btree" in one_line(answer)
    assert not (server.folder / LOCAL).exists()


@pytest.mark.parametrize("verb", ["set", "unset", "adopt"])
def test_a_table_without_a_key_is_wrong_usage(server: Server, verb: str) -> None:
    answer = server.run(verb, "hash:/etc/postfix/transport")
    assert answer.code == 2
    assert "given" in one_line(answer)


def test_a_key_that_postfix_takes_for_another_is_given_twice(server: Server) -> None:
    answer = server.run("set", "hash:/etc/postfix/transport", "A.example=x", "a.example=y")
    assert answer.code == 2
    assert one_line(answer) == 'pf-agent: set "a.example": given twice; keep one of the two'


@HAS_POSTFIX
@pytest.mark.parametrize(("mode", "closed"), [(0o640, 0o600), (0o644, 0o644)])
def test_values_of_a_table_that_not_all_may_read_are_written_for_root_alone(
    server: Server, mode: int, closed: int
) -> None:
    server.write("etc/postfix/t", "")
    (server.folder / "etc/postfix/t").chmod(mode)
    answer = server.run("set", "hash:/etc/postfix/t", "A.example=s3cr3t")
    assert (answer.code, answer.out) == (0, f"/{LOCAL}: a.example\n{STOPPED}")
    assert (server.folder / LOCAL).stat().st_mode & 0o7777 == closed
    assert server.local() == '[tables."hash:/etc/postfix/t"]\n"a.example" = "s3cr3t"\n'


def test_adopt_finds_an_entry_by_its_key_in_any_case(server: Server) -> None:
    server.write("etc/postfix/t", "a.example one\n")
    server.write(FLEET, '[tables."hash:/etc/postfix/t"]\n"a.example" = "one"\n')
    answer = server.run("adopt", "hash:/etc/postfix/t", "A.Example")
    assert (answer.code, answer.out) == (0, "already desired: a.example\n")
