"""The one owner of newaliases: which databases are old, their rebuild beside the loop, its record.

It must not hold up the loop: where somebody has just written main.cf, newaliases waits up to two
seconds for the file to cool, and a drift that comes meanwhile would stand as long.

Whether a database is old, files tell and nobody's memory alone: it is right once it is newer than
its source, whoever built it. Each database fails and recovers by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple, Protocol

from pf_agent import names
from pf_agent.activation.aside import Aside, Spawn, in_a_thread
from pf_agent.activation.pacing import Backoff
from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built, Named, Source, named_in
from pf_agent.model import Clock, Emit, Event, Reason, Record, Stamp, Trigger

RETRY_SECONDS = 10.0


class Builder(Protocol):
    """What builds the databases, as `postalias.AliasBuilder` does."""

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]: ...


class _Seen(NamedTuple):
    """A source before a run of newaliases, its database before it and after it."""

    source: Stamp | None
    before: Stamp | None
    after: Stamp | None

    def is_half_written(self, database: Stamp | None) -> bool:
        """Tell whether a run that failed may have left what stands there now."""
        return self.after != self.before and database == self.after


class _Failure(NamedTuple):
    trouble: str
    seen: _Seen


class AliasDatabase:
    """The alias databases of one instance.

    `remark` tells of lines that newaliases left out, as often as these change. `stamp` tells which
    file stands at a path. Where newaliases failed, it is run again after `retry_seconds`, and after
    twice that with each failure more.
    """

    def __init__(
        self,
        builder: Builder,
        post: Callable[[Trigger], None],
        emit: Emit,
        remark: Callable[[str], None],
        stamp: Callable[[str], Stamp | None],
        spawn: Spawn = in_a_thread,
        ticks: Clock = time.monotonic,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._retry_seconds = retry_seconds
        self._builder = builder
        self._post = post
        self._emit = emit
        self._remark = remark
        self._spawn = spawn
        self._ticks = ticks
        self._stamp = stamp
        self._lock = Lock()
        self._named: Named = named_in(b"")
        self._built: dict[Source, _Seen] = {}
        self._failures: dict[Source, _Failure] = {}
        self._told: dict[str, int | None] = {}
        self._doubts: dict[Source, tuple[str, ...]] = {}
        self._backoff = Backoff(first=retry_seconds)
        self._retry_at: float | None = None
        self._is_retry = False
        self._was_due = False
        self._is_distrusted = False
        self._cut_off: tuple[Source, ...] = ()

    @property
    def trouble(self) -> str:
        """Why newaliases failed last, for each database that it failed for; "" where for none."""
        return "; ".join(dict.fromkeys(failure.trouble for failure in self._failures.values()))

    def patience(self) -> float | None:
        """Seconds until newaliases is to be run again; None: it did not fail.

        What it was at when it failed is gone or half written, and mail to local users waits.
        """
        return None if self._retry_at is None else max(0.0, self._retry_at - self._ticks())

    def is_due(self) -> bool:
        """Tell, once, whether it is to be run again by now; `stale` then says for what."""
        is_due = self.patience() == 0.0
        if is_due:
            self._is_retry = self._was_due = True
            # Where it fails once more, `report` has it wait longer.
            self._retry_at = self._ticks() + self._retry_seconds
        return is_due

    def follow(self, text: bytes) -> tuple[str, ...]:
        """Look after what this main.cf names; return the paths to watch.

        The databases too: one that is removed is made again, one that a person has built ends the
        trouble.
        """
        self._named = named_in(text)
        if self._named.is_all:
            self._forget(self._failures.keys() - {*self._named.sources})
        return tuple(path for source in self._named.sources for path in source)

    def distrust(self) -> None:
        """A run may have been cut off by a crash: what stands there proves nothing, once."""
        self._is_distrusted = True

    def stale(self) -> tuple[Source, ...]:
        """Return what is to be built now.

        What failed and is unchanged waits for `is_due`. What somebody else has built since then is
        no trouble any more, and goes on record.
        """
        is_retry, self._is_retry = self._is_retry, False
        is_distrusted, self._is_distrusted = self._is_distrusted, False
        # What failed may have a name that only Postfix can tell.
        sources = dict.fromkeys((*self._named.sources, *self._failures))
        ended = [source for source in self._failures if self._is_right(source)]
        if ended:
            self._forget(ended)
            message = f"newaliases had failed, somebody else has run it for {_paths(ended)}"
            self._emit(Record(Event.ACTIVATED, message))
        if is_distrusted:
            self._cut_off = tuple(s for s in sources if self._stamp(s.path) is not None)
            return self._cut_off
        return tuple(source for source in sources if self._is_wanted(source, is_retry))

    def _is_wanted(self, source: Source, is_retry: bool) -> bool:
        failure = self._failures.get(source)
        if failure is None:
            return not self._is_right(source) and self._stamp(source.path) is not None
        return is_retry or self._stamp(source.path) != failure.seen.source

    def _is_right(self, source: Source) -> bool:
        """Tell whether the database is what the source was last.

        By their dates; and where we have built it, by what the file was then: `mv` brings a file
        that is older than the database. A database of the future was made before the clock was set
        back, and proves nothing.
        """
        now, database = self._stamp(source.path), self._stamp(source.database)
        if now is None or database is None:
            return False
        failure, built = self._failures.get(source), self._built.get(source)
        if failure is not None and failure.seen.is_half_written(database):
            return False
        if failure is None and built is not None:
            if built.source == now:
                return True
            if database == built.after:
                return False
        # Of a file that changed under our eyes we know that its own date may be of long ago.
        is_known = failure is not None or built is not None
        since = max(now.modified, now.changed) if is_known else now.modified
        return since <= database.modified <= time.time_ns()

    def rebuild(self, sources: Iterable[Source] = (), cycle: int | None = None) -> Rebuild:
        """Start newaliases for these, for all where none is named; after the one that runs.

        A trigger says when it ended. Raises HostError where it cannot be started.
        """
        asked, known, run = tuple(sources), self._named.sources, Run()

        def newaliases() -> str:
            with self._lock:
                before = {s: (self._stamp(s.path), self._stamp(s.database)) for s in known}
                try:
                    run.built = self._builder.newaliases([source.database for source in asked])
                except HostError as error:
                    run.built = [Built(source, str(error)) for source in asked or known]
                run.seen = {s: _Seen(*before[s], self._stamp(s.database)) for s in known}
            return ""

        ended = Trigger(Reason.NEWALIASES)
        work = Aside("newaliases", newaliases, lambda: self._post(ended), self._spawn)
        return Rebuild(self, work, run, cycle)

    def report(self, run: Run, cycle: int | None) -> None:
        """Tell what was built, and once why a database failed; once more for each cycle."""
        good = [each.source for each in run.built if not each.trouble]
        had_failed = [source for source in good if source in self._failures]
        for each in run.built:
            seen = run.seen.get(each.source, _Seen(None, None, None))
            if each.trouble:
                self._failures[each.source] = _Failure(each.trouble, seen)
            else:
                self._built[each.source] = seen
                self._note_doubts(each)
        self._forget(good)
        was_due, self._was_due = self._was_due, False
        # A run for a cycle, or for a file that changed, puts off no try that is to come.
        if len(good) < len(run.built) and (was_due or self._retry_at is None):
            self._retry_at = self._ticks() + self._backoff.grow()
        for trouble in dict.fromkeys(each.trouble for each in run.built if each.trouble):
            if trouble not in self._told or cycle not in (None, self._told[trouble]):
                self._told[trouble] = cycle
                fields = {names.FIELD_REASON: trouble}
                self._emit(Record(Event.ACTIVATION_FAILED, trouble, cycle, fields))
        if cycle is None:  # an activation has a record of its own, at its end
            changed = [s for s in good if s not in (*had_failed, *self._cut_off)]
            self._tell_built(had_failed, changed)
            self._tell_again([s for s in good if s in self._cut_off])

    def _tell_built(self, had_failed: Sequence[Source], changed: Sequence[Source]) -> None:
        if had_failed:
            message = f"newaliases had failed, newaliases was run for {_paths(had_failed)}"
            self._emit(Record(Event.ACTIVATED, message))
        if changed:
            message = f"{_paths(changed)} had changed, newaliases was run"
            self._emit(Record(Event.ACTIVATED, message))

    def _tell_again(self, cut_off: Sequence[Source]) -> None:
        self._cut_off = ()
        if cut_off:
            message = f"newaliases was run for {_paths(cut_off)}: it may have been cut off"
            self._emit(Record(Event.ACTIVATED, message))

    def _note_doubts(self, built: Built) -> None:
        if built.doubts not in ((), self._doubts.get(built.source)):
            self._remark(f"newaliases: {'; '.join(built.doubts)}; mend the file")
        self._doubts[built.source] = built.doubts

    def _forget(self, sources: Iterable[Source]) -> None:
        """These are no trouble any more."""
        for source in sources:
            self._failures.pop(source, None)
        left = {failure.trouble for failure in self._failures.values()}
        self._told = {trouble: cycle for trouble, cycle in self._told.items() if trouble in left}
        if not self._failures:
            self._retry_at = None
            self._backoff.reset()


def _paths(sources: Iterable[Source]) -> str:
    return ", ".join(dict.fromkeys(source.path for source in sources))


@dataclass
class Run:
    """What one run of newaliases came to, once it has ended."""

    built: Sequence[Built] = ()
    seen: Mapping[Source, _Seen] = field(default_factory=dict)


@dataclass(frozen=True)
class Rebuild:
    """One run of newaliases, for a cycle or for files that changed."""

    database: AliasDatabase
    work: Aside[str]
    run: Run
    cycle: int | None

    def worked(self) -> bool | None:
        """Tell whether all of it worked; None while it runs. What it came to goes on record."""
        if self.work.answer() is None:
            return None
        self.database.report(self.run, self.cycle)
        return not any(built.trouble for built in self.run.built)
