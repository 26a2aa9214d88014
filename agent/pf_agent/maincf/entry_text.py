"""The text of one service of master.cf, and changes of it that keep the rest of the text. Pure.

A change is made in place, and what comes of it is read again. If a text is so odd that the change
would come to something else, the service is written anew, as Debian writes one; its comments stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from pf_agent import names
from pf_agent.maincf.lists import word_spans, words
from pf_agent.maincf.service import (
    LEAST,
    SEPARATORS,
    Service,
    is_option_word,
    read,
    setting_of,
)
from pf_agent.model import BLANKS

# Where Debian's master.cf begins each field after the name.
_COLUMNS: Final = (10, 16, 24, 32, 40, 48, 56)
_INDENT: Final = "  "
_COMMAND: Final = LEAST - 1


class Meaning(NamedTuple):
    """What Postfix reads: the name and the fields up to the command, options, other arguments."""

    fields: tuple[str, ...]
    options: Mapping[str, str]
    arguments: tuple[str, ...]


class Option(NamedTuple):
    """An option that sets a parameter: its first and last word, and where the setting stands.

    `flags` are those that stand in one word with it: `-vo name=value`.
    """

    name: str
    value: str
    first: int
    last: int
    start: int
    end: int
    flags: str


@dataclass(frozen=True)
class EntryText:
    """`text` is that of the physical lines from the head to the last one that belongs to it."""

    text: str

    @cached_property
    def _logical(self) -> tuple[str, list[int]]:
        """Return the logical line, and where each of its characters stands in the text."""
        found: list[int] = []
        for start, line in _lines(self.text):
            if not is_skipped(line):
                found += range(start, start + len(line.removesuffix("\n")))
        logical = "".join(self.text[at] for at in found).partition("\0")[0]
        return logical, found[: len(logical)]

    @cached_property
    def _words(self) -> list[tuple[int, int]]:
        """Where each word begins and ends in the text."""
        logical, places = self._logical
        spans = word_spans(logical, SEPARATORS)
        return [(places[start], places[end - 1] + 1) for start, end in spans]

    def _word(self, number: int) -> str:
        logical, _ = self._logical
        return list(words(logical, SEPARATORS))[number]

    @cached_property
    def service(self) -> Service:
        """The service, which must have all its fields."""
        found = read(self._logical[0], 1).service
        assert found is not None, "a service has all its fields"
        return found

    @cached_property
    def meaning(self) -> Meaning:
        """What Postfix reads, however it is written."""
        return meaning_of(self.service)

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """The options that set a parameter, in order; of one name the last one holds."""
        logical, _ = self._logical
        found, spans = list(words(logical, SEPARATORS)), self._words
        options, at = [], LEAST
        while at < len(found) and is_option_word(found[at]):
            first = at
            flags, sign, setting = found[at][1:].partition("o")
            start, end = spans[at]
            if sign and setting:
                start += 2 + len(flags)
            elif sign and at + 1 < len(found):
                at += 1
                setting, (start, end) = found[at], spans[at]
            at += 1
            pair = setting_of(setting) if sign and setting else None
            if pair is not None:
                options.append(Option(*pair, first, at - 1, start, end, flags))
        return tuple(options)

    def value(self, part: str) -> str | None:
        """Return what Postfix reads for a part; None if the service has no such option."""
        if part in names.SERVICE_FIELDS or part == names.SERVICE_COMMAND:
            value: str = getattr(self.service, part)
            return value
        if part == names.SERVICE_ARGUMENTS:
            return joined(self.meaning.arguments)
        return self.meaning.options.get(part)

    def row_of(self, place: int) -> int:
        """Return the row of a place in the text, counted from its head."""
        return self.text.count("\n", 0, place)

    def rows(self, part: str) -> list[tuple[str, range]]:
        """Return each value that stands there for a part, in order, with its rows."""
        options = [option for option in self.options if option.name == part]
        value = self.value(part)
        if part in names.SERVICE_FIELDS or part == names.SERVICE_COMMAND:
            start, end = self._words[_field(part)]
            return [(value or "", self._rows(start, end))]
        if part == names.SERVICE_ARGUMENTS:
            return [(value or "", self._rows(*self._words[_COMMAND]))]
        return [(o.value, self._rows(self._words[o.first][0], o.end)) for o in options]

    def _rows(self, start: int, end: int) -> range:
        return range(self.row_of(start), self.row_of(end) + 1)

    def with_part(self, part: str, value: str) -> EntryText:
        """Return the text with a part set to `value`, as `value` returns it."""
        fields, options, arguments = self.meaning
        alive = self._alive()
        if part in names.SERVICE_FIELDS or part == names.SERVICE_COMMAND:
            number = _field(part)
            fields = (*fields[:number], value, *fields[number + 1 :])
            if fields == self.meaning.fields:
                return self
            wanted = Meaning(fields, options, arguments)
            return alive._settled(alive._with_word(number, value), wanted)
        if part == names.SERVICE_ARGUMENTS:
            arguments = arguments_of(value)
            if arguments == self.meaning.arguments:
                return self
            wanted = Meaning(fields, options, arguments)
            return alive._settled(alive._with_arguments(arguments), wanted)
        wanted = Meaning(fields, {**options, part: value}, arguments)
        changed = alive._with_option(part, value)
        if part not in options and not changed._says(wanted):
            # Behind a brace that is not closed it would be lost; before it there is a place.
            changed = alive._added(f"-o {setting(part, value)}", ())
        return alive._settled(changed, wanted)

    def without_option(self, name: str) -> EntryText:
        """Return the text without an option; main.cf's value holds then.

        It goes, rather than be commented out: if the whole service is commented out later, and then
        enabled, a comment that looks like an option of it would become one.
        """
        fields, options, arguments = self.meaning
        if name not in options:
            return self
        alive = entry = self._alive()
        for number, option in reversed(list(enumerate(alive.options))):
            if option.name == name:
                entry = entry._without(number)
        kept = {other: value for other, value in options.items() if other != name}
        return alive._settled(entry, Meaning(fields, kept, arguments))

    def _alive(self) -> EntryText:
        """Return the text without what Postfix does not read since a NUL precedes it."""
        _, places = self._logical
        if "\0" not in self.text or not places:
            return self
        last, lines, is_over = places[-1], [], False
        for start, line in _lines(self.text):
            cut = line.find("\0")
            if is_skipped(line):
                lines.append(line)
            elif not is_over:
                is_over = cut >= 0 and start + cut > last
                lines.append(line[:cut] + _end(line) if is_over else line)
        return EntryText("".join(lines))

    def _settled(self, changed: EntryText, wanted: Meaning) -> EntryText:
        """Return the changed text if it is read as wanted, else one written anew, with comments."""
        if changed._says(wanted):
            return changed
        comments = [line for _, line in _lines(self.text) if is_skipped(line)]
        return EntryText(written(wanted, self._line_end()) + "".join(comments))

    def _says(self, wanted: Meaning) -> bool:
        return len(self._words) >= LEAST and self.meaning == wanted

    def _line_end(self) -> str:
        return _end(next(_lines(self.text))[1]) or "\n"

    def _replaced(self, start: int, end: int, new: str) -> EntryText:
        """Replace a stretch of text; the comments within it come below the line."""
        gone = self.text[start:end]
        comments = "".join(line for _, line in list(_lines(gone))[1:-1] if is_skipped(line))
        rest = self.text[end:]
        if comments:
            head, newline, tail = rest.partition("\n")
            rest = head + (newline or "\n") + comments + tail
        return EntryText(self.text[:start] + new + rest)

    def _with_word(self, number: int, value: str) -> EntryText:
        """Replace a field; the next one stays in its column if there are blanks enough."""
        start, end = self._words[number]
        gap = len(self.text[end:]) - len(self.text[end:].lstrip(" "))
        width = end - start + gap
        if gap and end + gap < len(self.text) and self.text[end + gap] not in BLANKS:
            return self._replaced(start, end + gap, value.ljust(max(width, len(value) + 1)))
        return self._replaced(start, end, value)

    def _with_option(self, name: str, value: str) -> EntryText:
        """Set an option once: of several the first that says so is kept, else the first one."""
        mine = [number for number, option in enumerate(self.options) if option.name == name]
        if not mine:
            return self._added(f"-o {setting(name, value)}", self.options)
        right = [number for number in mine if self.options[number].value == value]
        kept = (right or mine)[0]
        entry = self
        for number in reversed(mine):
            if number != kept:
                entry = entry._without(number)
            elif not right:
                option = self.options[number]
                is_braced = self.text[option.start] == "{"
                text = setting(name, value, is_braced)
                is_glued = self.text[option.start - 1] == "o"
                if is_glued and "o" in text:
                    text = f" {text}"  # postconf would take the second one for another option
                entry = entry._replaced(option.start, option.end, text)
        return entry

    def _added(self, words_added: str, options: Sequence[Option]) -> EntryText:
        """Add options below the last of those given, or below the command."""
        spans = self._words
        last = options[-1].last if options else _COMMAND
        end = spans[last][1]
        rest = self.text[end:].partition("\n")[0]
        if rest.strip(BLANKS):
            return EntryText(f"{self.text[:end]} {words_added}{self.text[end:]}")
        indent = self._indent(spans[options[-1].first][0]) if options else _INDENT
        return self._with_line_below(end, indent + words_added)

    def _with_line_below(self, place: int, line: str) -> EntryText:
        head, newline, tail = self.text[place:].partition("\n")
        end = "\r\n" if head.endswith("\r") else "\n"
        if not newline:
            end = self._line_end()
            head = head.removesuffix("\r") + end
            return EntryText(self.text[:place] + head + line + end)
        return EntryText(self.text[:place] + head + newline + line + end + tail)

    def _indent(self, place: int) -> str:
        """Return the blanks before a word that begins its line, else two."""
        before = self.text[self.text.rfind("\n", 0, place) + 1 : place]
        return before if before and not before.strip(" \t") else _INDENT

    def _without(self, number: int) -> EntryText:
        """Return the text without one option; a line that has nothing else goes, too."""
        option = self.options[number]
        if option.flags:
            start, _ = self._words[option.first]
            return self._replaced(start, option.end, f"-{option.flags}")
        return self._cut(option.first, option.last)

    def _cut(self, first: int, last: int) -> EntryText:
        """Return the text without the words from `first` to `last`."""
        start, end = self._words[first][0], self._words[last][1]
        line_start = self.text.rfind("\n", 0, start) + 1
        line_end = self.text.find("\n", end)
        line_end = len(self.text) if line_end < 0 else line_end + 1
        begins = not self.text[line_start:start].strip(BLANKS)
        if begins and not self.text[end:line_end].strip(BLANKS):
            gone = list(_lines(self.text[line_start:line_end]))
            kept = "".join(line for _, line in gone if is_skipped(line))
            return EntryText(self.text[:line_start] + kept + self.text[line_end:])
        if begins and last + 1 < len(self._words):
            return self._replaced(start, self._words[last + 1][0], "")
        return self._replaced(self._words[first - 1][1], end, "")

    def _with_arguments(self, arguments: tuple[str, ...]) -> EntryText:
        """Replace all arguments that set no parameter; the new ones stand last, on one line."""
        entry = self
        setting_words = {w for o in self.options for w in range(o.first, o.last + 1)}
        for number in range(len(self._words) - 1, LEAST - 1, -1):
            if number not in setting_words:
                entry = entry._cut(number, number)
        if arguments:
            end = entry._words[-1][1]
            entry = entry._with_line_below(end, _INDENT + joined(arguments))
        return entry


def meaning_of(service: Service) -> Meaning:
    """Return what a service comes to."""
    return Meaning(tuple(service[:LEAST]), service.options(), service.other_words())


def arguments_of(value: str) -> tuple[str, ...]:
    """Return the arguments that a value stands for; options that set a parameter are none."""
    found = read(f"a unix - - - - - a {value}", 1).service
    return () if found is None else found.other_words()


def joined(arguments: Iterable[str]) -> str:
    """Return arguments as one value, each that has blanks in it in braces."""
    return " ".join(
        f"{{{word}}}" if any(blank in word for blank in SEPARATORS) or not word else word
        for word in arguments
    )


def setting(name: str, value: str, is_braced: bool = False) -> str:
    """Return an option's setting: in braces if it stood so, or if its blanks need them."""
    plain = f"{name}={value}"
    if not is_braced and not plain.startswith("{") and _is_one_word(plain):
        return plain
    return f"{{ {name} = {value} }}" if value else f"{{ {name} = }}"


def written(meaning: Meaning, end: str = "\n") -> str:
    """Return a service as Debian's master.cf writes one."""
    text = ""
    for column, field in zip((0, *_COLUMNS), meaning.fields, strict=True):
        text = (text + " " if text else "").ljust(column) + field
    text += end
    for name, value in meaning.options.items():
        text += f"{_INDENT}-o {setting(name, value)}{end}"
    if meaning.arguments:
        arguments = joined(meaning.arguments)
        if arguments.startswith("#"):  # it would be a comment if it began a line
            return f"{text.removesuffix(end)} {arguments}{end}"
        text += f"{_INDENT}{arguments}{end}"
    return text


def _is_one_word(text: str) -> bool:
    return list(words(f"{text} .", SEPARATORS)) == [text, "."]


def _field(part: str) -> int:
    return Service._fields.index(part)


def split(text: str) -> list[str]:
    """Return the physical lines with their ends."""
    lines = text.split("\n")
    return [*(f"{line}\n" for line in lines[:-1]), *(line for line in lines[-1:] if line)]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield where each physical line begins, and the line with its end."""
    start = 0
    for line in split(text):
        yield start, line
        start += len(line)


def is_skipped(line: str) -> bool:
    """Tell whether Postfix skips a physical line: it is empty, or a comment."""
    found = line.lstrip(BLANKS)
    return not found or found.startswith("#")


def _end(line: str) -> str:
    if not line.endswith("\n"):
        return ""
    return "\r\n" if line.endswith("\r\n") else "\n"
