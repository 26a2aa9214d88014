"""Why a judged text must not be installed, and what in the desired state asks for it: pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from pf_agent.model import DesiredState, Fault, Judgement, Reference


def refusal(desired: DesiredState, judgement: Judgement, new: Collection[str] = ()) -> str:
    """Return why the judged text must not be installed, in Postfix's words; "" where it may be.

    A value that one daemon alone will refuse counts only where the desired state asks for it.
    Somebody's own fault in it is no reason to leave other drift, an open relay perhaps, standing.
    Something absent counts only where a parameter of `new` names it: what is newly asked for, and
    does not run yet. A table that goes must not give anybody a veto over the rest.
    """
    asked_for = (f for f in judgement.faults if _is_asked_for(desired, f))
    newly = (a for a in judgement.absent if _is_new(new, a))
    told = (*map(_fault_sentence, asked_for), *map(absence_sentence, newly))
    return judgement.fatal or next(iter(told), "")


def warnings(
    desired: DesiredState, judgement: Judgement, new: Collection[str] = ()
) -> tuple[str, ...]:
    """Return what is to be told of the judged text though it may be installed; `new` as above."""
    others = (f for f in judgement.faults if not _is_asked_for(desired, f))
    absent = (a for a in judgement.absent if not _is_new(new, a))
    return (*judgement.warnings, *map(_fault_sentence, others), *map(absence_sentence, absent))


def absence_sentence(absent: Reference) -> str:
    """Return what a value names and is not there, with the parameter, and the service of an -o."""
    where = f"master.cf: {absent.service}: " if absent.service else ""
    return f"{where}{absent.parameter}: {absent.why}"


def _is_new(new: Collection[str], absent: Reference) -> bool:
    """What master.cf asks for is nobody's wish, unless a wished parameter is at fault there."""
    if absent.parameter in new and not absent.service:
        return True
    return not set(new).isdisjoint(_words(absent.why))


def _fault_sentence(fault: Fault) -> str:
    named = fault.parameter in _words(fault.reason)
    return fault.reason if named else f"{fault.parameter}: {fault.reason}"


def _is_asked_for(desired: DesiredState, fault: Fault) -> bool:
    """Two parameters may contradict each other: setting one of them is asking for it."""
    return not desired.settings.keys().isdisjoint(_words(f"{fault.parameter} {fault.reason}"))


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9_]+", text)


def refusal_sentence(desired: DesiredState, refused: str) -> str:
    """What Postfix refuses in its own words, and which line of which TOML file asked for it."""
    return (
        f"{blamed_place(desired, refused)}Postfix refuses it: {refused};"
        " mend it, main.cf stays as it is until then"
    )


def blamed_place(desired: DesiredState, said: str) -> str:
    """Return `file:line: parameter: ` of the setting that Postfix speaks of, "" if of none."""
    blamed = [name for name in _words(said) if name in desired.settings]
    return "".join(f"{desired.provenance.get(name, '')}: {name}: " for name in blamed[:1])
