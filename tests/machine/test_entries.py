"""Desired entries of tables and of alias files, on a real Postfix: corrected as main.cf is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from pf_agent import names
from pf_agent.bus.agent1 import NAME, PATH
from tests.machine.beside import beside
from tests.machine.calm import Calm, wait_in_status
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, EXTRA, INTRUDE, LOCAL, MAIN_CF, Site, eventually
from tests.machine.test_secrets import LISTEN, commands

pytestmark = pytest.mark.long

TABLE = "/etc/postfix/transport-wished"
SAID = f"hash:{TABLE}"
PASSWORDS = "/etc/postfix/passwords-wished"
ALIASES = "/etc/aliases"
STORES = f"{names.STATE_DIRECTORY}/documents"
NAMING = EXTRA.replace("90-extra", "80-naming")
WISHED = f'[tables."{SAID}"]\n"void.example" = "discard:right"\n"gone.example" = false\n'
# Every byte of it must outlive a correction, but for the entry itself.
GOOD = (
    "# kept comment\n\nother.example\n\tdiscard:folded\n  # inside\n  more\n"
    "void.example\tdiscard:right\n\n#void.example discard:old\n.zone.example   error:no\n"
)
HEARD = "/run/heard"
ANSWERS = "/run/answers"
ASKING = f"while :; do postmap -q void.example {SAID}; done > {ANSWERS}"
_RESTORE_ALIASES = "cp -p /root/aliases-before /etc/aliases; newaliases"


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    """One whose main.cf names the tables, so that no test waits for Postfix to be restarted."""
    site = Site.prepared(agent_machine)
    site.machine.run(["cp", "-p", ALIASES, "/root/aliases-before"])
    site.machine.write_text(TABLE, GOOD)
    site.machine.write_text(NAMING, f'[settings]\ntransport_maps = "{SAID}"\n')
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.machine.wait_until(f"postconf -n transport_maps | grep -q {TABLE}", 90)
    site.wait_settled()
    site.good = site.read()
    return site


@pytest.fixture(autouse=True)
def _as_before(site: Site, at_rest: None) -> Iterator[None]:
    yield
    site.agent("resume")
    site.machine.run(["rm", "-f", EXTRA, LOCAL])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.machine.write_text(TABLE, GOOD)
    site.machine.run(["chown", "root:root", TABLE])
    site.machine.sh(f"chmod 644 {TABLE}; rm -f {TABLE}?* {PASSWORDS}*; {_RESTORE_ALIASES}")
    site.machine.run(["postmap", SAID])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


def wish(site: Site, text: str = WISHED) -> None:
    """Ask for it, and wait until no file of ours, nor a document, is told as wrong."""
    site.machine.write_text(EXTRA, text)
    site.machine.run(["systemctl", "reload", "pf-agent"])


def begin(site: Site, text: str = GOOD) -> None:
    """Have the table looked after and its index built."""
    site.machine.write_text(TABLE, text)
    wish(site)
    soon(lambda: trouble(site) == "", "the table in sync")
    soon(lambda: looked_up(site) == "discard:right", "the entry in the index")
    site.wait_settled()


def looked_up(site: Site, key: str = "void.example", said: str = SAID) -> str:
    return site.machine.run(["postmap", "-q", key, said], check=False).stdout.strip()


def soon(holds: Callable[[], bool], what: str) -> None:
    eventually(holds, what, 30)


def soon_looked_up(site: Site, key: str, value: str) -> None:
    soon(lambda: looked_up(site, key) == value, f"{key} as {value} in the index")


def wait_text(site: Site, text: str, path: str = TABLE) -> None:
    def stands() -> str:
        try:
            return site.machine.peek(path)[1].decode()
        except OSError:
            return ""

    try:
        soon(lambda: stands() == text, f"{path} as expected")
    except AssertionError as late:
        raise AssertionError(f"{late}: {stands()!r}") from None


def trouble(site: Site, name: str = SAID) -> str | None:
    """What the status says of a document, None if it is not looked after."""
    found = site.status().get("documents", {})
    return None if name not in found else str(found[name])


def intrude(site: Site) -> None:
    """Have main.cf drift and wait for its correction: whatever came before is seen by then."""
    since = site.cursor()
    site.machine.sh(INTRUDE)
    site.wait_for("drift-corrected", since)


def stat_of(site: Site, path: str) -> str:
    return site.machine.run(["stat", "-c", "%a %U %G", path]).stdout.strip()


def test_a_drifted_entry_is_corrected_on_record_and_in_the_index(site: Site) -> None:
    begin(site)
    since = site.cursor()
    with beside(site.machine, "asker", "root", ["bash", "-c", ASKING]):
        site.machine.run(["sed", "-i", "s/discard:right/discard:wrong/", TABLE])
        site.wait_for("drift-corrected", since)
        site.wait_for("table-rebuilt", since)
    # No index was ever made of what drifted.
    assert {*site.machine.read_text(ANSWERS).split()} == {"discard:right"}
    site.machine.sh(f"printf 'gone.example x\\nnew.example\\ty\\n' >> {TABLE}")
    wait_text(site, f"{GOOD}#gone.example x\nnew.example\ty\n")
    soon(lambda: looked_up(site, "new.example") == "y", "a new index")
    soon_looked_up(site, "gone.example", "")
    assert looked_up(site) == "discard:right"
    drift = site.drift_of(since)
    first = drift[0]
    assert (first[names.FIELD_TABLE], first[names.FIELD_KEY]) == (SAID, "void.example")
    assert (first[names.FIELD_EXPECTED], first[names.FIELD_ACTUAL]) == (
        "discard:right",
        "discard:wrong",
    )
    assert first[names.FIELD_LINE] == "7"
    assert names.FIELD_PARAMETER not in first
    assert {d[names.FIELD_KEY] for d in drift} == {"void.example", "gone.example"}
    done = site.records("drift-corrected", since)
    assert all(each[names.FIELD_TABLE] == SAID for each in done)
    kept = "".join(site.machine.read_text(p) for p in done[0][names.FIELD_DISPLACED].split("\n"))
    assert "void.example\tdiscard:wrong" in kept
    assert site.starts(since) == []
    assert trouble(site) == ""
    left = site.machine.sh(f"ls -A /etc/postfix | grep -F .{TABLE.rpartition('/')[2]}", check=False)
    assert left == ""


def test_every_verb(site: Site) -> None:
    begin(site)
    assert site.agent("diff").returncode == 0
    site.agent("suspend", check=True)
    site.wait_phase("suspended")
    since = site.cursor()
    site.machine.run(["sed", "-i", "s/discard:right/discard:wrong/", TABLE])
    site.wait_for("drift-detected", since)
    told = site.agent("diff")
    assert told.returncode == 3
    assert "-void.example\tdiscard:wrong\n+void.example\tdiscard:right\n" in told.stdout
    assert f"{SAID}: " in told.stderr
    found = json.loads(site.agent("diff", "--json").stdout)["documents"][SAID]
    assert (found["in_sync"], found["drift"][0]["place"]) == (False, f"{EXTRA}:2")
    assert looked_up(site) != "discard:wrong"
    wait_in_status(site, "would change: void.example")
    site.agent("resume", check=True)
    wait_text(site, GOOD)
    soon(lambda: bool(site.records("drift-corrected", since)), "its record")
    past = json.loads(site.agent("history", "--json", check=True).stdout)
    cycle = str([each["cycle"] for each in past if each["cycle"] is not None][-1])
    one = site.agent("history", cycle, check=True).stdout
    assert f"pf-agent adopt --cycle {cycle} {SAID} void.example" in one
    # The file that set writes is read before the one that has the wish.
    vain = site.agent("set", SAID, "void.example=discard:set")
    assert (vain.returncode, f"{EXTRA}:2: void.example" in vain.stderr) == (2, True)
    site.machine.run(["mv", EXTRA, LOCAL])
    assert site.agent("set", SAID, "void.example=discard:set", "New.Example=x:1").returncode == 0
    soon(lambda: looked_up(site) == "discard:set", "what was set")
    soon(lambda: looked_up(site, "new.example") == "x:1", "what was set, too")
    assert "new.example\tx:1\n" in site.machine.read_text(TABLE)
    bad = site.agent("set", SAID, "a b=x")
    assert bad.returncode == 2
    assert "whitespace ends a key" in bad.stderr
    assert site.agent("unset", SAID, "new.example").returncode == 0
    assert looked_up(site, "new.example") == "x:1"
    assert site.agent("unset", "--default", SAID, "new.example").returncode == 0
    soon(lambda: looked_up(site, "new.example") == "", "no such entry")
    assert site.agent("adopt", SAID, "--cycle", cycle, check=True).returncode == 0
    soon(lambda: looked_up(site) == "discard:wrong", "what was adopted from the cycle")
    assert site.agent("adopt", SAID, ".zone.example", check=True).returncode == 0
    assert '".zone.example" = "error:no"' in site.machine.read_text(LOCAL)
    assert site.agent("check").returncode == 0
    assert site.agent("apply").returncode == 0
    site.agent("restore", cycle, check=True)
    assert "void.example\tdiscard:wrong" in site.machine.read_text(TABLE)
    assert site.agent("status").returncode in (0, 3)
    past = json.loads(site.agent("history", "--json", check=True).stdout)
    drift = [each for one in past for each in one.get("drift", ())]
    assert (SAID, "void.example") in [(each["document"], each["parameter"]) for each in drift]


SECRETS = ["Pl4nted-51-xK9", "Pl4nted-52-xK9", "Pl4nted-53-xK9", "Pl4nted-54-xK9", "Pl4nted-55-xK9"]


def test_passwords_are_let_out_nowhere_and_kept_closed(site: Site) -> None:
    machine, said = site.machine, f"hash:{PASSWORDS}"
    machine.sh(f"umask 022; printf '# x {SECRETS[3]}\\n[b.example] b:{SECRETS[1]}\\n' >{PASSWORDS}")
    heard = beside(
        machine, "listening", "nobody", ["python3", "-c", LISTEN], f"StandardOutput=file:{HEARD}"
    )
    with heard:
        machine.wait_until(f"grep -qx listening {HEARD}")
        wish(
            site,
            "[settings]\nsmtp_sasl_password_maps = "
            f'"hash:$config_directory/{PASSWORDS.rpartition("/")[2]}"\n'
            f'[tables."{said}"]\n"[a.example]:587" = "anna:{SECRETS[0]}"\n',
        )
        soon(
            lambda: looked_up(site, "[a.example]:587", said) == f"anna:{SECRETS[0]}", "the password"
        )
        soon(lambda: stat_of(site, PASSWORDS) == "600 root root", "a closed file")
        site.wait_settled()
        since = site.cursor()
        machine.sh(
            f"printf '[a.example]:587 x:{SECRETS[2]}\\n[a.example]:587 y:{SECRETS[4]}\\n"
            f"{SECRETS[4]}\\n' > {PASSWORDS}; chmod 644 {PASSWORDS}"
        )
        site.wait_for("drift-corrected", since)
        soon(lambda: stat_of(site, PASSWORDS) == "600 root root", "a closed file again")
        machine.run(["pf-agent", "suspend"])
        machine.sh(f"echo '[a.example]:587 x:{SECRETS[2]}' > {PASSWORDS}")
        soon(lambda: "would change" in site.agent("status").stdout, "drift that is left")
        found = {"set": said_by_set(site, said)}
        verbs = ["diff", "diff --json", "status", "status --json", "history", "history --json"]
        found |= commands(machine, [("root", each) for each in verbs])
        told = json.loads(found["root: history --json"])
        cycles = {each["cycle"] for each in told if each["cycle"] is not None}
        orders = [("root", f"history {cycle}") for cycle in cycles]
        orders += [("nobody", each) for each in ("diff", "check", "status", "history")]
        found |= commands(machine, orders)
        found["signals"] = machine.read_text(HEARD)
        found["status.json"] = machine.read_text(f"{names.RUN_DIRECTORY}/status.json")
        shown = f"busctl get-property {NAME} {PATH} {NAME} Phase Summary LastDrift Problems"
        found["properties"] = machine.sh(f"runuser -u nobody -- {shown}")
        units = "_SYSTEMD_UNIT=pf-agent.service + _SYSTEMD_UNIT=pf-agent-errands.service"
        told = f"journalctl -q --no-pager -a -o export SYSLOG_IDENTIFIER=pf-agent + {units}"
        found["records"] = machine.sh(f"journalctl --sync; {told} | grep -av '^_CMDLINE='")
        found["mail"] = machine.sh("find /root/Maildir/new -type f -exec cat '{}' +", check=False)
    assert "-[a.example]:587 (hidden)" in found["root: diff"]
    # Also the drop-in that `set` has put a password into.
    assert "Permission denied" in found["nobody: diff"]
    assert "(hidden)" in found["records"]
    leaks = {place: [s for s in SECRETS if s in text] for place, text in found.items()}
    assert {place: leaked for place, leaked in leaks.items() if leaked} == {}


def said_by_set(site: Site, said: str) -> str:
    """What the command says about a password that it is given."""
    done = site.agent("set", "--json", said, f"[c.example]=c:{SECRETS[4]}")
    return done.stdout + done.stderr


def test_aliases(site: Site) -> None:
    machine, before = site.machine, site.machine.read_text(ALIASES)
    wish(site, f'[tables."hash:{ALIASES}"]\nroot = "anna, \\"|/bin/x y\\""\nMallory = false\n')
    soon(
        lambda: 'anna, "|/bin/x y"' in looked_up(site, "root", f"hash:{ALIASES}"),
        "the alias in its database",
    )
    wait_text(site, f'{before}root: anna, "|/bin/x y"\n', ALIASES)
    since = site.cursor()
    machine.sh(f"sed -i 's/^root: .*/root: eve/' {ALIASES}; echo 'mallory: eve' >> {ALIASES}")
    wait_text(site, f'{before}root: anna, "|/bin/x y"\n#mallory: eve\n', ALIASES)
    assert {d[names.FIELD_TABLE] for d in site.drift_of(since)} == {f"hash:{ALIASES}"}
    machine.sh(f"echo 'carl: eve' >> {ALIASES}")
    soon(lambda: looked_up(site, "carl", f"hash:{ALIASES}") == "eve", "another's alias, too")
    assert "anna" in looked_up(site, "root", f"hash:{ALIASES}")
    # As an editor empties main.cf for a moment, it names no aliases, but is no main.cf either.
    machine.sh(f"cp {MAIN_CF} /root/x; : > {MAIN_CF}; touch {ALIASES}; cat /root/x > {MAIN_CF}")
    site.wait_right()
    assert machine.read_text(ALIASES).count("root") == before.count("root") + 1


def test_a_faulty_entry_holds_up_nothing_and_what_was_good_stays(site: Site) -> None:
    begin(site)
    other = "/etc/postfix/transport-wished-too"
    faulty = WISHED.replace('"gone.example" = false', '"a b" = "x"\n"more.example" = "y"')
    site.machine.write_text(other, "x y\n")
    since = site.cursor()
    wish(site, f'{faulty}[tables."hash:{other}"]\nx = "z"\n')
    site.wait_for("config-rejected", since)
    (record,) = site.records("config-rejected", since)
    assert f"{EXTRA}:3: a b: whitespace ends a key" in record["MESSAGE"]
    soon(lambda: "whitespace ends a key" in (trouble(site) or ""), "the fault in the status")
    wait_text(site, "x\tz\n", other)
    site.machine.run(["sed", "-i", "s/discard:right/discard:wrong/", TABLE])
    wait_text(site, GOOD)
    assert "a b" in site.agent("check").stdout
    intrude(site)
    assert len(site.records("config-rejected", since)) == 1
    site.machine.run(["mv", EXTRA, LOCAL])
    assert site.agent("set", SAID, "c.example=x").returncode == 2
    assert site.agent("unset", SAID, "a b").returncode == 0
    soon(lambda: trouble(site) == "", "the fault is removed")


def test_faulty_toml_and_a_restart_and_an_end(site: Site) -> None:
    begin(site)
    machine = site.machine
    machine.write_text(EXTRA, f"{WISHED}x = = y\n")
    machine.run(["systemctl", "restart", "pf-agent"])
    soon(lambda: bool(site.status().get("problems")), "the fault")
    machine.run(["sed", "-i", "s/discard:right/discard:wrong/", TABLE])
    right = GOOD
    wait_text(site, right)
    # It is no longer desired while the agent does not run.
    machine.run(["systemctl", "stop", "pf-agent"])
    machine.run(["rm", EXTRA])
    machine.run(["systemctl", "start", "pf-agent"])
    soon(lambda: site.status().get("problems") == [], "no fault")
    assert trouble(site) is None
    machine.write_text(EXTRA, "x = = y\n")
    machine.run(["systemctl", "restart", "pf-agent"])
    soon(lambda: bool(site.status().get("problems")), "the fault again")
    since = site.cursor()
    machine.run(["sed", "-i", "s/discard:right/discard:theirs/", TABLE])
    intrude(site)
    assert machine.read_text(TABLE) == right.replace("right", "theirs")
    assert site.drift_of(since)[0].get(names.FIELD_TABLE) is None


def test_a_source_that_is_deleted_emptied_or_cut_comes_back(site: Site) -> None:
    begin(site)
    machine = site.machine
    machine.run(["chmod", "640", TABLE])
    machine.run(["chgrp", "postfix", TABLE])
    for _ in range(2):  # the second one is taken up after the look for the first
        machine.run(["systemctl", "reload", "pf-agent"])
    for script in (f"rm {TABLE}", f": > {TABLE}", f"truncate -s 70 {TABLE}"):
        site.machine.sh(script)
        wait_text(site, GOOD)
        assert stat_of(site, TABLE).startswith("640 root")


def test_writers_are_not_disturbed(site: Site) -> None:
    """Each saves a whole new text in its way, and nothing of it is lost."""
    begin(site)
    machine = site.machine
    ways = {
        "vi": "mv {0} {0}~; cat > {0}; sync; rm {0}~",
        "rename": "cat > {0}.new; mv {0}.new {0}",
        "truncate": "cat > {0}",
        "slow": 'exec 3>{0}; while read -r l; do echo "$l" >&3; sleep .03; done',
    }
    for way, script in ways.items():
        text = f"# {way}\nvoid.example discard:{way}\n" + "".join(
            f"n{i}.example\tdiscard:{way}\n" for i in range(8)
        )
        machine.run(["sh", "-c", script.format(TABLE)], input=text.encode())
        wait_text(site, text.replace(f"void.example discard:{way}", "void.example\tdiscard:right"))
        soon_looked_up(site, "n7.example", f"discard:{way}")
        soon_looked_up(site, "void.example", "discard:right")


def test_observe_mode_tells_and_leaves_it(site: Site) -> None:
    begin(site)
    site.machine.write_text(AGENT_TOML, 'mode = "observe"\n')
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_phase("observing")
    since = site.cursor()
    wrong = GOOD.replace("right", "wrong")
    site.machine.run(["sed", "-i", "s/discard:right/discard:wrong/", TABLE])
    site.wait_for("drift-detected", since)
    soon(lambda: "would change" in (trouble(site) or ""), "what it would change")
    assert site.machine.read_text(TABLE) == wrong
    site.machine.run(["rm", AGENT_TOML])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    wait_text(site, GOOD)


def test_what_others_than_root_may_change_is_refused(site: Site) -> None:
    machine = site.machine
    machine.sh(
        "install -d -o nobody /srv/theirs; install -o nobody /dev/null /srv/theirs/t;"
        " echo 'a b' > /tmp/t; install -d /srv/link;"
        " ln -sfn /srv/theirs/t /srv/link/t; install -o nobody /dev/null /srv/link/n;"
        " install -o nobody -d /srv/theirs/d; ln -sfn /etc /srv/theirs/d/e"
    )
    paths = ["/srv/theirs/t", "/srv/theirs/new", "/tmp/t", "/srv/link/t", "/srv/link/n"]
    paths += ["/srv/theirs/d/e/x"]
    since = site.cursor()
    wish(site, "".join(f'[tables."hash:{path}"]\na = "root"\n' for path in paths))
    soon(lambda: all(trouble(site, f"hash:{p}") for p in paths), "each of them told")
    for path in paths:
        assert re.search("belongs to uid|writable by others", trouble(site, f"hash:{path}") or "")
    # The attacker plays with the names meanwhile.
    machine.sh(
        "for i in $(seq 20); do ln -sfn /etc/shadow /srv/theirs/t; rm -f /srv/theirs/t;"
        " ln -sfn /srv/link /srv/theirs/t; done; ln -sfn /etc/postfix/wished-by-them"
        " /srv/theirs/t; chown -h nobody /srv/theirs/t"
    )
    intrude(site)
    assert machine.read_text("/tmp/t") == "a b\n"
    assert not machine.at("/etc/postfix/wished-by-them").exists()
    assert not machine.at("/etc/x").exists()
    assert machine.sh("find /srv /tmp -name '.*pf-agent*'") == ""
    assert len(site.records("correction-failed", since)) <= 2 * len(paths)
    machine.sh("rm -rf /srv/theirs /srv/link /tmp/t")


def test_an_endless_contest_does_not_take_the_processor(site: Site) -> None:
    begin(site)
    other = (
        "import sys, time, os\n"
        f"p = {TABLE!r}\n"
        "while True:\n"
        "    t = open(p).read()\n"
        "    if 'discard:right' in t:\n"
        "        open(p + '.x', 'w').write(t.replace('discard:right', 'discard:theirs'))\n"
        "        os.rename(p + '.x', p)\n"
        "    time.sleep(0.001)\n"
    )
    ours = Calm.before(site)
    with beside(site.machine, "contest", "root", ["python3", "-c", other]):
        site.wait_for("contested", ours.since)
        ours.is_kept()
    assert len(site.records("contested", ours.since)) == 1
    wait_text(site, GOOD)
