"""More than one Postfix on a machine: postmulti(1) instances, each with its state and unit."""

from __future__ import annotations

import json
import re

import pytest

from pf_agent import names
from tests.machine.nspawn import Machine
from tests.machine.site import EXTRA, SETTLE_SECONDS, Site, eventually

# postmulti wants this name, and Debian 12's unit has it after the "@". Debian 13's unit has the
# folder's name instead, without "postfix-" (README.Debian there).
INSTANCE = "postfix-out"
FOLDER = f"/etc/{INSTANCE}"
MAIN_CF = f"{FOLDER}/main.cf"
DROPIN = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/60-out.toml"
BANNER = "out.example.test ESMTP"

# The second Postfix listens on an address of its own. Each program waits for a main.cf that was
# written just now.
MAKE = f"""
set -e
cool() {{
    touch -d '-5 seconds' /etc/postfix*/main.cf
}}
ip address add 127.0.0.2/8 dev lo
cool
postmulti -e init
cool
postmulti -I {INSTANCE} -e create
cool
postconf -c {FOLDER} -e 'inet_interfaces = 127.0.0.2' 'inet_protocols = ipv4' \
    'master_service_disable =' 'myhostname = out.example.test' 'smtpd_banner = somebody' \
    'mynetworks = 127.0.0.0/8'
cool
postmulti -i {INSTANCE} -e enable
cool
systemctl daemon-reload
"""
GREETING = """
import socket
with socket.create_connection(("127.0.0.2", 25), timeout=20) as talk:
    print(talk.makefile().readline().strip())
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    # The default instance leaves that address to the other one.
    agent_machine.write_text(
        f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/55-address.toml",
        '[settings]\ninet_interfaces = "127.0.0.1"\n',
    )
    site = Site.prepared(agent_machine)
    site.machine.sh(MAKE)
    site.good = site.read()  # postmulti has its own parameters there
    return site


@pytest.fixture(scope="module")
def name(site: Site, release: str) -> str:
    return INSTANCE if release == "bookworm" else INSTANCE.removeprefix("postfix-")


@pytest.fixture(scope="module")
def unit(site: Site, name: str) -> str:
    unit = f"postfix@{name}.service"
    site.machine.run(["systemctl", "start", unit])
    return unit


@pytest.fixture(scope="module")
def managed(site: Site, name: str, unit: str) -> str:
    """The instance under the agent's care; its name."""
    site.forget_restarts()
    since = site.cursor()
    site.machine.write_text(
        DROPIN,
        f'[instances.{name}.settings]\nsmtpd_banner = "{BANNER}"\nmynetworks = ["127.0.0.0/8"]\n',
    )
    eventually(lambda: bool(activated(site, since)), "an activation", SETTLE_SECONDS)
    return name


# As bash calls it, with what bash-completion would have it begin with.
COMPLETE = """
_init_completion() {
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    cur=${words[cword]} prev=${words[cword - 1]}
}
__ltrim_colon_completions() { return; }  # for words with a colon, which none of these has
source /usr/share/bash-completion/completions/pf-agent
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_pf_agent "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(site: Site, *words: str, user: str = "root") -> list[str]:
    """What bash offers for the last of these words."""
    done = site.machine.run(
        ["runuser", "-u", user, "--", "bash", "-c", COMPLETE, "bash", names.PROGRAM, *words]
    )
    assert done.stderr == ""
    return done.stdout.split()


def activated(site: Site, since: str) -> list[str | None]:
    """The instances of the activations since then, None for the default one."""
    return [record.get(names.FIELD_INSTANCE) for record in site.records("activated", since)]


def test_an_instance_is_corrected_and_its_own_unit_restarted(
    site: Site, managed: str, unit: str
) -> None:
    assert f"smtpd_banner = {BANNER}" in site.machine.read_text(MAIN_CF)
    assert site.run_python(GREETING).strip() == f"220 {BANNER}"
    before = site.show(site.unit, "InvocationID"), site.show(unit, "InvocationID")
    since = site.cursor()
    site.machine.run(["rm", "-f", f"{names.RUN_DIRECTORY}/instances/{managed}/restarts.json"])
    site.machine.run(["postconf", "-c", FOLDER, "-e", "smtpd_banner=mischief"])
    eventually(lambda: activated(site, since) == [managed], "an activation", SETTLE_SECONDS)
    assert site.run_python(GREETING).strip() == f"220 {BANNER}"
    now = site.show(site.unit, "InvocationID"), site.show(unit, "InvocationID")
    assert now[0] == before[0]
    assert now[1] != before[1]
    drift = site.drift_of(since)
    assert [record[names.FIELD_INSTANCE] for record in drift] == [managed]
    assert drift[0]["MESSAGE"].startswith(f'{managed}: smtpd_banner is "mischief"')


def test_cycles_and_instances_are_completed(site: Site, managed: str) -> None:
    listed = json.loads(site.agent("history", "--json", check=True).stdout)
    numbers = {str(each["cycle"]) for each in listed if each["parameters"]}
    assert numbers <= set(completed(site, "history", ""))
    assert completed(site, "history", "", user="nobody") == []
    kept = site.machine.run(["ls", f"{names.STATE_DIRECTORY}/instances/{managed}/displaced"])
    texts = sorted(int(name.partition(".")[0]) for name in kept.stdout.split())
    assert list(map(int, completed(site, "restore", "--instance", managed, ""))) == texts
    assert set(completed(site, "restore", "")) <= numbers
    assert completed(site, "restore", "", user="nobody") == []
    for verb in ("suspend", "explain", "set"):
        assert completed(site, verb, "--instance", "", user="nobody") == ["-", managed]
    assert completed(site, "suspend", "--instance", managed[0], user="nobody") == [managed]
    assert "mynetworks" in completed(site, "explain", "--instance", managed, "mynet")
    assert "--instance" in completed(site, "suspend", "--in")


def test_each_instance_has_a_state_of_its_own(site: Site, managed: str) -> None:
    folder = f"{names.STATE_DIRECTORY}/instances/{managed}"
    found = site.machine.run(["ls", folder]).stdout.split()
    assert {"displaced", "last-good.main.cf", "ran-with.main.cf"} <= set(found)
    assert "pending.json" not in found
    status = json.loads(site.machine.run(["pf-agent", "status", "--json"]).stdout)
    assert status["parameters"] == 21
    assert status["instances"][managed]["parameters"] == 2
    assert status["instances"][managed]["phase"] == "in-sync"
    assert f"; instance {managed}: in sync: 2 parameters" in status["summary"]


def test_the_default_instance_goes_its_own_way(site: Site, managed: str) -> None:
    site.forget_restarts()
    since = site.cursor()
    site.machine.run(["postconf", "-e", "mynetworks=0.0.0.0/0"])
    site.wait_right()
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    assert activated(site, since) == [None]
    site.wait_settled()
    assert site.run_python(GREETING).strip() == f"220 {BANNER}"


def test_an_instance_is_suspended_alone_also_over_a_restart_and_restore_does_that(
    site: Site, managed: str
) -> None:
    site.forget_restarts()
    site.machine.run(["rm", "-f", f"{names.RUN_DIRECTORY}/instances/{managed}/restarts.json"])
    try:
        since = site.cursor()
        told = site.agent("suspend", "--instance", managed, "--for", "2h", check=True).stdout
        assert told.startswith(f"{managed}: suspended by root until ")
        eventually(lambda: bool(site.records("suspended", since)), "a record")
        site.machine.run(["systemctl", "restart", "pf-agent"])
        site.machine.run(["postconf", "-c", FOLDER, "-e", "smtpd_banner=mischief"])
        site.machine.run(["postconf", "-e", "mynetworks=0.0.0.0/0"])
        site.wait_right()
        site.machine.wait_until(f"pf-agent status | grep '^instance {managed}: suspended by root'")
        assert site.machine.sh("pf-agent status | head -n 1").startswith(
            ("main.cf is correct", "in sync")
        )
        done = site.agent("apply")
        assert done.returncode == 1
        assert re.search(f"^{managed}: suspended by root until .* --force", done.stdout, re.M)
        assert "smtpd_banner = mischief" in site.machine.read_text(MAIN_CF)
        since = site.cursor()
        assert site.agent("resume", "--instance", managed).stdout == f"{managed}: resumed\n"
        site.wait_for("resumed", since)
        (record,) = site.records("resumed", since)
        # An earlier one may tell that it serves again: Debian 13 restarts it with the default one.
        resumed = record["__CURSOR"]
        eventually(lambda: managed in activated(site, resumed), "an activation", SETTLE_SECONDS)
        assert f"smtpd_banner = {BANNER}" in site.machine.read_text(MAIN_CF)
        assert record["MESSAGE"] == f"{managed}: resumed by root"
        assert record[names.FIELD_INSTANCE] == managed
        # What a cycle replaced comes back, and only that instance is left alone for it.
        cycle = site.records("drift-corrected", since)[-1][names.FIELD_CYCLE]
        told = site.agent("restore", "--instance", managed, str(cycle), check=True).stdout
        assert f"`pf-agent resume --instance {managed}` ends that" in told
        assert "smtpd_banner = mischief" in site.machine.read_text(MAIN_CF)
        site.machine.run(["postconf", "-e", "mynetworks=0.0.0.0/0"])
        site.wait_right()
        assert "smtpd_banner = mischief" in site.machine.read_text(MAIN_CF)
    finally:
        since = site.cursor()
        assert site.agent("resume").stdout == "resumed\n"
        site.machine.wait_until("! pf-agent status | grep suspended")
    eventually(lambda: managed in activated(site, since), "an activation", SETTLE_SECONDS)
    site.wait_settled()


def test_only_of_the_instance_that_does_not_come_up_is_a_wish_rejected(
    site: Site, managed: str, unit: str
) -> None:
    site.forget_restarts()
    site.machine.run(["rm", "-f", f"{names.RUN_DIRECTORY}/instances/{managed}/restarts.json"])
    before, since = site.machine.read_text(MAIN_CF), site.cursor()
    untouched = site.read(), site.show(site.unit, "InvocationID")
    wish = f'[instances.{managed}.settings]\ninet_interfaces = "127.0.0.2, 127.0.0.9"\n'
    try:
        with site.port_taken("127.0.0.9"):
            site.machine.write_text(EXTRA, wish)
            eventually(lambda: bool(activated(site, since)), "an activation", SETTLE_SECONDS)
            each, record = site.records("rolled-back", since)
            assert each[names.FIELD_PARAMETER] == "inet_interfaces"
            assert record[names.FIELD_INSTANCE] == managed
            assert record["MESSAGE"].startswith(f"{managed}: Postfix did not come up with ")
            assert "fatal: bind 127.0.0.9 port 25: " in record[names.FIELD_LOG]
            assert activated(site, since) == [managed]
            assert site.machine.read_text(MAIN_CF) == before
            assert site.run_python(GREETING).strip() == f"220 {BANNER}"
            shown = site.machine.run(["pf-agent", "status", "--json"], check=False)
            found = json.loads(shown.stdout)
            assert (found["phase"], shown.returncode) == ("in-sync", 0)
            assert found["instances"][managed]["phase"] == "in-sync"
            assert found["problems"] == [f"{record['MESSAGE']}"]
            assert (site.read(), site.show(site.unit, "InvocationID")) == untouched
            assert site.serves()
    finally:
        site.machine.run(["rm", EXTRA])
        site.machine.wait_until("pf-agent diff && pf-agent status")


def test_a_restart_of_the_default_instance_is_verified_of_the_others_too(
    site: Site, managed: str, unit: str
) -> None:
    """systemd restarts all of them: what keeps one down then, and nobody desires, goes back.

    Debian 13 has it disabled, so that it is not started again, but told of.
    """
    site.forget_restarts()
    site.machine.sh("install -d -o daemon -g daemon -m 700 /srv/out")
    before = site.machine.read_text(MAIN_CF)
    site.machine.run(["postconf", "-c", FOLDER, "-e", "data_directory=/srv/out"])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    since = site.cursor()
    site.machine.run(["postconf", "-e", "mynetworks=0.0.0.0/0"])
    if site.show(unit, "UnitFileState") == "disabled":
        eventually(lambda: '"stopped"' in json.dumps(site.status()), "it is told", SETTLE_SECONDS)
        assert managed in {
            record.get(names.FIELD_INSTANCE) for record in site.records("activation-failed", since)
        }
        site.machine.write_text(MAIN_CF, before)
        site.machine.run(["systemctl", "start", unit])
    else:
        eventually(lambda: managed in activated(site, since), "an activation", SETTLE_SECONDS)
        found = site.records("rolled-back", since)
        assert {record[names.FIELD_INSTANCE] for record in found} == {managed}
        assert all("data_directory" in record["MESSAGE"] for record in found)
        assert site.machine.read_text(MAIN_CF) == before
    eventually(lambda: site.run_python(GREETING).strip() == f"220 {BANNER}", "its greeting")
    site.wait_right()
    site.wait_settled()


def test_diff_and_apply_see_to_all_instances(site: Site, managed: str) -> None:
    machine = site.machine
    machine.run(["systemctl", "stop", "pf-agent"])
    try:
        machine.run(["rm", "-f", f"{names.RUN_DIRECTORY}/instances/{managed}/restarts.json"])
        machine.run(["postconf", "-c", FOLDER, "-e", "mynetworks=0.0.0.0/0"])
        found = machine.run(["pf-agent", "diff"], check=False)
        assert found.returncode == 3
        assert f"+++ {MAIN_CF} (desired)" in found.stdout
        assert found.stderr.startswith(f"{managed}: mynetworks is ")
        done = machine.run(["pf-agent", "apply"], timeout=SETTLE_SECONDS)
        assert done.stdout == f"in sync\n{managed}: corrected: mynetworks\n"
        assert machine.run(["pf-agent", "diff"]).stdout == ""
    finally:
        machine.run(["systemctl", "start", "pf-agent"])


def test_desired_entries_of_an_instance_are_its_own(site: Site, managed: str) -> None:
    machine, table = site.machine, f"{FOLDER}/wished"
    machine.write_text(table, "a b\n")
    machine.write_text(EXTRA, f'[instances.{managed}.tables."hash:{table}"]\na = "c"\n')

    def is_right() -> bool:
        return machine.read_text(table) == "a\tc\n"

    eventually(is_right, "the desired entry")
    told = {f"hash:{table}": ""}
    eventually(
        lambda: site.status()["instances"][managed].get("documents") == told, "it in the status"
    )
    since = site.cursor()
    machine.sh(f"echo 'a theirs' > {table}")
    eventually(lambda: bool(site.records("drift-corrected", since)), "a correction")
    assert is_right()
    (drift,) = site.drift_of(since)
    assert drift[names.FIELD_INSTANCE] == managed
    assert site.status()["documents"] == {}
    machine.run(["rm", EXTRA, table])
    eventually(lambda: site.status()["instances"][managed].get("documents") == {}, "an end of that")


def test_an_instance_that_is_named_no_more_is_left_alone(site: Site, managed: str) -> None:
    text = site.machine.read_text(DROPIN)
    site.machine.run(["rm", DROPIN])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    try:
        since = site.cursor()
        site.machine.run(["postconf", "-c", FOLDER, "-e", "mynetworks=10.0.0.0/8"])
        site.machine.run(["systemctl", "reload", "pf-agent"])
        assert "mynetworks = 10.0.0.0/8" in site.machine.read_text(MAIN_CF)
        assert site.drift_of(since) == []
        status = json.loads(site.machine.run(["pf-agent", "status", "--json"]).stdout)
        assert status["instances"] == {}
    finally:
        site.machine.write_text(DROPIN, text)


def test_the_tables_of_an_instance_are_its_own(site: Site, managed: str) -> None:
    path = f"{FOLDER}/transport"
    site.machine.write_text(path, "void.example discard:one\n")
    site.machine.write_text("/etc/postfix/transport", "void.example discard:never\n")
    since = site.cursor()
    said = "transport_maps=hash:$config_directory/transport"
    site.machine.run(["postconf", "-c", FOLDER, "-e", said])
    site.wait_for("table-rebuilt", since)
    (record,) = site.records("table-rebuilt", since)
    assert record["PF_AGENT_PATH"] == path
    assert record[names.FIELD_INSTANCE] == managed
    asked = ["postmap", "-c", FOLDER, "-q", "void.example", f"hash:{path}"]
    assert site.machine.run(asked).stdout == "discard:one\n"
    site.machine.write_text(path, "void.example discard:two\n")
    eventually(lambda: site.machine.run(asked).stdout == "discard:two\n", "the new entry")
    site.machine.write_text(path, "void.example\n")
    eventually(lambda: f"{path}:1: " in str(stale_of(site, managed)), "it is stale")
    assert site.status()["stale_tables"] == {}
    assert not site.machine.at("/etc/postfix/transport.db").exists()
    site.machine.run(["postconf", "-c", FOLDER, "-X", "transport_maps"])
    eventually(lambda: stale_of(site, managed) == {}, "none is named any more", SETTLE_SECONDS)


def stale_of(site: Site, instance: str) -> object:
    return site.status()["instances"][instance]["stale_tables"]
