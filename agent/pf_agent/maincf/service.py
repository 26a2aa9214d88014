"""One service of master.cf: its fields, its options, and what Postfix refuses in them.

The grammar is that of postconf(1), -M, -F and -P, on 3.7 and 3.10. postconf reads `-oname=value`
wrong if a second `o` follows (`-omyorigin=x` becomes `-o my -o rigin=x`); here it is read as the
daemons do, with getopt(3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from pf_agent import names
from pf_agent.maincf.lists import words
from pf_agent.model import BLANKS

# As many fields as a service has at least; what follows are the program's arguments.
LEAST: Final = 8
# PCF_MASTER_BLANKS in postconf.h: \v and \f do not separate.
SEPARATORS: Final = " \t\r\n"
_FLAG: Final = re.compile("[yn-]")
# What a field may contain, in the order in which postconf looks (pcf_check_master_entry()).
_CHECKS: Final = (
    ("type", re.compile("|".join(names.SERVICE_TYPES))),
    ("private", _FLAG),
    ("unprivileged", _FLAG),
    ("chroot", _FLAG),
    ("wakeup", re.compile(r"(?:-|[0-9]*)\??")),
    ("process_limit", re.compile("-|[0-9]+")),
)
_NAME: Final = re.compile(rf"[{BLANKS}]*([^={BLANKS}]+)[{BLANKS}]*=")


class Service(NamedTuple):
    """One service; `arguments` are normalized: `-o` stands alone, and braces are gone.

    `line` is that of its name, 0 if unknown.
    """

    name: str
    type: str
    private: str
    unprivileged: str
    chroot: str
    wakeup: str
    process_limit: str
    command: str
    arguments: tuple[str, ...] = ()
    line: int = 0

    @property
    def full_name(self) -> str:
        """As postconf(1) names it, `submission/inet`."""
        return f"{self.name}/{self.type}"

    @property
    def address(self) -> str:
        """What precedes the port of an inet service, without brackets; "" for nothing."""
        return self.name.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> str:
        """The port of an inet service, a number or a name."""
        return self.name.rpartition(":")[2]

    def options(self) -> dict[str, str]:
        """Return the parameters that its `-o` options set over main.cf; the last one holds.

        An option without a name or a `=` sets nothing, and the program does not start.
        """
        return dict(
            setting
            for is_option, word in _told_apart(self.arguments)
            if is_option and (setting := _name_and_value(word))
        )

    def other_words(self) -> tuple[str, ...]:
        """Return the words of the arguments that set no parameter, `-o` by itself."""
        found: list[str] = []
        for is_option, word in _told_apart(self.arguments):
            if not (is_option and _name_and_value(word)):
                found += ["-o", word] if is_option else [word]
        return tuple(found)

    def other_arguments(self) -> tuple[str, ...]:
        """Return the arguments that set no parameter."""
        return tuple(
            f"-o {word}" if is_option else word
            for is_option, word in _told_apart(self.arguments)
            if not (is_option and _name_and_value(word))
        )


class Reading(NamedTuple):
    """What was read in one logical line of master.cf.

    `refused` says why every Postfix program that reads it ends. There is a service all the same if
    the line has all its fields. `remarks` are about arguments: master ends at faulty braces, and
    the program at a parameter without `=`.
    """

    service: Service | None
    refused: str = ""
    remarks: tuple[str, ...] = ()


def read(text: str, line: int) -> Reading:
    """Read a logical line, whose number is `line`."""
    found = list(words(text, SEPARATORS))
    if len(found) < LEAST:
        return Reading(None, "bad field count")
    remarks: list[str] = []
    arguments = tuple(_normalized(found[LEAST:], remarks))
    service = Service._make((*found[:LEAST], arguments, line))
    return Reading(service, _refused(service), tuple(remarks))


def default_of(kind: str, field: str) -> str:
    """Return what a field says that asks for the default, of a service of this type.

    master(8) ends at an inet service that is private, which `-` means, too (master_ent.c).
    """
    return "n" if (kind, field) == ("inet", "private") else "-"


def refused_fields(service: Service) -> tuple[str, ...]:
    """Return the fields that Postfix refuses, in the order in which it looks."""
    return tuple(
        field for field, pattern in _CHECKS if pattern.fullmatch(getattr(service, field)) is None
    )


def _refused(service: Service) -> str:
    found = refused_fields(service)
    return f'invalid {found[0]} field "{getattr(service, found[0])}"' if found else ""


def is_option_word(word: str) -> bool:
    """Tell whether getopt(3) takes an argument for an option, unless one before it was none."""
    return word.startswith("-") and word not in ("-", "--")


def _normalized(arguments: Sequence[str], remarks: list[str]) -> Iterator[str]:
    """Yield the arguments in their simplest form; `remarks` gets what is wrong with them."""
    left = list(reversed(arguments))
    while left and is_option_word(left[-1]):
        flags, sign, value = left.pop()[1:].partition("o")
        if flags:
            yield f"-{flags}"
        if not sign:
            continue
        yield "-o"
        if value or left:
            yield _setting(value or left.pop(), remarks)
    yield from (_without_braces(word, remarks) for word in reversed(left))


def _told_apart(arguments: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """Yield each argument without the `-o`, and whether one stands before it."""
    is_option, is_before = False, True
    for word in arguments:
        if is_option:
            yield True, word
            is_option = False
        elif is_before and word == "-o":
            is_option = True
        else:
            is_before = is_before and is_option_word(word)
            yield False, word
    if is_option:
        yield False, "-o"


def setting_of(word: str) -> tuple[str, str] | None:
    """Return the name and the value that an option's word sets; None if it sets nothing."""
    return _name_and_value(_setting(word, []))


def _setting(word: str, remarks: list[str]) -> str:
    """Return `name=value`; what stands in braces may have blanks around the sign."""
    if not word.startswith("{"):
        return word
    inner = _without_braces(word, remarks)
    setting = _name_and_value(inner)
    if setting is not None:
        return "=".join(setting)
    what = "missing '=' after attribute name"
    if not inner or inner.startswith("="):
        what = "missing attribute name"
    remarks.append(f'{what}: "{inner}"')
    return inner


def _name_and_value(setting: str) -> tuple[str, str] | None:
    """Take a setting apart as split_nameval(3) does; None if that has nothing to take apart."""
    found = _NAME.match(setting)
    return None if found is None else (found[1], setting[found.end() :].strip(BLANKS))


def _without_braces(word: str, remarks: list[str]) -> str:
    """Return what stands inside the braces of a word that begins with one (extpar(3))."""
    if not word.startswith("{"):
        return word
    end = _closing(word)
    if end == 0:
        remarks.append(f"missing '}}' in \"{word}\"")
        return word[1:].strip(BLANKS)
    if end < len(word):
        remarks.append(f"syntax error after '}}' in \"{word}\"")
    return word[1 : end - 1].strip(BLANKS)


def _closing(word: str) -> int:
    """Return where the text after the matching brace begins; 0 if there is no such brace."""
    level = 0
    for found in re.finditer("[{}]", word):
        level += 1 if found[0] == "{" else -1
        if level == 0:
            return found.end()
    return 0
