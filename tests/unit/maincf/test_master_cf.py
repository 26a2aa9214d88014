"""master.cf, the document: no byte is lost, and the services are those that Postfix reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.maincf.document import decoded
from pf_agent.maincf.master_cf import MasterCf
from tests.conformance.master_corpus import FILES, stored
from tests.conformance.service_strategies import texts
from tests.conformance.services import services

TRUTH = stored()
MASTER_CF = b"""\
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       y       -       -       smtpd
#465      inet  n       -       y       -       -       smtpd
#  -o syslog_name=postfix/smtps
#     Prose about smtpd_relay_restrictions=x, and
#  -o { smtpd_relay_restrictions = permit_sasl_authenticated,
#       reject }
#
#  -v is not an option of it

submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  # a comment between
    -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }
  -v -omessage_size_limit=5
pickup    unix  n       -       y       60      1       pickup
short     inet
submission inet n       -       n       -       -       smtpd
"""


@given(st.binary(max_size=200) | texts())
def test_no_byte_is_lost(data: bytes) -> None:
    found = MasterCf.parse(data)
    assert found.render() == data
    rows = [row for entry in (*found.entries, *found.commented) for row in entry.rows]
    assert len(set(rows)) == len(rows)


def test_the_services_of_a_text() -> None:
    found = MasterCf.parse(MASTER_CF)
    assert [(s.full_name, s.command, s.line) for s in found.services] == [
        ("smtp/inet", "smtpd", 2),
        ("submission/inet", "smtpd", 11),
        ("pickup/unix", "pickup", 16),
        ("submission/inet", "smtpd", 18),
    ]
    assert found.services[1].options() == {
        "syslog_name": "postfix/submission",
        "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
        "message_size_limit": "5",
    }


def test_an_entry_knows_its_lines_and_its_double() -> None:
    first, second = MasterCf.parse(MASTER_CF).occurrences("submission/inet")
    assert (first.line, first.last_line, first.rows) == (11, 15, (10, 11, 13, 14))
    assert (second.line, second.last_line) == (18, 18)


def test_a_service_that_stands_commented_out() -> None:
    found = MasterCf.parse(MASTER_CF)
    (entry,) = found.commented
    assert found.commented_out("465/inet") == (entry,)
    assert found.occurrences("465/inet") == ()
    assert entry.rows == (2, 3, 5, 6)
    service = entry.found.service
    assert service is not None
    assert service.line == 3
    assert service.options() == {
        "syslog_name": "postfix/smtps",
        "smtpd_relay_restrictions": "permit_sasl_authenticated,       reject",
    }


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"## smtp inet n - y - - smtpd\n##  -v\n", [(0, 1)]),
        (b"#a inet n - y - - smtpd\n#b inet n - y - - smtpd\n", [(0,), (1,)]),
        (b"#a unix - n n - - pipe\n#  flags=R argv=/bin/x\n#  ${user}\n", [(0, 1, 2)]),
        (b"#a unix - n n - - pipe\nb inet n - y - - smtpd\n#  -v\n", [(0,)]),
        (b"#a unix - n n - - pipe\n  -o b=1\n#  -o c=1\n", [(0,)]),
        (b"#a tcp n - y - - smtpd\n", []),
        (b"# The mail is sent from n to y - - and back\n", []),
    ],
)
def test_which_comments_are_services(text: bytes, rows: list[tuple[int, ...]]) -> None:
    assert [entry.rows for entry in MasterCf.parse(text).commented] == rows


def test_what_postfix_refuses_is_told_by_line() -> None:
    found = MasterCf.parse(MASTER_CF + b"x unix - - - - some smtp\n")
    assert found.refused() == (
        (17, "bad field count"),
        (19, 'invalid process_limit field "some"'),
    )


def test_an_empty_text_has_no_services() -> None:
    for text in (b"", b"#\n", b"  lost continuation\n#smtp inet\n"):
        found = MasterCf.parse(text)
        assert (found.services, found.refused()) == ((), ())


# --- what Postfix says: tests/corpus/master ----------------------------------------------------


def test_the_corpus_is_whole() -> None:
    assert len(FILES) >= 60
    assert {path.stem for path in FILES} == TRUTH.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_the_corpus_is_read_as_by_postfix(path: Path) -> None:
    found = MasterCf.parse(path.read_bytes())
    assert found.render() == path.read_bytes()
    seen = services(found, TRUTH[path.stem])
    assert seen["files that postconf refused"] == path.stem.startswith("refused")


def test_bytes_that_are_not_utf_8_are_kept() -> None:
    (found,) = MasterCf.parse(b"a\xff unix - - - - - smtp -o b=\xfe\n").services
    assert found.name == decoded(b"a\xff")
    assert found.options() == {"b": decoded(b"\xfe")}
