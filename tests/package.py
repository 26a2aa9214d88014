"""The source folder of the package that is tested, for processes of their own."""

from __future__ import annotations

from pathlib import Path

import pf_agent

# Not always the checkout's: a release may try what is installed.
AGENT = str(Path(pf_agent.__file__).parents[1])
