"""Watchdog's inotify observer as the watch needs it: everything that depends on its internals.

Watchdog offers one `schedule` per path: an inotify descriptor and three threads each. In watchdog
2.1 to 6 all paths share those of "/" instead, through private names of watchdog's. Tried with 2.1.6
(Ubuntu 22.04), 2.2.1 (Debian 12), 3.0.0 (Ubuntu 24.04), 4.0.2, 5.0.3 and 6.0.0 (Debian 13). A
different layout, such as 7.1.0's, lacks one of the names and gets one plain `schedule` per path:
writes through another hard link and a full queue are then left to the periodic look.

Which names, and why:
- `InotifyObserver.emitters`, `_inotify` of an emitter and of its buffer: to reach the `Inotify`.
- `Inotify.add_watch`, `_wd_for_path`, `_path_for_wd`, `fd`: more paths on its descriptor.
- `_event_mask`: watchdog also asks for opens (2.3 and later) and for closes after reading (5 and
  later); a busy Postfix opens main.cf hundreds of times a second, and 3 has no other way to say so.
- `remember_move_from_event`: watchdog keeps each MOVED_FROM forever, 1.4 KiB apiece, to follow a
  watched path to its new name; we want whatever takes the old name instead.
- `_parse_event_buffer`: it ignores a full queue.
- `read_events`: an event passes through three threads, and each must be woken and takes the
  interpreter from the loop. What matters is reported in the first of them, which reads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, Protocol

from watchdog import events as watchdog_events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import inotify_c
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

_AT_ONCE: Final = frozenset({"created", "moved", "deleted", "closed", "attrib"})
_WRITING: Final = "modified"

# Watchdog 2.1 wakes every `timeout` seconds to see whether it should stop; later ones never do.
_A_DAY: Final = 86400.0

# Seconds for a thread of watchdog to notice that it should end; it takes a millisecond.
_READER_ENDS: Final = 5.0

# What we ask of the kernel: never opens, reads, or closes after reading. Without IN_DONT_FOLLOW, so
# that a main.cf that is a symbolic link is watched at its target.
_IN: Final = inotify_c.InotifyConstants
_MASK: Final = (
    _IN.IN_MODIFY | _IN.IN_ATTRIB | _IN.IN_CLOSE_WRITE | _IN.IN_MOVED_FROM | _IN.IN_MOVED_TO
    | _IN.IN_CREATE | _IN.IN_DELETE | _IN.IN_DELETE_SELF
)  # fmt: skip

# The kernel's flag and watchdog's word for each kind; the first match counts.
_KINDS: Final = (
    (_IN.IN_CLOSE_WRITE, "closed"), (_IN.IN_MOVED_FROM | _IN.IN_MOVED_TO, "moved"),
    (_IN.IN_CREATE, "created"), (_IN.IN_DELETE, "deleted"), (_IN.IN_ATTRIB, "attrib"),
    (_IN.IN_MODIFY, _WRITING),
)  # fmt: skip

# The same as watchdog's classes; FileAttribEvent is new in 7, which before said FileModifiedEvent.
_EVENTS: Final = (
    "FileCreatedEvent", "DirCreatedEvent", "FileMovedEvent", "DirMovedEvent", "FileDeletedEvent",
    "DirDeletedEvent", "FileModifiedEvent", "FileClosedEvent", "FileAttribEvent",
)  # fmt: skip

# The watch number and path that report a full queue; no file can have this path.
_OVERFLOW_WD: Final = -2
_OVERFLOW: Final = "/inotify queue overflow/"


class Listener(Protocol):
    """Receives events, in a thread of watchdog's. An exception that it raises goes to `failed`."""

    def happened(self, kind: str, path: str, is_only_written: bool) -> None:
        """`kind` is watchdog's word; `is_only_written`: the writer may not have finished."""

    def overflowed(self) -> None:
        """The kernel's queue was full: anything may have happened."""

    def failed(self, error: Exception) -> None: ...


class _Handler(FileSystemEventHandler):
    """Passes a listener what watchdog or the kernel reports, in a few words."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Handle an event as watchdog reports it; up to 6 it takes chmod(2) for a write."""
        try:
            for path in map(os.fsdecode, (event.src_path, getattr(event, "dest_path", ""))):
                kind = event.event_type
                if kind in _AT_ONCE or (kind == _WRITING and not event.is_directory):
                    is_only_written = kind == _WRITING and _is_only_written(path)
                    self._listener.happened(kind, path, is_only_written)
        except Exception as error:  # noqa: BLE001 - raised, it would end the observer's thread
            self._listener.failed(error)

    def on_inotify_event(self, event: Any) -> None:
        """Handle an event as the kernel reports it. A directory's mode and owner are ignored."""
        try:
            path = os.fsdecode(event.src_path)
            if path == _OVERFLOW:
                self._listener.overflowed()
                return
            kind = next((kind for bits, kind in _KINDS if event.mask & bits), "")
            if kind and not (kind == "attrib" and event.is_directory):
                self._listener.happened(kind, path, kind == _WRITING)
        except Exception as error:  # noqa: BLE001 - raised, it would end watchdog's thread
            self._listener.failed(error)


class Observer(Protocol):
    """A running observer. `add` returns whether the watch is new.

    `is_in_order`: events are reported in the order in which they happened, across all watches.
    """

    is_in_order: bool

    def is_alive(self) -> bool: ...
    def add(self, path: str) -> bool: ...
    def drop(self, path: str) -> None: ...
    def close(self) -> None: ...


class _Shared:
    """Every path on the one descriptor that watchdog opened for "/".

    Watchdog's threads end with the path that they were started for; "/" always remains.
    """

    is_in_order = True
    LAYOUT: Final = (
        "add_watch", "remember_move_from_event", "fd",
        "_event_mask", "_wd_for_path", "_path_for_wd",
    )  # fmt: skip

    def __init__(self, observer: Any, emitter: Any, inotify: Any, handler: _Handler) -> None:
        self._threads = (observer, emitter, emitter._inotify)
        self._observer = observer
        self._inotify = inotify
        inotify._event_mask = _MASK
        inotify._path_for_wd[_OVERFLOW_WD] = os.fsencode(_OVERFLOW)
        inotify.remember_move_from_event = _forget
        inotify.tell = partial(_tell, handler)
        self.add("/")

    @classmethod
    def of(cls, observer: InotifyObserver, handler: _Handler) -> _Shared | None:
        """Return None if this version of watchdog is built differently."""
        emitter = next(iter(observer.emitters))
        inotify = getattr(getattr(emitter, "_inotify", None), "_inotify", None)
        if all(hasattr(inotify, name) for name in cls.LAYOUT):
            return cls(observer, emitter, inotify, handler)
        return None

    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def add(self, path: str) -> bool:
        name = os.fsencode(path)
        before = self._inotify._wd_for_path.get(name)
        self._inotify.add_watch(name)
        now = self._inotify._wd_for_path.get(name)
        if now == -1:  # the one error that watchdog does not raise
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return bool(now != before)

    def drop(self, path: str) -> None:
        wd = self._inotify._wd_for_path.get(os.fsencode(path))
        if wd is not None:
            # Not remove_watch(): the kernel's answer to it would find no entry and end the thread.
            inotify_c.inotify_rm_watch(self._inotify.fd, wd)

    def close(self) -> None:
        reader = self._threads[-1]
        if reader.is_alive():
            # Watchdog before 6 closes the descriptor while its reader uses it, which then reads
            # from any file that has got the number meanwhile. So the reader ends first: removing
            # its own path wakes it.
            reader.stopped_event.set()
            self.drop("/")
            reader.join(_READER_ENDS)
        _stop(self._observer)


class _Plain:
    """One `schedule` per path, using only watchdog's public interface."""

    is_in_order = False

    def __init__(self, observer: InotifyObserver, handler: _Handler) -> None:
        self._observer = observer
        self._handler = handler
        self._watches: dict[str, Any] = {}

    def is_alive(self) -> bool:
        return self._observer.is_alive()

    def add(self, path: str) -> bool:
        watch = self._watches.get(path)
        if any(each.watch == watch and each.is_alive() for each in self._observer.emitters):
            return False
        self.drop(path)
        self._watches[path] = _schedule(self._observer, self._handler, path)
        return True

    def drop(self, path: str) -> None:
        watch = self._watches.pop(path, None)
        if watch is not None:
            self._observer.unschedule(watch)

    def close(self) -> None:
        _stop(self._observer)


def start_observer(listener: Listener) -> Observer:
    """Start an observer. Raises OSError if the kernel allows no more of them."""
    handler = _Handler(listener)
    _try_inotify()
    is_known = _teach_reader()
    observer = InotifyObserver(timeout=_A_DAY)
    try:
        _schedule(observer, handler, "/")
        observer.start()
        shared = _Shared.of(observer, handler) if is_known else None
        if shared is not None:
            return shared
        observer.unschedule_all()
        return _Plain(observer, handler)
    except BaseException:
        _stop(observer)
        raise


def _try_inotify() -> None:
    """Raise the OSError that watchdog would raise; watchdog would leak its descriptor."""
    descriptor = inotify_c.inotify_init()
    if descriptor == -1:
        raise OSError(errno.EMFILE, "inotify instance limit reached")
    try:
        if inotify_c.inotify_add_watch(descriptor, b"/", _MASK) == -1:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
    finally:
        os.close(descriptor)


def _schedule(observer: InotifyObserver, handler: _Handler, path: str) -> Any:
    if not hasattr(ObservedWatch(path, recursive=False), "event_filter"):  # new in 4
        return observer.schedule(handler, path)
    known = [getattr(watchdog_events, name, None) for name in _EVENTS]
    return observer.schedule(handler, path, event_filter=[each for each in known if each])


def _stop(observer: InotifyObserver) -> None:
    observer.stop()
    # Watchdog 2.1 sleeps on its queue until the timeout, even if told to stop.
    observer.event_queue.put((FileSystemEvent(""), None))


def _teach_reader() -> bool:
    """Let watchdog's parser report a full queue, and its reader `tell` of what it read.

    False if that is impossible. To be done before the reader starts: its first read begins at once,
    and ends with an event of any watch.
    """
    owner: Any = getattr(inotify_c, "Inotify", None)
    parse = getattr(owner, "_parse_event_buffer", None)
    read = getattr(owner, "read_events", None)
    if parse is None or read is None:
        return False
    if not getattr(read, "is_taught", False):

        def parse_all(event_buffer: bytes) -> Iterable[tuple[int, int, int, bytes]]:
            for wd, mask, cookie, name in parse(event_buffer):
                if mask & _IN.IN_Q_OVERFLOW:
                    yield _OVERFLOW_WD, _IN.IN_DELETE, 0, b""
                else:
                    yield wd, mask, cookie, name

        def read_and_tell(inotify: Any) -> list[Any]:
            events: list[Any] = read(inotify)
            tell = getattr(inotify, "tell", None)
            return events if tell is None else tell(events)

        read_and_tell.is_taught = True  # type: ignore[attr-defined]
        owner._parse_event_buffer = staticmethod(parse_all)
        owner.read_events = read_and_tell
    return True


def _tell(handler: _Handler, events: list[Any]) -> list[Any]:
    """Report events, and return those of "/", whose end tells watchdog's threads to end."""
    for event in events:
        handler.on_inotify_event(event)
    return [event for event in events if event.src_path == b"/"]


def _forget(_event: object) -> None:
    """Replaces Inotify.remember_move_from_event."""


def _is_only_written(path: str) -> bool:
    """Whether the last change was of contents: a write sets mtime and ctime alike, chmod(2) not."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_mtime_ns == found.st_ctime_ns
