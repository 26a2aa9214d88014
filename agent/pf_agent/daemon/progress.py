"""What `apply` is waiting for, shown meanwhile: on a terminal, as a line that is renewed.

Elsewhere a line is printed once, if it will take long: a reader of the log should know why.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TextIO

from pf_agent import names
from pf_agent.activation.pacing import RESTARTS_A_MINUTE
from pf_agent.words import sentences
from pf_agent.words.page import cut

_LONG_SECONDS = 10.0
# To the beginning of the line, and erase the rest (ECMA-48, EL).
_CLEAR = "\r\x1b[K"


class Progress:
    """The last line of a terminal, or a line for a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._is_shown = self._is_told = False

    def tell(self, text: str, seconds: float) -> None:
        """Show what is waited for, if necessary; `seconds` is the least time it takes."""
        line = f"{names.PROGRAM}: waiting: {sentences.printable(text)}"
        if self._is_terminal:
            width = shutil.get_terminal_size().columns
            print(f"{_CLEAR}{cut(line, width - 1)}", end="", file=self._stream, flush=True)
            self._is_shown = True
        elif seconds >= _LONG_SECONDS and not self._is_told:
            print(line, file=self._stream, flush=True)
            self._is_told = True

    def clear(self) -> None:
        """Make room for other output."""
        if self._is_shown:
            print(_CLEAR, end="", file=self._stream, flush=True)
            self._is_shown = False


@dataclass(frozen=True)
class Waiting:
    """What must happen before Postfix runs with the new main.cf.

    `is_elsewhere`: another process does it, and according to its status restarts Postfix at `due`;
    `patience` is the seconds before our next step. `awaited` is a sentence about what the start is
    waiting for, "" if only for time to pass. Moments in seconds since the epoch.
    """

    is_elsewhere: bool = False
    is_under_way: bool = False
    is_contested: bool = False
    patience: float = 0.0
    due: float | None = None
    awaited: str = ""

    def seconds(self, now: float) -> float:
        """Return how long it takes at least."""
        if self.is_elsewhere:
            return 0.0 if self.due is None else max(0.0, self.due - now)
        return 0.0 if self.is_under_way else self.patience

    def sentence(self, now: float) -> str:
        """Return what is waited for, and why it is not done at once."""
        wait = self.seconds(now)
        later = f" in {sentences.duration(wait)}" if wait >= 1 else ""
        if self.is_elsewhere:
            return f"pf-agent.service restarts Postfix{later}"
        if self.is_under_way:
            return "Postfix is being restarted, and is asked whether it serves"
        if self.awaited:
            return self.awaited
        most = f"at most {RESTARTS_A_MINUTE} restarts a minute"
        why = "something keeps changing main.cf" if self.is_contested else most
        return f"Postfix is restarted{later}{f' ({why})' if later else ''}"
