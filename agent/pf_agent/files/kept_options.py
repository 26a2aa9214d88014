"""The last valid agent.toml, kept for a start that finds a faulty one."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from pf_agent.config import options
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError, HostError
from pf_agent.files.whole import read_ours, write_whole
from pf_agent.model import AgentOptions

NAME: Final = "last-good.agent.toml"


class KeptOptions:
    """The text in one of the agent's directories; an empty one if there was no agent.toml."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, NAME)
        self._kept: bytes | None = None

    def load(self) -> AgentOptions | None:
        """Return the options; None if none were kept, or they can no longer be used."""
        with suppress(HostError, ConfigError):
            text = read_ours(self._path)
            known = None if text is None else options.load(Source(self._path, text))
            self._kept = text  # so that a start with the same text writes nothing
            return known
        return None

    def keep(self, text: bytes) -> None:
        """Keep a text from which options were read.

        If it cannot be written now, it is written at the next call; nothing waits for it.
        """
        if text != self._kept:
            with suppress(HostError):
                write_whole(self._path, text, 0o600, durable=True)
                self._kept = text
