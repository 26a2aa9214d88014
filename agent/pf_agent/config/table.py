"""Typed, checked reading of a TOML text: every fault is noted with file, line, key and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import tomli

from pf_agent.config.positions import BARE_KEY, Path, key_spans, last_statement, line_of
from pf_agent.errors import ConfigError
from pf_agent.model import Place

_SYNTAX = re.compile(
    r"(?P<fact>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)
# What tomli says (its quotes and "cannot" differ between versions), and what a person can do.
_WAYS_OUT: Final = (
    (r"Invalid value .end", "the value is not complete"),
    (r"Invalid value|Expected newline", "text needs quotes"),
    (
        r"overwrite|twice|Duplicate|redefine|mutate",
        "each key and each [table] may appear once",
    ),
    (r"Expected .=|Invalid statement|key part", "write key = value; odd names need quotes"),
    (r"Expected .\]", "close the [table] with ]"),
    (r"Unclosed array", "put commas between the items and ] at the end"),
    (r"Unescaped", r"write \\ for a backslash, or use single quotes"),
    (r"Unterminated|character '\\n'|Expected .'", "end the string with the quote it began with"),
    (r"(Illegal|invalid) character", "remove the control character"),
)

_MAX_SHOWN = 60
# What every TOML reader must accept (TOML 1.0, Integer); Postfix's own limits are narrower.
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Source:
    """A configuration file that was read: its path, for messages, and its bytes."""

    path: str
    text: bytes


@dataclass
class _Document:
    """What the tables of one file share."""

    file: str
    spans: Mapping[Path, tuple[int, int]]
    asked: set[Path] = field(default_factory=set)
    problems: list[tuple[Place, str]] = field(default_factory=list)


class Table:
    """A TOML table that returns checked values.

    A method that finds a fault notes it and returns the default, so that one pass names all faults
    of a file. `problems` lists them in the order of their lines.
    """

    def __init__(self, document: _Document, values: Mapping[str, object], path: Path = ()) -> None:
        self._document = document
        self._values = values
        self._path = path

    @property
    def problems(self) -> tuple[str, ...]:
        """The faults noted so far in the whole file, each a line "place: key: fact; remedy"."""
        found = sorted(self._document.problems, key=lambda problem: problem[0].line or 0)
        return tuple(f"{place}: {text}" for place, text in found)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys in the order of the file."""
        return iter(self._values)

    def place(self, key: str) -> Place:
        """Return where `key` is; without a line if that is not certain."""
        return Place(self._document.file, line_of(self._document.spans, (*self._path, key)))

    def note(self, key: str, fact_and_way_out: str) -> None:
        """Note a fault of `key`."""
        where = f"[{'.'.join(map(shown_key, self._path))}] " if self._path else ""
        text = f"{where}{shown_key(key)}: {fact_and_way_out}"
        self._document.problems.append((self.place(key), text))

    def value(self, key: str) -> object:
        """Return the unchecked value, None if there is none (TOML has no null)."""
        self._document.asked.add((*self._path, key))
        return self._values.get(key)

    def string(self, key: str) -> str | None:
        """Return the string at `key`, None if there is none."""
        value = self.value(key)
        if value is None or isinstance(value, str):
            return value
        self.note(key, f"expected a string, got {shown(value)}; {quoting(value)}")
        return None

    def strings(self, key: str) -> tuple[str, ...]:
        """Return the array of strings at `key`, empty if there is none."""
        value = self.value(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            way_out = f"write [{shown(value)}]" if isinstance(value, str) else "write [...]"
            self.note(key, f"expected an array of strings, got {shown(value)}; {way_out}")
            return ()
        for number, item in enumerate(value, 1):
            if not isinstance(item, str):
                fact = f"expected an array of strings, but item {number} is {shown(item)}"
                self.note(key, f"{fact}; {quoting(item)}")
        return tuple(item for item in value if isinstance(item, str))

    def number(self, key: str, low: float, high: float, default: float) -> float:
        """Return the number at `key` if it is within `low` and `high`, else `default`."""
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            way_out = f"write {_number_meant(value, low, high, default)}"
            self.note(key, f"expected a number, got {shown(value)}; {way_out}")
            return default
        if not low <= value <= high:  # also true of nan
            way_out = f"write a number from {low:g} to {high:g}"
            self.note(key, f"{shown(value)} is out of range; {way_out}")
            return default
        return float(value)

    def truth(self, key: str, default: bool) -> bool:
        """The boolean at `key`, or `default`."""
        value = self.value(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.note(key, f"expected true or false, got {shown(value)}; write {shown(default)}")
        return default

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return the string at `key` if it is one of `choices`, else `default`."""
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, str) and value in choices:
            return value
        names = " or ".join(map(shown, choices))
        meant = _nearest(value, choices) if isinstance(value, str) else None
        way_out = f"write {key} = {shown(meant or default)}"
        self.note(key, f"expected {names}, got {shown(value)}; {way_out}")
        return default

    def table(self, key: str) -> Table:
        """Return the table at `key`, an empty one if there is none."""
        value = self.value(key)
        if value is not None and not isinstance(value, dict):
            header = f"[{'.'.join(map(shown_key, (*self._path, key)))}]"
            fact = f"expected a table, got {shown(value)}"
            self.note(key, f"{fact}; write {header} on a line of its own, its keys below")
        return Table(self._document, value if isinstance(value, dict) else {}, (*self._path, key))

    def refuse_unknown(self, way_out: str | None = None) -> None:
        """Note each key of this file that was not asked for; to be called after all the others.

        The remedy names the key that was meant, else the table where such a key belongs, else it is
        `way_out`, else the list of known keys.
        """
        asked = self._document.asked
        known = sorted(path[-1] for path in asked if path[:-1] == self._path)
        for key in self._values:
            if key in known:
                continue
            meant = _nearest(key, known)
            homes = sorted(path[:-1] for path in asked if path[-1] == key)
            if homes and homes[0]:
                hint = f"it belongs under [{'.'.join(homes[0])}]"
            elif homes:
                hint = "it belongs at the top of the file, above every [table]"
            elif meant:
                hint = f"did you mean {meant}?"
            else:
                hint = way_out or f"known keys: {', '.join(known)}"
            self.note(key, f"unknown key; {hint}")


def parse(source: Source) -> Table:
    """Return the top table of a file. Raises ConfigError if it is not UTF-8 or not TOML."""
    try:
        # utf-8-sig: some editors put a byte order mark first, which TOML does not allow.
        text = source.text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(source.path, source.text.count(b"\n", 0, error.start) + 1)
        fact = f"byte 0x{source.text[error.start]:02x} is not UTF-8"
        raise ConfigError(f"{place}: {fact}; save the file as UTF-8") from error
    try:
        values = tomli.loads(text)
    except RecursionError as error:
        raise ConfigError(
            f"{source.path}: arrays are nested too deeply; write flat ones"
        ) from error
    except ValueError as error:
        raise ConfigError(_syntax_problem(source.path, text, str(error))) from error
    return Table(_Document(source.path, key_spans(text)), values)


def shown(value: object) -> str:
    """Return a value for a message: as in TOML, on one line, not too long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "..."
        return f'"{"".join(map(_escaped, cut))}"'
    if isinstance(value, int):
        return str(value) if value in INT64 else "an integer of more than 64 bits"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list):
        return "an array"
    return "a table" if isinstance(value, dict) else "a date or time"


def shown_key(key: str) -> str:
    """Return a key for a message: bare if TOML allows that, else in quotes."""
    return key if BARE_KEY.fullmatch(key) and len(key) <= _MAX_SHOWN else shown(key)


def quoting(value: object) -> str:
    """Return advice on how to write as a string what was written as something else."""
    if isinstance(value, (list, dict)):
        return "write one string"
    if isinstance(value, (bool, float)) or (isinstance(value, int) and value in INT64):
        return f'write "{shown(value)}"'
    return "put it in quotes"


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return short.get(char) or (
        f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
    )


def _nearest(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1)), None)


def _number_meant(value: object, low: float, high: float, default: float) -> float:
    """Return the seconds given as text such as "1s", else the default."""
    text = value if isinstance(value, str) else ""
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*s?\s*", text)
    return float(match[1]) if match and low <= float(match[1]) <= high else default


def _syntax_problem(path: str, text: str, message: str) -> str:
    match = _SYNTAX.fullmatch(message)
    if match is None:  # int() refuses thousands of digits, and tomli passes that error on
        return f"{path}: not valid TOML: an integer is too long; put it in quotes"
    if match["line"]:
        line, fact = int(match["line"]), f"{match['fact']} (column {match['column']})"
    else:
        line, fact = last_statement(text), f"{match['fact']} (end of file)"
    ways_out = (advice for pattern, advice in _WAYS_OUT if re.search(pattern, fact))
    way_out = next(ways_out, "see pf-agent.toml(5)")
    return f"{Place(path, line)}: not valid TOML: {fact}; {way_out}"
