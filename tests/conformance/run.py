"""Drives the generated files through the check, and writes out what fails, shrunk."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.conformance.check import Disagreement, check
from tests.conformance.strategies import Case, cases
from tests.conformance.truth import Truth


def run(truth: Truth, files: int, seed_number: int) -> Counter[str]:
    """Check so many files and return what was seen of what kind.

    The same seed makes the same files, with the same version of hypothesis. Raises Disagreement
    with the smallest case that shows it.
    """
    seen: Counter[str] = Counter()

    @seed(seed_number)
    @settings(
        max_examples=files,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(cases())
    def conforms(case: Case) -> None:
        seen.update(check(truth, case))
        seen["files"] += 1

    conforms()
    return seen


def write_out(failure: Disagreement, folder: Path) -> Path:
    """Write the file that failed into `folder`, and what failed beside it; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(failure.case.text).hexdigest()[:12]
    path = folder / f"{name}.cf"
    path.write_bytes(failure.case.text)
    path.with_suffix(".txt").write_text(f"{failure}\n", encoding="utf-8", errors="backslashreplace")
    return path
