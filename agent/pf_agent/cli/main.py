"""The command: a verb is a function that takes the parsed arguments and returns an exit code.

What the words on the command line may be is in arguments.py.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A user's mistake never shows a traceback."""
    _prepare_streams()
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # what fails here would show a traceback as Python ends
    except BrokenPipeError:
        # The reader has seen enough: `pf-agent diff | head`.
        _discard(sys.stdout, sys.stderr)
        return int(ExitCode.FAILURE)
    except OSError as error:
        lost = [stream for stream in (sys.stdout, sys.stderr) if not _takes_all(stream)]
        if not lost:
            raise
        _discard(*lost)
        print(f"{names.PROGRAM}: what it says cannot be written: {error.strerror}", file=sys.stderr)
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
        print(f"{names.PROGRAM}: too little memory; raise its limit (MemoryMax=)", file=sys.stderr)
        return int(ExitCode.FAILURE)


def _order(words: Sequence[str]) -> Callable[[], ExitCode]:
    """What the words ask for."""
    if list(words) == ["run"]:
        # The daemon's memory is taken up for as long as the machine runs, and argparse with what it
        # needs would be 0.6 MiB of it.
        from pf_agent.cli.verbs_run import cmd_run

        return cmd_run
    from pf_agent.cli.arguments import parser

    arguments = parser().parse_args(words)
    return partial(arguments.verb, arguments)


def _prepare_streams() -> None:
    """Let all that is printed go somewhere, whatever the streams are."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # Closed by whoever started us (`>&-`). print(file=None) would then take the other one.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # main.cf may hold any character, and the terminal may know few.
            stream.reconfigure(errors="backslashreplace")


def _takes_all(stream: TextIO) -> bool:
    """Whether nothing is left in the stream that could not be written, on a full disk say."""
    try:
        stream.flush()
    except OSError:
        return False
    return True


def _discard(*streams: TextIO) -> None:
    """Let what is left in the streams go nowhere: Python's own flush must not complain."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def entry() -> NoReturn:
    """What /usr/bin/pf-agent calls: `main`, and then the end of the process without more ado.

    Where dbus-daemon was killed meanwhile, Python's own way to end waits for GLib's thread for
    ever: seen after one of three such kills, and `systemctl stop` would wait for its time limit.
    """
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
