"""Edits of master.cf: what was set is read, it can be taken back, and all else stays as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pf_agent.maincf.entry_text import meaning_of
from pf_agent.maincf.service_edit import ServiceEdit
from pf_agent.maincf.service_parts import ENABLED, ServiceParts, same, taken_apart
from pf_agent.model import ActualState, DesiredState, DocumentKind, FileKind
from pf_agent.reconcile.drift import corrected, find_drift
from pf_agent.reconcile.wishes import put_back
from tests.conformance.master_corpus import FILES
from tests.conformance.service_edits import Change, changed, changes, others, takes_in_all
from tests.conformance.service_strategies import texts

KIND = DocumentKind.MASTER_CF


def parsed(text: bytes) -> ServiceParts:
    return ServiceParts.parse(text)


def with_set(text: bytes, *parts: tuple[str, str]) -> bytes:
    edit = ServiceEdit(parsed(text))
    for name, value in parts:
        edit.set(name, value)
    return edit.result().render()


def commented_out(text: bytes, name: str) -> bytes:
    document = parsed(text)
    edit = ServiceEdit(document)
    for place in document.occurrences(name):
        edit.comment_out(place)
    return edit.result().render()


def is_commented_too(document: ServiceParts, full_name: str) -> bool:
    """Whether a service that is on stands there as a comment as well."""
    on = [meaning_of(e.found.service) for e in document.live.get(full_name, ()) if e.found.service]
    off = document.master_cf.commented_out(full_name)
    return any(meaning_of(e.found.service) in on for e in off if e.found.service)


# --- what holds for any text -------------------------------------------------------------------


@given(texts(), st.data())
def test_what_was_set_is_read_and_nothing_else_has_changed(
    text: bytes, data: st.DataObject
) -> None:
    change = data.draw(changes(text))
    full_name, _ = taken_apart(change.name)
    before = parsed(text)
    assume(not takes_in_all(before, full_name))
    after = parsed(changed(text, change))
    found = after.get(change.name)
    if change.value is None:
        assert found is None
    else:
        assert found is not None
        assert same(change.name, change.value, found.value)
    assert others(after, full_name) == others(before, full_name)
    had = {n: v for n, v in before.parameters().items() if n.startswith(f"{full_name}/")}
    if had and change.name != full_name:
        has = {n: v for n, v in after.parameters().items() if n.startswith(f"{full_name}/")}
        had.pop(change.name, None)
        has.pop(change.name, None)
        assert has == had


@given(texts(), st.data())
def test_what_was_changed_is_put_back_to_the_byte(text: bytes, data: st.DataObject) -> None:
    change = data.draw(changes(text))
    document = parsed(text)
    full_name, _ = taken_apart(change.name)
    assume(document.to_repair(full_name) is None)
    names = {change.name, full_name}
    before = {name: document.lines_of(name) for name in sorted(names)}
    after = changed(text, change)
    again = put_back(KIND, after, before)
    lost = Counter(text.split(b"\n")) - Counter(again.split(b"\n"))
    if change == Change(full_name, None) and is_commented_too(document, full_name):
        # No second comment was made of it, and the one that was there went back in its place.
        assert all(line.startswith(b"#") for line in lost)
        assert parsed(again).parameters() == document.parameters()
    elif document.live.get(full_name) or before[full_name] is not None:
        assert again.rstrip(b"\r\n") == text.rstrip(b"\r\n")
    else:
        assert parsed(again).parameters() == document.parameters()


def test_a_comment_below_is_no_line_of_a_service_that_ends_at_a_nul() -> None:
    text = b"smtp inet - - - - - smtpd -o a=1\0 -o b=2\n#  -o lost=1\n"
    before = {"smtp/inet": parsed(text).lines_of("smtp/inet")}
    after = changed(text, Change("smtp/inet", None))
    assert parsed(after).parameters() == {}
    assert put_back(KIND, after, before) == text


def test_a_service_that_was_enabled_becomes_a_comment_again_with_its_own() -> None:
    text = b"#smtp pass - - - - - smtpd -o a=1\n## comment\n#  -o a=1\n#smtp inet n - - - - smtpd\n"
    names = ("smtp/pass", "smtp/pass/a")
    before = {name: parsed(text).lines_of(name) for name in names}
    after = changed(text, Change("smtp/pass/a", ""))
    assert b"\n# comment\n" in after
    assert put_back(KIND, after, before) == text


def test_a_comment_below_is_not_taken_for_a_line_that_was_enabled() -> None:
    text = b"a unix - - - - - x\n#smtp fifo - - - - - smtpd\n#  -o lost=1\n  -o b=1\n#  -o lost=1\n"
    names = ("smtp/fifo", "smtp/fifo/a")
    before = {name: parsed(text).lines_of(name) for name in names}
    assert put_back(KIND, changed(text, Change("smtp/fifo/a", "")), before) == text


def test_an_empty_comment_below_is_not_taken_for_an_empty_line_that_went() -> None:
    text = b"a unix - - - - - x\n\n  -o b=1\n#\n"
    after = changed(text, Change("a/unix", None))
    assert put_back(KIND, after, {"a/unix": parsed(text).lines_of("a/unix")}) == text


def test_what_stands_behind_a_nul_leaves_no_comment_when_the_service_is_on_again() -> None:
    text = b"smtp inet - - - - - smtpd -o a=1\0 -o b=2\n   - -o a=1\n"
    after = changed(text, Change("smtp/inet", None))
    assert b"\n#   - -o a=1\n" in after
    assert put_back(KIND, after, {"smtp/inet": parsed(text).lines_of("smtp/inet")}) == text


def test_an_empty_line_within_one_entry_is_not_that_below_another() -> None:
    entry = b"smtp unix - - - - - smtpd\n\n  -o a=1\n"
    text = entry + entry.replace(b"\n\n", b"\n") + b"\nsmtp inet n - - - - smtpd\n"
    names = ("smtp/unix", "smtp/unix/a")
    before = {name: parsed(text).lines_of(name) for name in names}
    assert put_back(KIND, changed(text, Change("smtp/unix/a", "")), before) == text


@given(texts(), st.data())
def test_lines_of_a_part_are_its_lines(text: bytes, data: st.DataObject) -> None:
    document = parsed(text)
    assume(document.parameters())
    name = data.draw(st.sampled_from(sorted(document.parameters())))
    lines = document.lines_of(name)
    assert lines is not None
    alone = parsed(lines.encode("utf-8", "surrogateescape"))
    assert alone.lines_of(name) == lines
    found, here = alone.get(name), document.get(name)
    assert found is not None
    assert here is not None
    assert found.value == here.value


@given(texts(), st.data())
def test_a_corrected_text_has_no_drift(text: bytes, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(changes(text, is_safe=True), max_size=4))
    settings = {c.name: c.value for c in wanted if c.value is not None}
    services = {taken_apart(name)[0] for name in settings}
    settings |= dict.fromkeys(services, ENABLED)
    use_default = {c.name for c in wanted if c.value is None and c.name not in settings}
    use_default -= {name for name in use_default if taken_apart(name)[0] in services - {name}}
    desired = DesiredState(settings, frozenset(use_default), kind=KIND)
    after = corrected(parsed(text), desired)
    state = ActualState(after.render(), FileKind.REGULAR)
    assert find_drift(desired, state, attributes=None) == ()
    assert corrected(after, desired).render() == after.render()


@given(texts(), st.data())
def test_disabled_and_enabled_again_it_is_the_same_service(
    text: bytes, data: st.DataObject
) -> None:
    document = parsed(text)
    assume(document.live)
    full_name = data.draw(st.sampled_from(sorted(document.live)))
    assume(len(document.live[full_name]) == 1)
    assume(document.to_repair(full_name) is None)
    entry = document.entry(full_name)
    assert entry is not None
    assume(not document.live[full_name][0].found.remarks)
    off = commented_out(text, full_name)
    assert parsed(off).get(full_name) is None
    again = parsed(with_set(off, (full_name, ENABLED))).entry(full_name)
    assert again is not None
    stood = [e.found.service for e in document.master_cf.commented_out(full_name)]
    if not stood:
        assert again.meaning == entry.meaning


# --- where it stands, and how it is written ----------------------------------------------------

SUBMISSION = b"""\
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  # a comment between
    -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }
  -v -omessage_size_limit=5
pickup    unix  n       -       y       60      1       pickup
"""


def replaced(old: bytes, new: bytes, text: bytes = SUBMISSION) -> bytes:
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("part", "value", "after"),
    [
        pytest.param(
            "syslog_name", "x", replaced(b"=postfix/submission", b"=x"), id="an option in place"
        ),
        pytest.param(
            "smtpd_relay_restrictions",
            "reject",
            replaced(b"= permit_sasl_authenticated, reject }", b"= reject }"),
            id="in its braces",
        ),
        pytest.param(
            "message_size_limit",
            "7",
            replaced(b"-omessage_size_limit=5", b"-omessage_size_limit=7"),
            id="in one word with its sign",
        ),
        pytest.param(
            "message_size_limit",
            "7 8",
            replaced(b"-omessage_size_limit=5", b"-o{ message_size_limit = 7 8 }"),
            id="blanks need braces",
        ),
        pytest.param(
            "message_size_limit",
            "$two",
            replaced(b"-omessage_size_limit=5", b"-o message_size_limit=$two"),
            id="with a blank, where postconf would see two options in one word",
        ),
        pytest.param(
            "new",
            "",
            replaced(b"_limit=5\n", b"_limit=5\n  -o new=\n"),
            id="a new one on a line of its own below the last one",
        ),
        pytest.param(
            "chroot",
            "n",
            replaced(b"submission inet n       -       y", b"submission inet n       -       n"),
            id="a field",
        ),
        pytest.param(
            "process_limit",
            "1000",
            replaced(
                b"submission inet n       -       y       -       -       smtpd",
                b"submission inet n       -       y       -       1000    smtpd",
            ),
            id="the next field stays in its column",
        ),
        pytest.param(
            "command",
            "postscreen",
            replaced(b"smtpd\n  -o sys", b"postscreen\n  -o sys"),
            id="the program alone",
        ),
        pytest.param(
            "arguments",
            "",
            replaced(b"  -v -omessage", b"  -omessage"),
            id="arguments that are no options",
        ),
        pytest.param(
            "arguments",
            "-v -D",
            replaced(b"  -v -omessage_size_limit=5\n", b"  -omessage_size_limit=5\n  -v -D\n"),
            id="other arguments",
        ),
    ],
)
def test_a_part_is_set_where_it_stands(part: str, value: str, after: bytes) -> None:
    assert with_set(SUBMISSION, (f"submission/inet/{part}", value)) == after


@pytest.mark.parametrize(
    ("before", "part", "value", "after"),
    [
        pytest.param(
            b"a unix - n n - - pipe flags=R user=x\n",
            "b",
            "1",
            b"a unix - n n - - pipe -o b=1 flags=R user=x\n",
            id="before operands, on their line",
        ),
        pytest.param(
            b"a unix - n n - - pipe\n\tflags=R user=x\n",
            "b",
            "1",
            b"a unix - n n - - pipe\n  -o b=1\n\tflags=R user=x\n",
            id="before operands below",
        ),
        pytest.param(
            b"a unix - n n - - smtp\n\t-o b=1\n",
            "c",
            "2 3",
            b"a unix - n n - - smtp\n\t-o b=1\n\t-o { c = 2 3 }\n",
            id="indented as its neighbour",
        ),
        pytest.param(
            b"a unix - n n - - smtp -o b=1 -o c=1 -o b=2\n",
            "b",
            "3",
            b"a unix - n n - - smtp -o b=3 -o c=1\n",
            id="once, of several the first",
        ),
        pytest.param(
            b"a unix - n n - - smtp -o b=1 -o c=1 -o b=2\n",
            "b",
            "2",
            b"a unix - n n - - smtp -o c=1 -o b=2\n",
            id="of several the one that says so",
        ),
        pytest.param(
            b"a unix - n n - - smtp -vo b=1\n",
            "b",
            "2",
            b"a unix - n n - - smtp -vo b=2\n",
            id="behind flags",
        ),
        pytest.param(
            b"a unix - n n - - smtp\r\nb unix - n n - - smtp\r\n",
            "c",
            "1",
            b"a unix - n n - - smtp\r\n  -o c=1\r\nb unix - n n - - smtp\r\n",
            id="CR LF",
        ),
        pytest.param(
            b"a unix - n n - - smtp",
            "c",
            "1",
            b"a unix - n n - - smtp\n  -o c=1\n",
            id="no final newline",
        ),
        pytest.param(
            b"a unix - n n - - smtp -o b=1\0 -o c=1\n  -o d=1\n# z\n",
            "b",
            "2",
            b"a unix - n n - - smtp -o b=2\n# z\n",
            id="what stood behind a NUL goes",
        ),
        pytest.param(
            b"a unix - n n - - smtp -o {b =\n# why\n   1}\n",
            "b",
            "2",
            b"a unix - n n - - smtp -o { b = 2 }\n# why\n",
            id="a comment within a value stays",
        ),
        pytest.param(
            b"a unix - n n - - smtp -v\na unix - n n - - smtp\n",
            "b",
            "2",
            b"a unix - n n - - smtp -v\na unix - n n - - smtp\n  -o b=2\n",
            id="of two services the last, which master uses",
        ),
        pytest.param(
            b"a unix - n n - - smtp\n",
            "arguments",
            "#x y",
            b"a         unix  -       n       n       -       -       smtp #x y\n",
            id="anew, where the text would become a comment",
        ),
    ],
)
def test_odd_texts(before: bytes, part: str, value: str, after: bytes) -> None:
    assert with_set(before, (f"a/unix/{part}", value)) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a unix - - - - - x\n  -o b=1\n  -o c=1\n", b"a unix - - - - - x\n  -o c=1\n"),
        (b"a unix - - - - - x\n  -o b=1 -o c=1\n", b"a unix - - - - - x\n  -o c=1\n"),
        (b"a unix - - - - - x -o c=1 -o b=1\n", b"a unix - - - - - x -o c=1\n"),
        (b"a unix - - - - - x -o b=1 -o b=2 -v\n", b"a unix - - - - - x -v\n"),
        (b"a unix - - - - - x -vob=1\n", b"a unix - - - - - x -v\n"),
        (
            b"a unix - - - - - x -o\n# c\n  b=1\nd unix - - - - - x\n",
            b"a unix - - - - - x\n# c\nd unix - - - - - x\n",
        ),
        (b"a unix - - - - - x\n", b"a unix - - - - - x\n"),
    ],
)
def test_an_option_that_must_not_be_there_goes(before: bytes, after: bytes) -> None:
    assert commented_out(before, "a/unix/b") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            SUBMISSION,
            b"smtp      inet  n       -       y       -       -       smtpd\n"
            b"#submission inet n       -       y       -       -       smtpd\n"
            b"#  -o syslog_name=postfix/submission\n"
            b"#  # a comment between\n"
            b"#    -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }\n"
            b"#  -v -omessage_size_limit=5\n"
            b"pickup    unix  n       -       y       60      1       pickup\n",
            id="with all its lines",
        ),
        pytest.param(
            b"submission inet n - y - - smtpd\n#  -o b=1\n#\n",
            b"##submission inet n - y - - smtpd\n#  -o b=1\n#\n",
            id="with more signs than what would become its option",
        ),
        pytest.param(
            b"submission inet n - y - - smtpd\n\n  -o b=1\nx unix - - - - - x\n",
            b"#submission inet n - y - - smtpd\n#  -o b=1\nx unix - - - - - x\n",
            id="an empty line within goes",
        ),
        pytest.param(
            b"submission inet n - y - - smtpd\n  flags x\n",
            b"#submission inet n       -       y       -       -       smtpd  flags x\n",
            id="on one line, where its lines would be prose",
        ),
        pytest.param(
            b"#submission  inet n - y - - smtpd\nsubmission inet n - y - - smtpd\n",
            b"#submission  inet n - y - - smtpd\n",
            id="not twice",
        ),
    ],
)
def test_a_service_is_disabled(before: bytes, after: bytes) -> None:
    assert commented_out(before, "submission/inet") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            b"#submission inet n - y - - smtpd\n#  -o b=1\n#  Prose.\n#  -o c=1\n# End.\n"
            b"x unix - - - - - x\n",
            b"submission inet n - y - - smtpd\n  -o b=1\n#  Prose.\n  -o c=1\n# End.\n"
            b"x unix - - - - - x\n",
            id="where it stands commented out",
        ),
        pytest.param(
            b"#submission inet n - y - - smtpd\n#submission inet n - n - - smtpd\n",
            b"#submission inet n - y - - smtpd\nsubmission inet n - n - - smtpd\n",
            id="the last of several",
        ),
        pytest.param(
            b"x unix - - - - - x\n#submission inet n - y - - smtpd\n#  -o b=1\n  -o c=1\n"
            b"y unix - - - - - y\n",
            b"x unix - - - - - x\n#submission inet n - y - - smtpd\n#  -o b=1\n  -o c=1\n"
            b"submission inet n - y - - smtpd\n  -o b=1\ny unix - - - - - y\n",
            id="below the service whose lines are around it",
        ),
        pytest.param(
            b"x unix - - - - - x",
            b"x unix - - - - - x\nsubmission inet n       -       -       -       -       smtpd\n",
            id="at the end",
        ),
        pytest.param(
            b"submission inet n - maybe - x smtpd -v\n",
            b"submission inet n - -     - - smtpd -v\n",
            id="mended",
        ),
        pytest.param(SUBMISSION, SUBMISSION, id="it is there"),
    ],
)
def test_a_service_is_enabled(before: bytes, after: bytes) -> None:
    assert with_set(before, ("submission/inet", ENABLED)) == after


def test_the_commented_one_with_the_program_asked_for_is_enabled() -> None:
    text = b"#smtp inet n - y - 1 postscreen\n#smtp inet n - y - - smtpd\n"
    after = b"smtp inet n - y - 1 postscreen\n#smtp inet n - y - - smtpd\n"
    name = "smtp/inet"
    assert with_set(text, (name, ENABLED), (f"{name}/command", "postscreen")) == after


def test_a_line_that_postfix_refuses_is_commented_out_and_a_wanted_service_mended() -> None:
    text = b"short inet\nsmtp inet n - maybe - - smtpd\n  -v\nx unix - - - - soon x\n"
    desired = DesiredState({"smtp/inet": ENABLED}, frozenset(), kind=KIND)
    after = corrected(parsed(text), desired).render()
    assert after == b"#short inet\nsmtp inet n - -     - - smtpd\n  -v\n#x unix - - - - soon x\n"
    (drift, *_) = find_drift(desired, ActualState(text, FileKind.REGULAR), attributes=None)
    assert (drift.line, drift.actual) == (1, "short inet")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_service_of_the_corpus_is_disabled_and_put_back(path: Path) -> None:
    text = path.read_bytes()
    document = parsed(text)
    for full_name in document.live:
        after = commented_out(text, full_name)
        assert parsed(after).get(full_name) is None
        assert others(parsed(after), full_name) == others(document, full_name)
        assert put_back(KIND, after, {full_name: document.lines_of(full_name)}) == text


def test_a_comment_that_stood_within_a_service_is_not_there_twice() -> None:
    text = b"a unix - - - - - x\n  -o b=1\n# why c\n  -o c=1\n# why c\nd unix - - - - - x\n"
    name = "a/unix/c"
    after = commented_out(text, name)
    assert after == b"a unix - - - - - x\n  -o b=1\n# why c\n# why c\nd unix - - - - - x\n"
    assert put_back(KIND, after, {name: parsed(text).lines_of(name)}) == text


def test_an_option_is_added_before_a_brace_that_is_not_closed() -> None:
    text = b"a unix - - - - - x\n  -o b=1\n  -o {c = d\n"
    after = b"a unix - - - - - x\n  -o e=2\n  -o b=1\n  -o {c = d\n"
    assert with_set(text, ("a/unix/e", "2")) == after


def test_what_is_enabled_does_not_take_in_the_text_below_it() -> None:
    text = b"#a unix - - - - - x\n  -o orphan=1\nb unix - - - - - x\n"
    after = b"#a unix - - - - - x\n  -o orphan=1\na unix - - - - - x\nb unix - - - - - x\n"
    assert with_set(text, ("a/unix", ENABLED)) == after


def test_a_comment_within_a_service_is_the_same_after_disabling_and_enabling_it() -> None:
    text = b"a unix - - - - - x\n# why\n#  -o b=0\n  -o b=1\nc unix - - - - - x\n"
    off = commented_out(text, "a/unix")
    assert off == b"#a unix - - - - - x\n## why\n##  -o b=0\n#  -o b=1\nc unix - - - - - x\n"
    assert with_set(off, ("a/unix", ENABLED)) == text


@given(texts(), st.data())
def test_every_byte_of_the_other_lines_stays(text: bytes, data: st.DataObject) -> None:
    change = data.draw(changes(text))
    document = parsed(text)
    full_name, _ = taken_apart(change.name)
    master_cf = document.master_cf
    own = {
        row
        for entry in (*master_cf.occurrences(full_name), *master_cf.commented_out(full_name))
        for row in range(entry.rows[0], entry.rows[-1] + 1)
    }
    kept = [line for row, line in enumerate(master_cf.lines) if row not in own]
    after = iter(parsed(changed(text, change)).master_cf.lines)
    # A last line without an end gets one where another comes below it.
    for line in kept:
        ended = (line, line + b"\n", line + b"\r\n")
        assert any(new in ended for new in after)
