"""The command: a verb is a function that takes the parsed arguments and returns an exit code.

arguments.py defines the words on the command line.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, TextIO

from pf_agent import names
from pf_agent.errors import ExitCode, PfAgentError, is_no_thread, no_thread
from pf_agent.words.outgoing import PROCESS, Stream


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A user's mistake never shows a traceback."""
    _prepare_streams()
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # a failure here would show a traceback as Python exits
    except BrokenPipeError:
        # The reader has closed the pipe: `pf-agent diff | head`.
        _discard(sys.stdout, sys.stderr)
        return int(ExitCode.FAILURE)
    except OSError as error:
        lost = [stream for stream in (sys.stdout, sys.stderr) if not _takes_all(stream)]
        if not lost:
            raise
        _discard(*lost)
        print(f"{names.PROGRAM}: cannot write its output: {error.strerror}", file=sys.stderr)
        return int(ExitCode.FAILURE)
    except KeyboardInterrupt:
        return 130


def _run(argv: Sequence[str] | None) -> int:
    order = _order(sys.argv[1:] if argv is None else argv)
    try:
        return int(order())
    except PfAgentError as error:
        for line in str(error).splitlines():
            print(f"{names.PROGRAM}: {line}", file=sys.stderr)
        return int(error.exit_code)
    except RuntimeError as error:
        if not is_no_thread(error):
            raise
        print(f"{names.PROGRAM}: {no_thread(error)}", file=sys.stderr)
        return int(ExitCode.FAILURE)
    except MemoryError:
        print(f"{names.PROGRAM}: not enough memory; raise its limit (MemoryMax=)", file=sys.stderr)
        return int(ExitCode.FAILURE)


def _order(words: Sequence[str]) -> Callable[[], ExitCode]:
    """Return the function that does what the words ask for."""
    if list(words) == ["run"]:
        # The daemon takes its memory for as long as the machine runs, and argparse with its imports
        # would be 0.6 MiB of it.
        from pf_agent.cli.verbs_run import cmd_run

        return cmd_run
    from pf_agent.cli.arguments import parser, with_signs

    arguments = parser().parse_args(with_signs(words))
    return partial(arguments.verb, arguments)


def _prepare_streams() -> None:
    """Make sure that everything printed has somewhere to go, whatever the streams are."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # Closed by the caller (`>&-`). print(file=None) would then use the other one.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # main.cf may contain any character, and the terminal may support few.
            stream.reconfigure(errors="backslashreplace")
    # For all output, including the traceback of an internal error.
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), Stream):
            setattr(sys, name, Stream(getattr(sys, name), PROCESS))


def _takes_all(stream: TextIO) -> bool:
    """Whether all of the stream's output could be written; it cannot on a full disk."""
    try:
        stream.flush()
    except OSError:
        return False
    return True


def _discard(*streams: TextIO) -> None:
    """Discard what is left in the streams: Python's own flush must not complain."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def entry() -> NoReturn:
    """Called by /usr/bin/pf-agent: run `main`, and then end the process at once.

    If dbus-daemon was killed meanwhile, Python's normal exit waits for GLib's thread forever: seen
    after one of three such kills, and `systemctl stop` would wait for its time limit.
    """
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
