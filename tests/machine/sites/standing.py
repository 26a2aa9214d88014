"""A site that stands: booted, Postfix set up as its administrator left it, pf-agent in charge.

What main.cf must say is computed here from the files of desired state, and whom Postfix serves is
asked of Postfix.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pf_agent import names
from pf_agent.config import desired
from pf_agent.config.table import Source
from pf_agent.maincf.document import MainCf
from pf_agent.model import DesiredState
from tests.machine.nspawn import Machine
from tests.machine.site import INTRUDE, Site, eventually
from tests.machine.sites import clients, kinds, servers
from tests.machine.sites.kinds import Kind

_DROPINS = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}"
_MOST_ASKED = 5
_PROGRAMS = "/usr/local/lib/sites"

_UNIT = """[Unit]
Before=postfix.service postfix@-.service
After=addresses.service
[Service]
Type=notify
ExecStart=/usr/bin/python3 {programs}/servers.py {command}
Restart=always
[Install]
WantedBy=multi-user.target
"""
_ADDRESSES = f"""[Unit]
Before=postfix.service postfix@-.service network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip link set lo up
ExecStart=/usr/sbin/ip address replace {kinds.OWN}/32 dev lo
ExecStart=/usr/sbin/ip address replace {kinds.STRANGER}/32 dev lo
ExecStart=/usr/sbin/ip address replace {kinds.TAKEN}/32 dev lo
ExecStart=/usr/sbin/ip address replace {kinds.SECOND}/32 dev lo
[Install]
WantedBy=multi-user.target
"""
_BASE = f'[settings]\nmyhostname = "mail.{kinds.DOMAIN}"\nmydomain = "{kinds.DOMAIN}"\n'

Parameters = Mapping[str, str]


@dataclass(frozen=True)
class Snapshot:
    """What main.cf of each instance says, and what each client was answered."""

    main_cf: Mapping[str, Parameters]
    answers: Mapping[str, list[str]]


class Standing:
    """The site. `wait_for_rest` waits until pf-agent, new in charge, has nothing left to do."""

    def __init__(
        self, machine: Machine, kind: Kind, wait_for_rest: Callable[[Standing], None]
    ) -> None:
        self.machine, self.kind, self._wait_for_rest = machine, kind, wait_for_rest
        self._prepare()
        machine.sh(kind.setup)
        if not kind.never:
            self.servers("enable --now")
        machine.run(["systemctl", "restart", names.POSTFIX_UNIT])
        self._second = self._start_second()
        self.site = Site(machine, b"", "")
        self._take_over()
        self.site.unit = self.site.unit_of_master()
        self._good = {folder: self._text(folder) for folder in self._folders().values()}
        self.whole = self.snapshot()
        if kind.away:
            self.servers("disable --now")
        self.before = self.snapshot() if kind.away else self.whole
        # Whether Postfix at rest takes no mail on port 25, since nobody answers what it asks.
        own = kind.clients["loopback"]
        self.is_deaf = not own.has_relayed(self.before.answers["loopback"])

    def _prepare(self) -> None:
        machine = self.machine
        machine.install_postfix("Internet Site")
        machine.copy_in([Path(servers.__file__), Path(clients.__file__)], _PROGRAMS)
        machine.write_text("/etc/aliases", "postmaster: root\nroot: joe\n")
        units = {"addresses": _ADDRESSES, "late": self._unit("milter 8892")}
        units |= {name: self._unit(command) for name, command in self.kind.servers.items()}
        for name, text in units.items():
            machine.write_text(f"/etc/systemd/system/{name}.service", text)
        machine.sh(
            "useradd -m -u 1000 joe && postconf -e 'home_mailbox = Maildir/' && newaliases"
            " && systemctl daemon-reload && systemctl enable --now addresses"
        )

    @staticmethod
    def _unit(command: str) -> str:
        return _UNIT.format(programs=_PROGRAMS, command=command)

    def _start_second(self) -> str:
        """Start the other instance of Postfix; its name in desired state."""
        if not self.kind.instance:
            return ""
        # Debian 12's unit has the name after the "@", Debian 13's the folder's without "postfix-".
        short = self.kind.instance.removeprefix("postfix-")
        old = self.machine.run(["systemctl", "cat", "postfix@-.service"], check=False)
        name = short if old.returncode else self.kind.instance
        self.machine.run(["systemctl", "enable", "--now", f"postfix@{name}.service"], check=False)
        self.machine.run(["systemctl", "start", f"postfix@{name}.service"])
        return name

    def _take_over(self) -> None:
        """Install pf-agent, write down what is desired, and have it enforced."""
        options = f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}"
        self.machine.apt_install("pf-agent")
        self.machine.write_text(f"{_DROPINS}/50-site.toml", f"{_BASE}{self.kind.settings}")
        if self._second:
            text = f"[instances.{self._second}.settings]\n{self.kind.desired}"
            self.machine.write_text(f"{_DROPINS}/60-second.toml", text)
        self.machine.sh(
            f"sed -i '/^mode *=/d' {options} && sed -i '1i mode = \"enforce\"' {options}"
        )
        self.machine.run(["systemctl", "restart", "pf-agent"])
        self._wait_for_rest(self)

    def repair(self) -> None:
        """Bring back what a broken promise has left: as after the agent's first day here."""
        self.machine.run(["systemctl", "stop", "pf-agent"])
        self.machine.sh(
            f"rm -f {self.dropin('*')}; find {names.STATE_DIRECTORY} -mindepth 1 -delete"
        )
        self.site.forget_restarts()
        for folder, text in self._good.items():
            self.machine.write_bytes(f"{folder}/main.cf", text)
        self.servers("stop" if self.kind.never else "start")
        self.machine.run(["systemctl", "restart", names.POSTFIX_UNIT])
        if self._second:
            self.machine.run(["systemctl", "restart", f"postfix@{self._second}.service"])
        self.machine.sh(f"systemctl start pf-agent && {INTRUDE}")
        self._wait_for_rest(self)
        if self.kind.away:
            self.servers("stop")

    # What an event does

    def servers(self, verb: str) -> None:
        """Use systemctl's verb on all the servers that Postfix asks here."""
        for name in self.kind.servers:
            self.machine.run(["systemctl", *verb.split(), f"{name}.service"])

    def wish(self, **settings: Mapping[str, str]) -> None:
        """Write drop-ins by name, all of them at one instant; a setting is TOML."""
        folder = f"{_DROPINS}/."
        moves = []
        for name, wanted in settings.items():
            lines = "".join(f"{key} = {value}\n" for key, value in wanted.items())
            self.machine.write_text(f"{folder}{name}.new", f"[settings]\n{lines}")
            moves.append(f"os.rename('{folder}{name}.new', '{self.dropin(name)}')")
        self.site.run_python("import os\n" + "\n".join(moves))

    def unwish(self, *dropins: str) -> None:
        """Remove drop-ins of `wish`."""
        self.machine.run(["rm", "-f", *map(self.dropin, dropins)])

    @staticmethod
    def dropin(name: str) -> str:
        return f"{_DROPINS}/80-{name}.toml"

    @contextmanager
    def server_late(self) -> Iterator[None]:
        """A filter that Postfix has not asked until now."""
        self.machine.run(["systemctl", "start", "late"])
        try:
            yield
        finally:
            self.machine.run(["systemctl", "stop", "late"])

    # What is found

    def files(self, path: str) -> Path:
        return self.machine.files / path.lstrip("/")

    def main_cf(self) -> dict[str, dict[str, str]]:
        """What main.cf of each instance says."""
        found = {}
        for instance, folder in self._folders().items():
            found[instance] = MainCf.parse(self._text(folder)).parameters()
        return found

    def _text(self, folder: str) -> bytes:
        return self.files(f"{folder}/main.cf").read_bytes()

    def _folders(self) -> dict[str, str]:
        folders = {names.DEFAULT_INSTANCE: "/etc/postfix"}
        if self._second:
            folders[self._second] = f"/etc/{self.kind.instance}"
        return folders

    def answers(self) -> dict[str, list[str]]:
        """Ask as each client."""
        asked = clients.told(self.kind.clients)
        command = ["python3", f"{_PROGRAMS}/clients.py"]
        done = self.machine.run(command, input=asked, timeout=120)
        found: dict[str, list[str]] = json.loads(done.stdout)
        return found

    def snapshot(self) -> Snapshot:
        """What is found now, and twice in a row: the agent may just restart Postfix."""
        answers = self.answers()
        for _ in range(_MOST_ASKED):
            time.sleep(1)
            before, answers = answers, self.answers()
            if answers == before:
                break
        return Snapshot(self.main_cf(), answers)

    def status(self) -> dict[str, Any]:
        """What the agent last told, an empty one where it does not run."""
        with suppress(OSError, ValueError):
            text = self.files(f"{names.RUN_DIRECTORY}/status.json").read_bytes()
            found: dict[str, Any] = json.loads(text)
            if self.files(f"/proc/{found['pid']}").exists():
                return found
        return {}

    def in_force(self, rejected: Iterable[str]) -> dict[str, DesiredState]:
        """The desired state by instance, without what is rejected."""
        left_out = {self.dropin(name) for name in rejected}
        dropins = sorted(path.name for path in self.files(_DROPINS).glob("[!.]*.toml"))
        paths = [f"{names.CONFIG_DIRECTORY}/{names.DESIRED_TOML}"]
        paths += [f"{_DROPINS}/{name}" for name in dropins]
        sources = [
            Source(path, self.files(path).read_bytes()) for path in paths if path not in left_out
        ]
        return desired.by_instance(desired.load(sources))

    def nothing_is_pending(self) -> bool:
        return not list(self.files(names.STATE_DIRECTORY).glob("**/pending.json"))


def wait(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Give something the time to happen that need not."""
    with suppress(AssertionError):
        eventually(holds, "", seconds)
