"""status.json: what the daemon says about itself, read back by other commands.

Scripts ask often, so nothing is imported here that only other verbs need.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from pf_agent.errors import HostError
from pf_agent.files.whole import read_whole

STATUS: Final = "status.json"


def read_status(run_directory: str) -> dict[str, Any] | None:
    """Return status.json; None if no running daemon keeps it up to date. Raises HostError."""
    path = os.path.join(run_directory, STATUS)
    try:
        found = json.loads(read_whole(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise HostError(f"{path}: {error}; restart pf-agent.service") from error
    if not isinstance(found, dict):
        raise HostError(f"{path}: it is not a JSON object; restart pf-agent.service")
    # A daemon that was killed could not remove it.
    return found if os.path.exists(f"/proc/{found.get('pid')}") else None
