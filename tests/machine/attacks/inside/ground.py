"""What the attacks share: what they leave as a mark, and what they try."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

Won = Callable[[str], None]
Steps = Iterator[None]

# Whatever an attacker writes has it, so that it is known wherever it comes out.
MARK = "pl4nted"
HOME = "/home/mallory"
# A file of root's that nobody else may read, and its text.
CANARY = "/etc/canary"
SECRET = "s3cret-of-root"


def forbidden(won: Won, what: str, deed: Callable[..., object], *arguments: object) -> None:
    """Try a deed that the kernel must refuse."""
    try:
        deed(*arguments)
    except OSError:
        return
    won(what)


@contextmanager
def planted(paths: Iterable[str], plant: Callable[[str], object]) -> Iterator[None]:
    """Plant something at each of these paths where that is possible; it goes at the end."""
    made = []
    for path in paths:
        with suppress(OSError):
            plant(path)
            made.append(path)
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):
                os.unlink(path)


def open_and_close(path: str, flags: int = os.O_RDONLY) -> None:
    """Open a file, which is all that is wanted."""
    os.close(os.open(path, flags))


def link_to(target: str) -> Callable[[str], None]:
    """Return what plants a symbolic link to a target."""
    return lambda path: os.symlink(target, path)
