"""Hostile local users: what they plant, write and call is neither obeyed, published nor fatal."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from pf_agent import names
from pf_agent.bus.agent1 import NAME, PATH
from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, DISPLACED, INTRUDE, MAIN_CF, Site, eventually

pytestmark = pytest.mark.long

OUTSIDE = "/etc/outside"
SECRET = f"{OUTSIDE}/secret"
MARK = "planted-s3cret"
# Each line as main.cf may have it, so that it would be taken over without a word.
TEXT = f"{MARK}_one = {MARK}\nmynetworks = 0.0.0.0/0\n{MARK} that no Postfix program can read\n"

KEPT = ["cycle", "life", "pending.json", "last-good.main.cf", "ran-with.main.cf", "desired.json"]
KEPT += ["wishes.json", "suspension.json", "suspension-alone.json"]
NOTED = ["lock", "activation.lock", "tables.lock"]
NOTED += ["status.json", "restarts.json", "drifts.json"]
OURS = [f"{names.STATE_DIRECTORY}/{name}" for name in KEPT]
OURS += [f"{names.RUN_DIRECTORY}/{name}" for name in NOTED]

# Root is answered a dozen times meanwhile where the host has nothing else to do.
_FLOOD_SECONDS = "6"
_MOST_FLOODS = 5

# The widest that a record may be: the diff's 256 KiB, and what belongs to it.
MOST_RECORD = 300_000
MOST_TOLD = 20_000

PLANT = """
import os, shutil, socket, stat, sys
what, *paths = sys.argv[1:]
for path in paths:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    if what == "folder":
        os.mkdir(path)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        socket.socket(socket.AF_UNIX).bind(path)
    elif what == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif what == "second name":
        os.link("/etc/outside/secret", path)
    else:
        os.symlink(what, path)
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    # A reload where that suffices: half the cost of a restart, and nothing here is about either.
    site.machine.write_text(AGENT_TOML, '[activation]\nway = "auto"\n')
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_remembered()
    site.machine.write_text(SECRET, TEXT)
    site.machine.run(["chmod", "640", SECRET])
    return site


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    """Whatever was done: the agent still guards the same text, and has told no secret."""
    secret = state_of_secret(site)
    yield
    site.wait_right()
    site.forget_restarts()
    site.end_contest()
    assert site.show("pf-agent", "NRestarts") == "0"
    assert site.show("pf-agent-errands", "Result") == "success"
    assert state_of_secret(site) == secret
    assert told_of_secret(site) == ""


def state_of_secret(site: Site) -> str:
    """All but the number of its names, which the tests themselves change."""
    return site.machine.sh(f"stat -c '%a %u %g %s %Y' {SECRET}; sha256sum {SECRET}; ls {OUTSIDE}")


def told_of_secret(site: Site) -> str:
    """The files that hold a part of it, the journal among them; links are not followed."""
    places = f"{names.STATE_DIRECTORY} {names.RUN_DIRECTORY} /etc/postfix"
    return site.machine.sh(
        f"grep -rl {MARK} {places}; journalctl --sync; journalctl -o export -a -t pf-agent"
        f" | grep -am1 {MARK}; true"
    )


def plant(site: Site, what: str, *paths: str) -> None:
    site.run_python(PLANT, what, *paths)


def corrected(site: Site, since: str) -> dict[str, Any]:
    """The record of the first correction since then."""
    eventually(lambda: bool(site.records("drift-corrected", since)), "a correction", 120)
    return site.records("drift-corrected", since)[0]


def reasons(site: Site, since: str) -> list[str]:
    return [record["MESSAGE"] for record in site.records("correction-failed", since)]


# What they plant


def test_what_is_planted_beside_main_cf_goes_unread(site: Site) -> None:
    there = ["main.cf.tmp", ".main.cf.pf-agent-abc", ".main.cf.late-1-abc"]
    for what in (SECRET, "second name", "/nowhere", "/"):
        # A second name of it in the lock's place would be locked, and go: as Postfix's.
        planted = there[1:] if what == "second name" else there
        plant(site, what, *(f"/etc/postfix/{name}" for name in planted))
        site.machine.sh(INTRUDE)
        site.wait_right()
        site.machine.run(["rm", "-f", "/etc/postfix/.main.cf.late-1-abc"])
        site.machine.wait_until("! ls -A /etc/postfix | grep -e pf-agent -e tmp")


def test_main_cf_that_leads_elsewhere_gives_way_to_the_last_good_text(site: Site) -> None:
    for what in (SECRET, "second name", "/dev/zero", "/"):
        # A Postfix that starts in that instant would read /dev/zero, and know no end.
        site.forget_restarts()
        site.end_contest()
        site.wait_settled()
        since = site.cursor()
        plant(site, what, f"{MAIN_CF}.new")
        site.machine.run(["mv", "-T", f"{MAIN_CF}.new", MAIN_CF])
        site.wait_right()
        corrected(site, since)


def test_a_link_that_another_made_is_not_followed(site: Site) -> None:
    site.machine.write_text("/etc/outside.cf", "mynetworks = 0.0.0.0/0\nbiff = yes\n")
    site.machine.sh(
        f"ln -s /etc/outside.cf {MAIN_CF}.new; chown -h nobody {MAIN_CF}.new;"
        f" mv -T {MAIN_CF}.new {MAIN_CF}"
    )
    site.wait_right()
    assert "biff" in site.machine.read_text("/etc/outside.cf")
    site.machine.run(["rm", "/etc/outside.cf"])


@pytest.mark.parametrize("what", [SECRET, "folder", "fifo"], ids=["link", "folder", "fifo"])
def test_what_stands_in_the_place_of_our_own_files_is_moved_away_and_told(
    site: Site, what: str
) -> None:
    site.wait_settled()
    since = site.cursor()
    plant(site, what, *OURS)
    site.machine.sh(INTRUDE)
    site.wait_right()
    site.wait_settled()
    told = site.said(since)
    for place in OURS:
        assert any(message.startswith(f"{place}: it was not a ") for message in told), told
    folders = f"{names.STATE_DIRECTORY} {names.RUN_DIRECTORY}"
    assert site.machine.sh(f"find {folders} -name '*.not-ours-*' | wc -l") == f"{len(OURS)}\n"
    site.machine.sh(f"find {folders} -name '*.not-ours-*' -exec rm -rf {{}} +")
    assert site.machine.run(["pf-agent", "status"]).returncode == 0


def test_a_displaced_text_is_kept_whatever_has_its_name(site: Site) -> None:
    for what in (SECRET, "second name", "folder", "fifo"):
        last = int(site.machine.read_text(f"{names.STATE_DIRECTORY}/cycle"))
        places = [
            f"{DISPLACED}/{name}"
            for number in range(last + 1, last + 4)
            for name in (f"{number:08d}.main.cf", f".{number:08d}.main.cf.new")
        ]
        plant(site, what, *places)
        since = site.cursor()
        drifted = site.good + b"mynetworks = 10.0.0.0/8\n"
        site.put(drifted)
        site.wait_right()
        kept = corrected(site, since)[names.FIELD_DISPLACED]
        assert site.machine.read_bytes(kept) == drifted
        found = site.machine.run(["stat", "-c", "%F %a %h", kept]).stdout
        assert found == "regular file 600 1\n"
        site.machine.run(["rm", "-rf", *places])


def test_displaced_that_leads_elsewhere_or_is_open_to_all_is_ours_again(site: Site) -> None:
    site.machine.sh(f"mv {DISPLACED} {DISPLACED}.kept; ln -s {OUTSIDE} {DISPLACED}")
    site.machine.sh(INTRUDE)
    site.wait_right()
    assert site.machine.run(["stat", "-c", "%F %a", DISPLACED]).stdout == "directory 700\n"
    eventually(lambda: site.machine.sh(f"ls {DISPLACED}") != "", "the displaced text")
    site.machine.sh(f"chmod 777 {DISPLACED}; chown nobody {DISPLACED}")
    site.machine.sh(INTRUDE)
    site.wait_right()
    assert site.machine.run(["stat", "-c", "%F %a %u", DISPLACED]).stdout == "directory 700 0\n"


NO_FILE = {"fifo": "a FIFO", "socket": "a socket", "device": "a device", "folder": "a directory"}


def moved_aside(site: Site, since: str, what: str) -> str:
    """Where the record of the correction says that what was no file is now."""
    message = str(corrected(site, since)["MESSAGE"])
    place = re.split("[;)]", message.partition(f"{NO_FILE[what]} that was there is now ")[2])[0]
    assert place.startswith(f"{MAIN_CF}.no-file-"), message
    return place


@pytest.mark.parametrize("what", NO_FILE)
def test_what_is_no_file_is_moved_aside(site: Site, what: str) -> None:
    # Postfix's own programs would wait at a FIFO, and hold up whatever systemd orders after them.
    site.wait_settled()
    since = site.cursor()
    plant(site, what, MAIN_CF)
    site.wait_right()
    site.wait_settled()
    place = moved_aside(site, since, what)
    seen = site.machine.run(["stat", "-c", "%F", place]).stdout
    assert seen.split()[-1] in ("fifo", "socket", "file", "directory")
    assert f"it is {NO_FILE[what]}" in [r[names.FIELD_ACTUAL] for r in site.drift_of(since)]
    assert site.serves()
    site.machine.run(["rm", "-rf", place])


@pytest.mark.parametrize("what", NO_FILE)
def test_what_is_no_file_when_the_agent_starts_is_moved_aside(site: Site, what: str) -> None:
    site.wait_settled()
    site.machine.run(["systemctl", "stop", "pf-agent"])
    since = site.cursor()
    plant(site, what, MAIN_CF)
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_right()
    site.wait_settled()
    site.machine.run(["rm", "-rf", moved_aside(site, since, what)])


def test_what_is_no_file_stays_while_the_agent_is_suspended(site: Site) -> None:
    site.wait_settled()
    since = site.cursor()
    site.machine.run(["pf-agent", "suspend"])
    plant(site, "fifo", MAIN_CF)
    assert site.machine.run(["busctl", "call", NAME, PATH, NAME, "Reconcile"]).returncode == 0
    eventually(lambda: bool(site.drift_of(since)), "a record")
    assert site.machine.run(["test", "-p", MAIN_CF]).returncode == 0
    site.machine.run(["pf-agent", "resume"])
    site.wait_right()
    site.machine.run(["rm", "-rf", moved_aside(site, since, "fifo")])


def test_a_folder_that_is_mounted_in_its_place_is_told_and_holds_nobody_up(site: Site) -> None:
    """Whoever mounted it has to take it away; the text is back without a word once he has."""
    site.wait_settled()
    since = site.cursor()
    pid = site.show("pf-agent", "MainPID")  # which would put main.cf back between two of these
    mounted = f"rm {MAIN_CF}; mkdir {MAIN_CF}; mount -t tmpfs none {MAIN_CF}"
    site.machine.sh(f"kill -STOP {pid}; {mounted}; kill -CONT {pid}")
    why = f"{MAIN_CF}: it is {NO_FILE['folder']} and a mount point; umount {MAIN_CF}"
    eventually(lambda: why in reasons(site, since), "a record")
    assert site.machine.run(["pf-agent", "status"], check=False).returncode == 1
    site.machine.wait_until(f"umount {MAIN_CF}")  # a program of Postfix may be looking
    site.machine.run(["pf-agent", "apply"])
    site.wait_right()
    site.machine.run(["rm", "-rf", moved_aside(site, since, "folder")])


def test_a_main_cf_of_another_becomes_roots(site: Site) -> None:
    since = site.cursor()
    new = f"{MAIN_CF}.new"
    site.machine.sh(f"cp {MAIN_CF} {new}; chown nobody {new}; mv {new} {MAIN_CF}")
    site.wait_right()
    eventually(lambda: bool(site.drift_of(since)), "a record")
    assert site.drift_of(since)[0][names.FIELD_ACTUAL] == "owner 65534:0 mode 0644"


def test_a_main_cf_that_was_closed_is_opened_and_that_is_said(site: Site) -> None:
    """With it closed no user could send mail."""
    site.machine.run(["pf-agent", "suspend"])
    site.machine.run(["chmod", "640", MAIN_CF])
    sending = ["runuser", "-u", "nobody", "--", "sendmail", "root"]
    failed = site.machine.run(sending, input="Subject: x\n\nx\n", check=False)
    assert f"open {MAIN_CF}: Permission denied" in failed.stderr
    since = site.cursor()
    site.machine.run(["pf-agent", "resume"])
    site.wait_right()
    why = "all users can read it again: sendmail, mailq and other Postfix programs read it as the"
    assert why in corrected(site, since)["MESSAGE"]
    site.machine.run(sending, input="Subject: x\n\nx\n")


# What they write


def measure(site: Site, since: str) -> None:
    """Each of the agent's records can be read as text, is bounded, and forges none."""
    site.machine.run(["journalctl", "--sync"])
    lines = site.machine.run(
        ["journalctl", "-o", "json", "--all", f"--after-cursor={since}", "-t", "pf-agent"]
    ).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert records != []
    assert "forged" not in [record.get(names.FIELD_EVENT) for record in records]
    for line, record in zip(lines, records, strict=True):
        assert len(line) < MOST_RECORD
        assert [name for name, value in record.items() if not isinstance(value, str)] == []
        assert record["MESSAGE"].isprintable()
        assert len(record["MESSAGE"]) < MOST_TOLD


NASTY = b"10.0.0.0/8 \x1b[2J\x07\r\x85\xff\xfe\xe2\x80\xa8 PF_AGENT_EVENT=forged\n\tMESSAGE=forged"
OPEN = b"\nmynetworks = 0.0.0.0/0\n"
# Each part is several times what may be told of it, and what the diff may be.
LARGE = {
    "values": b"mynetworks = %b\nmy_password = %b\nx = %b\n%b = 1\n%b"
    % (
        NASTY * 20_000,
        b"a." * 300_000,
        b"x://y:" * 100_000,
        b"p" * 500_000,
        NASTY.replace(b"\n", b" ").replace(b"=", b" ") * 10_000,
    ),
    "lines": b"#\n" * 200_000,
    "names": b"".join(b"p%d = 1\n" % n for n in range(25_000)),
}


@pytest.mark.parametrize("what", LARGE)
def test_what_is_large_and_ugly_is_corrected_and_told_in_bounded_words(
    site: Site, what: str
) -> None:
    site.wait_settled()  # a Postfix that starts in that instant adds lines of its own
    since = site.cursor()
    text = site.good + LARGE[what] + OPEN
    site.put(text)
    eventually(lambda: OPEN not in site.read(), "a correction", 120)
    record = corrected(site, since)
    assert site.machine.read_bytes(record[names.FIELD_DISPLACED]) == text
    site.put(site.good)
    site.wait_right()
    measure(site, since)
    assert len(site.machine.read_text(f"{names.RUN_DIRECTORY}/status.json")) < MOST_TOLD
    assert len(site.show("pf-agent", "StatusText")) < 2000
    for verb in ("history", f"history {record[names.FIELD_CYCLE]}", "explain mynetworks"):
        shown = site.machine.sh(f"pf-agent {verb}")
        assert len(shown) < MOST_RECORD * 2
        assert not {c for c in shown if not c.isprintable()} - {"\n", "\t"}


@pytest.mark.parametrize("begin", ["export PYTHONPATH=/srv/modules", "cd /srv/modules"])
def test_nobodys_modules_are_run_by_the_command(site: Site, begin: str) -> None:
    site.machine.sh(
        'mkdir -p /srv/modules; cd /srv/modules; echo \'open("/srv/ran", "w")\' > tomli.py;'
        " cp tomli.py sitecustomize.py; cp tomli.py json.py"
    )
    site.machine.sh(f"{begin}; export PYTHONSTARTUP=/srv/modules/tomli.py; pf-agent check")
    assert site.machine.run(["test", "-e", "/srv/ran"], check=False).returncode == 1


def test_the_verbs_show_what_is_large_and_ugly(site: Site) -> None:
    site.wait_settled()  # as above
    site.machine.run(["pf-agent", "suspend"])
    site.put(site.good + b"mynetworks = " + NASTY * 5_000 + b"\n")
    for verb in ("diff", "diff --json", "explain mynetworks"):
        shown = site.machine.sh(f"pf-agent {verb} 2>&1; test $? -le 3")
        assert not {c for c in shown if not c.isprintable()} - {"\n", "\t"}
    site.put(site.good)
    site.machine.run(["pf-agent", "resume"])


def test_a_value_that_has_no_end_is_as_good_as_a_destroyed_file(site: Site) -> None:
    """Each doubles the one before: Postfix itself would take all memory, and all time."""
    site.wait_settled()  # nor is it to start in the instant that the file stands there
    since = site.cursor()
    bomb = b"".join(b"a%d = $a%d$a%d\n" % (n, n - 1, n - 1) for n in range(1, 40))
    site.put(site.good + b"a0 = x\n" + bomb + b"mydestination = $a39" + OPEN)
    eventually(lambda: site.read() == site.good, "the last good text", 120)
    drift = [record["MESSAGE"] for record in site.drift_of(since)]
    assert any("Postfix cannot run with it: " in message for message in drift), drift


def test_a_huge_main_cf_is_moved_aside(site: Site) -> None:
    site.wait_settled()  # a Postfix that starts in that instant would read it to its end
    since = site.cursor()
    site.machine.sh(f"truncate -s 1T {MAIN_CF}.new; mv {MAIN_CF}.new {MAIN_CF}")
    site.wait_right()
    message = corrected(site, since)["MESSAGE"]
    aside = re.split("[;)]", message.partition("what was there is now ")[2])[0]
    assert aside.startswith(f"{MAIN_CF}.too-large-"), message
    assert site.machine.run(["stat", "-c", "%s", aside]).stdout == f"{1 << 40}\n"
    site.machine.run(["rm", aside])


# What they call


def most_memory(site: Site, pid: str) -> int:
    """The most that the process had in memory since it was forgotten, in KiB (proc(5), VmHWM)."""
    return int(site.machine.sh(f"grep VmHWM /proc/{pid}/status").split()[1])


@pytest.mark.parametrize("which", ["many", "long"])
def test_a_flood_of_all_that_the_bus_carries_fills_no_memory(site: Site, which: str) -> None:
    site.wait_settled()
    site.machine.copy_in([CHECKOUT / "tests" / "machine" / "inside_flood.py"], "/srv/flood")
    site.machine.run(["chmod", "-R", "a+rX", "/srv/flood"])
    pid, since = site.show("pf-agent", "MainPID"), site.cursor()
    names_of = f"busctl list --unique --no-legend | awk '$2 == {pid} {{ print $1 }}'"
    peers = site.machine.sh(names_of).split()
    assert len(peers) == 2, peers
    site.machine.sh(f"echo 5 > /proc/{pid}/clear_refs")
    flood = ["runuser", "-u", "nobody", "--", "python3", "-B", "/srv/flood/inside_flood.py"]
    flood += [_FLOOD_SECONDS, which, NAME, *peers]
    answered: list[float] = []
    sent: Counter[str] = Counter()
    # As often as it takes on a host that is busy, until each kind was sent and root was answered.
    for _ in range(_MOST_FLOODS):
        with site.machine.start(flood, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            while running.poll() is None:
                began = time.monotonic()
                # Within busctl's own limit of 25 s, while the flood goes on.
                site.machine.run(["busctl", "call", NAME, PATH, NAME, "Reconcile"])
                if running.poll() is None:
                    answered.append(time.monotonic() - began)
                    site.machine.sh(INTRUDE)
                    site.wait_right()
            sent.update(json.loads(running.stdout.read()))
        if len(answered) > 1 and min(sent.values()) > 0:
            break
    most = most_memory(site, pid)
    print(f"sent {dict(sent)}; at most {most / 1024:.1f} MiB; root was answered after {answered} s")
    assert min(sent.values()) > 0
    assert len(answered) > 1
    assert most < 64 * 1024
    assert site.show("pf-agent", "MainPID") == pid
    assert site.records("suspended", since) == []


def test_the_agent_starts_among_all_that_is_planted(site: Site) -> None:
    """The folders as a crash, or an intruder, may leave them."""
    site.wait_settled()
    site.machine.run(["systemctl", "stop", "pf-agent"])
    plant(site, "folder", *OURS)
    plant(site, SECRET, f"{names.RUN_DIRECTORY}/judge-1-link", f"{DISPLACED}/.00000001.main.cf.new")
    plant(site, "folder", f"{DISPLACED}/.00000002.main.cf.new")
    site.machine.sh(INTRUDE)
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_right()
    site.wait_settled()
    assert stat.S_ISREG(int(site.machine.sh(f"stat -c %f {OURS[0]}"), 16))
