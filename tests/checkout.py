"""Where the checkout is, and the files of main.cf in it."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# With what real Postfix says of them.
CORPUS = CHECKOUT / "tests" / "corpus"
