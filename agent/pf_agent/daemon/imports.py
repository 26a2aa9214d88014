"""Keep out of a process that stays what its libraries import for uses that it has not.

What it gains: `pf-agent run` at rest has 24.3 MiB (PSS) in place of 31.6 on Debian 12, and 25.1 in
place of 34.1 on Debian 13; tests/bench/memory.md says how that is measured. Tried with Python 3.10
to 3.13, PyGObject 3.42 and 3.50, structlog 20.1 to 25.3, watchdog 2.1 to 6.0. With others it is
safe, and may gain less: what was put off is loaded where somebody uses it.

When to delete it, with its tests and the call in cli/verbs_run.py: once it gains less than 3 MiB on
each Debian that is supported. asyncio, which structlog and PyGObject import, is the most of it.

A module that Python does not find in `sys.modules` is looked for; one that stands there is taken
as it is, and None there means that there is none (Python's reference, "The module cache").

importlib.util.LazyLoader is not enough: the import statement looks at a module's `__spec__`, and
that alone makes it load what it was to put off.
"""

from __future__ import annotations

import sys
from _pickle import PicklingError
from collections.abc import Mapping
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
    # structlog, where Twisted is installed.
    "structlog.twisted",
)

# Imported without a condition, and used in functions that nobody calls here.
_PUT_OFF: Final = (
    "ast",  # signatures that inspect reads from a text
    "asyncio",  # structlog's asynchronous loggers, PyGObject's `await`
    "inspect",  # dataclasses without a docstring
    "pickle",  # structlog's loggers, when they are pickled
    "selectors",  # files that socket sends
    "shutil",  # structlog's width of a terminal
    "structlog.stdlib",  # loggers on top of logging's
    "structlog.threadlocal",  # values that a thread's records share
    "uuid",  # structlog's records of a thread
    "subprocess",  # platform of Python 3.10, which the oldest structlog imports
    "ctypes.util",  # watchdog's search for the C library, in some versions; subprocess and tempfile
    "tokenize",  # linecache's lines of a traceback, inspect's of a function
    "gi._option",  # GLib's options of a command line
)


class _PutOff(ModuleType):
    """Stands in for a module that is imported, and becomes it when it is used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        vars(self).update(_AT_ONCE.get(name, {}))

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(self.__name__), name)


def _is_put_off(name: str) -> bool:
    return isinstance(sys.modules.get(name), _PutOff)


def _real(name: str) -> ModuleType:
    """The module itself, loaded where it was put off until now."""
    if _is_put_off(name):
        del sys.modules[name]
    return import_module(name)


class _Policy:
    """asyncio's policy where nobody has set one. PyGObject asks each time that it runs a loop."""

    def get_event_loop_for_context(self, _context: object) -> None:
        """None: there is no loop of asyncio's that runs in a context of GLib's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_real("asyncio").get_event_loop_policy(), name)


def _policy() -> Any:
    return _Policy() if _is_put_off("asyncio") else _real("asyncio").get_event_loop_policy()


def _running_loop() -> Any:
    return None if _is_put_off("asyncio") else _real("asyncio")._get_running_loop()


class _InvalidStateError(Exception):
    """What PyGObject raises where the result of an `await` is taken before it is there."""


def _annotations(of: object, **how: Any) -> Any:
    # A class without any has no `__annotations__`. From Python 3.14 on no class has them there.
    if isinstance(of, type) and not how and sys.version_info < (3, 14):
        own = vars(of).get("__annotations__", {})
        if isinstance(own, dict):
            return dict(own)
    return _real("inspect").get_annotations(of, **how)


# What is taken from them when they are imported, or asked of them in between. Each answers as the
# module itself would; whatever is not here has it loaded.
_AT_ONCE: Final[Mapping[str, Mapping[str, Any]]] = {
    "asyncio": {  # PyGObject 3.50
        "InvalidStateError": _InvalidStateError,
        "_get_running_loop": _running_loop,
        "get_event_loop_policy": _policy,
    },
    "inspect": {"get_annotations": _annotations},  # dataclasses, from Python 3.13 on
    # "from pickle import" looks whether it is a package: it is none.
    "pickle": {"PicklingError": PicklingError, "__path__": ()},
}


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
