"""Times and time spans as people write them for journalctl, following systemd.time(7). Pure.

Two things differ: a span with a unit means that long ago, since people write `--since 2h`; and the
only time zones are this machine's own and UTC.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from typing import Final

# A month is 30.44 days, a year 365.25 (systemd.time(7), PARSING TIME SPANS).
_UNITS: Final = {
    1e-6: ("usec", "us", "\u00b5s", "\u03bcs"),
    1e-3: ("msec", "ms"),
    1.0: ("seconds", "second", "sec", "s", ""),
    60.0: ("minutes", "minute", "min", "m"),
    3600.0: ("hours", "hour", "hr", "h"),
    86400.0: ("days", "day", "d"),
    604800.0: ("weeks", "week", "w"),
    2629800.0: ("months", "month", "M"),
    31557600.0: ("years", "year", "y"),
}
_SECONDS: Final = {name: seconds for seconds, words in _UNITS.items() for name in words}
_PART: Final = re.compile(
    r"\s*([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})\s*([A-Za-z\u00b5\u03bc]*)\s*"
)
_DATE: Final = r"(?P<year>[0-9]{4}|[0-9]{2})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
_CLOCK: Final = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{1,2})"
    r"(?::(?P<second>[0-9]{1,2})(?:\.(?P<part>[0-9]{1,9}))?)?"
)
_MOMENT: Final = re.compile(
    rf"(?:(?P<weekday>[A-Za-z]+)\s+)?(?:{_DATE})?(?:(?(year)(?:T|\s+)){_CLOCK})?"
    r"(?P<utc>Z|\s+UTC)?"
)
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS: Final = {"yesterday": -1, "today": 0, "tomorrow": 1}
_MOST_SECONDS: Final = 1e11  # later than any date that can be shown


def span_of(text: str) -> float | None:
    """Return the seconds of a span such as 90, 2h 30min or 1 day; None for anything else."""
    seconds, at = 0.0, 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None or found[2] not in _SECONDS:
            return None
        seconds += float(found[1]) * _SECONDS[found[2]]
        at = found.end()
    return seconds if text.strip() and seconds < _MOST_SECONDS else None


def moment_of(text: str, now: float) -> float | None:
    """Return the time that the text means at `now`; None for anything else.

    Times in seconds since the epoch.
    """
    words = text.strip()
    if words == "now":
        return now
    if words.startswith("@"):
        return span_of(words[1:])
    for start, end, sign in (("+", "", 1), ("-", "", -1), ("", " left", 1), ("", " ago", -1)):
        if words.startswith(start) and words.endswith(end) and (start or end):
            span = span_of(words[len(start) : len(words) - len(end)])
            return None if span is None else now + sign * span
    span = None if words.isdigit() else span_of(words)  # 2026 is a year, not half an hour
    if span is not None:
        return now - span
    try:
        return _date(words, now)
    except (ValueError, OverflowError, OSError):  # no such day, or out of range
        return None


def _date(words: str, now: float) -> float | None:
    found = _MOMENT.fullmatch(words)
    name = words.removesuffix(" UTC")
    zone = timezone.utc if words != name or (found and found["utc"]) else None
    today = datetime.fromtimestamp(now, timezone.utc).astimezone(zone).replace(tzinfo=zone)
    today = today.replace(hour=0, minute=0, second=0, microsecond=0)
    if name in _DAYS:
        return (today + timedelta(days=_DAYS[name])).timestamp()
    if found is None or not (found["year"] or found["hour"]):
        return None
    day = today.date()
    if found["year"]:
        day = date(_year(found["year"]), int(found["month"]), int(found["day"]))
    if found["weekday"] and not _is_weekday(found["weekday"], day):
        return None
    part = float(f"0.{found['part'] or 0}")
    hour, minute, second = (int(found[unit] or 0) for unit in ("hour", "minute", "second"))
    return datetime.combine(day, time(hour, minute, second), zone).timestamp() + part


def _year(digits: str) -> int:
    # Like strptime(3): 69 to 99 belong to the last century.
    year = int(digits)
    return year if len(digits) == 4 else year + (1900 if year >= 69 else 2000)


def _is_weekday(name: str, day: date) -> bool:
    full = _WEEKDAYS[day.weekday()]
    return name.lower() in (full, full[:3])
