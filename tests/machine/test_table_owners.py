"""Tables and alias files that are not only root's: built as their owners, who gain nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.machine.beside import beside
from tests.machine.calm import wait_in_status
from tests.machine.site import EXTRA, Site, eventually
from tests.machine.test_tables import rebuilt, sent_by, stat_of

pytestmark = pytest.mark.long

ROOTS, HIS, SHARED = "/etc/postfix/hostile", "/srv/his", "/srv/shared"
SECRET, CANARY = "/root/secret", "/root/canary"
KEY = "rootskey.example"
_PREPARE = f"""
install -d {ROOTS}; install -d -o list -g list {HIS}; install -d -m 2775 -g mail {SHARED}
printf '%s\\n' '{KEY} secret' > {SECRET}; chmod 600 {SECRET}
echo untouched > {CANARY}; chmod 644 {CANARY}
"""
# Until it is ended: the file, a link to root's file, and the file again; and links to what root has
# where the agent writes.
_SWAP = f"""
import contextlib, itertools, os
for turn in itertools.count():
    for place, target in (("t", "{SECRET}"), ("t.db", "{CANARY}"), (".t.db.new", "{CANARY}")):
        if turn % 3 and place == "t":
            with open("{HIS}/.mine", "w") as file:
                file.write("void.example discard:turn\\n")
        else:
            os.symlink(target, "{HIS}/.mine")
        os.replace("{HIS}/.mine", f"{HIS}/{{place}}")
        if turn % 5 == 0 and place != "t":
            with contextlib.suppress(FileNotFoundError):  # the agent took it away
                os.unlink(f"{HIS}/{{place}}")
"""


@pytest.fixture(autouse=True)
def _as_before(site: Site, at_rest: None) -> Iterator[None]:
    site.machine.sh(_PREPARE)
    yield
    site.machine.run(["rm", "-rf", EXTRA, ROOTS, HIS, SHARED, SECRET, CANARY])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


def write(site: Site, path: str, text: str, owner: str) -> None:
    site.machine.sh(f"printf '%s\\n' '{text}' > {path}.new; chown {owner} {path}.new")
    site.machine.sh(f"mv -T {path}.new {path}")


def name(site: Site, parameter: str, *said: str) -> None:
    site.machine.write_text(EXTRA, f'[settings]\n{parameter} = "{", ".join(said)}"\n')
    site.machine.wait_until(f"postconf -n {parameter} | grep -q {said[-1]}", 90)
    site.wait_settled()


def name_by_hand(site: Site, *paths: str) -> None:
    """Have main.cf name tables that nobody needs: a wish for what is bad would be rejected."""
    said = ", ".join(f"hash:{path}" for path in paths)
    site.machine.run(["postconf", "-e", f"relocated_maps={said}"])


def found_in(site: Site, path: str, key: str) -> str:
    asked = site.machine.run(["postmap", "-q", key, f"hash:{path}"], check=False)
    return str(asked.stdout.strip())


def why(site: Site, path: str) -> str:
    found: dict[str, str] = site.status().get("stale_tables", {})
    return found.get(path, "")


@pytest.mark.parametrize(
    ("path", "owner", "after"),
    [
        (f"{ROOTS}/t", "list:mail", "644 list mail"),
        (f"{HIS}/t", "list:mail", "644 list list"),
        (f"{HIS}/t", "root:root", "644 list list"),
        (f"{SHARED}/t", "list:mail", "644 list mail"),
        (f"{SHARED}/t", "root:root", "644 root root"),
    ],
)
def test_a_mail_goes_the_way_that_its_owner_says(
    site: Site, path: str, owner: str, after: str
) -> None:
    since = site.cursor()
    write(site, path, "void.example discard:before", owner)
    # Built before Postfix needs it: a wish that Postfix cannot serve yet is rejected.
    name_by_hand(site, path)
    assert rebuilt(site, since)["PF_AGENT_PATH"] == path
    name(site, "transport_maps", f"hash:{path}")
    assert stat_of(site, f"{path}.db") == after
    sent_by(site, "before")
    since = site.cursor()
    write(site, path, "void.example discard:after\nother.example discard:x", owner)
    record = rebuilt(site, since)
    assert (record["PF_AGENT_ENTRIES_BEFORE"], record["PF_AGENT_ENTRIES"]) == ("1", "2")
    assert stat_of(site, f"{path}.db") == after
    sent_by(site, "after")
    eventually(lambda: site.status().get("stale_tables") == {}, "no stale table")
    left = "systemctl list-units --all --plain --no-legend 'run-*.service'"
    site.machine.wait_until(f'test -z "$({left})"')


def test_the_warnings_of_postfix_keep_his_old_index_too(site: Site) -> None:
    path = f"{HIS}/t"
    write(site, path, "void.example discard:good", "list")
    name_by_hand(site, path)
    eventually(lambda: found_in(site, path, "void.example") != "", "an index")
    since = site.cursor()
    write(site, path, "void.example", "list")
    site.wait_for("table-stale", since)
    (record,) = site.records("table-stale", since)
    assert f"{path}:1: no value after the key; no valid line is left" in record["MESSAGE"]
    assert found_in(site, path, "void.example") == "discard:good"


def test_an_index_of_root_is_not_given_away(site: Site) -> None:
    """postmap(1), as the owner of the source, could not write it either."""
    path = f"{ROOTS}/t"
    write(site, path, "void.example discard:x", "root")
    name_by_hand(site, path)
    eventually(lambda: found_in(site, path, "void.example") != "", "an index")
    since = site.cursor()
    write(site, path, "void.example discard:y", "list")
    site.wait_for("table-stale", since)
    eventually(lambda: f"{path}.db: it belongs to uid 0" in why(site, path), "it is refused")
    assert site.machine.run(["postmap", f"hash:{path}"], check=False).returncode != 0
    site.machine.run(["chown", "list", f"{path}.db"])
    eventually(lambda: found_in(site, path, "void.example") == "discard:y", "his")


def test_a_link_to_what_is_roots_is_not_followed(site: Site) -> None:
    """Neither from his own directory, nor behind a link of root's that leads there."""
    for path in (f"{HIS}/t", f"{ROOTS}/t"):
        since = site.cursor()
        site.machine.sh(f"ln -sfn {SECRET} {HIS}/t; chown -h list {HIS}/t")
        if path != f"{HIS}/t":
            site.machine.sh(f"ln -sfn {HIS}/t {path}")
        name_by_hand(site, path)
        site.wait_for("table-stale", since)
        record = site.records("table-stale", since)[-1]
        assert "there is a link" in record["MESSAGE"]
        assert path in record["PF_AGENT_PATH"]
        assert not site.machine.at(f"{path}.db").exists()


@pytest.mark.parametrize("place", ["t.db", ".t.db.new"])
def test_a_link_where_the_index_is_to_be_is_not_followed(site: Site, place: str) -> None:
    site.machine.sh(f"ln -s {CANARY} {HIS}/{place}; chown -h list {HIS}/{place}")
    since = site.cursor()
    write(site, f"{HIS}/t", "void.example discard:x", "list")
    name_by_hand(site, f"{HIS}/t")
    if place == "t.db":
        site.wait_for("table-stale", since)
        eventually(lambda: "no regular file" in why(site, f"{HIS}/t"), "it is refused")
    else:
        rebuilt(site, since)
    assert site.machine.read_text(CANARY) == "untouched\n"


@pytest.mark.parametrize("path", [f"{HIS}/t", f"{ROOTS}/t"])
def test_whoever_swaps_without_end_gets_nothing_of_roots(site: Site, path: str) -> None:
    write(site, f"{HIS}/t", "void.example discard:x", "list")
    if path != f"{HIS}/t":
        site.machine.sh(f"ln -s {HIS}/t {path}")
    name_by_hand(site, path)
    since = site.cursor()
    with beside(site.machine, "swapping", "list", ["python3", "-c", _SWAP]):
        for _ in range(12):
            site.machine.run(["systemctl", "reload", "pf-agent"])
            look = f"grep -ls {KEY} {HIS}/*.db {HIS}/.*.new {ROOTS}/*.db"
            assert site.machine.run(["sh", "-c", look], check=False).stdout == ""
    assert site.machine.read_text(CANARY) == "untouched\n"
    said = [str(entry) for entry in site.entries(since)]
    assert not [entry for entry in said if KEY in entry]
    site.machine.sh(f"rm -f {HIS}/t.db {HIS}/.t.db.new {HIS}/.mine")
    write(site, f"{HIS}/t", "void.example discard:calm", "list")
    eventually(lambda: found_in(site, path, "void.example") == "discard:calm", "calm")


def test_a_fifo_of_his_holds_up_nothing_of_roots(site: Site) -> None:
    roots, his = f"{ROOTS}/t", f"{HIS}/t"
    site.machine.sh(f"mkfifo {his}; chown list {his}")
    write(site, roots, "void.example discard:x", "root")
    since = site.cursor()
    name_by_hand(site, roots, his)
    assert rebuilt(site, since)["PF_AGENT_PATH"] == roots


def test_what_is_written_slowly_is_built_once_and_whole(site: Site) -> None:
    """The looks of a reload come in between, as those of the timer do."""
    path = f"{ROOTS}/t"
    since = site.cursor()
    write(site, path, "first.example discard:x", "root")
    name_by_hand(site, path)
    rebuilt(site, since)
    since = site.cursor()
    pipe = subprocess.PIPE
    with site.machine.start(["sh", "-c", f"exec cat >> {path}"], stdin=pipe) as writer:
        assert writer.stdin is not None
        for number in range(6):
            writer.stdin.write(f"n{number}.example discard:{number}\n".encode())
            writer.stdin.flush()
            site.machine.wait_until(f"grep -q n{number} {path}")
            site.machine.run(["systemctl", "reload", "pf-agent"])
            site.wait_settled()
            assert site.records("table-rebuilt", since) == []
        writer.stdin.close()
    assert rebuilt(site, since)["PF_AGENT_ENTRIES"] == "7"
    assert len(site.records("table-rebuilt", since)) == 1


def test_a_restart_does_not_wait_for_an_alias_file_of_somebody_else(site: Site) -> None:
    path = f"{HIS}/aliases"
    write(site, path, "hers: root", "list")
    # Not also in alias_maps: smtpd itself waits for the lock of a table that it opens.
    both = f'alias_maps = "hash:/etc/aliases"\nalias_database = "hash:/etc/aliases, hash:{path}"\n'
    site.machine.write_text(EXTRA, f"[settings]\n{both}")
    site.machine.wait_until(f'test "$(postalias -q hers hash:{path})" = root', 90)
    site.wait_settled()
    assert stat_of(site, f"{path}.db") == "644 list list"
    with beside(site.machine, "veto", "list", ["flock", f"{path}.db", "sleep", "400"]):
        site.machine.wait_until(f"! flock --nonblock {path}.db true")
        site.machine.run(["touch", path])
        since = site.cursor()
        site.forget_restarts()
        site.machine.write_text(EXTRA, f"[settings]\n{both}message_size_limit = 20000000\n")
        site.wait_for("activated", since)
        assert site.records("activation-failed", since) == []
        site.wait_for("activation-failed", since)  # his, when its time is up
        assert path in site.records("activation-failed", since)[0]["MESSAGE"]
    wait_in_status(site, "the aliases are out of date", is_there=False)
