"""That we read in a master.cf what Postfix reads there: each service as `postconf -Mf` has it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pf_agent.maincf.document import decoded, encoded
from pf_agent.maincf.lines import BLANK_BYTES, is_orphan, logical_text
from pf_agent.maincf.lists import words
from pf_agent.maincf.master_cf import Entry, MasterCf
from pf_agent.maincf.service import Service
from tests.conformance.expect import Difference, Disagreement, expect, expect_equal
from tests.conformance.reading import printable
from tests.conformance.truth import Printed, Services, Truth

_PATH = b"/tmp/conf/of-master/master.cf"
_FATAL = b"postconf: fatal: "
_REMARK = b"postconf: warning: master.cf: "
# Where postconf begins each column, how far it indents, and where it folds (postconf_master.c).
_COLUMNS = (0, 11, 17, 25, 33, 41, 49, 57)
_INDENT = 4
_LIMIT = 80
_BLANK = re.compile(rb"[ \t\r\n]")
# Postfix's programs set these themselves, and ignore an option that does.
_READ_ONLY = ("process_id", "process_name", "service_name")


def check_services(truth: Truth, text: bytes) -> Counter[str]:
    """Return what was seen of what kind. Raises Disagreement."""
    try:
        ours = MasterCf.parse(text)
        expect(ours.render() == text, "not lossless")
        return services(ours, truth.services(text)) + commented(ours, truth)
    except Difference as difference:
        raise Disagreement(str(difference), text) from None


def services(ours: MasterCf, theirs: Services) -> Counter[str]:
    """The same lines, the same services and options, and the same words about what is wrong."""
    read = [entry for entry in ours.entries if not is_orphan(ours.lines[entry.rows[0]])]
    expect_equal("the lines", tuple(entry.line for entry in read), theirs.lines)
    said = theirs.entries.log
    fatal = next((line for line in said if line.startswith(_FATAL)), b"").removeprefix(_FATAL)
    expect_equal("the last words", next(_last_words(ours), b""), fatal)
    if theirs.parameters is None:
        return Counter({"files that postconf refused": 1})
    misread = [is_misread(ours, entry) for entry in read]
    found = [entry.found.service for entry in read]
    mine = [_entry(service) for service in found if service is not None]
    for one, other, is_odd in zip(mine, chunks(theirs.entries), misread, strict=True):
        expect_equal("a service", *_comparable(one, other, is_odd))
    _parameters(found, misread, theirs.parameters)
    if not any(misread):
        remarks = [encoded(remark) for entry in read for remark in entry.found.remarks]
        warned = [line.removeprefix(_REMARK) for line in said if line.startswith(_REMARK)]
        expect_equal("the remarks", list(map(printable, remarks)), warned)
    return Counter(
        {
            "files that postconf printed": 1,
            "services": len(read),
            "options": sum(len(service.options()) for service in ours.services),
            "files with a service twice": int(len(set(_names(found))) < len(found)),
            "files with an orphan": int(len(read) < len(ours.entries)),
            "files with a remark": int(any(entry.found.remarks for entry in read)),
            "services that postconf itself misreads": sum(misread),
        }
    )


def commented(ours: MasterCf, truth: Truth) -> Counter[str]:
    """What stands commented out is, without its signs, what Postfix reads there."""
    found = ours.commented
    if not found:
        return Counter()
    lines = [_bare(ours, entry) for entry in found]
    text = MasterCf.parse(b"".join(lines))
    expect_equal("uncommented", [entry.found.service for entry in text.entries], _at(found, lines))
    seen = services(text, truth.services(text.render()))
    expect(seen["files that postconf printed"] == 1, "postconf refuses what was uncommented")
    return Counter({"commented services": seen["services"]})


def _bare(ours: MasterCf, entry: Entry) -> bytes:
    rows = [ours.lines[row].lstrip(b"#") for row in entry.rows]
    return b"".join([rows[0].lstrip(BLANK_BYTES), *rows[1:]]).rstrip(b"\n") + b"\n"


def _at(found: Sequence[Entry], lines: Sequence[bytes]) -> list[Service | None]:
    """The services of the entries, as on the lines of the text that `lines` are."""
    at, moved = 1, []
    for entry, text in zip(found, lines, strict=True):
        service = entry.found.service
        moved.append(None if service is None else service._replace(line=at))
        at += text.count(b"\n")
    return moved


def _last_words(ours: MasterCf) -> Iterator[bytes]:
    """What postconf must say of each line that it refuses; it ends at the first."""
    for entry in ours.entries:
        why = encoded(entry.found.refused)
        if why and entry.found.service is None:
            yield printable(b"file %s: line %d: %s" % (_PATH, entry.line, why))
        elif why:
            yield printable(b'%s in "%s"' % (why, logical_text(entry.rows, ours.lines)))


def is_misread(ours: MasterCf, entry: Entry) -> bool:
    """Whether postconf takes an option of the service apart where no daemon does.

    It looks for an `o` in all of `-omyorigin=x`, and takes a lone `-` for an option.
    """
    text = decoded(logical_text(entry.rows, ours.lines))
    left = list(words(text, " \t\r\n"))[:7:-1]
    while left and left[-1].startswith("-") and left[-1] != "--":
        word = left.pop()
        _, sign, value = word[1:].partition("o")
        if word == "-" or "o" in value:
            return True
        if sign and not value and left:
            left.pop()
    return False


def _comparable(ours: bytes, theirs: bytes, is_misread: bool) -> tuple[bytes, bytes]:
    if not is_misread:
        return ours, theirs
    return b" ".join(ours.split()[:8]), b" ".join(theirs.split()[:8])


def _names(found: Sequence[Service | None]) -> list[str]:
    return [service.full_name for service in found if service is not None]


def chunks(printed: Printed) -> list[bytes]:
    """Return what was printed of each service: folded lines begin with a blank."""
    found: list[list[bytes]] = []
    for line in printed.output:
        if line.startswith(b" "):
            found[-1].append(line)
        else:
            found.append([line])
    return [b"\n".join(lines) for lines in found]


def _pieces(service: Service) -> Iterator[tuple[bytes, int, bool]]:
    """The arguments as they are printed, how long each counts, and whether it has its own line."""
    arguments, are_options = list(map(encoded, service.arguments)), True
    arguments.reverse()
    while arguments:
        word = arguments.pop()
        was_option, are_options = are_options, are_options and _is_option(word)
        if are_options and word.startswith(b"-o") and arguments:
            value = arguments.pop()
            is_wrapped = _BLANK.search(value) is not None
            text = b"%s {%s}" % (word, value) if is_wrapped else b"%s %s" % (word, value)
            yield text, len(word) + len(value) + 3 + 2 * is_wrapped, True
        elif was_option or _BLANK.search(word) is None:
            yield word, len(word), False
        else:
            yield b"{%s}" % word, len(word), False


def _is_option(word: bytes) -> bool:
    return word.startswith(b"-") and word != b"--"


def _entry(service: Service) -> bytes:
    """A service as `postconf -Mf` prints it."""
    text = b""
    for column, field in zip(_COLUMNS, service[:8], strict=True):
        text = (text + b" " if text else b"").ljust(column) + encoded(field)
    length = len(text)
    for piece, counts, is_alone in _pieces(service):
        length = _LIMIT if is_alone else length
        if length > _INDENT and length + 1 + counts < _LIMIT:
            text, length = text + b" ", length + 1
        elif length > _INDENT:
            text, length = text + b"\n" + b" " * _INDENT, _INDENT
        text, length = text + piece, _LIMIT if is_alone else length + len(piece)
    return text


def _parameters(found: Sequence[Service | None], misread: Sequence[bool], printed: Printed) -> None:
    """`postconf -P`: those of one name share options there, from the first on that has any."""
    shared: dict[str, dict[str, str]] = {}
    shown: list[str] = []
    for service in found:
        if service is not None and (service.options() or service.full_name in shared):
            shared.setdefault(service.full_name, {}).update(service.options())
            shown.append(service.full_name)
    odd = {s.full_name for s, is_odd in zip(found, misread, strict=True) if s and is_odd}
    mine = [line for name in shown if name not in odd for line in _settings(name, shared[name])]
    told = tuple(f"{name}/".encode("utf-8", "surrogateescape") for name in odd)
    theirs = [line for line in printed.output if not (told and line.startswith(told))]
    expect_equal("the options", mine, theirs)


def _settings(name: str, options: dict[str, str]) -> Iterator[bytes]:
    for option, value in sorted((encoded(option), encoded(v)) for option, v in options.items()):
        if decoded(option) not in _READ_ONLY:
            line = b"%s/%s = %s" % (encoded(name), option, value)
            yield re.sub(rb"[ \t\r\n]+", b" ", line).strip(b" ")
