"""Watchdog's inotify observer -> triggers in a mailbox, by a watch that is known to work.

Folders are watched and filtered by name, since editors and postconf(1) rename over the file; the
folders that hold these folders too, so that `/etc/postfix` moved away is heard at once; and
main.cf's inode, since a write through another hard link carries another name (inotify(7)).

Watchdog goes blind without a word: a folder replaced by another of the same name, a mount over
it, a dead thread, a full queue. So `ensure` asks for every watch again at each look. The kernel
answers with the watch that it has when nothing changed, which makes that as good as a test.
Between looks nothing of ours wakes up. A write through a memory map and a mount over main.cf are
not reported by the kernel at all: the periodic look is there for these.

In watchdog 2.1 to 6 all paths share one descriptor and three threads; `_SharedDescriptor` tells
which private names that takes. Another layout (7) gets one plain `schedule` a path; writes through
another hard link and a full queue are then left to the periodic look.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Final, Protocol

from watchdog import events as watchdog_events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import inotify_c
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

from pf_agent.model import Reason, Trigger
from pf_agent.watch.places import Files, Places, Why

_AT_ONCE: Final = frozenset({"created", "moved", "deleted", "closed", "attrib"})
_WRITING: Final = "modified"

# Watchdog 2.1 wakes up each `timeout` to look whether it shall stop; later ones never do.
_A_DAY: Final = 86400.0

# How often to look while something cannot be watched.
_DEAF_SECONDS: Final = 10.0

# Seconds for a thread of watchdog to see that it shall end; it takes a millisecond.
_READER_ENDS: Final = 5.0

# What we ask of the kernel: never opens, reads, or closes after reading. Without IN_DONT_FOLLOW,
# so that a main.cf that is a symbolic link is watched at its target.
_IN: Final = inotify_c.InotifyConstants
_MASK: Final = (
    _IN.IN_MODIFY | _IN.IN_ATTRIB | _IN.IN_CLOSE_WRITE | _IN.IN_MOVED_FROM | _IN.IN_MOVED_TO
    | _IN.IN_CREATE | _IN.IN_DELETE | _IN.IN_DELETE_SELF
)  # fmt: skip

# The kernel's word and watchdog's for each; the first that fits.
_KINDS: Final = (
    (_IN.IN_CLOSE_WRITE, "closed"), (_IN.IN_MOVED_FROM | _IN.IN_MOVED_TO, "moved"),
    (_IN.IN_CREATE, "created"), (_IN.IN_DELETE, "deleted"), (_IN.IN_ATTRIB, "attrib"),
    (_IN.IN_MODIFY, _WRITING),
)  # fmt: skip

# The same in watchdog's words; FileAttribEvent is new in 7, which before said FileModifiedEvent.
_EVENTS: Final = (
    "FileCreatedEvent", "DirCreatedEvent", "FileMovedEvent", "DirMovedEvent", "FileDeletedEvent",
    "DirDeletedEvent", "FileModifiedEvent", "FileClosedEvent", "FileAttribEvent",
)  # fmt: skip

# Watch number and path under which a full queue is reported; no file can have this path.
_OVERFLOW_WD: Final = -2
_OVERFLOW: Final = "/inotify queue overflow/"

_EVERYTHING: Final = (
    (Reason.MAIN_CF, None), (Reason.CONFIGURATION, None), (Reason.ALIASES, None)
)  # fmt: skip


class _Wake(FileSystemEventHandler):
    """Turns events into triggers, in the threads of watchdog."""

    def __init__(self, post: Callable[[Trigger], None], places: Places) -> None:
        self._post = post
        self.places = places

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Post a trigger for each path of the event that matters. An error becomes a trigger."""
        try:
            for path in map(os.fsdecode, (event.src_path, getattr(event, "dest_path", ""))):
                kind = event.event_type
                if kind in _AT_ONCE or (kind == _WRITING and not event.is_directory):
                    self._hear(kind, path, kind == _WRITING and _is_only_written(path))
        except Exception as error:  # noqa: BLE001 - raised on, it would end the observer's thread
            self._fail(error)

    def on_inotify_event(self, event: Any) -> None:
        """The same for an event as the kernel tells it, which says what chmod(2) did from a write.

        Of a folder its mode and owner do not count.
        """
        try:
            path = os.fsdecode(event.src_path)
            if path != _OVERFLOW and self.places.why(path) is None:
                return
            kind = next((kind for bits, kind in _KINDS if event.mask & bits), "")
            if kind and not (kind == "attrib" and event.is_directory):
                self._hear(kind, path, kind == _WRITING)
        except Exception as error:  # noqa: BLE001 - raised on, it would end watchdog's thread
            self._fail(error)

    def post_all(self, whys: Iterable[Why], detail: str) -> None:
        for reason, instance in whys:
            self._post(Trigger(reason, detail, instance))

    def _hear(self, kind: str, path: str, is_only_written: bool) -> None:
        if path == _OVERFLOW:
            self.post_all(_EVERYTHING, "inotify queue overflow")
            return
        reason, instance = self.places.why(path) or (None, None)
        if is_only_written:
            # A half-written alias or TOML file is nobody's wish. Its closing is heard; a
            # truncate(2) by name, which closes nothing, is left to the periodic look.
            reason = Reason.MAIN_CF_OPEN if reason is Reason.MAIN_CF else None
        if reason is not None:
            self._post(Trigger(reason, f"{kind}: {path}", instance))

    def _fail(self, error: Exception) -> None:
        self._post(Trigger(Reason.MAIN_CF, f"an event could not be read: {error!r}"))


class _Ears(Protocol):
    """A running observer. `add` is true for a watch that was not there before.

    `is_in_order`: what happens is told in the order in which it happens, whichever watch hears it.
    """

    is_in_order: bool

    def is_alive(self) -> bool: ...
    def add(self, path: str) -> bool: ...
    def drop(self, path: str) -> None: ...
    def close(self) -> None: ...


class _SharedDescriptor:
    """Every path on the one descriptor that watchdog 2.1 to 6 opened for "/".

    Watchdog's threads end with the path that they were started for; "/" is the one that stays.
    """

    is_in_order = True
    LAYOUT: Final = (
        "add_watch", "remember_move_from_event", "fd",
        "_event_mask", "_wd_for_path", "_path_for_wd",
    )  # fmt: skip

    def __init__(self, observer: Any, emitter: Any, inotify: Any, wake: _Wake) -> None:
        self._threads = (observer, emitter, emitter._inotify)
        self._observer = observer
        self._inotify = inotify
        inotify._event_mask = _MASK
        inotify._path_for_wd[_OVERFLOW_WD] = os.fsencode(_OVERFLOW)
        # Watchdog keeps each MOVED_FROM for ever, 1.4 KiB apiece. It uses them to follow a watched
        # path to its new name, and we want the old name's new owner instead.
        inotify.remember_move_from_event = _forget
        # An event goes through three threads, and each has to be woken up and takes the interpreter
        # from the loop. What is wanted is told in the first of them, which reads.
        inotify.tell = partial(_tell, wake)
        self.add("/")

    @classmethod
    def of(cls, observer: InotifyObserver, wake: _Wake) -> _SharedDescriptor | None:
        """None when this watchdog is built in another way."""
        emitter = next(iter(observer.emitters))
        inotify = getattr(getattr(emitter, "_inotify", None), "_inotify", None)
        if all(hasattr(inotify, name) for name in cls.LAYOUT):
            return cls(observer, emitter, inotify, wake)
        return None

    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def add(self, path: str) -> bool:
        name = os.fsencode(path)
        before = self._inotify._wd_for_path.get(name)
        self._inotify.add_watch(name)
        now = self._inotify._wd_for_path.get(name)
        if now == -1:  # the one error that watchdog keeps to itself
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
            # Watchdog before 6 closes the descriptor under its reader, which then reads whatever
            # file has got the number meanwhile. So the reader goes first: the end of its own path
            # wakes it up.
            reader.stopped_event.set()
            self.drop("/")
            reader.join(_READER_ENDS)
        _stop(self._observer)


class _PlainSchedule:
    """One `schedule` a path, by watchdog's public interface alone."""

    is_in_order = False

    def __init__(self, observer: InotifyObserver, wake: _Wake) -> None:
        self._observer = observer
        self._wake = wake
        self._watches: dict[str, Any] = {}

    def is_alive(self) -> bool:
        return self._observer.is_alive()

    def add(self, path: str) -> bool:
        watch = self._watches.get(path)
        if any(each.watch == watch and each.is_alive() for each in self._observer.emitters):
            return False
        self.drop(path)
        self._watches[path] = _schedule(self._observer, self._wake, path)
        return True

    def drop(self, path: str) -> None:
        watch = self._watches.pop(path, None)
        if watch is not None:
            self._observer.unschedule(watch)

    def close(self) -> None:
        _stop(self._observer)


class Watch:
    """The watch of the configuration and of what was told to `follow`; `ensure` starts it."""

    def __init__(self, config_directory: str, post: Callable[[Trigger], None]) -> None:
        self._instances: dict[str, Files] = {}
        self._known: Places | None = None
        self._config_directory = os.path.abspath(config_directory)
        self._wake = _Wake(post, self._places())
        self._ears: _Ears | None = None
        self._armed: dict[str, tuple[int, int]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._was_deaf = False
        self._retry_at: float | None = None

    def ensure(self) -> str:
        """Arm what is not armed. Call it before reading the files, so that no change falls between.

        A main.cf that was read before is told of again where it is another file by now.

        Returns "" when all was well, else one sentence of what was mended or cannot be watched.
        What may have gone unheard is posted. Never raises.
        """
        try:
            return self._ensure()
        except Exception as error:  # noqa: BLE001 - the look that asks is itself the backstop
            self._was_deaf = True
            self._retry_at = time.monotonic() + _DEAF_SECONDS
            return _cannot([files.main_cf for files in self._instances.values()], error)

    def is_in_order(self) -> bool:
        """Tell whether changes are told in the order in which they were made."""
        return self._ears is not None and self._ears.is_in_order

    def patience(self) -> float | None:
        """Seconds until the next look for what could not be watched; None where all is."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    def follow(self, instance: str, main_cf: str, aliases: tuple[str, ...]) -> str:
        """Watch these files of an instance from now on. Returns what `ensure` returns."""
        files = Files(os.path.abspath(main_cf), tuple(map(os.path.abspath, aliases)))
        if self._instances.get(instance) == files:
            return ""
        self._instances[instance], self._known = files, None
        return self.ensure() if self._ears else ""

    def unfollow(self, instance: str) -> None:
        """Watch no file of this instance any more, from the next `ensure` on."""
        self._instances.pop(instance, None)
        self._known = None

    def close(self) -> None:
        """End the watch; `ensure` would start it again."""
        ears, self._ears = self._ears, None
        self._armed.clear()
        if ears is not None:
            ears.close()

    def _places(self) -> Places:
        if self._known is None or not self._known.hold(os.path.islink):
            self._known = Places.of(self._instances, self._config_directory, os.path.realpath)
        return self._known

    def _ensure(self) -> str:
        notes = []
        if self._ears is not None and not self._ears.is_alive():
            self._was_deaf = True
            self.close()
        if self._ears is None:
            self._ears = _listen(self._wake)
            if self._was_deaf:
                notes.append("the watch had ended and was started again")
        places = self._wake.places = self._places()
        notes += self._arm(self._ears, places)
        if self._was_deaf:
            self._was_deaf = False
            self._wake.post_all(_EVERYTHING, "the watch was started again")
        return "; ".join(notes)

    def _arm(self, ears: _Ears, places: Places) -> list[str]:
        folders = places.folders()
        wanted = frozenset([*folders, *places.main_cfs])
        for path in self._armed.keys() - wanted:
            self._disarm(ears, path)
        mended: list[str] = []
        failed: dict[str, OSError] = {}
        homes = {os.path.dirname(path) for path in places.main_cfs}
        for path in [*folders, *places.main_cfs]:
            try:
                if self._arm_one(ears, path, folders) and path in self._wanted:
                    if path in folders:
                        mended.append(path)
                    else:
                        # Another file by now. Who has a second name of it may have written since
                        # it was read.
                        self._wake.post_all([places.named[path]], f"watching {path} again")
            except FileNotFoundError as error:
                # The others may come later, and the folder above tells of it.
                if path in homes:
                    failed[path] = error
            except OSError as error:
                failed[path] = error
        self._wanted = wanted
        self._retry_at = time.monotonic() + _DEAF_SECONDS if failed else None
        for path in mended if not self._was_deaf else ():
            self._wake.post_all(places.unheard_in(path), f"watching {path} again")
        notes = [f"now watching {', '.join(mended)}"] if mended and not self._was_deaf else []
        return notes + ([_cannot(failed, next(iter(failed.values())))] if failed else [])

    def _arm_one(self, ears: _Ears, path: str, folders: Collection[str]) -> bool:
        try:
            found = os.stat(path)
        except OSError:
            self._disarm(ears, path)
            raise
        if path not in folders and stat.S_ISDIR(found.st_mode):
            # A link in main.cf's place leads there. The kernel has one watch for a folder, by
            # whatever name, and its end with the link would be the end of ours. Whatever takes the
            # link's place is heard of from the folder that it is in.
            self._disarm(ears, path)
            return False
        now = (found.st_dev, found.st_ino)
        if self._armed.get(path, now) != now:
            # Before the new watch, not after: watchdog wants the old one's end to come first.
            self._disarm(ears, path)
        new = ears.add(path)
        self._armed[path] = now
        return new

    def _disarm(self, ears: _Ears, path: str) -> None:
        if self._armed.pop(path, None):
            ears.drop(path)


def _listen(wake: _Wake) -> _Ears:
    """Start an observer. Raises OSError when the kernel grants no more of them."""
    _try_inotify()
    is_known = _teach_reader()
    observer = InotifyObserver(timeout=_A_DAY)
    try:
        _schedule(observer, wake, "/")
        observer.start()
        shared = _SharedDescriptor.of(observer, wake) if is_known else None
        if shared is not None:
            return shared
        observer.unschedule_all()
        return _PlainSchedule(observer, wake)
    except BaseException:
        _stop(observer)
        raise


def _try_inotify() -> None:
    """Raise the OSError that watchdog would, which then leaves its descriptor open for ever."""
    descriptor = inotify_c.inotify_init()
    if descriptor == -1:
        raise OSError(errno.EMFILE, "inotify instance limit reached")
    try:
        if inotify_c.inotify_add_watch(descriptor, b"/", _MASK) == -1:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
    finally:
        os.close(descriptor)


def _schedule(observer: InotifyObserver, wake: _Wake, path: str) -> Any:
    if not hasattr(ObservedWatch(path, recursive=False), "event_filter"):  # new in 4
        return observer.schedule(wake, path)
    known = [getattr(watchdog_events, name, None) for name in _EVENTS]
    return observer.schedule(wake, path, event_filter=[each for each in known if each])


def _stop(observer: InotifyObserver) -> None:
    observer.stop()
    # Watchdog 2.1 sleeps on its queue until the time-out, whatever it was told.
    observer.event_queue.put((FileSystemEvent(""), None))


def _teach_reader() -> bool:
    """Let watchdog's parser report a full queue, which it skips, and its reader `tell` of what it
    read where it is told to; False when that cannot be.

    Before it starts: its first read begins at once, and ends with an event of whatever watch.
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


def _tell(wake: _Wake, events: list[Any]) -> list[Any]:
    """Tell of events, and return those of "/", by whose end watchdog's threads know theirs."""
    for event in events:
        wake.on_inotify_event(event)
    return [event for event in events if event.src_path == b"/"]


def _forget(_event: object) -> None:
    """In the place of Inotify.remember_move_from_event."""


def _is_only_written(path: str) -> bool:
    """Whether the last change was of contents: a write dates both times alike, chmod(2) one."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_mtime_ns == found.st_ctime_ns


def _cannot(paths: Iterable[str], error: Exception) -> str:
    cures = {
        errno.ENOSPC: "; raise fs.inotify.max_user_watches",
        errno.EMFILE: "; raise fs.inotify.max_user_instances",
    }
    number = error.errno if isinstance(error, OSError) else None
    fact = (error.strerror if isinstance(error, OSError) else None) or repr(error)
    return f"cannot watch {', '.join(paths)}: {fact}{cures.get(number or 0, '')}"
