"""Keep out of a process that stays what its libraries import for uses that it has not.

A module that Python does not find in `sys.modules` is looked for; one that stands there is taken
as it is, and None there means that there is none (Python's reference, "The module cache").

importlib.util.LazyLoader is not enough: the import statement looks at a module's `__spec__`, and
that alone makes it load what it was to put off.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

# Whoever imports one of these asks "except ImportError", and goes on without it.
_DISPENSABLE: Final = (
    # hashlib then takes the functions that Debian's Python has built in, and no libcrypto.
    "_hashlib",
    # asyncio, smtplib: nothing here speaks TLS.
    "ssl",
    # structlog.dev, for tracebacks in colours.
    "rich",
    "better_exceptions",
)

# Imported without a condition, and used in functions that nobody calls here.
_PUT_OFF: Final = (
    "asyncio",  # structlog's asynchronous loggers
    "shutil",  # structlog's width of a terminal
    "uuid",  # structlog's records of a thread
    "ctypes.util",  # watchdog's search for the C library, in some versions; subprocess and tempfile
    "tokenize",  # linecache's lines of a traceback, inspect's of a function
    "gi._option",  # GLib's options of a command line
)


class _PutOff(ModuleType):
    """Stands in for a module that is imported, and becomes it when it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def forgo() -> None:
    """Import none of them from now on. To be called before the libraries are imported."""
    modules: dict[str, Any] = sys.modules
    for name in _DISPENSABLE:
        modules.setdefault(name, None)
    for name in _PUT_OFF:
        modules.setdefault(name, _PutOff(name))
    import logging

    # From Python 3.12 on each record of logging asks for the task of an asyncio in `sys.modules`.
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]
