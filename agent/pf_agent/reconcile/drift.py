"""How a document differs from the desired state, and the corrected text: both pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from pf_agent.maincf.document import ATTRIBUTES
from pf_agent.maincf.grammar import Document, grammar_of
from pf_agent.model import (
    ActualState,
    Attributes,
    DesiredState,
    DocumentKind,
    Drift,
    DriftKind,
    FileKind,
    Unmanaged,
)

# A thousand times Postfix's own main.cf. More would only cost memory, 600 bytes a line, and time.
MOST_LINES = 250_000


def is_too_long(text: bytes | None) -> bool:
    """Tell whether a text has too many lines to be worth parsing."""
    return text is not None and text.count(b"\n") > MOST_LINES


def taken_apart(kind: DocumentKind, text: bytes | None) -> Document:
    """Return the parsed text; an empty document if it is too long."""
    return grammar_of(kind).parse(b"" if text is None or is_too_long(text) else text)


def damage(
    text: bytes | None,
    desired: DesiredState,
    last_good: bytes | None,
    document: Document | None = None,
) -> str:
    """Say how main.cf was destroyed; "" if it was not, or was only edited.

    `document` is the result of `taken_apart` for the text, if the caller has it.

    A destroyed file is rebuilt from the last good text (or the template), never from nothing:
    without the settings that the desired state does not name, Postfix may start and never greet.
    """
    if text is None:
        return "there is no such file"
    if is_too_long(text):
        return f"it has more than {MOST_LINES} lines"
    document = document or taken_apart(desired.kind, text)
    if not document.logical_lines:
        return "it contains no settings"
    if last_good is None or len(text) >= len(last_good) or not last_good.startswith(text):
        return ""
    # It is the beginning of the former text. The last lines may have been deleted on purpose, so it
    # only counts as truncated if it ends within a line, or if one of our parameters is gone too.
    before, now = grammar_of(desired.kind).parse(last_good).parameters(), document.parameters()
    within_a_line = now != before and not text.endswith(b"\n")
    if within_a_line or (before.keys() - now.keys()) & desired.settings.keys():
        return f"it was truncated after {len(text)} bytes"
    return ""


def find_drift(
    desired: DesiredState,
    actual: ActualState,
    damaged: str = "",
    restorable: bool = False,
    attributes: Attributes | None = ATTRIBUTES,
    document: Document | None = None,
) -> tuple[Drift, ...]:
    """Return every difference between `actual` and `desired`, in the order of the file.

    `damaged` is the result of `damage`, `restorable` whether there is a last good text.
    `attributes` are the owner and mode that the file must have, None for any.
    `document` is the result of `taken_apart` for the text, if the caller has it.
    """
    drift: list[Drift] = []
    if damaged:
        first = "the template" if desired.template or not desired.document else "a new file"
        source = "the last good text" if restorable else first
        drift.append(Drift("", DriftKind.ABSENT_FILE, source, damaged))
    if attributes is not None and actual.kind is not FileKind.ABSENT:
        drift.extend(_attribute_drift(actual, attributes))
    document = document or taken_apart(desired.kind, actual.text)
    if document.logical_lines or not damaged:
        drift.extend(_text_drift(desired, document))
    return placed(desired, drift)


def placed(desired: DesiredState, drift: Iterable[Drift]) -> tuple[Drift, ...]:
    """Say of each difference in which document it is, and whether it may be shown."""
    if not desired.document:
        return tuple(drift)
    name, is_secret = desired.document, desired.is_secret
    return tuple(
        replace(each, document=name, is_secret=is_secret and bool(each.parameter)) for each in drift
    )


def _attribute_drift(actual: ActualState, attributes: Attributes) -> list[Drift]:
    has = Attributes(actual.owner, actual.group, actual.mode)
    found = [(FileKind.REGULAR.value, actual.kind.value), (str(attributes), str(has))]
    return [Drift("", DriftKind.MODE, want, have) for want, have in found if want != have]


def _text_drift(desired: DesiredState, document: Document) -> list[Drift]:
    drift = [
        Drift("", DriftKind.UNREADABLE, None, document.text_of(bad), bad.line)
        for bad in document.unreadable()
    ]
    for name in desired.settings:
        drift.extend(_setting_drift(desired, document, name))
    for name in desired.use_default:
        found = document.get(name)
        if found is not None:
            drift.append(Drift(name, DriftKind.UNWANTED, None, found.value, found.line))
    if desired.unmanaged is Unmanaged.COMMENT_OUT:
        drift.extend(_unmanaged_drift(desired, document))
    return sorted(drift, key=_place)


def unmanaged_drift(desired: DesiredState, document: Document) -> tuple[Drift, ...]:
    """Return what is set there but not desired, if that is to be reported and left alone."""
    if desired.unmanaged is not Unmanaged.REPORT:
        return ()
    return placed(desired, _unmanaged_drift(desired, document))


def _unmanaged_drift(desired: DesiredState, document: Document) -> list[Drift]:
    found = (document.get(name) for name in unmanaged_names(desired, document))
    return [
        Drift(p.name, DriftKind.UNMANAGED, None, p.value, p.line) for p in found if p is not None
    ]


def unmanaged_names(desired: DesiredState, document: Document) -> list[str]:
    """Return the parameters in the document neither desired nor exempt by a pattern, in order."""
    managed = desired.parameters()
    return [
        name
        for name in document.parameters()
        if name not in managed and not any(fnmatchcase(name, pattern) for pattern in desired.ignore)
    ]


def _setting_drift(desired: DesiredState, document: Document, name: str) -> list[Drift]:
    value = desired.settings[name]
    found = document.get(name)
    if found is None:
        return [Drift(name, DriftKind.MISSING, value, None)]
    if not grammar_of(desired.kind).same(name, value, found.value):
        return [Drift(name, DriftKind.CHANGED, value, found.value, found.line)]
    other = document.contradiction(name)
    if other is None:
        return []
    return [Drift(name, DriftKind.DUPLICATED, value, other.value, other.line)]


def _place(drift: Drift) -> tuple[bool, int, str]:
    """Sort by line; parameters that are not set come last, by name."""
    return (drift.line is None, drift.line or 0, drift.parameter)


def corrected(document: Document, desired: DesiredState) -> Document:
    """Return the document that says what `desired` says, and is otherwise unchanged.

    A value that is the same to Postfix stays as it was written.
    """
    edit = grammar_of(desired.kind).edit(document)
    for bad in document.unreadable():
        edit.comment_out(bad)
    for name, value in desired.settings.items():
        if _setting_drift(desired, document, name):
            edit.set(name, value)
    unwanted = sorted(desired.use_default)
    if desired.unmanaged is Unmanaged.COMMENT_OUT:
        unwanted += unmanaged_names(desired, document)
    for name in unwanted:
        for place in document.occurrences(name):
            edit.comment_out(place)
    return edit.result()


def needs_activation(drift: tuple[Drift, ...]) -> bool:
    """Tell whether Postfix may have read a wrong value: not if only owner or mode were wrong."""
    return any(d.kind is not DriftKind.MODE for d in drift)
