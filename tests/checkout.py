"""Where the checkout is, and the files of main.cf in it."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# Real Postfix's verdicts on them are stored there too.
CORPUS = CHECKOUT / "tests" / "corpus"
