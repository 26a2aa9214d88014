"""What must hold between one generated file, our reading and correcting of it, and real Postfix."""

from __future__ import annotations

from collections import Counter

from pf_agent.maincf.document import MainCf
from pf_agent.reconcile.drift import corrected
from tests.conformance.correcting import Correction, correction, drifted
from tests.conformance.expect import Difference, Disagreement
from tests.conformance.naming import naming
from tests.conformance.reading import printing, reading
from tests.conformance.strategies import Case
from tests.conformance.truth import Truth


def check(truth: Truth, case: Case) -> Counter[str]:
    """Return what was seen of what kind. Raises Disagreement."""
    after = None
    try:
        before = truth.load(case.text)
        seen = reading(MainCf.parse(case.text), before)
        if case.postconf:
            printed = truth.postconf(case.text)
            seen += printing(before, printed)
            seen += naming(before, printed)
        names = drifted(case.text, case.desired)
        after = corrected(MainCf.parse(case.text), case.desired).render()
        now = truth.load(after)
        reading(MainCf.parse(after), now)
        if case.postconf:
            seen += printing(now, truth.postconf(after))
        seen += correction(Correction(case, before, after, now, names))
    except Difference as difference:
        told = "" if after is None else f"\ncorrected: {after!r}"
        what = f"{difference}{told}\ndesired: {case.desired}"
        raise Disagreement(what, case.text) from None
    return seen
