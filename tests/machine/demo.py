"""The demonstration behind tools/demo: a machine, an intruder, and pf-agent that heals it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.checkout import CHECKOUT
from tests.machine.image import ImageError, image
from tests.machine.nspawn import Machine, MachineError
from tests.machine.people import PASSWORD

GUIDE = "mynetworks = 127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64"
INTRUDER = "sed -i 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0 [::]/0|' /etc/postfix/main.cf"
SHOW_LINE = "grep -n '^mynetworks' /etc/postfix/main.cf"
IS_HEALED = f"grep -qxF '{GUIDE}' /etc/postfix/main.cf && pf-agent diff"
IS_ACTIVATED = "journalctl -q -o cat PF_AGENT_EVENT=activated | grep -q ."
GREETING = """
import socket
with socket.create_connection(("127.0.0.1", 25), timeout=20) as port:
    print(port.recv(200).decode().strip())
"""
FIELDS = "MESSAGE,PF_AGENT_EVENT,PF_AGENT_PARAMETER,PF_AGENT_EXPECTED,PF_AGENT_ACTUAL,PF_AGENT_LINE"
# Who may try the page, in a machine that nobody else reaches and that ends with the demonstration.
USER = "anna"
PROXY = "/lib/systemd/systemd-socket-proxyd"
# A socket is inherited as sd_listen_fds(3) says, into the machine's network.
INHERIT = 'LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$@" 3<&0 < /dev/null'
# tools/demo passes how long it has been at work already.
BEGAN = time.monotonic() - float(sys.argv[1] if len(sys.argv) > 1 else 0)


def say(text: str) -> None:
    print(f"\n[{time.monotonic() - BEGAN:4.0f} s] {text}", flush=True)


def host_release() -> str:
    """Return this host's own Debian release if machines of it are known to work, or bookworm."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line in ("VERSION_CODENAME=bookworm", "VERSION_CODENAME=trixie"):
            return line.partition("=")[2]
    return "bookworm"


def prepare(release: str) -> tuple[Path, Path]:
    """Return the .deb and the image; both are built at once, one on each core."""
    quick = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck", "DEB_BUILD_PROFILES": "nocheck"}
    build = subprocess.Popen(
        [CHECKOUT / "tools" / "deb"], env=quick, stdout=subprocess.PIPE, text=True
    )
    root = image(release)
    printed, _ = build.communicate()
    if build.returncode:
        raise MachineError("the package could not be built; see above")
    return Path(printed.strip()), root


def show(machine: Machine, script: str) -> None:
    print(f"mail# {script}", flush=True)
    print(machine.sh(f"{script} 2>&1", check=False).rstrip(), flush=True)


def install(machine: Machine, deb: Path) -> None:
    machine.serve_apt([deb, deb.with_name(f"cockpit-{deb.name}")])
    progress = machine.apt_install("pf-agent").splitlines()
    print("\n".join(line for line in progress if "Reading database" not in line), flush=True)
    say("the agent makes main.cf from Postfix's template and starts Postfix")
    machine.wait_until(f"{IS_HEALED} && {IS_ACTIVATED}", timeout=60)
    show(machine, "systemctl status --no-pager pf-agent")
    show(machine, SHOW_LINE)


def heal(machine: Machine) -> None:
    say("an intruder opens the relay to the whole world")
    activated = len(machine.journal("PF_AGENT_EVENT=activated"))
    show(machine, INTRUDER)
    machine.wait_until(IS_HEALED)
    show(machine, "grep -H '^mynetworks' /var/lib/pf-agent/displaced/*")
    say("main.cf is healed; now until Postfix was seen to run with it")
    machine.wait_until(
        f"test $(journalctl -q -o cat PF_AGENT_EVENT=activated | wc -l) -gt {activated}", timeout=60
    )
    show(machine, SHOW_LINE)
    show(machine, "systemctl status --no-pager --lines=0 pf-agent")
    show(machine, "journalctl --no-pager -q -u pf-agent -n 20")
    show(
        machine,
        f"journalctl --no-pager -q -o verbose --output-fields={FIELDS} "
        "PF_AGENT_PARAMETER=mynetworks PF_AGENT_EVENT=drift-detected -n 1",
    )
    greeting = machine.run(["python3", "-c", GREETING]).stdout.strip()
    print(f"port 25 greets: {greeting}")
    if not greeting.startswith("220 ") or not greeting.endswith(" ESMTP"):
        raise MachineError("port 25 does not greet as the guide says")


@contextmanager
def on_loopback(machine: Machine, port: int) -> Iterator[int]:
    """A port of this host's loopback that leads to one of the machine's, which has no other way."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        enter = ["nsenter", f"--target={machine.leader}", "--net"]
        command = ["sh", "-c", INHERIT, "sh", *enter, PROXY, f"127.0.0.1:{port}"]
        with subprocess.Popen(command, stdin=listening.fileno()) as proxy:
            try:
                yield listening.getsockname()[1]
            finally:
                proxy.terminate()


def show_page(machine: Machine) -> None:
    say("Cockpit and the page, and somebody who may do all by sudo")
    machine.install_kept("cockpit")
    machine.apt_install("cockpit-pf-agent")
    machine.run(["useradd", "--create-home", "--shell=/bin/bash", "--groups=sudo,adm", USER])
    machine.run(["chpasswd"], input=f"{USER}:{PASSWORD}\n")
    with on_loopback(machine, 9090) as port:
        say(f"http://127.0.0.1:{port}/pf-agent    user: {USER}    password: {PASSWORD}")
        print(
            'Switch to "Administrative access" to give orders. In Cockpit\'s terminal, this opens\n'
            f"the relay again, and the page shows what becomes of it:\n  sudo {INTRUDER}"
        )
        input("Enter ends the machine. ")


def main() -> int:
    """Return 0 if the machine repaired itself, 1 if it did not."""
    release = host_release()
    try:
        say(f"building the package, and a Debian {release} with systemd and Postfix")
        deb, root = prepare(release)
        say("booting the machine: Postfix is installed, there is no main.cf")
        with Machine(root) as machine:
            try:
                say(f"apt install pf-agent, from a local repository with {deb.name}")
                install(machine, deb)
                heal(machine)
                if "--page" in sys.argv[2:]:
                    show_page(machine)
            except MachineError:
                show(machine, "journalctl --no-pager -n 40")
                raise
        say("healed; the machine is gone")
    except (ImageError, MachineError, subprocess.TimeoutExpired) as error:
        say(f"NOT healed: {error}")
        return 1
    except (KeyboardInterrupt, EOFError):
        say("stopped; the machine is gone")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
