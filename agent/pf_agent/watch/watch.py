"""Watchdog's inotify observer -> triggers in a mailbox, with watches that are known to work.

Directories are watched and events filtered by name, since editors and postconf(1) rename over the
file; also the directories above them, so that moving `/etc/postfix` away is noticed at once; and
main.cf's inode, since a write through another hard link is reported under another name
(inotify(7)).

Watchdog goes blind silently: a directory replaced by another of the same name, a mount over it, a
dead thread, a full queue. So `ensure` requests every watch again at each look. If nothing changed
the kernel returns the existing watch, so that this is as good as a test. Between looks nothing of
ours wakes up. The kernel does not report a write through a memory map or a mount over main.cf: the
periodic look is there for these.

observer.py says what each version of watchdog can do.
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
from pf_agent.watch.links import linked_names, read_link
from pf_agent.watch.observer import Observer, start_observer
from pf_agent.watch.places import Files, Places, Why

# How often to look while something cannot be watched.
_DEAF_SECONDS: Final = 10.0

_EVERYTHING: Final = (
    (Reason.MAIN_CF, None), (Reason.CONFIGURATION, None), (Reason.ALIASES, None)
)  # fmt: skip


class _Triggers:
    """Turns events into triggers, in the threads of watchdog."""

    def __init__(self, post: Callable[[Trigger], None], places: Places) -> None:
        self._post = post
        self.places = places

    def happened(self, kind: str, path: str, is_only_written: bool) -> None:
        """Post a trigger if the path matters."""
        reason, instance = self.places.why(path) or (None, None)
        if is_only_written:
            # A half-written alias or TOML file is not meant to be read yet. Its closing is
            # reported; a truncate(2) by name, which closes nothing, is left to the periodic look.
            reason = Reason.MAIN_CF_OPEN if reason is Reason.MAIN_CF else None
        if reason is not None:
            self._post(Trigger(reason, f"{kind}: {path}", instance))

    def overflowed(self) -> None:
        """Post triggers for everything."""
        self.post_all(_EVERYTHING, "inotify queue overflow")

    def failed(self, error: Exception) -> None:
        """Post a trigger for an event that could not be understood."""
        self._post(Trigger(Reason.MAIN_CF, f"an event could not be read: {error!r}"))

    def post_all(self, whys: Iterable[Why], detail: str) -> None:
        """Post a trigger for each reason."""
        for reason, instance in whys:
            self._post(Trigger(reason, detail, instance))


class Watch:
    """The watch of the configuration and of all that it was told to `follow`; `ensure` starts it.

    `is_guarded` tells whether a configuration file is obeyed if it is a link: see links.py.
    """

    def __init__(
        self,
        config_directory: str,
        post: Callable[[Trigger], None],
        is_guarded: Callable[[str], bool],
    ) -> None:
        self._instances: dict[str, Files] = {}
        self._known: Places | None = None
        self._linked: frozenset[str] = frozenset()
        self._config_directory = os.path.abspath(config_directory)
        self._is_guarded = is_guarded
        self._triggers = _Triggers(post, self._places())
        self._observer: Observer | None = None
        self._armed: dict[str, tuple[int, int]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._was_deaf = False
        self._retry_at: float | None = None

    def ensure(self) -> str:
        """Add missing watches. To be called before reading the files, so that no change is missed.

        A main.cf that was read before is posted again if it is another file by now.

        Return "" if all was well, else one sentence about what is watched again or cannot be. What
        may have gone unnoticed is posted. Never raises.
        """
        try:
            return self._ensure()
        except Exception as error:  # noqa: BLE001 - the look that asks is itself the backstop
            self._was_deaf = True
            self._retry_at = time.monotonic() + _DEAF_SECONDS
            return _cannot([files.main_cf for files in self._instances.values()], error)

    def is_in_order(self) -> bool:
        """Tell whether changes are reported in the order in which they were made."""
        return self._observer is not None and self._observer.is_in_order

    def patience(self) -> float | None:
        """Seconds until the next try to watch what could not be watched; None if all is."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    def follow(self, instance: str, main_cf: str, aliases: tuple[str, ...]) -> str:
        """Watch these files of an instance from now on. Return what `ensure` returns."""
        known = self._instances.get(instance)
        known = Files("", ()) if known is None else known
        aliases = tuple(map(os.path.abspath, aliases))
        files = replace(known, main_cf=os.path.abspath(main_cf), aliases=aliases)
        return self._follow(instance, files)

    def follow_named(self, instance: str, paths: tuple[str, ...]) -> str:
        """Also watch what the values of its main.cf name. Return what `ensure` returns."""
        named = tuple(map(os.path.abspath, paths))
        return self._follow(instance, replace(self._instances[instance], named=named))

    def follow_tables(self, instance: str, paths: tuple[str, ...]) -> str:
        """Watch the sources and indexes of its tables, too. Returns what `ensure` returns."""
        tables = tuple(map(os.path.abspath, paths))
        return self._follow(instance, replace(self._instances[instance], tables=tables))

    def follow_documents(self, instance: str, paths: tuple[str, ...]) -> str:
        """Watch its other documents, too. Returns what `ensure` returns."""
        documents = tuple(map(os.path.abspath, paths))
        return self._follow(instance, replace(self._instances[instance], documents=documents))

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
        linked = linked_names(self._config_directory, self._is_guarded)
        is_known = self._known is not None and linked == self._linked
        if self._known is None or not (is_known and self._known.still_hold(os.path.islink)):
            self._known = Places.of(self._instances, self._config_directory, read_link, linked)
            self._linked = linked
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
                        # It is another file by now, perhaps written through a second name since it
                        # was read.
                        self._triggers.post_all([places.named[path]], f"watching {path} again")
            except FileNotFoundError as error:
                # The others may appear later, and the directory above reports that.
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
            # A link in main.cf's place leads there. The kernel has one watch per directory,
            # whatever its name, and removing the link's watch would remove ours. Whatever replaces
            # the link is reported by the directory that it is in.
            self._disarm(observer, path)
            return False
        now = (found.st_dev, found.st_ino)
        if self._armed.get(path, now) != now:
            # Before the new watch, not after: watchdog expects the end of the old one first.
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
