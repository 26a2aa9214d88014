"""agent.toml -> AgentOptions: how the agent behaves on this host."""

from __future__ import annotations

import re

from pf_agent.config.table import Source, Table, parse, shown
from pf_agent.errors import ConfigError
from pf_agent.model import ActivationWay, AgentOptions, Mode, OnWarning, TableRules, Window

# In seconds. A shorter time looks at half-written files, a longer one leaves drift in force.
_SETTLE = (0.05, 60)
_LOOK_EVERY = (1, 86400)


_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_TEMPLATE_UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+@\.service")
_LOOPBACK = re.compile(r"(?:127(?:\.\d{1,3}){3}|\[::1\]|localhost):(\d{1,5})")


def load(source: Source | None) -> AgentOptions:
    """Return the options in agent.toml, or the defaults where it says nothing or does not exist.

    Raises ConfigError with all problems of the file.
    """
    if source is None:
        return AgentOptions()
    table = parse(source)
    default = AgentOptions()
    watch, metrics, told = table.table("watch"), table.table("metrics"), table.table("notify")
    way, window = _activation(table)
    options = AgentOptions(
        mode=Mode(table.choice("mode", [mode.value for mode in Mode], default.mode.value)),
        way=way,
        window=window,
        settle_seconds=watch.number("settle_seconds", *_SETTLE, default.settle_seconds),
        look_every_seconds=watch.number(
            "look_every_seconds", *_LOOK_EVERY, default.look_every_seconds
        ),
        textfile=_textfile(metrics),
        listen=_listen(metrics),
        unit=_unit(told),
        tables=_tables(table.table("tables")),
    )
    for each in (watch, metrics, told, table):
        each.refuse_unknown()
    if table.problems:
        raise ConfigError(*table.problems)
    return options


def window_of(text: str) -> Window | None:
    """Return the window given as "02:00-04:00", None for anything else."""
    found = _WINDOW.fullmatch(text)
    if found is None:
        return None
    hours, minutes, until_hours, until_minutes = (int(digits) for digits in found.groups())
    window = Window(hours * 3600.0 + minutes * 60, until_hours * 3600.0 + until_minutes * 60)
    return None if window.opens == window.closes else window


def _activation(table: Table) -> tuple[ActivationWay, Window | None]:
    """`activation = "auto"` is short for a table with nothing but `way`."""
    ways = [way.value for way in ActivationWay]
    if isinstance(table.value("activation"), str):
        return ActivationWay(table.choice("activation", ways, ways[0])), None
    inner = table.table("activation")
    text = inner.string("window") or ""
    window = window_of(text)
    if text and window is None:
        inner.note("window", f'expected two times of day, got {shown(text)}; write "02:00-04:00"')
    way = ActivationWay(inner.choice("way", ways, ways[0]))
    inner.refuse_unknown()
    return way, window


def _tables(inner: Table) -> TableRules:
    default = TableRules()
    choices = [each.value for each in OnWarning]
    found = TableRules(
        inner.truth("rebuild", default.rebuild),
        OnWarning(inner.choice("on_warning", choices, default.on_warning.value)),
        inner.strings("ignore"),
    )
    inner.refuse_unknown()
    return found


def _textfile(metrics: Table) -> str:
    path = metrics.string("textfile") or ""
    if path and not (path.startswith("/") and path.endswith(".prom")):
        fact = f"expected an absolute path that ends in .prom, got {shown(path)}"
        metrics.note("textfile", f"{fact}; node_exporter reads no other files")
    return path


def _listen(metrics: Table) -> str:
    place = metrics.string("listen") or ""
    if place and not _is_on_loopback(place):
        fact = f"expected a loopback address and a port, got {shown(place)}"
        metrics.note("listen", f'{fact}; write "127.0.0.1:9825"')
    return place


def _is_on_loopback(place: str) -> bool:
    """Whether `place` is a loopback address with a port, such as 127.0.0.1:9825."""
    found = _LOOPBACK.fullmatch(place)
    return found is not None and 0 < int(found[1]) < 65536


def _unit(told: Table) -> str:
    name = told.string("unit") or ""
    if name and not _TEMPLATE_UNIT.fullmatch(name):
        fact = f"expected a template unit, got {shown(name)}"
        told.note("unit", f'{fact}; write "pf-agent-notify@.service"')
    return name
