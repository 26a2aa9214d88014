"""Every command in README.md and docs/ is run, in its order, and ends as its page says.

One machine for all pages; each page begins with the configuration as it was installed. Between
two commands the agent gets what a reader gives it: the time to end what it has at hand.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.documents import RUN, Block, blocks, commands, documents
from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF, SETTLE_SECONDS, Site

pytestmark = pytest.mark.long

SHIPPED = "/root/pf-agent.shipped"
# The agent sees a file within milliseconds of its being saved; a reader takes longer to go on.
# Where a page sets a window, the restart waits for that, and nobody else does.
IS_QUIET = (
    "sleep 0.5; test ! -e /var/lib/pf-agent/pending.json"
    f" || grep -q '^window' {names.CONFIG_DIRECTORY}/{names.AGENT_TOML}"
)
_COMMAND_SECONDS = 120.0

# What a page takes for granted.
BEFORE = {
    # A server in use, with values of its own.
    "docs/adopting.md": (
        f"echo 'mode = \"observe\"' > {names.CONFIG_DIRECTORY}/{names.AGENT_TOML}",
        'until pf-agent status --json | grep -q \'"phase": "observing"\'; do sleep 0.1; done',
        "postconf -e 'mynetworks = 192.0.2.0/24' 'message_size_limit = 20480000'"
        " 'smtpd_helo_required = yes'",
    ),
}


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    site.machine.run(["cp", "-a", names.CONFIG_DIRECTORY, SHIPPED])
    return site


@pytest.fixture
def fresh(site: Site) -> Site:
    """With the configuration as it was before the first page, and main.cf at the good text."""
    site.machine.run(["systemctl", "stop", "pf-agent"])
    site.machine.sh(f"rm -rf {names.CONFIG_DIRECTORY} && cp -a {SHIPPED} {names.CONFIG_DIRECTORY}")
    site.put(site.good)
    site.forget_restarts()
    site.machine.run(["systemctl", "restart", names.POSTFIX_UNIT])
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_settled()
    return site


def is_written(machine: Machine, block: Block) -> bool:
    if block.path:
        machine.write_text(block.path, block.text)
    return bool(block.path)


def failures(machine: Machine, path: str) -> Iterator[str]:
    """Do as the page says; yield what ended in another way than it says."""
    for block in blocks(path):
        if is_written(machine, block) or block.kind != RUN:
            continue
        for command in commands(block):
            machine.wait_until(IS_QUIET, SETTLE_SECONDS)
            done = machine.run(["sh", "-c", command.text], check=False, timeout=_COMMAND_SECONDS)
            if done.returncode != command.code:
                said = f"{done.stdout[-500:]}{done.stderr[-500:]}"
                yield f"{path}:{block.line}: {command.text}: {done.returncode}: {said}"


def has_work(path: str) -> bool:
    return any(block.kind == RUN or block.path for block in blocks(path))


@pytest.mark.parametrize("path", [path for path in documents() if has_work(path)])
def test_every_command_ends_as_its_page_says(fresh: Site, path: str) -> None:
    for command in BEFORE.get(path, ()):
        fresh.machine.sh(command)
    assert list(failures(fresh.machine, path)) == []


def test_after_the_last_page_main_cf_is_still_there(site: Site) -> None:
    assert site.machine.run(["which", "pf-agent"], check=False).returncode
    assert b"mynetworks = " in site.machine.read_bytes(MAIN_CF)
    assert site.serves()
