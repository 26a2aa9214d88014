"""Why a judged text must not be installed, and what in the desired state asks for it: pure."""

from __future__ import annotations

import re

from pf_agent.model import DesiredState, Fault, Judgement


def refusal(desired: DesiredState, judgement: Judgement) -> str:
    """Return why the judged text must not be installed, in Postfix's words; "" where it may be.

    A value that one daemon alone will refuse counts only where the desired state asks for it.
    Somebody's own fault in it is no reason to leave other drift, an open relay perhaps, standing.
    """
    asked_for = (f for f in judgement.faults if _is_asked_for(desired, f))
    return judgement.fatal or next(map(_fault_sentence, asked_for), "")


def warnings(desired: DesiredState, judgement: Judgement) -> tuple[str, ...]:
    """Return what is to be told of the judged text though it may be installed."""
    others = (f for f in judgement.faults if not _is_asked_for(desired, f))
    return (*judgement.warnings, *map(_fault_sentence, others))


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
