"""axe-core, which knows what in a page keeps people out: WCAG's rules, tried in the browser."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import zipfile
from typing import Any

from tests.machine.cockpit.chromium import Chromium
from tests.machine.image import cache_dir

# The wheel that carries axe-core 4.12.1; the rest of it is not used.
_WHEEL = "axe-playwright-python==0.1.8"
_SCRIPT = "axe_playwright_python/axe.min.js"

_RUN = """
const done = arguments[arguments.length - 1];
axe.run(arguments[0], { resultTypes: ["violations"] }).then(
    found => done(found.violations.map(v => [v.id, v.nodes.map(n => [n.html, n.failureSummary])])),
    error => done([["axe", [["", String(error)]]]]));
"""


def violations(chromium: Chromium, within: str = "html") -> list[str]:
    """What axe-core finds in an element of the page as it stands: a line for each, none where all
    is well."""
    if not chromium.script("return typeof axe === 'object'"):
        chromium.script(_axe_core())
    found: list[Any] = chromium.asynchronous(_RUN, within)
    return [f"{rule}: {html}: {why}" for rule, nodes in found for html, why in nodes]


def _axe_core() -> str:
    """Its text, fetched once."""
    folder = cache_dir() / "axe"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wheels = [*folder.glob(f"{_WHEEL.replace('-', '_').replace('==', '-')}-*.whl")]
        if not wheels:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq"]
            subprocess.run([*pip, "--no-deps", "--dest", str(folder), _WHEEL], check=True)
            wheels = [*folder.glob("*.whl")]
    with zipfile.ZipFile(wheels[0]) as wheel:
        return wheel.read(_SCRIPT).decode()
