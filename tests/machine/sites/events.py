"""What happens to a site: each event is what somebody does, and what must hold after each step.

A step is yielded once it was done; what follows happens when the agent has come to rest. At its
end an event leaves the site as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import replace

from pf_agent import names
from tests.machine.site import INTRUDE, MAIN_CF
from tests.machine.sites.kinds import INTERFACES, OWN, TAKEN
from tests.machine.sites.promises import Stage
from tests.machine.sites.standing import Snapshot, Standing, wait

Steps = Generator[Stage, None, None]
Event = Callable[[Standing], Steps]

_RELOAD = "systemctl reload postfix || postfix reload"
RIGHT = {"message_size_limit": "20480000"}


def _as_before(site: Standing, what: str = "") -> Stage:
    return Stage(site.before, what, failing=site.is_deaf)


def drift(site: Standing) -> Steps:
    """mynetworks is opened to all, and Postfix reloaded."""
    site.machine.sh(f"{INTRUDE}; {_RELOAD}")
    yield _as_before(site)


def right_wish(site: Standing) -> Steps:
    """A drop-in that Postfix can serve with, until it is removed."""
    site.wish(right=RIGHT)
    yield _as_before(site)
    site.unwish("right")
    yield _as_before(site, "removed")


def _wrong(site: Standing, name: str, setting: dict[str, str], masked: bool = False) -> Steps:
    """A drop-in that is rejected; where Postfix does not serve anyway, `masked` may stand."""
    site.wish(**{name: setting})
    outcomes = (frozenset({name}), frozenset[str]())
    stage = _as_before(site)
    yield replace(stage, rejected=outcomes if masked and site.is_deaf else outcomes[:1])
    yield from _removed(site, setting, name)


def _removed(site: Standing, settings: Iterable[str], *dropins: str) -> Steps:
    """Remove drop-ins. What one that stood was the first to name is nobody's from then on: where
    a wish may have stood, a hand undoes it.
    """
    site.unwish(*dropins)
    if not site.is_deaf:
        yield _as_before(site, "removed")
        return
    yield replace(_as_before(site, "removed"), free=frozenset(settings))
    before, now = (found[names.DEFAULT_INSTANCE] for found in (site.before.main_cf, site.main_cf()))
    for name in settings:
        if before.get(name) != now.get(name):
            edit = f"-e '{name}={before[name]}'" if name in before else f"-X {name}"
            site.machine.sh(f"postconf {edit}; {_RELOAD}")


def wrong_port(site: Standing) -> Steps:
    """An address is to be listened on whose port 25 another program holds."""
    listed = INTERFACES if "[::1]" in site.kind.settings else f"127.0.0.1, {OWN}"
    with site.site.port_taken(TAKEN):
        yield from _wrong(site, "port", {"inet_interfaces": f'"{listed}, {TAKEN}"'})


def wrong_folder(site: Standing) -> Steps:
    """master's folder is to be another user's."""
    site.machine.sh("install -d -o daemon -g daemon -m 700 /srv/data")
    yield from _wrong(site, "folder", {"data_directory": '"/srv/data"'})


def wrong_restriction(site: Standing) -> Steps:
    """A restriction whose table fails: each client gets 451 4.3.5."""
    yield from _wrong(site, "restriction", _FAILING, masked=True)


def wrong_milter(site: Standing) -> Steps:
    """A milter that is not there: each client gets 451 4.7.1."""
    yield from _wrong(site, "milter", {"smtpd_milters": '"inet:127.0.0.1:8899"'}, masked=True)


# What is misspelt or absent is refused beforehand; this table is there, and fails when it is asked.
_FAILING = {"smtpd_sender_restrictions": '"check_sender_access fail:down"'}


def two_wishes(site: Standing) -> Steps:
    """A right one and a wrong one at once: both go back, or the right one was served before."""
    site.wish(right=RIGHT, wrong=_FAILING)
    both, one = frozenset({"right", "wrong"}), frozenset({"wrong"})
    outcomes = (both, one, frozenset[str]()) if site.is_deaf else (both, one)
    yield replace(_as_before(site), rejected=outcomes)
    yield from _removed(site, _FAILING, "wrong")
    yield from _removed(site, (), "right")


def faulty_dropin(site: Standing) -> Steps:
    """A drop-in that is no TOML, and removed again."""
    path = site.dropin("faulty")
    site.machine.write_text(path, "[settings\n")
    wait(lambda: bool(site.status().get("problems")))
    site.machine.sh(f"{INTRUDE}")
    wait(lambda: "0.0.0.0/0" not in site.main_cf()[names.DEFAULT_INSTANCE]["mynetworks"])
    site.machine.run(["rm", path])
    yield _as_before(site)


def by_hand(site: Standing) -> Steps:
    """A parameter of nobody's is set by hand and reloaded; later a wish fails."""
    site.machine.sh(f"postconf -e smtpd_junk_command_limit=50; {_RELOAD}")
    before, site.before = site.before, replace(site.before, main_cf=site.main_cf())
    try:
        yield from _wrong(site, "restriction", _FAILING, masked=True)
        yield from drift(site)
    finally:
        site.before = before
        site.machine.sh(f"postconf -X smtpd_junk_command_limit; {_RELOAD}")


def late_milter(site: Standing) -> Steps:
    """A milter is added by hand and reloaded; it goes down, main.cf drifts, it comes back."""
    milters = site.main_cf()[names.DEFAULT_INSTANCE].get("smtpd_milters", "")
    more = f"{milters} inet:127.0.0.1:8892".strip()
    undo = f"postconf -e 'smtpd_milters={milters}'" if milters else "postconf -X smtpd_milters"
    before = site.before
    with site.server_late():
        site.machine.sh(f"postconf -e 'smtpd_milters={more}'; {_RELOAD}")
        site.before = replace(before, main_cf=site.main_cf())
        try:
            site.machine.run(["systemctl", "stop", "late"])
            site.machine.sh(INTRUDE)
            yield Stage(site.before, "the milter is down", answers=False, failing=True)
            site.machine.run(["systemctl", "start", "late"])
            yield _as_before(site, "the milter is back")
        finally:
            site.before = before
            site.machine.sh(f"{undo}; {_RELOAD}")


def foreign_fault(site: Standing) -> Steps:
    """With the drift comes a table that Postfix cannot open; then somebody takes it out."""
    line = "virtual_alias_maps = mysql:/x"
    site.machine.sh(f"printf 'mynetworks = 0.0.0.0/0\\n{line}\\n' >> {MAIN_CF}")
    free = frozenset({"virtual_alias_maps"})
    yield Stage(site.before, "with it", answers=False, failing=True, free=free)
    site.machine.sh(f"sed -i '\\|^{line}$|d' {MAIN_CF}")  # the agent restarts Postfix for it
    yield _as_before(site, "taken out")


def agent_restarted(site: Standing) -> Steps:
    """main.cf drifts while the agent is not there, Postfix is reloaded, and the agent comes."""
    site.machine.sh(f"systemctl stop pf-agent; {INTRUDE}; {_RELOAD}; systemctl start pf-agent")
    yield _as_before(site)


def agent_killed(site: Standing) -> Steps:
    """The agent is killed as it has just written down a wrong wish."""
    site.wish(restriction=_FAILING)
    (name,) = _FAILING
    wait(lambda: name in site.main_cf()[names.DEFAULT_INSTANCE])
    site.machine.run(["systemctl", "kill", "-s", "KILL", "pf-agent"])
    rejected = frozenset({"restriction"})
    outcomes = (rejected, frozenset[str]()) if site.is_deaf else (rejected,)
    yield replace(_as_before(site), rejected=outcomes)
    yield from _removed(site, _FAILING, "restriction")


def rebooted(site: Standing) -> Steps:
    """The power is cut right after a drift."""
    site.machine.sh(f"{INTRUDE}; sync")
    site.machine.kill()
    site.machine.boot()
    yield _as_before(site)


def dependency(site: Standing) -> Steps:
    """What Postfix asks goes away, main.cf drifts meanwhile, and it comes back; the other way
    round where it is away.
    """
    at_rest = site.kind.away or site.kind.never
    if at_rest:
        site.servers("start")
        stage = Stage(site.whole, "back", answers=not site.kind.never)
        yield stage
    site.servers("stop")
    site.machine.sh(_RELOAD)  # an smtpd that has asked before may serve on with what it heard
    gone = Snapshot(site.main_cf(), site.answers())
    site.machine.sh(INTRUDE)
    yield Stage(gone, "away", failing=True)
    if not at_rest:
        site.servers("start")
        yield _as_before(site, "back")


def upgraded(site: Standing) -> Steps:
    """Postfix is unpacked and configured again, as unattended-upgrades does it."""
    site.machine.install_kept("postfix")
    yield _as_before(site)


EVENTS: dict[str, Event] = {
    "drift": drift,
    "right-wish": right_wish,
    "wrong-port": wrong_port,
    "wrong-folder": wrong_folder,
    "wrong-restriction": wrong_restriction,
    "wrong-milter": wrong_milter,
    "two-wishes": two_wishes,
    "faulty-dropin": faulty_dropin,
    "by-hand": by_hand,
    "late-milter": late_milter,
    "foreign-fault": foreign_fault,
    "agent-restarted": agent_restarted,
    "agent-killed": agent_killed,
    "rebooted": rebooted,
    "dependency": dependency,
    "upgraded": upgraded,
}

# Where Postfix never served, no wish can be told from what fails anyway.
_NEEDS_SERVICE = {"wrong-port", "wrong-folder", "by-hand"}


def applies(event: str, site: Standing) -> bool:
    """Whether the event means anything at this site."""
    if event == "dependency":
        return bool(site.kind.servers)
    never_served = site.kind.never and site.is_deaf
    return not (never_served and event in _NEEDS_SERVICE)
