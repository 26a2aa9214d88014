"""Let one attack be under way on a settled machine, and see what holds."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pf_agent import names
from tests.machine.attacks.attack import NETWORK_ADDRESS, Attack, Attacked
from tests.machine.attacks.inside.ground import CANARY, HOME, SECRET
from tests.machine.attacks.promises import Stood, during
from tests.machine.nspawn import Machine, MachineError
from tests.machine.site import EXTRA, Site

_FOLDER = "/srv/attacks"
_SECONDS = 240
_BROKEN_OFF = (AssertionError, MachineError, OSError, subprocess.SubprocessError)
OPTIONS = '[metrics]\nlisten = "127.0.0.1:9825"\n'
_SETUP = f"""
useradd --create-home --uid 20815 mallory
chmod 755 {HOME}
runuser -u mallory -- sh -c 'cd; echo a@example.test root > table; echo root > list;
    echo m: root > aliases; postmap table; postalias aliases'
(umask 077; echo {SECRET} > {CANARY})
ip address add {NETWORK_ADDRESS}/32 dev lo
"""


@dataclass
class Trial:
    """How an attack went: what did not hold, by what was promised."""

    attack: Attack
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        told = "; ".join(f"{promise}: {why}" for promise, why in self.broken.items())
        return f"{self.attack} ({self.seconds:.0f} s){': ' if told else ''}{told}"


def prepare(machine: Machine) -> Site:
    """On a machine with pf-agent: the attacker's account, and all that he may wish to attack."""
    machine.write_text(f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}", OPTIONS)
    machine.run(["systemctl", "reload", "pf-agent"])
    site = Site.prepared(machine)
    site.wait_remembered()
    machine.sh(_SETUP)
    machine.copy_in([Path(__file__).with_name("inside")], _FOLDER)
    return site


def calm(site: Site) -> None:
    """Wait until the site is as it was before any attack."""
    site.machine.run(["rm", "-f", EXTRA])
    site.forget_restarts()
    site.end_contest()
    site.wait_right()
    site.wait_settled()


def try_out(site: Site, attack: Attack) -> Trial:
    """Return how the attack went. AssertionError where the site does not come to rest before it."""
    calm(site)
    trial, begun = Trial(attack), time.monotonic()
    with _broken(trial, "the machine is as the attack wants it"), attack.arranged(site):
        site.forget_restarts()
        stood = Stood.now(site)
        attacked = Attacked(site, stood.since)
        with _broken(trial, "the attack could be made"), _attacking(site, attack, trial):
            for promise, check in during(attack).items():
                _ask(trial, promise, partial(check, attacked))
            for check in attack.during:
                _ask(trial, _said_by(check), partial(check, attacked))
    for promise, held in stood.promises(attacked):
        _ask(trial, promise, held)
    for check in attack.after:
        _ask(trial, _said_by(check), partial(check, attacked))
    trial.seconds = time.monotonic() - begun
    return trial


def try_all(site: Site, attacks: Sequence[Attack]) -> Iterator[Trial]:
    """Yield how each of them went."""
    for attack in attacks:
        yield try_out(site, attack)


def _said_by(check: Callable[..., object]) -> str:
    return (check.__doc__ or "").strip().rstrip(".")


def _ask(trial: Trial, promise: str, held: Callable[[], None]) -> None:
    with _broken(trial, promise):
        held()


@contextmanager
def _broken(trial: Trial, promise: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN_OFF as error:
        trial.broken[promise] = str(error)[:2000]


@contextmanager
def _attacking(site: Site, attack: Attack, trial: Trial) -> Iterator[None]:
    """It is under way from the beginning to the end; what it won breaks a promise."""
    command = [*("runuser", "-u", attack.who.value, "--", "env", "-C", _FOLDER)]
    command += ["timeout", "--kill-after=5", str(_SECONDS), "python3", "-B", "-m", "inside"]
    with site.machine.start(
        [*command, attack.does],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stderr is not None
        try:
            begun = running.stdout.readline()
            assert begun == b"under way\n", f"{begun!r} {running.stderr.read().decode()}"
            yield
        finally:
            running.stdin.close()
            said = running.stdout.read()
            complaint = running.stderr.read().decode(errors="replace")
    assert running.returncode == 0, f"exit code {running.returncode}: {complaint}"
    won = json.loads(said)
    if won:
        trial.broken["the attacker gets nothing"] = "; ".join(won)
