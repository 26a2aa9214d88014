"""Secrets are planted in every shape, and looked for in all that an installed agent lets out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from pf_agent import names
from pf_agent.bus.agent1 import NAME, PATH
from pf_agent.maincf.document import MainCf
from tests.machine.beside import beside
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, EXTRA, INTRUDE, SETTLE_SECONDS, Site, eventually

TEXTFILE: Final = "/var/lib/prometheus/node-exporter/pf-agent.prom"
AGENT: Final = f"""
[metrics]
textfile = "{TEXTFILE}"
[notify]
unit = "pf-agent-notify@.service"
"""
MAILS: Final = "/root/Maildir/new"
HEARD: Final = "/run/heard"
LISTEN: Final = f"""
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
def heard(_bus, _sender, _path, interface, signal, values):
    print(interface, signal, values.print_(False), flush=True)
bus.signal_subscribe("{NAME}", None, None, None, None, 0, heard)
print("listening", flush=True)
GLib.MainLoop().run()
"""
# Prints what each command does: as many forks of one process, since most of a command is its start.
COMMANDS: Final = """
import json, os, pwd, sys, tempfile
from pf_agent.cli import main, verbs_act, verbs_look, verbs_past, verbs_status
told = {}
for user, words in json.load(sys.stdin):
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            who = pwd.getpwnam(user)
            os.initgroups(user, who.pw_gid)
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)
            sys.argv[1:] = words.split()
            main.entry()
        os.waitpid(child, 0)
        output.seek(0)
        told[f"{user}: {words}"] = output.read().decode()
print(json.dumps(told))
"""
PROPERTIES: Final = ("Phase", "Summary", "LastDrift", "Problems", "StaleTables", "Instances")


def secret(number: int) -> str:
    """One of those that are planted; no two are alike."""
    return f"Pl4nted-{number:02d}-xK9"


SECRETS: Final = [secret(number) for number in range(1, 41)]
PLAIN: Final = [
    *("relay_passwd", "relay_pass", "db_password", "mysql_pwd", "ldapx_bind_pw", "my_secret"),
    *("my_api_token", "x_key", "x_credentials", "x_apikey", "BIND_PW", "x-password", "rootpw"),
]
# In main.cf, where nobody desires them: 1 to 34, the last two in lines that Postfix cannot read.
PLANTED: Final = "".join(
    [
        *(f"{name} = {secret(number)}\n" for number, name in enumerate(PLAIN, 1)),
        f"y_pass =\n    {secret(14)}\n",
        f"y_pwd =\n# a comment between\n\n\t{secret(15)}\n",
        f"y_token = {secret(16)}\ny_token = {secret(17)}\n",
        f"y_auth = static:anna:{secret(18)}\ny_password_maps = $y_auth\n",
        f"y_maps = mysql:mysql://root:{secret(19)}@db\n",
        f"y_url = ldap://:{secret(20)}@h, ldap://a@b:{secret(21)}@h,ldap://c:{secret(22)}@h\n",
        f"y_encoded = pgsql://anna:%20{secret(23)}@h/db\n",
        f"z_password_maps = inline:{{ {{[mail.example.org]:587 = anna:{secret(24)}}} }}\n",
        f"z_maps = inline:{{\n  {{ a_token = {secret(25)} }}\n }}\n",
        f"z_other = {{ mysql:x, password = {secret(26)} }}\n",
        f"z_password_table = hash:/etc/postfix/none,\n    static:{secret(27)}\n",
        f"#old_pass = {secret(28)}\n",
        f"#old_pwd =\n#    {secret(29)}\n",
        f"# the_password: {secret(30)}\n",
        f"z_pass = {secret(31)}\nz_user = $z_pass\n",
        f"z_secret = {secret(32)}\n",
        f"broken_pass {secret(33)}\nstray {secret(34)} line\n",
    ]
)
# Of the desired state: 35 to 37, and 38 in a faulty one. 39 is typed, 40 in master.cf.
WISHED: Final = f"""
w_pass = "{secret(35)}"
w_url = "ldap://anna:{secret(36)}@h/"
w_token = "{secret(37)}"
"""
AT_HOME: Final = 'inet_interfaces = "127.0.0.1"\n'
FAULTY: Final = (
    f'[settings]\nw_pass = ["a", 5, "{secret(38)}"]\nw_number = {{ a = "{secret(38)}" }}\n'
)
SERVICE: Final = "pickup/unix/m_pass"


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    site.machine.run(["mkdir", "-p", TEXTFILE.rpartition("/")[0]])
    site.machine.write_text(AGENT_TOML, AGENT)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    return site


@pytest.fixture(autouse=True)
def _heard(site: Site) -> Iterator[None]:
    """An ordinary user hears what is said on the bus; afterwards all is as before."""
    machine = site.machine
    listen = ["python3", "-c", LISTEN]
    with beside(machine, "listening", "nobody", listen, f"StandardOutput=file:{HEARD}"):
        machine.wait_until(f"grep -qx listening {HEARD}")
        yield
    machine.run(["rm", "-f", EXTRA, HEARD])
    machine.run(["pf-agent", "resume"])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()
    site.forget_restarts()
    site.end_contest()


def wish(site: Site, settings: str, more: str = "") -> None:
    site.machine.write_text(EXTRA, f"{more}[settings]\n{settings}")


def records(site: Site) -> str:
    """All fields of all that the agent, its errands and its command have logged.

    But for the command line, which journald takes from the kernel, as ps(1) does.
    """
    units = "_SYSTEMD_UNIT=pf-agent.service + _SYSTEMD_UNIT=pf-agent-errands.service"
    told = f"journalctl -q --no-pager -a -o export SYSLOG_IDENTIFIER=pf-agent + {units}"
    return site.machine.sh(f"journalctl --sync; {told} | grep -av '^_CMDLINE='")


def commands(machine: Machine, orders: list[tuple[str, str]]) -> dict[str, str]:
    """What each user's command prints, by both."""
    done = machine.run(["python3", "-I", "-c", COMMANDS], input=json.dumps(orders))
    found: dict[str, str] = json.loads(done.stdout)
    return found


def outputs(site: Site) -> dict[str, str]:
    """Whatever can be read of the agent, by whom."""
    machine = site.machine
    verbs = ["status", "diff", "diff --json", "check", "check --json", "check --references"]
    verbs += ["check --json --references", "apply --dry-run", "history", "history --json"]
    verbs += [f"explain {name}" for name in (*PLAIN, "w_pass", "w_url", "y_pass", "y_url")]
    verbs += ["explain --json w_pass", "explain --json y_pass", "status --json"]
    found = commands(machine, [(user, verb) for user in ("root", "nobody") for verb in verbs])
    told = json.loads(found["root: history --json"])
    cycles = {each["cycle"] for each in told if each["cycle"] is not None}
    found |= commands(machine, [("root", f"history {cycle}") for cycle in cycles])
    show = f"busctl get-property {NAME} {PATH} {NAME} {' '.join(PROPERTIES)}"
    return found | {
        "properties": machine.sh(f"runuser -u nobody -- {show}"),
        "signals": machine.read_text(HEARD),
        "status.json": machine.read_text(f"{names.RUN_DIRECTORY}/status.json"),
        "STATUS=": site.show("pf-agent", "StatusText"),
        "metrics": machine.read_text(TEXTFILE),
        "records": records(site),
    }


def leaks(found: dict[str, str]) -> dict[str, list[str]]:
    """Which of them stand where."""
    where = {place: [each for each in SECRETS if each in text] for place, text in found.items()}
    return {place: leaked for place, leaked in where.items() if leaked}


def mailed(site: Site) -> str:
    """All mails to root. main.cf must be right: sendmail cannot read any other."""
    machine = site.machine
    # One mail may have gone already, about less; the next would wait for a quarter of an hour.
    machine.sh("rm -f /var/lib/pf-agent-notify/mailed")
    machine.run(["systemctl", "start", "pf-agent-notify@digest.service"], check=False)
    mails = f"find {MAILS} -type f -exec cat '{{}}' +"
    eventually(lambda: "drift" in machine.sh(mails, check=False), "a mail", SETTLE_SECONDS)
    return machine.sh(mails)


def test_no_secret_is_let_out(site: Site) -> None:
    machine = site.machine
    since = site.cursor()
    found: dict[str, str] = {}
    machine.run(["postconf", "-P", f"{SERVICE}={secret(40)}"])
    known = MainCf.parse(site.good).parameters().keys()
    # What is planted and nobody desires is commented out, line by line.
    ignored = f'unmanaged = "comment_out"\nignore = {json.dumps(sorted(known))}\n'
    wish(site, WISHED, ignored)
    eventually(lambda: secret(35).encode() in site.read(), "the wish in main.cf")
    site.wait_settled()
    right = site.read()
    # Drift in every shape.
    drifted = right.replace(secret(35).encode(), secret(1).encode()) + PLANTED.encode()
    site.put(drifted)
    eventually(lambda: f"#{PLAIN[0]} = ".encode() in site.read(), "what was planted is taken out")
    site.wait_settled()
    assert len(site.drift_of(since)) > len(PLAIN)
    # Postfix refuses a wish and quotes it.
    wish(site, f'{WISHED}message_size_limit = "$w_token"\n', ignored)
    site.wait_for("config-rejected", since)
    eventually(lambda: bool(site.status().get("problems")), "the refusal in the status")
    found["refused"] = site.agent("status").stdout + records(site)
    # Postfix does not come up, and its log has what it complains of.
    site.forget_restarts()
    wish(site, f"{WISHED}{AT_HOME}", ignored)
    eventually(lambda: AT_HOME.replace('"', "").encode() in site.read(), "another address")
    site.wait_settled()
    site.forget_restarts()
    with site.port_taken("127.0.0.9"):
        wish(site, f'{WISHED}inet_interfaces = "127.0.0.1, 127.0.0.9"\n', ignored)
        site.wait_for("rolled-back", since)
        assert any(names.FIELD_LOG in each for each in site.records("rolled-back", since))
        eventually(lambda: bool(site.status().get("problems")), "the rejection in the status")
        found["rolled back"] = site.agent("status").stdout + site.agent("status", "--json").stdout
    site.forget_restarts()
    wish(site, f"{WISHED}{AT_HOME}", ignored)
    eventually(lambda: site.status().get("problems") == [], "nothing told as wrong")
    site.wait_settled()
    # Our own errors quote a line.
    machine.write_text(EXTRA, FAULTY)
    eventually(lambda: "expected" in str(site.status().get("problems")), "the faults")
    found["faulty"] = site.agent("status").stdout + machine.sh("pf-agent check 2>&1", check=False)
    wish(site, f"{WISHED}{AT_HOME}", ignored)
    for arguments in (
        f"x_pass={secret(39)}",
        f"--json x_pass={secret(39)} 2y",
        f"x_pass {secret(39)}",
    ):
        found[arguments[:6]] = machine.sh(f"pf-agent set {arguments} 2>&1", check=False)
    machine.run(["rm", "-f", "/etc/pf-agent/desired.d/50-local.toml"])
    found["mail"] = mailed(site)
    # And what is shown of a main.cf that is left as it is.
    machine.run(["pf-agent", "suspend"])
    site.put(drifted)
    eventually(lambda: "would change" in site.agent("status").stdout, "the drift that is left")
    found |= outputs(site)
    machine.run(["postconf", "-PX", SERVICE])
    for place in ("root: diff", "nobody: diff", "records", "signals", "mail"):
        assert "(hidden)" in found[place], place
    assert {"-relay_pass = (hidden)", "+#relay_pass = (hidden)"} <= set(
        found["nobody: diff"].split("\n")
    )
    assert leaks(found) == {}


def test_where_not_everybody_may_read_the_wish_nobody_is_told_a_value(site: Site) -> None:
    """Who may read the journal is told all the same."""
    machine = site.machine
    since = site.cursor()
    machine.sh(INTRUDE)
    site.wait_for("drift-corrected", since)
    site.wait_settled()
    eventually(lambda: "DriftDetected" in machine.read_text(HEARD), "the signal")
    assert "0.0.0.0/0" in machine.read_text(HEARD)
    site.forget_restarts()
    wish(site, 'relayhost = "[private.example.test]"\nmessage_size_limit = "1private"\n')
    machine.run(["chmod", "640", EXTRA])
    machine.run(["systemctl", "reload", "pf-agent"])
    eventually(lambda: "reason" in str(site.status().get("problems")), "a refusal")
    since = site.cursor()
    site.machine.run(
        ["sed", "-i", "s|^mynetworks *=.*|mynetworks = 192.0.2.77|", "/etc/postfix/main.cf"]
    )
    site.wait_for("drift-corrected", since)
    eventually(lambda: machine.read_text(HEARD).count("DriftCorrected") > 1, "its signal")
    found = outputs(site)
    for place in ("signals", "properties", "status.json", "STATUS=", "metrics"):
        assert "private" not in found[place], place
        assert "192.0.2.77" not in found[place], place
    for place in (place for place in found if place.startswith("nobody: ")):
        assert "private.example" not in found[place], place
    assert "192.0.2.77" in found["records"]
    assert "1private" in found["records"]
