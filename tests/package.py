"""The source directory of the package under test, for separate processes."""

from __future__ import annotations

from pathlib import Path

import pf_agent

# Not always the checkout's: the installed package may be under test.
AGENT = str(Path(pf_agent.__file__).parents[1])
