"""Generated files, and the corpus of master.cf: we read what the release's own Postfix reads.

Other files each time; PF_AGENT_SEED=N makes those of the run that printed N.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pf_agent.maincf.master_cf import MasterCf
from pf_agent.model import DesiredState, DocumentKind
from tests.conformance.check import check
from tests.conformance.entries import check_entries
from tests.conformance.entry_strategies import Entries
from tests.conformance.expect import Disagreement
from tests.conformance.master_corpus import FILES as CORPUS
from tests.conformance.master_corpus import kept, stored
from tests.conformance.run import run, run_edits, run_entries, run_master, write_out
from tests.conformance.services import check_services
from tests.conformance.strategies import Case
from tests.conformance.truth import Loaded, Printed, Services, Truth
from tests.machine.image import cache_dir

FILES = 3_000
MASTER_FILES = 250
SOURCES = 100
EDITS = 200
SEED = int(os.environ.get("PF_AGENT_SEED") or random.SystemRandom().randrange(1 << 32))
AGAIN = f"again: PF_AGENT_SEED={SEED}"


@pytest.fixture(scope="module")
def truth(base: Path) -> Iterator[Truth]:
    with Truth(base) as asked:
        yield asked


def agreed(over: Callable[..., Counter[str]], truth: Truth, files: int) -> Counter[str]:
    """Check so many files, and return what was seen of what kind."""
    try:
        seen = over(truth, files, SEED)
    except Disagreement as failure:
        path = write_out(failure, cache_dir() / "conformance")
        pytest.fail(f"{failure}\nkept as {path}; {AGAIN}")
    assert seen["files"] == files
    return seen


def test_generated_files_are_read_and_corrected_as_postfix_reads_them(
    truth: Truth, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"{FILES} and {MASTER_FILES} generated files, {AGAIN}", flush=True)
    seen = agreed(run, truth, FILES)
    # Else the generator has become tame, and agreement says little.
    for kind, least in (
        ("logical lines", 2 * FILES),
        ("files with a line that Postfix refuses", FILES // 10),
        ("files with duplicates that differ", FILES // 30),
        ("files that begin with an orphan", FILES // 50),
        ("files corrected", FILES // 2),
        ("settings commented out", FILES // 20),
        ("files that postconf -n printed", FILES // 200),
    ):
        assert seen[kind] > least, kind


def test_generated_master_cf_files_are_read_as_postfix_reads_them(truth: Truth) -> None:
    seen = agreed(run_master, truth, MASTER_FILES)
    for kind, least in (
        ("files that postconf printed", MASTER_FILES // 3),
        ("services", 2 * MASTER_FILES),
        ("options", MASTER_FILES),
        ("commented services", MASTER_FILES // 2),
        ("files that postconf refused", 0),  # 26 as a rule, but 3 were seen
        ("files with a service twice", MASTER_FILES // 20),
        ("files with a remark", MASTER_FILES // 20),
        ("files with an orphan", MASTER_FILES // 50),
    ):
        assert seen[kind] > least, kind


def test_generated_sources_of_tables_and_aliases_are_stored_as_we_read_and_change_them(
    truth: Truth,
) -> None:
    seen = agreed(run_entries, truth, SOURCES)
    for kind in (
        *("sources of postmap", "sources of postalias", "entries", "lines that Postfix skips"),
        *("entries that came before", "files with an entry set"),
        "files with an entry commented out",
    ):
        assert seen[kind] > 0, kind


def test_what_is_set_in_master_cf_is_what_postfix_reads_and_all_else_is_as_before(
    truth: Truth,
) -> None:
    seen = agreed(run_edits, truth, EDITS)
    for kind in ("options", "fields"):
        assert seen[kind] > 0, kind
    assert seen["services disabled"] + seen["services enabled"] > 0


def test_the_corpus_of_master_cf_is_read_as_postfix_reads_it(truth: Truth, base: Path) -> None:
    answers = stored()
    for path in CORPUS:
        text = path.read_bytes()
        check_services(truth, text)
        assert kept(truth.services(text)) == answers[path.stem], path
    stock = check_services(truth, (base / "usr/share/postfix/master.cf.dist").read_bytes())
    assert stock["services"] >= 25
    assert stock["commented services"] > 5


def test_the_daemons_take_options_apart_with_getopt(truth: Truth) -> None:
    """postconf does not, if a second `o` follows; both were measured, and the former holds."""
    text = b"smtp inet n - y - - smtpd -omyorigin=x -v - -o a=1\n"
    assert truth.services(text).entries.output[1:4] == (b"    -o my", b"    -o rigin=x", b"    -v")
    (found,) = MasterCf.parse(text).services
    assert found.options() == {"myorigin": "x"}
    bad = b"parameter myhostname: bad parameter value: -oops"
    assert any(bad in line for line in truth.daemon("-V", "-omyhostname=-oops", "-S", "x").log)
    # A lone `-` ends the options; master would have given it `-t inet` before.
    heard = truth.daemon("-V", "-", "-omyhostname=-oops").log
    assert heard
    assert not any(bad in line for line in heard)


class OtherTruth(Truth):
    """A Postfix for which a vertical tab is no white space, and a relay an error."""

    def load(self, text: bytes) -> Loaded:
        return super().load(text.replace(b"\v", b"x"))

    def services(self, text: bytes) -> Services:
        return super().services(text.replace(b"relay", b"error"))

    def tables(self, program: str, texts: Sequence[bytes]) -> list[Printed]:
        return super().tables(program, [text.replace(b"example", b"sample") for text in texts])


def test_the_check_sees_where_the_two_differ(truth: Truth, base: Path) -> None:
    case = Case(b"a = 1\n\v2\n", DesiredState({}, frozenset()), postconf=True)
    assert check(truth, case)["logical lines"] == 1
    with OtherTruth(base) as other, pytest.raises(Disagreement, match="the logical lines"):
        check(other, case)
    text = b"relay unix - - y - - smtp -o a=1\n"
    assert check_services(truth, text)["options"] == 1
    with OtherTruth(base) as other, pytest.raises(Disagreement, match="a service"):
        check_services(other, text)
    source = Entries(DocumentKind.TABLE, b"example.org x\n", (("a", "y"),), "a")
    assert check_entries(truth, source)["entries"] == 1
    with OtherTruth(base) as other, pytest.raises(Disagreement, match="the entries"):
        check_entries(other, source)


def test_the_image_is_not_written_to(truth: Truth, base: Path) -> None:
    case = Case(b"= 1\na = 1\n", DesiredState({"a": "2"}, frozenset()), postconf=True)
    assert check(truth, case)["files corrected"] == 1
    assert not any((base / "tmp").iterdir())
