"""Who may order what over D-Bus or with pkexec, as the real polkit asks and remembers it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from pf_agent import names
from pf_agent.bus.agent1 import NAME, PATH
from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine
from tests.machine.site import LOCAL, Site, eventually

PASSWORD = "correct horse"
POLICY = (CHECKOUT / "units" / "org.pfagent.policy").read_text(encoding="utf-8")

# Makes calls by one connection, with polkit's own agent for terminals beside it: one JSON list of
# the answers, "" for a call that was done. `notify-fd` is closed once the agent is known to polkit.
CALLS = f"""
import json, os, subprocess, sys
from gi.repository import Gio, GLib
reader, writer = os.pipe()
agent = subprocess.Popen(
    ["pkttyagent", "--process", str(os.getpid()), "--notify-fd", str(writer)], pass_fds=[writer])
os.close(writer)
os.read(reader, 1)
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
answers = []
for name, *arguments in json.loads(sys.argv[1]):
    given = GLib.Variant("(ts)", arguments) if arguments else None
    try:
        bus.call_sync("{NAME}", "{PATH}", "{NAME}", name, given, None,
            Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, 60_000, None)
        answers.append("")
    except GLib.Error as error:
        answers.append(error.message)
agent.terminate()
agent.wait()
print("answers", json.dumps(answers))
"""

# Runs CALLS as a user on a terminal, and types a password at each prompt: once the echo is off,
# since what was typed before is thrown away then.
TYPE = """
import os, pty, sys, termios, time
password, user, calls, script = sys.argv[1:]
child, terminal = pty.fork()
if not child:
    command = ["runuser", "-u", user, "--", "python3", "-c", script, calls]
    os.execvp(command[0], command)
said, typed = b"", 0
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:  # EIO: the other end is closed
        break
    if not data:
        break
    said += data
    while said.count(b"Password: ") > typed:
        typed += 1
        while termios.tcgetattr(terminal)[3] & termios.ECHO:
            time.sleep(0.01)
        os.write(terminal, password.encode() + b"\\n")
os.waitpid(child, 0)
sys.stdout.buffer.write(said)
"""

# Makes five calls at once, says the first answer, and stays until its input ends. It is its own
# agent, one that asks nobody: pkttyagent takes only one question at a time.
HOLD = f"""
import os, sys
from gi.repository import Gio, GLib
POLKIT = "org.freedesktop.PolicyKit1"
node = Gio.DBusNodeInfo.new_for_xml('''<node>
    <interface name="org.freedesktop.PolicyKit1.AuthenticationAgent">
    <method name="BeginAuthentication">
    <arg direction="in" type="s"/><arg direction="in" type="s"/><arg direction="in" type="s"/>
    <arg direction="in" type="a{{ss}}"/><arg direction="in" type="s"/>
    <arg direction="in" type="a(sa{{sv}})"/>
    </method></interface></node>''')
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
asked = []
bus.register_object("/agent", node.interfaces[0], lambda *call: asked.append(call), None, None)
started = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
me = {{"pid": GLib.Variant("u", os.getpid()), "start-time": GLib.Variant("t", started),
    "uid": GLib.Variant("i", os.getuid())}}
bus.call_sync(POLKIT, "/org/freedesktop/PolicyKit1/Authority", POLKIT + ".Authority",
    "RegisterAuthenticationAgent",
    GLib.Variant("((sa{{sv}})ss)", (("unix-process", me), "C", "/agent")), None, 0, 60_000, None)
loop = GLib.MainLoop()
def answered(bus, result):
    try:
        bus.call_finish(result)
    except GLib.Error as error:
        print(Gio.dbus_error_get_remote_error(error), flush=True)
    loop.quit()
for _ in range(5):
    bus.call("{NAME}", "{PATH}", "{NAME}", "Reconcile", None, None,
        Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, 600_000, None, answered)
loop.run()
sys.stdin.read()
"""

# Lets anna run any program as root with pkexec(1), without a password; nobody else.
PKEXEC_RULE = """
polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.policykit.exec" && subject.user == "anna") {
        return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
"""
PKEXEC_RULE_FILE = "/etc/polkit-1/rules.d/50-pkexec.rules"


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    """anna is an administrator, bob is not."""
    site = Site.prepared(agent_machine)
    agent_machine.install_kept("polkit")
    agent_machine.sh("useradd --create-home --groups sudo anna; useradd --create-home bob")
    agent_machine.run(["chpasswd"], input=f"anna:{PASSWORD}\nbob:{PASSWORD}\n")
    return site


def typed(site: Site, user: str, password: str, *calls: list[Any]) -> tuple[list[str], str]:
    """The answer to each call, and what stood on the terminal."""
    said = site.run_python(TYPE, password, user, json.dumps(calls), CALLS, timeout=120)
    screen, _, answers = said.rpartition("answers ")
    found: list[str] = json.loads(answers)
    return found, screen


def busctl(site: Site, user: str, *arguments: str) -> tuple[int, str]:
    command = ["runuser", "-u", user, "--", "busctl", *arguments]
    done = site.machine.run(command, check=False)
    return done.returncode, done.stdout + done.stderr


def test_root_is_not_asked(site: Site) -> None:
    assert busctl(site, "root", "call", NAME, PATH, NAME, "Reconcile") == (0, "")


def test_everybody_may_look(site: Site) -> None:
    found = busctl(site, "bob", "get-property", NAME, PATH, NAME, "InSync")
    assert found == (0, "b true\n")


@pytest.mark.parametrize("user", ["anna", "bob"])
def test_without_somebody_to_ask_it_is_refused(site: Site, user: str) -> None:
    code, said = busctl(site, user, "call", NAME, PATH, NAME, "Suspend", "ts", "60", "x")
    assert code == 1
    assert f"({user}) must authenticate for this; no polkit agent is running" in said
    assert busctl(site, user, "get-property", NAME, PATH, NAME, "Suspended") == (
        0,
        "b false\n",
    )


@pytest.mark.parametrize("method", ["Reconcile", "Resume"])
def test_a_program_that_asks_nobody_is_told_what_lacks(site: Site, method: str) -> None:
    send = ["dbus-send", "--system", "--print-reply", f"--dest={NAME}", PATH, f"{NAME}.{method}"]
    done = site.machine.run(["runuser", "-u", "anna", "--", *send], check=False)
    assert done.returncode == 1
    assert "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired: " in done.stderr
    assert "allow interactive authorization, or call as root" in done.stderr


def test_an_administrator_gives_a_password_and_it_is_kept(site: Site) -> None:
    answers, screen = typed(site, "anna", PASSWORD, ["Reconcile"], ["Reconcile"])
    assert answers == ["", ""]
    assert screen.count("Password: ") == 1
    assert "have pf-agent look at Postfix's main.cf now." in screen
    assert "have pf-agent look at Postfix's main.cf now." in POLICY
    # For the program that called, says docs/monitoring.md.
    assert typed(site, "anna", PASSWORD, ["Reconcile"])[1].count("Password: ") == 1


def test_one_password_is_not_for_every_action(site: Site) -> None:
    since = site.cursor()
    answers, screen = typed(site, "anna", PASSWORD, ["Suspend", 0, "a test"], ["Resume"])
    assert answers == ["", ""]
    assert screen.count("Password: ") == 2
    eventually(lambda: bool(site.records("resumed", since)), "a record of the end")
    (record,) = site.records("suspended", since)
    assert "(anna)" in record["MESSAGE"]
    assert "a test" in record["MESSAGE"]


def test_a_wrong_password_is_refused(site: Site) -> None:
    since = site.cursor()
    (answer,), _ = typed(site, "anna", "wrong", ["Suspend", 0, "a test"])
    assert "org.pfagent.suspend: polkit does not authorize uid " in answer
    assert answer.endswith("(anna), or the password was wrong; call as root")
    assert site.records("suspended", since) == []


def test_who_is_no_administrator_needs_the_password_of_one(site: Site) -> None:
    site.machine.run(["chpasswd"], input="bob:his own\n")
    (refused,), screen = typed(site, "bob", "his own", ["Reconcile"])
    assert "org.pfagent.reconcile" in refused
    assert "Authenticating as: anna" in screen
    assert typed(site, "bob", PASSWORD, ["Reconcile"])[0] == [""]


def test_a_rule_lets_a_group_do_without_a_password(site: Site) -> None:
    site.machine.sh("groupadd deploy && useradd --groups deploy dora")
    rule = "/usr/share/doc/pf-agent/examples/50-pf-agent.rules"
    site.machine.run(["cp", rule, "/etc/polkit-1/rules.d"])
    call = ("call", NAME, PATH, NAME)
    eventually(lambda: busctl(site, "dora", *call, "Reconcile") == (0, ""), "the rule is read")
    assert busctl(site, "dora", *call, "Resume")[0] == 1
    assert busctl(site, "bob", *call, "Reconcile")[0] == 1


def test_who_becomes_root_with_pkexec_is_named_in_the_record(site: Site) -> None:
    order = ["pkexec", "pf-agent", "set", "message_size_limit=4711000"]
    anna, bob = (["runuser", "-u", user, "--", *order] for user in ("anna", "bob"))
    since = site.cursor()
    site.machine.write_text(PKEXEC_RULE_FILE, PKEXEC_RULE)
    # The user polkitd reads it, and not as fast as it is written.
    eventually(lambda: site.machine.run(anna, check=False).returncode == 0, "the rule is read")
    try:
        site.wait_for("set", since)
        (record,) = site.records("set", since)
        assert record[names.FIELD_BY] == "anna"
        assert record["MESSAGE"].endswith(" by anna")
        assert site.machine.run(bob, check=False).returncode == 127, "bob is refused"
        assert len(site.records("set", since)) == 1
    finally:
        site.machine.run(["rm", "-f", PKEXEC_RULE_FILE, LOCAL])


def test_nobody_keeps_the_others_out_with_passwords_never_typed(site: Site) -> None:
    command = ["runuser", "-u", "bob", "--", "timeout", "120", "python3", "-c", HOLD]
    with site.machine.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bob:
        assert bob.stdout is not None
        said = bob.stdout.readline()
        answers, _ = typed(site, "anna", PASSWORD, ["Reconcile"])
        bob.communicate(b"", timeout=60)
    assert said == b"org.freedesktop.DBus.Error.LimitsExceeded\n"
    assert answers == [""]
