"""The units' sandboxes, as systemd itself rates them and as the kernel keeps them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.checkout import CHECKOUT
from tests.machine.site import AGENT_TOML, INTRUDE, MAIN_CF, SETTLE_SECONDS, Site, eventually

pytestmark = pytest.mark.long

AGENT = "pf-agent.service"
ERRANDS = "pf-agent-errands.service"
NOTIFY = "pf-agent-notify@.service"
# What `systemd-analyze security` says of each, at most. To read and replace anybody's main.cf takes
# root and its rights over files (0.9); Postfix's programs and the probe of port 25 take the host's
# network (1.0), and set-gid postdrop that a program may gain a group (0.2).
EXPOSURE = {AGENT: 1.3, ERRANDS: 1.9, NOTIFY: 1.3}
ALIASES = "/etc/postfix/list-aliases"
MORE = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/60-more.toml"
METRICS = '[metrics]\nlisten = "127.0.0.1:9825"\n'
SCRAPE = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9825/metrics", timeout=20).read().decode())
"""
# Ends when nobody asked for 0.2 s; else as its unit has it.
HASTY = f"""
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -I -c 'import socket; from pf_agent.postfix.errands_unit import Unit; \
Unit("{MAIN_CF}", "{names.ERRANDS_DIRECTORY}").serve(socket.socket(fileno=3), 0.2)'
"""
# Asks after pauses that are about as long; on a busy host each may turn out longer.
ASK = f"""
import random, time
from pf_agent.postfix.errands import Errands
errands = Errands("/etc/postfix", "{names.ERRANDS_SOCKET}")
for _ in range(24):
    time.sleep(random.uniform(0.1, 0.3))
    assert errands.greeting().port == 25
print("all answered")
"""
# What a unit logged, as the agent is told of it.
SAID = f"""
from pf_agent.postfix.errands import Errands
print(*Errands("/etc/postfix", "{names.ERRANDS_SOCKET}").log_tail(["says.service"], 0), sep="\\n")
"""
# Keeps main.cf open until it is told to go on.
HOLD = f"""
import sys
with open("{MAIN_CF}", "ab") as file:
    file.write(b"mynetworks = 0.0.0.0/0\\n")
    file.flush()
    print("open", flush=True)
    sys.stdin.readline()
    file.write(b"my_own = late\\n")
"""


@pytest.fixture(autouse=True)
def _rested(site: Site) -> None:
    site.forget_restarts()


def exposure(site: Site, unit: str) -> float:
    """The rating, which systemd gives to the instances of a template alone."""
    unit = unit.replace("@.", "@1.")
    said = site.machine.run(["systemd-analyze", "security", "--no-pager", unit]).stdout
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


def test_the_exposure_does_not_rise_of_any_unit_nor_of_all(site: Site) -> None:
    rated = {unit: exposure(site, unit) for unit in EXPOSURE}
    assert {unit: figure for unit, figure in rated.items() if figure > EXPOSURE[unit]} == {}
    said = " ".join((CHECKOUT / "SECURITY.md").read_text("utf-8").split())
    for unit, figure in EXPOSURE.items():
        assert f"`{unit}` at {figure}" in said
    assert f"their sum of {sum(EXPOSURE.values()):.1f}, from rising" in said
    services = {path.name for path in (CHECKOUT / "units").glob("*.service")}
    assert services == EXPOSURE.keys()


def inside(site: Site, unit: str, commands: list[str], without: str = "") -> dict[str, bool]:
    """Run commands with the sandbox of the unit, in one of its own that has all its lines.

    `without` a capability where one is named. Tells of each whether it worked.
    """
    text = site.machine.read_text(f"/usr/lib/systemd/system/{unit}")
    service = text.split("[Service]")[1].split("[Install]")[0]
    own = (
        r"(?m)^(Type|NotifyAccess|ExecStart|ExecReload|WatchdogSec|Restart\w*|\w+Directory\w*)=.*$"
    )
    site.machine.write_text(
        "/run/systemd/system/inside.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh /srv/commands\n"
        + re.sub(own, "", service)
        + (f"CapabilityBoundingSet=~{without}\n" if without else ""),
    )
    lines = [f"({command}) && echo worked || echo refused" for command in commands]
    site.machine.write_text("/srv/commands", "exec 2>&1\n" + "\n".join(lines) + "\n")
    site.machine.sh("touch /srv/other /srv/others; chown 1 /srv/other*; chmod 600 /srv/others")
    site.machine.run(["systemctl", "daemon-reload"])
    since = site.cursor()
    site.machine.run(["systemctl", "start", "inside"])
    inside = (e for e in site.entries(since) if e.get("_SYSTEMD_UNIT") == "inside.service")
    said = [entry["MESSAGE"] for entry in inside]
    ends = [line == "worked" for line in said if line in ("worked", "refused")]
    assert len(ends) == len(commands), said
    return dict(zip(commands, ends, strict=True))


NEITHER = [
    "echo x > /usr/x",
    "echo x > /root/x",
    "mount -t tmpfs none /mnt",
    "unshare --user true",
    "chrt --fifo 1 true",
    "date -s 12:00",
    "hostname other",
    "mknod /var/x b 8 0",
    "chmod u+s /etc/hosts",
    "chown 1 /etc/hosts",
    "chmod 600 /srv/other",
    "test -e /proc/sys",
]
CHOWN = """python3 -c 'import os; os.fchown(os.open("/etc/x", os.O_RDONLY), 1, 1)'"""
AS_ANOTHER = (
    "python3 -c 'import os; os.setgroups([]); os.setresgid(1, 1, 1); os.setresuid(1, 1, 1);"
    ' os.execv("/usr/sbin/postconf", ["postconf", "-n"])\''
)
# Of the group postdrop, which nobody else's program may be.
SETGID = "test -g /usr/sbin/postdrop && mailq"
LOGGED = (
    "python3 -c 'from pf_agent.model import MailLog; from pf_agent.postfix.log import log_tail;"
    ' assert log_tail(["postfix.service", "postfix@-.service"], 0, MailLog())\''
)
# What each may not, and what it must be able to.
BOUNDS = {
    AGENT: (
        [
            "python3 -c 'import socket; socket.socket()'",
            "python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)'",
            AS_ANOTHER,
            LOGGED,
            "echo x > /var/log/journal/x",
        ],
        [f"cp {MAIN_CF} /etc/x", CHOWN, "rm /etc/x", "ls /root", f"cat {MAIN_CF}"],
    ),
    ERRANDS: (
        [f"cp {MAIN_CF} /etc/x && {CHOWN}", AS_ANOTHER, "echo x > /var/log/journal/x"],
        ["rm /etc/x", "postconf -n", "ls /root", LOGGED],
    ),
    NOTIFY: (
        [
            f"cp {MAIN_CF} /etc/x",
            "ls /root",
            AS_ANOTHER,
            "cat /srv/others",
            "ls /var/spool/postfix/maildrop",
            "python3 -c 'import smtplib; smtplib.SMTP(\"127.0.0.1\", timeout=9)'",
        ],
        [
            *(f"cat {MAIN_CF}", "journalctl -qn1", "systemctl show -P Id postfix", SETGID),
            # As sendmail(1) finds the value where main.cf has none.
            "postconf -d mynetworks",
        ],
    ),
}


@pytest.mark.parametrize("unit", BOUNDS)
def test_the_sandbox_refuses_what_is_not_needed_and_nothing_else(site: Site, unit: str) -> None:
    refused, left = BOUNDS[unit]
    found = inside(site, unit, [*NEITHER, *refused, *left])
    assert {command for command, worked in found.items() if worked} == set(left)
    assert site.machine.run(["stat", "-c", "%a %u", "/etc/hosts"]).stdout == "644 0\n"


def test_the_agent_is_cut_off_from_the_hosts_network(site: Site) -> None:
    pid = site.show(AGENT, "MainPID")
    own, hosts = (site.machine.sh(f"readlink /proc/{n}/ns/net") for n in (pid, "1"))
    assert own != hosts


# A file that is somebody else's, and a socket that nobody may use.
THEIRS = "install -o 1 -g 1 -m 600 /dev/null /etc/theirs"
# Of the agent's own code, what needs each capability: it works, and does not without.
NEEDED_FOR = {
    (AGENT, "CAP_CHOWN"): """
import os
from pf_agent.files.nature import OWN_MAIN_CF
from pf_agent.files.replacement import Replacement
from pf_agent.model import ActualState, FileKind
theirs = os.open("/etc/theirs", os.O_RDWR)
Replacement("/etc/theirs", OWN_MAIN_CF).dress(theirs, ActualState(b"", FileKind.REGULAR, 1, 1), {})
assert os.fstat(theirs).st_uid == 0
""",
    (AGENT, "CAP_DAC_OVERRIDE"): """
from pf_agent.files.nature import OWN_MAIN_CF
from pf_agent.files.regular import read_regular
assert read_regular("/etc/theirs", OWN_MAIN_CF).text == b""
""",
    (AGENT, "CAP_LEASE"): """
from pf_agent.files.nature import OWN_MAIN_CF
from pf_agent.files.regular import read_regular
with open("/etc/theirs", "ab"):
    assert read_regular("/etc/theirs", OWN_MAIN_CF).is_open
""",
    (ERRANDS, "CAP_DAC_OVERRIDE"): """
import os, socket
from pf_agent.postfix.presence import is_there
milter = socket.socket(socket.AF_UNIX)
milter.bind("/var/theirs")
milter.listen()
os.chmod("/var/theirs", 0)
is_found = is_there("unix:/var/theirs")
os.remove("/var/theirs")
assert is_found
""",
}


@pytest.mark.parametrize("unit", EXPOSURE)
def test_each_capability_is_needed(site: Site, unit: str) -> None:
    needed = {name: script for (of, name), script in NEEDED_FOR.items() if of == unit}
    assert set(site.show(unit.replace("@.", "@1."), "CapabilityBoundingSet").upper().split()) == (
        set(needed)
    )
    for name, script in needed.items():
        site.machine.write_text("/srv/needs.py", script)
        site.machine.sh(THEIRS)
        assert inside(site, unit, ["python3 -I /srv/needs.py"], without=name) == {
            "python3 -I /srv/needs.py": False
        }, name
        assert inside(site, unit, ["python3 -I /srv/needs.py"]) == {
            "python3 -I /srv/needs.py": True
        }, name
    site.machine.run(["rm", "-f", "/etc/theirs"])


@pytest.mark.parametrize("unit", EXPOSURE)
def test_each_capability_has_its_reason(unit: str) -> None:
    text = (CHECKOUT / "units" / unit).read_text(encoding="utf-8")
    reasons = set(re.findall(r"CAP_\w+", "\n".join(re.findall(r"(?m)^# CAP_.*?:", text))))
    assert reasons == {name for of, name in NEEDED_FOR if of == unit}


def test_root_alone_can_call(site: Site) -> None:
    shown = site.machine.run(["stat", "-c", "%F %a %U", names.ERRANDS_SOCKET]).stdout
    assert shown == "socket 600 root\n"


# --- what the work takes --------------------------------------------------------------------------


def test_an_alias_file_of_another_owner_is_made_his_database(site: Site) -> None:
    site.machine.sh(f"echo 'list: root' > {ALIASES}; install -d -o 1 -g 1 /etc/postfix/lists")
    site.machine.sh(
        f"mv {ALIASES} /etc/postfix/lists/aliases; chown 1:1 /etc/postfix/lists/aliases"
    )
    kind = site.machine.run(["postconf", "-h", "default_database_type"]).stdout.strip()
    site.machine.write_text(
        MORE, f'[settings]\nalias_database = "{kind}:/etc/postfix/lists/aliases"\n'
    )
    site.machine.wait_until("ls /etc/postfix/lists/aliases.*")
    owner = site.machine.sh("stat -c %u /etc/postfix/lists/aliases.*")
    assert owner == "1\n"
    site.machine.run(["rm", MORE])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


def test_a_main_cf_that_is_a_mount_point_is_made_roots_in_place(site: Site) -> None:
    site.machine.write_bytes("/root/mounted", site.good)
    site.machine.sh(INTRUDE.replace(MAIN_CF, "/root/mounted"))
    site.machine.sh("chown 1:1 /root/mounted; chmod 600 /root/mounted")
    site.machine.sh(f"mount --bind /root/mounted {MAIN_CF}")
    try:
        site.machine.run(["systemctl", "reload", "pf-agent"])
        site.wait_right()
        assert site.machine.read_bytes("/root/mounted") == site.good
    finally:
        site.machine.wait_until(f"umount {MAIN_CF}")  # a program of Postfix may be reading it
        site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_right()
    site.wait_settled()


def test_whoever_still_writes_is_known_also_where_the_file_is_not_roots(site: Site) -> None:
    pipe = subprocess.PIPE
    site.machine.run(["pf-agent", "suspend"])
    site.machine.run(["chown", "1:1", MAIN_CF])
    with site.machine.start(["python3", "-c", HOLD], stdin=pipe, stdout=pipe) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        site.machine.run(["pf-agent", "resume"])
        site.machine.wait_until("ls /etc/postfix/.main.cf.late-*")
        writer.communicate(b"\n", timeout=60)
    site.machine.wait_until("! ls /etc/postfix/.main.cf.late-*")
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


# --- the other unit comes and goes ----------------------------------------------------------------


@pytest.fixture
def _measured(site: Site) -> Iterator[None]:
    site.machine.write_text(AGENT_TOML, METRICS)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    yield
    site.machine.run(["rm", AGENT_TOML])
    site.machine.run(["systemctl", "reload", "pf-agent"])


@pytest.mark.usefixtures("_measured")
def test_metrics_are_served_on_without_the_unit_that_made_their_socket(site: Site) -> None:
    assert "pf_agent_up 1" in site.run_python(SCRAPE)
    site.machine.run(["systemctl", "stop", ERRANDS])
    assert "pf_agent_up 1" in site.run_python(SCRAPE)


def test_killed_again_and_again_it_comes_with_the_next_errand(site: Site) -> None:
    for _ in range(3):
        site.machine.run(["systemctl", "start", ERRANDS])
        site.machine.run(["systemctl", "kill", "--signal=KILL", ERRANDS])
    since = site.cursor()
    site.drift_once()
    assert site.records("activation-failed", since) == []
    assert site.show(AGENT, "NRestarts") == "0"


def test_a_socket_that_somebody_stopped_comes_back(site: Site) -> None:
    """And where the agent itself is killed more often than systemd lets a unit be started."""
    site.machine.run(["systemctl", "stop", "pf-agent-errands.socket", ERRANDS])
    eventually(lambda: site.show("pf-agent-errands.socket", "ActiveState") == "active", "a socket")
    for _ in range(7):
        site.machine.run(["systemctl", "restart", AGENT])
    assert site.show("pf-agent-errands.socket", "Result") == "success"
    since = site.cursor()
    site.drift_once()
    assert site.records("activation-failed", since) == []


def test_the_log_is_read_wherever_journald_keeps_it(site: Site) -> None:
    for where, folder in (("--relinquish-var", "/run"), ("--flush", "/var")):
        site.machine.run(["journalctl", where])
        command = ["systemd-run", "--quiet", "--wait", "--unit=says", "echo", f"to {folder}"]
        site.machine.run(command)
        site.machine.sh(f"grep -rqF 'to {folder}' {folder}/log/journal")
        assert f"echo: to {folder}" in site.run_python(SAID).splitlines()


def test_one_that_does_not_start_is_told_and_waited_for(site: Site) -> None:
    site.machine.run(["systemctl", "stop", ERRANDS])
    site.dropin(ERRANDS, "broken", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    since = site.cursor()
    # A text that was judged before would be put right without.
    site.machine.write_text(MORE, "[settings]\nsmtpd_helo_required = true\n")
    eventually(lambda: bool(site.records("correction-failed", since)), "a record")
    (record,) = site.records("correction-failed", since)
    told = r"^/run/pf-agent-errands\.socket: no answer .*see `systemctl status pf-agent-errands"
    assert re.search(told, record["MESSAGE"])
    assert int(site.show(ERRANDS, "NRestarts")) <= 10, "one in two seconds"
    site.dropin(ERRANDS, "broken", "")
    site.machine.wait_until("postconf -n | grep '^smtpd_helo_required = yes'", SETTLE_SECONDS)
    assert site.show(AGENT, "NRestarts") == "0"
    site.machine.run(["rm", MORE])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


def test_what_is_asked_as_it_ends_is_done(site: Site) -> None:
    site.dropin(ERRANDS, "hasty", HASTY)
    site.machine.run(["systemctl", "restart", ERRANDS])
    since = site.cursor()
    assert site.run_python(ASK) == "all answered\n"
    site.dropin(ERRANDS, "hasty", "")
    entries = site.entries(since)
    ended = [e for e in entries if e.get("UNIT") == ERRANDS and "Deactivated" in e["MESSAGE"]]
    assert len(ended) > 2


def test_at_rest_nothing_of_it_is_in_memory(site: Site) -> None:
    site.machine.run(["systemctl", "restart", ERRANDS])
    site.machine.wait_until(f"test $(systemctl is-active {ERRANDS}) = inactive", SETTLE_SECONDS)
    assert site.show(ERRANDS, "Result") == "success"
    site.drift_once()
    assert site.show(ERRANDS, "ActiveState") == "active"


def test_it_stops_and_starts_with_the_agent(site: Site) -> None:
    site.machine.run(["systemctl", "stop", AGENT])
    units = ("pf-agent-errands.socket", ERRANDS)  # they stop after it, by jobs of their own
    eventually(lambda: {site.show(of, "ActiveState") for of in units} == {"inactive"}, "an end", 60)
    site.machine.run(["test", "!", "-e", names.ERRANDS_SOCKET])
    # By hand, nothing of it is needed.
    site.machine.sh(INTRUDE)
    site.machine.run(["pf-agent", "apply"], timeout=SETTLE_SECONDS)
    site.wait_right()
    assert site.show(ERRANDS, "ActiveState") == "inactive"
    site.machine.run(["systemctl", "start", AGENT])
    site.wait_settled()
