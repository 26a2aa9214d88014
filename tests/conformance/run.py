"""Drives the generated files through the checks, and writes out what fails, shrunk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pf_agent.model import DocumentKind
from tests.conformance.check import check
from tests.conformance.entries import check_entries
from tests.conformance.entry_strategies import sources
from tests.conformance.expect import Disagreement
from tests.conformance.service_edits import check_edit, edits
from tests.conformance.service_strategies import texts
from tests.conformance.services import check_services
from tests.conformance.strategies import cases
from tests.conformance.truth import Truth

Kind = TypeVar("Kind")


def run(truth: Truth, files: int, seed_number: int) -> Counter[str]:
    """Check so many main.cf files and return what was seen of what kind.

    The same seed makes the same files, with the same version of hypothesis. Raises Disagreement
    with the smallest case that shows it.
    """
    return _run(cases(), check, truth, files, seed_number)


def run_master(truth: Truth, files: int, seed_number: int) -> Counter[str]:
    """Check so many master.cf files, as `run` does. Raises Disagreement."""
    return _run(texts(), check_services, truth, files, seed_number)


def run_entries(truth: Truth, files: int, seed_number: int) -> Counter[str]:
    """Check so many sources of tables or aliases, as `run` does. Raises Disagreement."""
    either = sources(DocumentKind.TABLE) | sources(DocumentKind.ALIASES)
    return _run(either, check_entries, truth, files, seed_number)


def run_edits(truth: Truth, files: int, seed_number: int) -> Counter[str]:
    """Check so many changes of master.cf files, as `run` does. Raises Disagreement."""
    return _run(edits(), check_edit, truth, files, seed_number)


def _run(
    strategy: st.SearchStrategy[Kind],
    holds: Callable[[Truth, Kind], Counter[str]],
    truth: Truth,
    files: int,
    seed_number: int,
) -> Counter[str]:
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
    @given(strategy)
    def conforms(case: Kind) -> None:
        seen.update(holds(truth, case))
        seen["files"] += 1

    conforms()
    return seen


def write_out(failure: Disagreement, folder: Path) -> Path:
    """Write the file that failed into `folder`, and what failed beside it; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(failure.text).hexdigest()[:12]
    path = folder / f"{name}.cf"
    path.write_bytes(failure.text)
    path.with_suffix(".txt").write_text(f"{failure}\n", encoding="utf-8", errors="backslashreplace")
    return path
