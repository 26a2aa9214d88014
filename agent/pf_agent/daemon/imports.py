"""Keeps modules out of the daemon that its libraries import but that it never uses.

The gain: `pf-agent run` at rest takes 24.3 MiB (PSS) instead of 31.6 on Debian 12, and 25.1 instead
of 34.1 on Debian 13; tests/bench/memory.md says how that is measured. Tried with Python 3.10 to
3.13, PyGObject 3.42 and 3.50, structlog 20.1 to 25.3, watchdog 2.1 to 6.0. With other versions it
is safe, but may gain less: what was deferred is loaded when it is used.

When to delete it, with its tests and the call in cli/verbs_run.py: once it gains less than 3 MiB on
every supported Debian. Most of it is asyncio, which structlog and PyGObject import.

Python searches for a module that is not in `sys.modules`; one that is there is taken as it is, and
None there means that the module does not exist (Python's reference, "The module cache").

importlib.util.LazyLoader is not enough: the import statement looks at a module's `__spec__`, and
that alone makes it load what it was to defer.
"""

from __future__ import annotations

import sys
from _pickle import PicklingError
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Final

# Their importers all use "except ImportError", and go on without them.
_DISPENSABLE: Final = (
    # hashlib then uses the functions built into Debian's Python, and not libcrypto.
    "_hashlib",
    # asyncio, smtplib: nothing here uses TLS.
    "ssl",
    # structlog.dev, for coloured tracebacks.
    "rich",
    "better_exceptions",
    # structlog, if Twisted is installed.
    "structlog.twisted",
)

# Imported unconditionally, and used in functions that are not called here.
_PUT_OFF: Final = (
    "ast",  # signatures that inspect reads from a text
    "asyncio",  # structlog's asynchronous loggers, PyGObject's `await`
    "inspect",  # dataclasses without a docstring
    "pickle",  # structlog's loggers, if pickled
    "selectors",  # files sent by socket
    "shutil",  # the width of structlog's terminal
    "structlog.stdlib",  # loggers based on logging's
    "structlog.threadlocal",  # values shared by a thread's records
    "uuid",  # structlog's records of a thread
    "subprocess",  # platform in Python 3.10, imported by the oldest structlog
    "ctypes.util",  # some watchdog versions find the C library so; subprocess, tempfile
    "tokenize",  # linecache's lines in a traceback, inspect's of a function
    "gi._option",  # GLib's command line options
)


class _PutOff(ModuleType):
    """Replaces an imported module, and becomes it when it is used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        vars(self).update(_AT_ONCE.get(name, {}))

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(self.__name__), name)


def _is_put_off(name: str) -> bool:
    return isinstance(sys.modules.get(name), _PutOff)


def _real(name: str) -> ModuleType:
    """Return the module itself, loaded now if it was deferred."""
    if _is_put_off(name):
        del sys.modules[name]
    return import_module(name)


class _Policy:
    """asyncio's policy if none was set. PyGObject asks for it each time it runs a loop."""

    def get_event_loop_for_context(self, _context: object) -> None:
        """Return None: no asyncio loop runs in a GLib context."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_real("asyncio").get_event_loop_policy(), name)


def _policy() -> Any:
    return _Policy() if _is_put_off("asyncio") else _real("asyncio").get_event_loop_policy()


def _running_loop() -> Any:
    return None if _is_put_off("asyncio") else _real("asyncio")._get_running_loop()


class _InvalidStateError(Exception):
    """What PyGObject raises if the result of an `await` is read too early."""


def _annotations(of: object, **how: Any) -> Any:
    # A class without annotations has no `__annotations__`. From Python 3.14 on no class has it
    # there.
    if isinstance(of, type) and not how and sys.version_info < (3, 14):
        own = vars(of).get("__annotations__", {})
        if isinstance(own, dict):
            return dict(own)
    return _real("inspect").get_annotations(of, **how)


# What importers take from these modules, or ask of them before they are loaded. Each answers as the
# module itself would; anything else loads it.
_AT_ONCE: Final[Mapping[str, Mapping[str, Any]]] = {
    "asyncio": {  # PyGObject 3.50
        "InvalidStateError": _InvalidStateError,
        "_get_running_loop": _running_loop,
        "get_event_loop_policy": _policy,
    },
    "inspect": {"get_annotations": _annotations},  # dataclasses, from Python 3.13 on
    # "from pickle import" checks whether it is a package: it is not.
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

    # From Python 3.12 on each logging record asks an asyncio in `sys.modules` for its task.
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]
