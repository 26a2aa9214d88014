"""A machine with pf-agent, installed, settled and switched off: the base disk of many machines.

Each of them has a layer of its own over it, as over the release's image. Over that lies a second
one with Cockpit, its page and the people who log in, for the few machines that are asked for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.machine.image import cache_dir, remove
from tests.machine.nspawn import Machine
from tests.machine.people import PASSWORD, PEOPLE
from tests.machine.site import Site

_UNUSED_SECONDS = 6 * 3600.0


def golden(release: str, base: Path, deb: Path) -> tuple[Path, ...]:
    """Return the layers of such a machine, the upper one first; made (10 s) when needed."""
    return _over((base,), f"{release}-agent", deb, _install_agent)


def with_cockpit(release: str, layers: tuple[Path, ...], deb: Path) -> tuple[Path, ...]:
    """Return these layers with Cockpit's over them; `deb` is the package of the page."""
    return _over(layers, f"{release}-cockpit", deb, _install_cockpit)


def _install_agent(machine: Machine, deb: Path) -> None:
    machine.serve_apt([deb])
    machine.apt_install("pf-agent")
    Site.prepared(machine).wait_remembered()


def _install_cockpit(machine: Machine, deb: Path) -> None:
    machine.install_kept("cockpit")
    machine.serve_apt([deb])
    machine.apt_install("cockpit-pf-agent")
    for name, group in PEOPLE.items():
        groups = ["--groups", group] if group else []
        machine.run(["useradd", "--create-home", "--shell=/bin/bash", *groups, name])
    machine.run(["chpasswd"], input="".join(f"{name}:{PASSWORD}\n" for name in PEOPLE))
    Site.prepared(machine).wait_remembered()


def _over(
    layers: tuple[Path, ...], name: str, deb: Path, install: Callable[[Machine, Path], None]
) -> tuple[Path, ...]:
    made_of = [*(layer.name.encode() for layer in layers), deb.read_bytes()]
    made_of += map(Path.read_bytes, _makers())
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:12]
    layer = cache_dir() / "machines" / f"{name}-{key}"
    with open(layer.with_suffix(".lock"), "w") as lock:  # which also dates it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not layer.is_dir():
            _remove_unused(layer.parent, name)
            _make(layer, layers, lambda machine: install(machine, deb))
    return layer, *layers


def _makers() -> Iterator[Path]:
    here = Path(__file__)
    return (here.with_name(name) for name in ("golden.py", "nspawn.py", "site.py"))


def _make(layer: Path, below: tuple[Path, ...], install: Callable[[Machine], None]) -> None:
    partial = layer.with_suffix(".partial")
    remove(partial)
    with Machine(*below) as machine:
        install(machine)
        machine.shutdown()
        # With the attributes by which overlayfs marks what was removed.
        subprocess.run(["cp", "--archive", machine.upper, partial], check=True)
    partial.rename(layer)


def _remove_unused(folder: Path, name: str) -> None:
    """Remove those of other packages, unless a run in progress uses them."""
    for lock in folder.glob(f"{name}-*.lock"):
        if time.time() - lock.stat().st_mtime > _UNUSED_SECONDS:
            remove(lock.with_suffix(""))
            lock.unlink()
