"""What differs between main.cf and the desired state, and the text that would not: both pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from pf_agent.maincf.document import GROUP, MODE, OWNER, LogicalLine, MainCf
from pf_agent.maincf.edit import Edit
from pf_agent.maincf.values import same
from pf_agent.model import (
    ActualState,
    DesiredState,
    Drift,
    DriftKind,
    FileKind,
    Parameter,
    Unmanaged,
)

# A thousand times Postfix's own. More would only take our memory, 600 bytes for each, and our time.
MOST_LINES = 250_000


def is_too_long(text: bytes | None) -> bool:
    """Tell whether a text has so many lines that it is not worth being taken apart."""
    return text is not None and text.count(b"\n") > MOST_LINES


def taken_apart(text: bytes | None) -> MainCf:
    """Return the document that a text is; an empty one where it is not worth that."""
    return MainCf.parse(b"" if text is None or is_too_long(text) else text)


def damage(
    text: bytes | None,
    desired: DesiredState,
    last_good: bytes | None,
    main_cf: MainCf | None = None,
) -> str:
    """Say in which way main.cf was destroyed; "" where it was not, or only edited.

    `main_cf` is the text as `taken_apart` returns it, where the caller has that.

    A destroyed file is begun again from the last good text (or the template), never from nothing:
    without the settings that the desired state does not name, Postfix may start and never greet.
    """
    if text is None:
        return "there is no such file"
    if is_too_long(text):
        return f"it has more than {MOST_LINES} lines"
    main_cf = main_cf or taken_apart(text)
    if not main_cf.logical_lines:
        return "it holds no setting"
    if last_good is None or len(text) >= len(last_good) or not last_good.startswith(text):
        return ""
    # A beginning of what stood there. Somebody may have deleted the last lines on purpose, so it
    # counts as cut off only where it ends within a line, or where a parameter of ours went too.
    before, now = MainCf.parse(last_good).parameters(), main_cf.parameters()
    within_a_line = now != before and not text.endswith(b"\n")
    if within_a_line or (before.keys() - now.keys()) & desired.settings.keys():
        return f"it was cut off after {len(text)} bytes"
    return ""


def find_drift(
    desired: DesiredState,
    actual: ActualState,
    damaged: str = "",
    restorable: bool = False,
    attributes: bool = True,
    main_cf: MainCf | None = None,
) -> tuple[Drift, ...]:
    """Return every difference between `actual` and `desired`, in the order of the file.

    `damaged` is what `damage` said of it, `restorable` whether there is a last good text;
    `attributes` False leaves owner and mode alone, for a file that is not this host's own main.cf.
    `main_cf` is the text as `taken_apart` returns it, where the caller has that.
    """
    drift: list[Drift] = []
    if damaged:
        source = "the last good text" if restorable else "the template"
        drift.append(Drift("", DriftKind.ABSENT_FILE, source, damaged))
    if attributes and actual.kind is not FileKind.ABSENT:
        drift.extend(_attribute_drift(actual))
    main_cf = main_cf or taken_apart(actual.text)
    if main_cf.logical_lines or not damaged:
        drift.extend(_text_drift(desired, main_cf))
    return tuple(drift)


def _attribute_drift(actual: ActualState) -> list[Drift]:
    found = [
        (FileKind.REGULAR.value, actual.kind.value),
        (_attributes(OWNER, GROUP, MODE), _attributes(actual.owner, actual.group, actual.mode)),
    ]
    return [Drift("", DriftKind.MODE, want, have) for want, have in found if want != have]


def _attributes(owner: int, group: int, mode: int) -> str:
    return f"owner {owner}:{group} mode {mode:04o}"


def _text_drift(desired: DesiredState, main_cf: MainCf) -> list[Drift]:
    drift = [
        Drift("", DriftKind.UNREADABLE, None, main_cf.text_of(bad), bad.line)
        for bad in main_cf.unreadable()
    ]
    for name, value in desired.settings.items():
        drift.extend(_setting_drift(main_cf, name, value))
    for name in desired.use_default:
        found = main_cf.get(name)
        if found is not None:
            drift.append(Drift(name, DriftKind.UNWANTED, None, found.value, found.line))
    if desired.unmanaged is Unmanaged.COMMENT_OUT:
        drift.extend(_unmanaged_drift(desired, main_cf))
    return sorted(drift, key=_place)


def unmanaged_drift(desired: DesiredState, main_cf: MainCf) -> tuple[Drift, ...]:
    """Return what stands there that nobody asked for, where that is reported and left alone."""
    if desired.unmanaged is not Unmanaged.REPORT:
        return ()
    return tuple(_unmanaged_drift(desired, main_cf))


def _unmanaged_drift(desired: DesiredState, main_cf: MainCf) -> list[Drift]:
    found = (main_cf.get(name) for name in unmanaged_names(desired, main_cf))
    return [
        Drift(p.name, DriftKind.UNMANAGED, None, p.value, p.line) for p in found if p is not None
    ]


def unmanaged_names(desired: DesiredState, main_cf: MainCf) -> list[str]:
    """The parameters in main_cf that nobody named and no pattern exempts, in order."""
    managed = desired.parameters()
    return [
        name
        for name in main_cf.parameters()
        if name not in managed and not any(fnmatchcase(name, pattern) for pattern in desired.ignore)
    ]


def _setting_drift(main_cf: MainCf, name: str, value: str) -> list[Drift]:
    found = main_cf.get(name)
    if found is None:
        return [Drift(name, DriftKind.MISSING, value, None)]
    if not same(name, value, found.value):
        return [Drift(name, DriftKind.CHANGED, value, found.value, found.line)]
    other = _contradiction(main_cf.occurrences(name))
    return [] if other is None else [Drift(name, DriftKind.DUPLICATED, value, *other)]


def _contradiction(places: tuple[LogicalLine, ...]) -> tuple[str, int] | None:
    """The first of `places` that says something else than the one that wins; None: none does.

    Each program of Postfix warns of it, and it waits for the last one to be deleted. Where the
    texts are the same Postfix says nothing (dict_update in util/dict.c), and neither do we.
    """
    found: list[Parameter] = [p.parameter for p in places if p.parameter is not None]
    others = (p for p in found[:-1] if p.value != found[-1].value)
    return next(((p.value, p.line) for p in others), None)


def _place(drift: Drift) -> tuple[bool, int, str]:
    """By line; what stands nowhere comes last, by name."""
    return (drift.line is None, drift.line or 0, drift.parameter)


def corrected(main_cf: MainCf, desired: DesiredState) -> MainCf:
    """Return the document that says what `desired` says, and all else as before.

    What Postfix takes for the same is left as its writer wrote it.
    """
    edit = Edit(main_cf)
    for bad in main_cf.unreadable():
        edit.comment_out(bad)
    for name, value in desired.settings.items():
        if _setting_drift(main_cf, name, value):
            edit.set(name, value)
    unwanted = sorted(desired.use_default)
    if desired.unmanaged is Unmanaged.COMMENT_OUT:
        unwanted += unmanaged_names(desired, main_cf)
    for name in unwanted:
        for place in main_cf.occurrences(name):
            edit.comment_out(place)
    return edit.result()


def needs_activation(drift: tuple[Drift, ...]) -> bool:
    """Tell whether Postfix may have read a wrong value: not where only owner or mode were off."""
    return any(d.kind is not DriftKind.MODE for d in drift)
