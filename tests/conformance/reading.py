"""That we read in a file what Postfix reads in it."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator

from pf_agent.maincf.document import MainCf, encoded
from tests.conformance.expect import expect, expect_equal
from tests.conformance.truth import Entry, Loaded, Printed

_PATH = b"/tmp/conf/main.cf"
# Postfix 3.10 says so of comments too, and 3.7 of none.
_OF_NUL = b": text after null byte may be ignored"
_FATAL = b"postconf: fatal: "
_OVERRIDING = b": overriding earlier entry: "
_ORPHAN = b": logical line must not start with whitespace: "


def reading(ours: MainCf, theirs: Loaded) -> Counter[str]:
    """The same lines, the same values, the same warnings, and the same end."""
    expect_equal("the logical lines", tuple(_entries(ours)), theirs.entries)
    if theirs.parameters is None:
        expect(bool(ours.unreadable()), "Postfix ends, we read on")
    else:
        parameters = {encoded(n): encoded(v) for n, v in ours.parameters().items()}
        expect_equal("the parameters", parameters, theirs.parameters)
        for name, value in ours.parameters().items():
            found = ours.get(name)
            expect(found is not None and found.value == value, "get() differs", name)
    log = tuple(line for line in theirs.log if not line.endswith(_OF_NUL))
    expect_equal("what a program logs", tuple(_log(ours)), log)
    return Counter(
        {
            "logical lines": len(theirs.entries),
            "files with a line that Postfix refuses": int(theirs.parameters is None),
            "files with duplicates that differ": int(any(_OVERRIDING in line for line in log)),
            "files that begin with an orphan": int(any(_ORPHAN in line for line in log)),
        }
    )


def _entries(ours: MainCf) -> Iterator[Entry]:
    for logical in ours.logical_lines:
        found = logical.parameter
        if logical.error:
            yield Entry(logical.line, b"", b"", logical.error)
        elif found is not None:
            yield Entry(logical.line, encoded(found.name), encoded(found.value), "")


def _log(ours: MainCf) -> Iterator[bytes]:
    """What dict_load_fp (util/dict.c) and readllines (util/readlline.c) must say of the file."""
    values: dict[str, str] = {}
    for logical in ours.logical_lines:
        whole = b"".join(ours.lines[row].rstrip(b"\n") for row in logical.rows)
        text, found = whole.partition(b"\0")[0], logical.parameter
        if logical.error:
            head = b"%s, line %d: %s: " % (_PATH, logical.line, logical.error.encode())
            yield printable(b'%s"%s"' % (head, text))
            return
        if found is None:
            dots = b"..." if len(whole) > 30 else b""
            yield printable(b'%s%s"%s%s"' % (_PATH, _ORPHAN, text[:30], dots))
            continue
        earlier = values.get(found.name, found.value)
        if earlier != found.value:
            name, value = encoded(found.name), encoded(earlier)
            head = b"%s, line %d" % (_PATH, found.line)
            yield printable(b"%s%s%s=%s" % (head, _OVERRIDING, name, value))
        values[found.name] = found.value


def printable(text: bytes) -> bytes:
    """As printable(3) leaves it: what is not printable ASCII becomes a question mark."""
    return re.sub(rb"[^ -~]", b"?", text)


def printing(loaded: Loaded, printed: Printed) -> Counter[str]:
    """`postconf -n` prints each parameter, or says that nothing uses it; and no other."""
    fatal = next((line for line in printed.log if line.startswith(_FATAL)), b"")
    if loaded.parameters is None:
        expect_equal("postconf's last words", loaded.log[-1], fatal.removeprefix(_FATAL))
        return Counter({"files that postconf refused": 1})
    if fatal:
        # Of a value, mostly its `$` expressions: the file was read by then.
        expect(_PATH not in fatal, "postconf cannot read it", fatal)
        return Counter({"files of which postconf refused a value": 1})
    if printed.exit == -signal.SIGSEGV:
        # Without end it expands a parameter that is compared with itself: `a = ${{$a} == {1}?x}`.
        compared = [value for value in loaded.parameters.values() if b"${{" in value]
        expect(bool(compared), "postconf crashed")
        return Counter({"files that crashed postconf": 1})
    expect(printed.exit == 0, "postconf ended", printed)
    parameters = {n: v for n, v in loaded.parameters.items() if n != b"config_directory"}
    shown = {b"%s = %s" % (n, _squeezed(v)): n for n, v in parameters.items()}
    shown |= {b"%s =" % n: n for n, v in parameters.items() if not v}
    unused = {printable(b"%s=%s" % item): item[0] for item in parameters.items()}
    said = [line.partition(b": unused parameter: ") for line in printed.log]
    output = [line for line in printed.output if not line.startswith(b"config_directory =")]
    warned = [text for _, sign, text in said if sign and not text.startswith(b"config_directory=")]
    expect(shown.keys() >= set(output), "postconf prints more", output, shown)
    expect(unused.keys() >= set(warned), "postconf warns of more", warned, unused)
    names = {shown[line] for line in output} | {unused[line] for line in warned}
    lacking = {printable(name) for name in parameters} - {printable(name) for name in names}
    expect(not lacking, "postconf lacks", lacking)
    return Counter({"files that postconf -n printed": 1})


def _squeezed(value: bytes) -> bytes:
    return re.sub(rb"[ \t\r]+", b" ", value)
