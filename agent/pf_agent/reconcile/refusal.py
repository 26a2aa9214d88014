"""Why a judged text must not be installed, and what asked for the fault in it: pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pf_agent.maincf.document import MainCf
from pf_agent.maincf.mentions import mentioned
from pf_agent.model import DesiredState, Fault, Judgement, Reference

_SUBJECT: Final = re.compile(r"(\w+): (.+)", re.DOTALL)
_LINE: Final = re.compile(r"main\.cf, line (\d+): (.+)", re.DOTALL)
_MAIN: Final = "main.cf: "
_MASTER: Final = "master.cf: "
_NOTHING: Final = Judgement()


@dataclass(frozen=True)
class Refusal:
    """The reason, in Postfix's words if Postfix refuses it.

    `parameter` is the one whose value is to blame, "" if only the words tell. `is_ours`: Postfix
    would start, and refuse or defer mail.
    """

    why: str
    parameter: str = ""
    is_ours: bool = False

    @property
    def who(self) -> str:
        """Return the program that refuses it."""
        return "pf-agent" if self.is_ours else "Postfix"

    @property
    def said(self) -> str:
        """Return the reason, with the parameter's name."""
        named = not self.parameter or self.parameter in _words(self.why)
        return self.why if named else f"{self.parameter}: {self.why}"


@dataclass(frozen=True)
class Stands:
    """main.cf as it is on disk, and as it was judged: used to find where something is said."""

    path: str = ""
    text: bytes = b""
    judged: bytes = b""
    lines: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, text: bytes, judged: bytes) -> Stands:
        """Return it for a main.cf with this text, which would become `judged`."""
        logical = MainCf.parse(text).logical_lines
        lines = {each.parameter.name: each.line for each in logical if each.parameter}
        return cls(path, text, judged, lines)

    def place(self, number: int) -> str:
        """Return where a line of the judged text is."""
        line = (self.judged.split(b"\n")[number - 1 : number] or [b""])[0]
        rows = enumerate(self.text.split(b"\n"), 1)
        found = [row for row, each in rows if each == line and each.strip()]
        nearest = min(found, key=lambda row: abs(row - number), default=0)
        return f"{self.path}:{nearest}" if nearest else f"{self.path} (as it would become):{number}"

    def parameter_at(self, number: int) -> str:
        """Return the parameter that is set on a line of the judged text, "" for none."""
        logical = MainCf.parse(self.judged).logical_lines
        found = (each.parameter for each in logical if number - 1 in each.rows)
        return next((parameter.name for parameter in found if parameter), "")

    @property
    def folder(self) -> str:
        """Return the directory, with a trailing slash."""
        return self.path[: self.path.rfind("/") + 1]


def refusal(
    desired: DesiredState,
    judgement: Judgement,
    new: Collection[str] = (),
    standing: Judgement = _NOTHING,
) -> Refusal | None:
    """Return why the judged text must not be installed; None if it may be.

    A value that only one daemon will refuse counts only if the desired state asks for it: a fault
    of the user's own must not leave other drift, perhaps an open relay, in place. An absent thing
    counts only if a parameter in `new` names it, which is newly asked for and does not run yet: a
    table that disappears must not veto the rest. Nor does what was also said of the text that runs
    now, `standing`.
    """
    if judgement.fatal and judgement.fatal != standing.fatal:
        return _of_fatal(judgement)
    for fault in judgement.faults:
        if fault not in standing.faults and _is_asked_for(desired, fault):
            return Refusal(fault.reason, fault.parameter)
    for absent in judgement.absent:
        blamed = _blamed(new, absent)
        if blamed and absent not in standing.absent:
            why = absent.why if blamed == absent.parameter else absence_sentence(absent)
            return Refusal(why, blamed, is_ours=True)
    return None


def _of_fatal(judgement: Judgement) -> Refusal:
    """Return the refusal for a fatal message, which may name a file but not the parameter.

    `postmap: fatal: /etc/mailname: cannot open file` (read_file() in global/mail_params.c).
    """
    for absent in judgement.absent:
        path = absent.place
        if path.startswith("/") and mentioned(judgement.fatal, {path: path}):
            return Refusal(absent.why, absent.parameter)
    return Refusal(judgement.fatal)


def warnings(
    desired: DesiredState,
    judgement: Judgement,
    new: Collection[str] = (),
    standing: Judgement = _NOTHING,
) -> tuple[str, ...]:
    """Return what to report about the judged text although it may be installed."""
    others = (f for f in judgement.faults if f in standing.faults or not _is_asked_for(desired, f))
    absent = (a for a in judgement.absent if a in standing.absent or not _blamed(new, a))
    fatal = [judgement.fatal] if judgement.fatal and judgement.fatal == standing.fatal else []
    told = (*map(_fault_sentence, others), *map(absence_sentence, absent))
    return (*fatal, *judgement.warnings, *told)


def runs_already(judgement: Judgement) -> Judgement:
    """Return what in the judgement of the running text is no reason to refuse another one.

    A fatal message still is: the next restart would leave Postfix down.
    """
    return replace(judgement, fatal="", warnings=())


def absence_sentence(absent: Reference) -> str:
    """Return which absent thing a value names, with the parameter, and an -o option's service."""
    where = f"master.cf: {absent.service}: " if absent.service else ""
    return f"{where}{absent.parameter}: {absent.why}"


def _blamed(new: Collection[str], absent: Reference) -> str:
    """Return the parameter in `new` that names the absent thing, "" for none.

    What master.cf asks for is not a wish, unless it uses a wished parameter.
    """
    if absent.parameter in new and not absent.service:
        return absent.parameter
    return next((word for word in _words(_fact(absent.why)) if word in new), "")


def _fault_sentence(fault: Fault) -> str:
    return Refusal(fault.reason, fault.parameter).said


def _is_asked_for(desired: DesiredState, fault: Fault) -> bool:
    """Two parameters may contradict each other: setting either one counts as asking for it."""
    return not desired.settings.keys().isdisjoint(_words(f"{fault.parameter} {fault.reason}"))


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9_]+", text)


def _fact(said: str) -> str:
    """Return the fact without the remedy, which names other parameters ("did you mean")."""
    return said.partition(";")[0]


# --- with places ---------------------------------------------------------------------------------


def refusal_sentence(desired: DesiredState, refused: Refusal, stands: Stands | None = None) -> str:
    """Return what refuses it and why, and which line of which file asked for it."""
    place, name, why = _placed(desired, refused, stands or Stands())
    way_out = f"until then {desired.document or 'main.cf'} stays as it is"
    if not refused.is_ours:  # what is absent says itself what to do
        way_out = f"fix it, {way_out}"
    return _joined(place, name, f"{refused.who} refuses it: {why}; {way_out}")


def told(desired: DesiredState, said: str, stands: Stands | None = None) -> str:
    """Return Postfix's message with the place and the parameter it is about, each only once."""
    return _joined(*_placed(desired, Refusal(said), stands or Stands()))


def _joined(*parts: str) -> str:
    return ": ".join(filter(None, parts))


def _placed(desired: DesiredState, refused: Refusal, stands: Stands) -> tuple[str, str, str]:
    """Return the place, the parameter set there, and the message without either."""
    said, name = refused.why, refused.parameter
    if line := _LINE.fullmatch(said):
        return _of_line(desired, int(line[1]), line[2], stands)
    if said.startswith(_MASTER) and not name:
        return f"{stands.folder}{_MASTER}".rstrip(": "), "", said[len(_MASTER) :]
    whole = stands.path or "main.cf" if said.startswith(_MAIN) else ""
    said = said[len(_MAIN) :] if whole else said
    subject = _SUBJECT.fullmatch(said)
    if subject and (subject[1] == name or _place_of(desired, subject[1], stands)):
        name, said = subject[1], subject[2]
    elif (not subject or "_" not in subject[1]) and name not in desired.parameters():
        name = _named(desired, said, stands) or name
    return _place_of(desired, name, stands) or whole, name, said


def _of_line(desired: DesiredState, number: int, said: str, stands: Stands) -> tuple[str, str, str]:
    """Report a line of main.cf as that, unless the desired state put it there."""
    name = stands.parameter_at(number)
    if name in desired.settings:
        return _place_of(desired, name, stands), name, said
    return (stands.place(number) if stands.path else f"main.cf, line {number}"), "", said


def _named(desired: DesiredState, said: str, stands: Stands) -> str:
    """Return the parameter mentioned, by name or by what its value names; "" for none."""
    fact = _words(_fact(said))
    for known in (desired.settings, stands.lines):
        found = next((word for word in fact if word in known), "")
        if found:
            return found
    return min(mentioned(_fact(said), desired.settings), default="")


def _place_of(desired: DesiredState, name: str, stands: Stands) -> str:
    if name in desired.parameters():
        return str(desired.provenance.get(name, ""))
    return f"{stands.path}:{stands.lines[name]}" if name in stands.lines else ""
