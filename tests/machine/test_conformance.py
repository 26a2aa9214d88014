"""Generated main.cf files: what we read and correct is what the release's own Postfix reads.

Other files each time; PF_AGENT_SEED=N makes those of the run that printed N.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pf_agent.model import DesiredState
from tests.conformance.check import Disagreement, check
from tests.conformance.run import run, write_out
from tests.conformance.strategies import Case
from tests.conformance.truth import Loaded, Truth
from tests.machine.image import cache_dir

FILES = 3_000
SEED = int(os.environ.get("PF_AGENT_SEED") or random.SystemRandom().randrange(1 << 32))


@pytest.fixture(scope="module")
def truth(base: Path) -> Iterator[Truth]:
    with Truth(base) as asked:
        yield asked


def test_generated_files_are_read_and_corrected_as_postfix_reads_them(
    truth: Truth, capsys: pytest.CaptureFixture[str]
) -> None:
    again = f"again: PF_AGENT_SEED={SEED}"
    with capsys.disabled():
        print(f"{FILES} generated files, {again}", flush=True)
    try:
        seen = run(truth, FILES, SEED)
    except Disagreement as failure:
        kept = write_out(failure, cache_dir() / "conformance")
        pytest.fail(f"{failure}\nkept as {kept}; {again}")
    assert seen["files"] == FILES
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


class OtherTruth(Truth):
    """A Postfix for which a vertical tab is no white space."""

    def load(self, text: bytes) -> Loaded:
        return super().load(text.replace(b"\v", b"x"))


def test_the_check_sees_where_the_two_differ(truth: Truth, base: Path) -> None:
    case = Case(b"a = 1\n\v2\n", DesiredState({}, frozenset()), postconf=True)
    assert check(truth, case)["logical lines"] == 1
    with OtherTruth(base) as other, pytest.raises(Disagreement, match="the logical lines"):
        check(other, case)


def test_the_image_is_not_written_to(truth: Truth, base: Path) -> None:
    case = Case(b"= 1\na = 1\n", DesiredState({"a": "2"}, frozenset()), postconf=True)
    assert check(truth, case)["files corrected"] == 1
    assert not any((base / "tmp").iterdir())
