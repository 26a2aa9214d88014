"""Changes of master.cf files: that Postfix reads what was set, and all else as before."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from pf_agent import names
from pf_agent.maincf.document import decoded, encoded
from pf_agent.maincf.entry_text import EntryText, Meaning, arguments_of, meaning_of, written
from pf_agent.maincf.master_cf import Entry
from pf_agent.maincf.service import Service, read
from pf_agent.maincf.service_edit import ServiceEdit
from pf_agent.maincf.service_parts import (
    ENABLED,
    NO_OPTIONS,
    ServiceParts,
    is_nameable,
    same,
    taken_apart,
)
from pf_agent.model import DesiredState, DocumentKind, Parameter
from pf_agent.reconcile.drift import corrected
from tests.conformance.expect import Difference, Disagreement, expect, expect_equal
from tests.conformance.master_corpus import FILES
from tests.conformance.service_strategies import texts
from tests.conformance.services import chunks, is_misread
from tests.conformance.strategies import Recipe
from tests.conformance.truth import Services, Truth

_NEW = ("submission/inet", "new/unix", "2525/inet", "127.0.0.1:10026/inet")
_FIELDS = {
    "private": ("y", "n", "-"),
    "unprivileged": ("y", "n", "-"),
    "chroot": ("y", "n", "-"),
    "wakeup": ("0", "60", "1000?", "-"),
    "process_limit": ("0", "1", "100", "-"),
    names.SERVICE_COMMAND: ("smtpd", "pipe", "postscreen"),
    names.SERVICE_ARGUMENTS: ("", "-v", "flags=R user=nobody argv=/bin/x {a b}", "#x y"),
}
_OPTIONS = (
    *("a", "b", "smtpd_sasl_auth_enable", "smtpd_tls_security_level", "syslog_name", "c", "x"),
    *("smtpd_banner", "smtpd_relay_restrictions", "myorigin"),
)
_VALUES = (
    *("", "yes", "encrypt", "a b", "permit_sasl_authenticated, reject", "${a?{x}:{y}}", "#x"),
    *("$myhostname", "a=b", "= 1", "x\ty", "-o y=z", "ä", "{ a b }", "}", "10"),
)
_CHANGE_BYTES = 8


class Change(NamedTuple):
    """A part, and the value that it gets; None if it must not be there."""

    name: str
    value: str | None


class Edited(NamedTuple):
    """A master.cf, and what is changed in it."""

    text: bytes
    change: Change


def changes(text: bytes, is_safe: bool = False) -> st.SearchStrategy[Change]:
    """Changes of the services of a text and of new ones; `is_safe`: that no text can prevent."""
    document = ServiceParts.parse(text)
    commented = [e.found.service for e in document.master_cf.commented]
    off = [s.full_name for s in commented if s is not None and is_nameable(s.name)]
    here = [*document.live, *document.live, *off] or list(_NEW)
    if is_safe:
        here = [name for name in here if not takes_in_all(document, name)] or list(_NEW)
    new = here if is_safe else _NEW
    drawn = st.binary(min_size=_CHANGE_BYTES, max_size=_CHANGE_BYTES)
    return drawn.map(lambda found: _change(Recipe(found), here, new))


def takes_in_all(document: ServiceParts, full_name: str) -> bool:
    """Whether the command has a brace that is not closed: what comes after it is a part of it."""
    command = document.get(f"{full_name}/{names.SERVICE_COMMAND}")
    return command is not None and command.value.count("{") > command.value.count("}")


def _change(recipe: Recipe, here: Sequence[str], new: Sequence[str]) -> Change:
    """Of ten changes one is of a new service, two are of the service itself, three of a field."""
    kind = recipe.of(range(10))
    full_name = recipe.of(new if kind == 9 else here)
    if kind in (7, 8):
        return Change(full_name, recipe.of((ENABLED, None)))
    if kind in (4, 5, 6):
        field, values = recipe.of(list(_FIELDS.items()))
        return Change(f"{full_name}/{field}", recipe.of(values))
    return Change(f"{full_name}/{recipe.of(_OPTIONS)}", recipe.of((*_VALUES, None)))


def changed(text: bytes, change: Change) -> bytes:
    """Return the text after the change."""
    document = ServiceParts.parse(text)
    edit = ServiceEdit(document)
    if change.value is not None:
        edit.set(change.name, change.value)
    else:
        for place in document.occurrences(change.name):
            edit.comment_out(place)
    return edit.result().render()


def others(document: ServiceParts, full_name: str) -> list[tuple[int, str, Meaning]]:
    """What Postfix reads of all services but one."""
    found = document.master_cf.services
    return [
        (number, service.full_name, meaning_of(service))
        for number, service in enumerate(s for s in found if s.full_name != full_name)
    ]


def edits() -> st.SearchStrategy[Edited]:
    """Files, generated ones and those of the corpus, each with a change."""
    corpus = st.sampled_from([path.read_bytes() for path in FILES])
    return (texts().filter(lambda text: bool(ServiceParts.parse(text).live)) | corpus).flatmap(
        lambda text: changes(text).map(lambda change: Edited(text, change))
    )


def check_edit(truth: Truth, edited: Edited) -> Counter[str]:
    """Return what was seen of what kind. Raises Disagreement."""
    text, change = edited
    after = _corrected(text, change)
    try:
        now = truth.services(after)
        expect(now.parameters is not None, "postconf refuses it", change, now.entries.log)
        return _says_just_that(edited, truth.services(text), after, now)
    except Difference as difference:
        words = f"{difference}\nthe change: {change}\nwhat came of it: {after!r}"
        raise Disagreement(words, text) from None


def _corrected(text: bytes, change: Change) -> bytes:
    name, value = change
    full_name, _ = taken_apart(name)
    settings = {} if value is None else {full_name: ENABLED, name: value}
    use_default = frozenset([name] if value is None else [])
    desired = DesiredState(settings, use_default, kind=DocumentKind.MASTER_CF)
    return corrected(ServiceParts.parse(text), desired).render()


def _says_just_that(edited: Edited, before: Services, after: bytes, now: Services) -> Counter[str]:
    """Postfix reads the change, and all else as before."""
    text, (name, value) = edited
    full_name, part = taken_apart(name)
    has = _printed(now)
    mine = [meaning for printed, meaning in has if printed == full_name]
    if before.parameters is None:
        return Counter({"files that postconf refused before": 1})
    if _is_misread(text):
        return Counter({"files that postconf itself misreads": 1})
    had = _printed(before)
    expect_equal("the others", _without(has, full_name), _without(had, full_name))
    if _is_misread(after) and full_name not in ServiceParts.parse(text).live:
        return Counter({"enabled services that postconf itself misreads": 1})
    expect(not _is_misread(after), "postconf misreads it now")
    _options_are(edited, before, now)
    if any(map(_is_broken, ServiceParts.parse(text).live.get(full_name, ()))):
        return Counter({"services with a remark": 1})
    was = [meaning for printed, meaning in had if printed == full_name]
    expect_equal("the entries above it", mine[:-1], was[:-1] if value or part else [])
    if not part:
        expect_equal("it is there", bool(mine), value is not None)
        return Counter({f"services {'disabled' if value is None else 'enabled'}": 1})
    if not was:
        says = [_value(meaning, part) for meaning in mine]
        expect_equal("a new one", bool(mine), value is not None)
        expect(value is None or same(name, value, says[-1] or ""), "what it says", says)
        return Counter({"services that were not there": 1})
    wanted = _meaning(was[-1], part, value)
    stood = _value(was[-1], part)
    is_same = None not in (stood, value) and same(name, stood or "", value or "")
    expect(mine[-1] == wanted or (is_same and mine == was), "not the change", mine[-1], wanted)
    return Counter({"options" if part not in NO_OPTIONS else "fields": 1, "edits": 1})


def _is_broken(entry: Entry) -> bool:
    """Whether what postconf prints of it is another service, or its program takes in the rest.

    It prints nothing for an argument `{}`.
    """
    service = entry.found.service
    assert service is not None
    return bool(entry.found.remarks) or "{" in service.command or "" in service.arguments


def _printed(found: Services) -> list[tuple[str, Meaning]]:
    """What `postconf -Mf` printed of each service, in order."""
    services = [read(decoded(chunk), 1).service for chunk in chunks(found.entries)]
    return [(service.full_name, meaning_of(service)) for service in services if service]


def _without(found: list[tuple[str, Meaning]], full_name: str) -> list[tuple[str, Meaning]]:
    return [each for each in found if each[0] != full_name]


def _value(meaning: Meaning, part: str) -> str | None:
    return EntryText(written(meaning)).value(part)


def _meaning(was: Meaning, part: str, value: str | None) -> Meaning:
    fields, options, arguments = was
    if part == names.SERVICE_ARGUMENTS:
        return Meaning(fields, options, arguments_of(value or ""))
    if part in NO_OPTIONS:
        number = Service._fields.index(part)
        return Meaning((*fields[:number], value or "-", *fields[number + 1 :]), options, arguments)
    options = {name: found for name, found in options.items() if name != part}
    return Meaning(fields, options if value is None else {**options, part: value}, arguments)


def _options_are(edited: Edited, before: Services, now: Services) -> None:
    """`postconf -P`: what was set, and nothing else."""
    text, (name, value) = edited
    full_name, part = taken_apart(name)
    document = ServiceParts.parse(text)
    whole = encoded(f"{full_name}/")
    assert before.parameters is not None
    assert now.parameters is not None
    had, has = list(before.parameters.output), list(now.parameters.output)
    # Those of one name share their options there.
    if not part or document.entry(full_name) is None or len(document.live[full_name]) > 1:
        had, has = ([x for x in lines if not x.startswith(whole)] for lines in (had, has))
        expect_equal("the options of others", has, had)
        return
    if part in NO_OPTIONS:
        expect_equal("the options", has, had)
        return
    mine = encoded(f"{name} =")
    said = [line for line in has if line.startswith(mine)]
    others_had, others_has = (
        sorted(x for x in lines if not x.startswith(mine)) for lines in (had, has)
    )
    expect_equal("the other options", others_has, others_had)
    if value is None:
        expect_equal("the option", said, [])
    elif value != (document.get(name) or Parameter("", "", 0)).value:
        shown = re.sub(rb"[ \t\r\n]+", b" ", encoded(f"{name} = {value}")).strip(b" ")
        was = [line for line in had if line.startswith(mine)]
        expect(said in ([shown], was), "the option", said, shown)


def _is_misread(text: bytes) -> bool:
    document = ServiceParts.parse(text).master_cf
    return any(is_misread(document, entry) for entry in document.entries if entry.found.service)
