"""The promises: what must hold at a site once pf-agent has come to rest, whatever happened to it.

Of what pf-agent says only its phase and its problems are believed, and only that they be right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pf_agent import names
from pf_agent.config import desired
from pf_agent.config.table import Source
from tests.machine.sites.standing import Snapshot, Standing

SETTLE_SECONDS = 90.0
_STALLED_SECONDS = 8.0
_HOLD_SECONDS = 1.5

PROMISES = {
    "main.cf": "main.cf says what is desired",
    "unmanaged": "what nobody changed is not touched",
    "serves": "Postfix serves whom it served",
    "sync": "the agent is in sync, or says why not",
    "relay": "an open relay never stands",
}
Broken = dict[str, str]


@dataclass(frozen=True)
class Stage:
    """What must hold after a step of an event.

    `before` is what nobody may have changed; without `answers`, whom Postfix serves is not asked.
    `rejected` are the drop-ins that are not in force, one set for each outcome that is right.
    `failing`: the agent may say that Postfix does not serve. `free` are parameters that may stand
    or not.
    """

    before: Snapshot
    what: str = ""
    answers: bool = True
    rejected: tuple[frozenset[str], ...] = (frozenset(),)
    failing: bool = False
    free: frozenset[str] = frozenset()


def take_over(site: Standing) -> None:
    """Wait until main.cf is as desired, and Postfix runs with it. Raises AssertionError."""
    stage = Stage(Snapshot(site.main_cf(), {}), failing=site.kind.never)
    deadline = time.monotonic() + SETTLE_SECONDS
    while fault := _main_cf_fault(site, frozenset()) or _sync_fault(site, stage, frozenset()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not taken over within {SETTLE_SECONDS:g} s: {fault}")
        time.sleep(0.2)


def settle(site: Standing, stage: Stage, seconds: float = SETTLE_SECONDS) -> Broken:
    """Wait until all promises hold, and still hold a little later; return those that do not."""
    begin = time.monotonic()
    stalled, closed, held = begin, False, False
    while True:
        broken = quick_faults(site, stage, at_work=held)
        now, right = time.monotonic(), _mynetworks_are_right(site)
        if closed and not right:
            return {"relay": "mynetworks was right, and is wrong again", **broken}
        closed = closed or right
        if site.status().get("phase") != "stalled":
            stalled = now
        if not broken and not (broken := _served_faults(site, stage)):
            if held:
                return {}
            held = True
            time.sleep(_HOLD_SECONDS)
            continue
        held = False
        if now > begin + seconds or now > stalled + _STALLED_SECONDS:
            return broken
        time.sleep(0.2)


def quick_faults(site: Standing, stage: Stage, at_work: bool = False) -> Broken:
    """All promises that need no question to Postfix, by the best of the right outcomes.

    `at_work`: where it may say that Postfix fails, it may also be about to try again.
    """

    def found(rejected: frozenset[str]) -> Broken:
        faults = {
            "main.cf": _main_cf_fault(site, rejected),
            "unmanaged": _unmanaged_fault(site, stage, rejected),
            "sync": _sync_fault(site, stage, rejected, at_work),
        }
        return {promise: fault for promise, fault in faults.items() if fault}

    return min(map(found, stage.rejected), key=len)


def _main_cf_fault(site: Standing, rejected: frozenset[str]) -> str:
    found, wrong = site.main_cf(), []
    for instance, state in site.in_force(rejected).items():
        stands = found[instance]
        for name, value in state.settings.items():
            if stands.get(name) != value:
                wrong.append(f"{name} is {stands.get(name)!r}, must be {value!r}")
        wrong += [f"{name} stands" for name in state.use_default & stands.keys()]
    return "; ".join(wrong)


def _unmanaged_fault(site: Standing, stage: Stage, rejected: frozenset[str]) -> str:
    found, changed = site.main_cf(), []
    for instance, state in site.in_force(rejected).items():
        before, after = stage.before.main_cf[instance], found[instance]
        unmanaged = (before.keys() | after.keys()) - state.settings.keys() - state.use_default
        for name in sorted(unmanaged - stage.free):
            if before.get(name) != after.get(name):
                changed.append(f"{name} was {before.get(name)!r}, is {after.get(name)!r}")
    return "; ".join(changed)


def _sync_fault(
    site: Standing, stage: Stage, rejected: frozenset[str], at_work: bool = False
) -> str:
    status = site.status()
    if not status:
        return "the agent does not run"
    allowed = {"in-sync"}
    if stage.failing:
        allowed |= {"failing", "activating"} if at_work else {"failing"}
    told = [status, *status.get("instances", {}).values()]
    phases = [found.get("phase") for found in told]
    if not set(phases) <= allowed:
        return f"{phases}: {status.get('summary')}"
    if not stage.failing and not (status.get("in_sync") and site.nothing_is_pending()):
        return f"not in sync: {status.get('summary')}"
    problems = " ".join(status.get("problems", []))
    unnamed = [name for name in rejected if not _is_named(site, name, problems)]
    if unnamed or (problems and not rejected):
        return f"problems are {problems!r}, must name {sorted(rejected)}"
    return ""


def _is_named(site: Standing, dropin: str, problems: str) -> bool:
    path = site.dropin(dropin)
    named = desired.load([Source(path, site.files(path).read_bytes())]).settings
    return path in problems or any(name in problems for name in named)


def _served_faults(site: Standing, stage: Stage) -> Broken:
    found, broken = site.answers(), {}
    asked = site.kind.clients
    if stage.answers:
        others = [
            f"{name}: {' '.join(stage.before.answers[name])} before, now {' '.join(codes)}"
            for name, codes in found.items()
            if codes != stage.before.answers[name]
        ]
        if others:
            broken["serves"] = "; ".join(others)
    relayed = [name for name in site.kind.refused if asked[name].has_relayed(found[name])]
    if relayed or not _mynetworks_are_right(site):
        broken["relay"] = f"relayed for {relayed}, with mynetworks as in main.cf"
    if not stage.failing and frozenset() in stage.rejected:
        shown = site.machine.run([names.PROGRAM, "status"], check=False)
        if shown.returncode:
            broken["sync"] = f"status ends with {shown.returncode}: {shown.stdout}{shown.stderr}"
    return broken


def _mynetworks_are_right(site: Standing) -> bool:
    wanted = site.in_force(())[names.DEFAULT_INSTANCE].settings["mynetworks"]
    return site.main_cf()[names.DEFAULT_INSTANCE].get("mynetworks") == wanted
