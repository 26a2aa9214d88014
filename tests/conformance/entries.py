"""That postmap and postalias store what we read in a source, and what we were asked to set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pf_agent.maincf.document import Text, encoded
from pf_agent.maincf.edit import Edit
from pf_agent.maincf.entries import SILENTLY
from pf_agent.maincf.entry_faults import SOURCES
from pf_agent.maincf.grammar import Grammar, grammar_of
from pf_agent.model import ActualState, DesiredState, DocumentKind, FileKind
from pf_agent.reconcile.drift import corrected, find_drift
from tests.conformance.entry_strategies import Entries
from tests.conformance.expect import Difference, Disagreement, expect, expect_equal
from tests.conformance.truth import Printed, Truth

PROGRAMS = {DocumentKind.TABLE: "postmap", DocumentKind.ALIASES: "postalias"}
_GAPS = {DocumentKind.TABLE: b"\t", DocumentKind.ALIASES: b":\t"}
# postalias adds these, if no alias has the name of the first.
_ADDED = re.compile(rb"@:\t@|YP_LAST_MODIFIED:\t\d{10}|YP_MASTER_NAME:\t.*")
_PLACED = re.compile(rb"line (\d+): (.*)", re.DOTALL)
# About entries that are stored, or said by one of the releases only.
_REMARKS = (b"record is in", b"text after null byte")
_AGAIN = b"duplicate entry: "
_ORPHAN = b"logical line must not start with whitespace: "


def check_entries(truth: Truth, case: Entries) -> Counter[str]:
    """Return what was seen of what kind. Raises Disagreement."""
    try:
        return _Check(truth, case).run()
    except Difference as difference:
        raise Disagreement(f"{difference}\n{case}", case.text) from None


class _Check:
    def __init__(self, truth: Truth, case: Entries) -> None:
        self._case = case
        self._truth = truth
        self._grammar: Grammar = grammar_of(case.kind)
        self._read = SOURCES[case.kind].parse

    def run(self) -> Counter[str]:
        case, before = self._case, self._read(self._case.text)
        expect(before.render() == case.text, "not lossless")
        if _is_read_differently(before):
            return Counter({"files that the releases read differently": 1})
        if _takes_in_an_end(before):
            return Counter({"files that end within a quote": 1})
        wanted = {self._grammar.name(key): value for key, value in case.settings}
        name, value = next(iter(wanted.items()))
        after_set = self._changed(before, "set", name, value)
        back = self._put_back(after_set, before, name)
        gone = self._changed(before, "comment_out", case.unwanted)
        restored = self._put_back(gone, before, case.unwanted)
        unwanted = frozenset({case.unwanted}) - wanted.keys()
        desired = DesiredState(wanted, unwanted, kind=case.kind)
        fixed = corrected(before, desired).render()
        texts = (case.text, after_set, back, gone, restored, fixed)
        stored, *others = self._stored(texts)
        expect_equal("after set", others[0], {**stored, **self._entry(name, value)})
        expect_equal("after put_back of set", others[1], stored)
        without = {key: v for key, v in stored.items() if key != encoded(case.unwanted)}
        expect_equal("after comment_out", others[2], without)
        expect_equal("after put_back of comment_out", others[3], stored)
        for key in unwanted:
            stored.pop(encoded(key), None)
        for key, asked in wanted.items():
            stored |= self._entry(key, asked)
        expect_equal("corrected", others[4], stored)
        self._settled(desired, fixed)
        self._the_same(name, value, before)
        if len(before.occurrences(name)) == 1:
            expect_equal("the bytes after put_back of set", back, case.text)
        # A comment that is there already is not added, and becomes the entry again.
        is_kept = gone.count(b"\n") == case.text.count(b"\n")
        if is_kept and len(before.occurrences(case.unwanted)) == 1:
            expect_equal("the bytes after put_back of comment_out", restored, case.text)
        return self._seen(before, texts)

    def _changed(self, text: Text, how: str, name: str, value: str = "") -> bytes:
        edit = Edit(text)
        if how == "set":
            edit.set(name, value)
        else:
            for place in text.occurrences(name):
                edit.comment_out(place)
        return edit.result().render()

    def _put_back(self, text: bytes, before: Text, name: str) -> bytes:
        edit = Edit(self._read(text))
        edit.put_back(name, before.lines_of(name))
        return edit.result().render()

    def _stored(self, texts: Sequence[bytes]) -> list[dict[bytes, bytes]]:
        """What each text comes to, as read and, which is the same, as Postfix stores it."""
        each = list(dict.fromkeys(texts))
        answers = self._truth.tables(PROGRAMS[self._case.kind], each)
        found = {text: self._agreed(text, a) for text, a in zip(each, answers, strict=True)}
        return [dict(found[text]) for text in texts]

    def _agreed(self, text: bytes, answer: Printed) -> dict[bytes, bytes]:
        ours = self._read(text)
        entries = {encoded(k): encoded(v) for k, v in ours.parameters().items()}
        gap = _GAPS[self._case.kind]
        mine = sorted(key + gap + value for key, value in entries.items())
        theirs = list(answer.output)
        if self._case.kind is DocumentKind.ALIASES:
            own = [line for line in mine if _ADDED.fullmatch(line)]
            theirs = [line for line in theirs if line in own or not _ADDED.fullmatch(line)]
        expect_equal("the entries", mine, sorted(theirs))
        for key, value in ours.parameters().items():
            found = ours.get(key)
            expect(found is not None and found.value == value, "get() differs", key)
        _warnings(ours, answer.log)
        return entries

    def _entry(self, name: str, value: str) -> dict[bytes, bytes]:
        return {encoded(name): encoded(SOURCES[self._case.kind].as_read(value))}

    def _settled(self, desired: DesiredState, text: bytes) -> None:
        actual = ActualState(text, FileKind.REGULAR)
        drift = find_drift(desired, actual, attributes=None)
        expect(not drift, "corrected it still drifts", drift)
        expect_equal("corrected twice", corrected(self._read(text), desired).render(), text)

    def _the_same(self, name: str, value: str, before: Text) -> None:
        """Only what is stored the same is the same."""
        found = before.get(name)
        if found is not None:
            is_stored_so = self._entry(name, value)[encoded(name)] == encoded(found.value)
            is_same = self._grammar.same(name, value, found.value)
            expect_equal("the same", is_same, is_stored_so)

    def _seen(self, before: Text, texts: Sequence[bytes]) -> Counter[str]:
        read = [line.parameter for line in before.logical_lines if line.parameter]
        return Counter(
            {
                f"sources of {PROGRAMS[self._case.kind]}": 1,
                "entries": len(read),
                "lines that Postfix skips": sum(bool(x.error) for x in before.logical_lines),
                "entries that came before": len(read) - len(before.parameters()),
                "files with an entry set": int(texts[1] != texts[0]),
                "files with an entry commented out": int(texts[3] != texts[0]),
                "files corrected": int(texts[5] != texts[0]),
            }
        )


def _is_read_differently(ours: Text) -> bool:
    """Whether 3.7 looks for UTF-8 beyond a NUL that ends a line: 3.10 does not."""
    whole = (b"".join(ours.lines[row] for row in x.rows) for x in ours.logical_lines)
    return not all(text.partition(b"\0")[2].isascii() for text in whole)


def _takes_in_an_end(ours: Text) -> bool:
    """Whether the last line has no end and would read the CR of one: an open quote, for example."""
    text = ours.render()
    ended = type(ours).parse(text + b"\r\n")
    found, others = ([x.parameter for x in each.logical_lines] for each in (ours, ended))
    return not text.endswith(b"\n") and found != others


def _warnings(ours: Text, log: Sequence[bytes]) -> None:
    """The lines that are skipped and why, and the keys that come again."""
    said = [line for line in log if not line.startswith(_ORPHAN)]
    placed = [found for found in map(_PLACED.fullmatch, said) if found]
    skipped = [(int(found[1]), found[2]) for found in placed if not found[2].startswith(_REMARKS)]
    mine = [(line.line, line.error.encode()) for line in ours.logical_lines if line.error]
    mine = [(line, why) for line, why in mine if why != SILENTLY.encode()]
    if [line for line, _ in mine] != [line for line, _ in skipped] or any(
        not words.startswith(why) for (_, why), (_, words) in zip(mine, skipped, strict=True)
    ):
        expect_equal("the lines that are skipped", mine, skipped)
    again = Counter(_shown(line) for line in said if line.startswith(_AGAIN))
    names = Counter(x.parameter.name for x in ours.logical_lines if x.parameter)
    twice = Counter(_again(name) for name, many in names.items() for _ in range(many - 1))
    # postalias adds one "@" itself.
    own = Counter([_again("@")] if "@" in names else [])
    expect(twice in (again, again - own), "the keys that come again", twice, again)


def _again(name: str) -> bytes:
    return _shown(b'%s"%s"' % (_AGAIN, encoded(name)))


def _shown(text: bytes) -> bytes:
    """What is left of a text that was made printable, by either release."""
    return re.sub(rb"[^ ->@-~]", b"", text)
