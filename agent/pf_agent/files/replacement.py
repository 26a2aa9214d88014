"""The text that is to take main.cf's place: complete, in a file with main.cf's attributes.

It may be prepared long before, so that the exchange waits for no disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import NamedTuple

from pf_agent.files.linux import (
    READ,
    NewFile,
    close,
    fill,
    give_name,
    nameless,
    new_file,
    unless_refused,
)
from pf_agent.files.nature import Nature
from pf_agent.maincf.document import COOL_SECONDS
from pf_agent.model import ActualState, FileKind


class _Laid(NamedTuple):
    """A text, complete and synced in a file without a name, and the attributes of that file."""

    text: bytes
    handle: int
    attributes: dict[str, bytes]


class Replacement:
    """The new file beside the document at `path`."""

    def __init__(self, path: str, nature: Nature) -> None:
        self._path = path
        self._nature = nature
        self._directory = os.path.dirname(path) or "."
        self._laid: _Laid | None = None

    def lay_ahead(self, actual: ActualState) -> None:
        """Prepare the text of `actual` for `exchange`, which then waits for no disk.

        It has no name until then: it cannot be seen, and a crash leaves nothing. Never raises; what
        cannot be prepared is written when it is needed.
        """
        text = actual.text
        is_there = self._laid is not None and self._laid.text == text
        if text is None or is_there or not self._nature.is_own:
            return
        self.lay_no_more()
        with suppress(OSError):
            attributes = self.attributes_of(actual)
            new = nameless(self._directory)
            self._laid = _Laid(text, self._filled(new, text, actual, attributes), attributes)

    def lay_no_more(self) -> None:
        """Discard what is prepared."""
        if self._laid is not None:
            close(self._laid.handle)
            self._laid = None

    def lay(self, ours: str, text: bytes, actual: ActualState) -> int:
        """Put the new text beside main.cf, complete and synced; return it open for reading."""
        attributes = self.attributes_of(actual)
        laid = self._laid
        if laid is not None and (laid.text, laid.attributes) == (text, attributes):
            self._laid = None
            with suppress(OSError):
                self._date(laid.handle)
                give_name(laid.handle, ours)
                return laid.handle
            close(laid.handle)
        new = new_file(ours)
        handle = self._filled(new, text, actual, attributes)
        if new.place != ours:
            # Not earlier: until now a crash leaves nothing, and the watchers of the directory,
            # above all we, are not woken by each step.
            try:
                give_name(handle, ours)
            except OSError:
                close(handle)
                raise
        return handle

    def _filled(
        self, new: NewFile, text: bytes, actual: ActualState, attributes: Mapping[str, bytes]
    ) -> int:
        """Give a new file everything but its name.

        Return it open for reading only: we must not count as a process that still writes main.cf.
        """
        with ExitStack() as stack:
            stack.callback(close, new.handle)
            handle = os.open(new.place, READ)
            stack.callback(close, handle)
            fill(new.handle, text)
            self.dress(new.handle, actual, attributes)
            self._date(new.handle)
            os.fsync(new.handle)
            stack.pop_all()
        close(new.handle)
        return handle

    def _date(self, handle: int) -> None:
        """Give main.cf and master.cf an older date, and a source the present one.

        With an older one, an index that was built before could count as current.
        """
        if self._nature.is_locked:
            os.utime(handle, cooled())
        else:
            os.utime(handle)

    def attributes_of(self, actual: ActualState) -> dict[str, bytes]:
        """Return the file's ACL and extended attributes; of a link, not those of its target."""
        found = {}
        # Other types have other ones, such as a directory's default ACL, which a file cannot have;
        # and a directory may have taken main.cf's place since it was read.
        if actual.kind not in (FileKind.ABSENT, FileKind.OTHER):
            with suppress(FileNotFoundError):
                read = partial(os.listxattr, self._path, follow_symlinks=False)
                for name in unless_refused(read) or ():
                    get = partial(os.getxattr, self._path, name, follow_symlinks=False)
                    value = unless_refused(get)
                    if value is not None and name != "system.posix_acl_default":
                        found[name] = value
        return found

    def dress(self, handle: int, actual: ActualState, attributes: Mapping[str, bytes]) -> None:
        """Give the new file its owner and mode, and the old one's ACL and extended attributes."""
        for name, value in attributes.items():
            unless_refused(partial(os.setxattr, handle, name, value))
        owner, group, mode = self._nature.attributes(actual)
        made = os.fstat(handle)
        is_to_give = (made.st_uid, made.st_gid) != (owner, group)  # each change wakes the watchers
        if self._nature.is_own:
            if is_to_give:
                os.fchown(handle, owner, group)
            os.fchmod(handle, mode)
            return
        os.fchmod(handle, mode)  # first: only an owner may, unless it has CAP_FOWNER
        with suppress(PermissionError):  # not root: the file stays the caller's own
            if is_to_give:
                os.fchown(handle, owner, group)


def cooled() -> tuple[float, float]:
    """Return access and modification times so old that no Postfix program waits for the file."""
    moment = time.time() - COOL_SECONDS
    return moment, moment
