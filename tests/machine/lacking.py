"""What a host lacks for a test: a skip, and a failure where nothing may be left out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest


def end_without(lack: Sequence[str], wanted: str) -> None:
    """End the test where the host lacks something for the thing wanted."""
    if not lack:
        return
    reason = f"no {wanted}: this host lacks {', '.join(lack)}; run `sudo tools/test machine`"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
