"""A machine with pf-agent, installed and settled once, switched off: the disk of many machines.

Each of them has a layer of its own over it, as over the release's image.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.machine.image import cache_dir, remove
from tests.machine.nspawn import Machine
from tests.machine.site import Site

_UNUSED_SECONDS = 6 * 3600.0


def golden(release: str, base: Path, deb: Path) -> tuple[Path, ...]:
    """Return the layers of such a machine, the upper one first; made (10 s) when needed."""
    made_of = [base.name.encode(), deb.read_bytes(), *map(Path.read_bytes, _makers())]
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:12]
    layer = cache_dir() / "machines" / f"{release}-agent-{key}"
    with open(layer.with_suffix(".lock"), "w") as lock:  # which also dates it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not layer.is_dir():
            _remove_unused(layer.parent, release)
            _make(layer, base, deb)
    return layer, base


def _makers() -> Iterator[Path]:
    here = Path(__file__)
    return (here.with_name(name) for name in ("golden.py", "nspawn.py", "site.py"))


def _make(layer: Path, base: Path, deb: Path) -> None:
    partial = layer.with_suffix(".partial")
    remove(partial)
    with Machine(base) as machine:
        machine.serve_apt([deb])
        machine.apt_install("pf-agent")
        Site.prepared(machine).wait_remembered()
        machine.shutdown()
        # With the attributes by which overlayfs knows what was taken away.
        subprocess.run(["cp", "--archive", machine.upper, partial], check=True)
    partial.rename(layer)


def _remove_unused(folder: Path, release: str) -> None:
    """Those of other packages, which no run that goes on can have machines over."""
    for lock in folder.glob(f"{release}-agent-*.lock"):
        if time.time() - lock.stat().st_mtime > _UNUSED_SECONDS:
            remove(lock.with_suffix(""))
            lock.unlink()
