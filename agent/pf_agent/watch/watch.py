"""Watchdog's inotify observer -> triggers in a mailbox, by a watch that is known to work.

Folders are watched and filtered by name, since editors and postconf(1) rename over the file; the
folders that hold these folders too, so that `/etc/postfix` moved away is heard at once; and
main.cf's inode, since a write through another hard link carries another name (inotify(7)).

Watchdog goes blind without a word: a folder replaced by another of the same name, a mount over
it, a dead thread, a full queue. So `ensure` asks for every watch again at each look. The kernel
answers with the watch that it has when nothing changed, which makes that as good as a test.
Between looks nothing of ours wakes up. A write through a memory map and a mount over main.cf are
not reported by the kernel at all: the periodic look is there for these.

Which watchdog can do what, observer.py tells.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from pf_agent.errors import is_no_thread, no_thread
from pf_agent.model import Reason, Trigger
from pf_agent.watch.observer import Observer, start_observer
from pf_agent.watch.places import Files, Places, Why

# How often to look while something cannot be watched.
_DEAF_SECONDS: Final = 10.0

_EVERYTHING: Final = (
    (Reason.MAIN_CF, None), (Reason.CONFIGURATION, None), (Reason.ALIASES, None)
)  # fmt: skip


class _Triggers:
    """Turns what happened into triggers, in the threads of watchdog."""

    def __init__(self, post: Callable[[Trigger], None], places: Places) -> None:
        self._post = post
        self.places = places

    def happened(self, kind: str, path: str, is_only_written: bool) -> None:
        """Post a trigger where the path matters."""
        reason, instance = self.places.why(path) or (None, None)
        if is_only_written:
            # A half-written alias or TOML file is nobody's wish. Its closing is heard; a
            # truncate(2) by name, which closes nothing, is left to the periodic look.
            reason = Reason.MAIN_CF_OPEN if reason is Reason.MAIN_CF else None
        if reason is not None:
            self._post(Trigger(reason, f"{kind}: {path}", instance))

    def overflowed(self) -> None:
        """Post a trigger for everything."""
        self.post_all(_EVERYTHING, "inotify queue overflow")

    def failed(self, error: Exception) -> None:
        """Post a trigger for what could not be understood."""
        self._post(Trigger(Reason.MAIN_CF, f"an event could not be read: {error!r}"))

    def post_all(self, whys: Iterable[Why], detail: str) -> None:
        """Post a trigger for each reason."""
        for reason, instance in whys:
            self._post(Trigger(reason, detail, instance))


class Watch:
    """The watch of the configuration and of what was told to `follow`; `ensure` starts it."""

    def __init__(self, config_directory: str, post: Callable[[Trigger], None]) -> None:
        self._instances: dict[str, Files] = {}
        self._known: Places | None = None
        self._config_directory = os.path.abspath(config_directory)
        self._triggers = _Triggers(post, self._places())
        self._observer: Observer | None = None
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
        return self._observer is not None and self._observer.is_in_order

    def patience(self) -> float | None:
        """Seconds until the next look for what could not be watched; None where all is."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    def follow(self, instance: str, main_cf: str, aliases: tuple[str, ...]) -> str:
        """Watch these files of an instance from now on. Returns what `ensure` returns."""
        known = self._instances.get(instance)
        files = Files(
            os.path.abspath(main_cf),
            tuple(map(os.path.abspath, aliases)),
            () if known is None else known.named,
        )
        return self._follow(instance, files)

    def follow_named(self, instance: str, paths: tuple[str, ...]) -> str:
        """Watch what the values of its main.cf name, too. Returns what `ensure` returns."""
        named = tuple(map(os.path.abspath, paths))
        return self._follow(instance, replace(self._instances[instance], named=named))

    def _follow(self, instance: str, files: Files) -> str:
        if self._instances.get(instance) == files:
            return ""
        self._instances[instance], self._known = files, None
        return self.ensure() if self._observer else ""

    def unfollow(self, instance: str) -> None:
        """Watch no file of this instance any more, from the next `ensure` on."""
        self._instances.pop(instance, None)
        self._known = None

    def close(self) -> None:
        """End the watch; `ensure` would start it again."""
        observer, self._observer = self._observer, None
        self._armed.clear()
        if observer is not None:
            observer.close()

    def _places(self) -> Places:
        if self._known is None or not self._known.still_hold(os.path.islink):
            self._known = Places.of(self._instances, self._config_directory, os.path.realpath)
        return self._known

    def _ensure(self) -> str:
        notes = []
        if self._observer is not None and not self._observer.is_alive():
            self._was_deaf = True
            self.close()
        if self._observer is None:
            self._observer = start_observer(self._triggers)
            if self._was_deaf:
                notes.append("the watch had ended and was started again")
        places = self._triggers.places = self._places()
        notes += self._arm(self._observer, places)
        if self._was_deaf:
            self._was_deaf = False
            self._triggers.post_all(_EVERYTHING, "the watch was started again")
        return "; ".join(notes)

    def _arm(self, observer: Observer, places: Places) -> list[str]:
        folders = places.folders()
        wanted = frozenset([*folders, *places.main_cfs])
        for path in self._armed.keys() - wanted:
            self._disarm(observer, path)
        mended: list[str] = []
        failed: dict[str, OSError] = {}
        homes = {os.path.dirname(path) for path in places.main_cfs}
        for path in [*folders, *places.main_cfs]:
            try:
                if self._arm_one(observer, path, folders) and path in self._wanted:
                    if path in folders:
                        mended.append(path)
                    else:
                        # Another file by now. Who has a second name of it may have written since
                        # it was read.
                        self._triggers.post_all([places.named[path]], f"watching {path} again")
            except FileNotFoundError as error:
                # The others may come later, and the folder above tells of it.
                if path in homes:
                    failed[path] = error
            except OSError as error:
                failed[path] = error
        self._wanted = wanted
        self._retry_at = time.monotonic() + _DEAF_SECONDS if failed else None
        for path in mended if not self._was_deaf else ():
            self._triggers.post_all(places.unheard_in(path), f"watching {path} again")
        notes = [f"now watching {', '.join(mended)}"] if mended and not self._was_deaf else []
        return notes + ([_cannot(failed, next(iter(failed.values())))] if failed else [])

    def _arm_one(self, observer: Observer, path: str, folders: Collection[str]) -> bool:
        try:
            found = os.stat(path)
        except OSError:
            self._disarm(observer, path)
            raise
        if path not in folders and stat.S_ISDIR(found.st_mode):
            # A link in main.cf's place leads there. The kernel has one watch for a folder, by
            # whatever name, and its end with the link would be the end of ours. Whatever takes the
            # link's place is heard of from the folder that it is in.
            self._disarm(observer, path)
            return False
        now = (found.st_dev, found.st_ino)
        if self._armed.get(path, now) != now:
            # Before the new watch, not after: watchdog wants the old one's end to come first.
            self._disarm(observer, path)
        new = observer.add(path)
        self._armed[path] = now
        return new

    def _disarm(self, observer: Observer, path: str) -> None:
        if self._armed.pop(path, None):
            observer.drop(path)


def _cannot(paths: Iterable[str], error: Exception) -> str:
    cures = {
        errno.ENOSPC: "; raise fs.inotify.max_user_watches",
        errno.EMFILE: "; raise fs.inotify.max_user_instances",
    }
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, RuntimeError) and is_no_thread(error):
        return f"cannot watch {', '.join(paths)}: {no_thread(error)}"
    fact = (error.strerror if isinstance(error, OSError) else None) or repr(error)
    return f"cannot watch {', '.join(paths)}: {fact}{cures.get(number or 0, '')}"
