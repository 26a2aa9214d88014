"""Databases that Postfix's programs build from text files: which are stale, and rebuilding them.

It must not hold up the loop: if main.cf was just written, these programs wait up to two seconds for
the file to cool, and drift that arrives meanwhile would last as long.

The files tell whether a database is stale, not memory alone: it is current once it is newer than
its source, no matter which process built it. Each database fails and recovers separately.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple, Protocol
from weakref import WeakSet

from pf_agent.activation.aside import Aside, Spawn, in_a_thread
from pf_agent.activation.pacing import Backoff
from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built, Named, Source
from pf_agent.model import Clock, Emit, Reason, Record, Stamp, Trigger

RETRY_SECONDS = 10.0


class Craft(Protocol):
    """How one kind of database is built and recorded.

    `program` is what builds them, `reason` that of the trigger which reports its end. `is_anothers`
    tells whether a source is not only root's: whoever else has a say in it may hold up what is
    built from it, so it is built apart from root's.
    """

    program: str
    reason: Reason
    is_anothers: Callable[[str], bool]

    def named(self, text: bytes) -> Named:
        """Return the databases that this main.cf names."""

    def build(self, databases: Sequence[str]) -> Sequence[Built]:
        """Build these, or all of root's if none is given. Raises HostError if none can be built."""

    def failed(self, built: Built, cycle: int | None) -> Record:
        """Return the record of a database that could not be built."""

    def built(self, built: Sequence[Built], message: str) -> Iterable[Record]:
        """Return the records of databases that were built, or that are current again."""


class _Seen(NamedTuple):
    """A source before a run, and its database before and after that run."""

    source: Stamp | None
    before: Stamp | None
    after: Stamp | None

    def is_half_written(self, database: Stamp | None) -> bool:
        """Tell whether the database is what a failed run may have left behind."""
        return self.after != self.before and database == self.after


class _Failure(NamedTuple):
    trouble: str
    seen: _Seen


class Databases:
    """The databases of one kind, of one instance.

    `remark` reports lines that were skipped, each time that they change. `stamp` identifies the
    file at a path. If building fails, it is tried again after `retry_seconds`, then after twice as
    long with each further failure; not if only a change of the source can fix it (`is_final`).
    """

    def __init__(
        self,
        craft: Craft,
        post: Callable[[Trigger], None],
        emit: Emit,
        remark: Callable[[str], None],
        stamp: Callable[[str], Stamp | None],
        spawn: Spawn = in_a_thread,
        ticks: Clock = time.monotonic,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._retry_seconds = retry_seconds
        self._craft = craft
        self._post = post
        self._emit = emit
        self._remark = remark
        self._spawn = spawn
        self._ticks = ticks
        self._stamp = stamp
        self._locks = {False: Lock(), True: Lock()}
        self._named: Named = craft.named(b"")
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
        self._put_off: tuple[Source, ...] = ()
        # Weak: nobody may be left to report a run that took too long.
        self._under_way: WeakSet[Run] = WeakSet()

    @property
    def troubles(self) -> Mapping[str, str]:
        """Why building last failed, for each source it failed for."""
        return {source.path: failure.trouble for source, failure in self._failures.items()}

    @property
    def trouble(self) -> str:
        """The same as one text; "" if it failed for none."""
        return "; ".join(dict.fromkeys(self.troubles.values()))

    def patience(self) -> float | None:
        """Seconds until a retry; None if nothing failed, or only a change of the source can help.

        An alias database that was being built is missing or half-written, and local mail waits.
        """
        return None if self._retry_at is None else max(0.0, self._retry_at - self._ticks())

    def is_due(self) -> bool:
        """Tell, once, whether a retry is due; `stale` then returns what to build."""
        is_due = self.patience() == 0.0
        if is_due:
            self._is_retry = self._was_due = True
            # If it fails again, `report` sets a longer wait.
            self._retry_at = self._ticks() + self._retry_seconds
        return is_due

    def follow(self, text: bytes) -> tuple[str, ...]:
        """Take over the alias files that this main.cf names; return the paths to watch.

        The databases too: a removed one is rebuilt, and one that another process built ends the
        failure.
        """
        self._named = self._craft.named(text)
        if self._named.is_all:
            self._forget(self._failures.keys() - {*self._named.sources})
        return tuple(path for source in self._named.sources for path in source)

    def try_again(self) -> None:
        """Clear all failures: what failed is built at the next look, and reported again."""
        self._forget(tuple(self._failures))

    def distrust(self) -> None:
        """Have all of them rebuilt, once: a crash may have interrupted a run."""
        self._is_distrusted = True

    def put_off(self, sources: Sequence[Source]) -> None:
        """Have the next `stale` return these, too: what it returned them for is asked for once."""
        self._put_off = tuple(sources)

    def stale(self) -> tuple[Source, ...]:
        """Return what has to be built now.

        What failed and is unchanged waits for `is_due`. A failure that another process has since
        fixed is cleared, and recorded.
        """
        is_retry, self._is_retry = self._is_retry, False
        is_distrusted, self._is_distrusted = self._is_distrusted, False
        put_off, self._put_off = self._put_off, ()
        # A failed source may have a name that only Postfix can expand.
        sources = dict.fromkeys((*self._named.sources, *self._failures))
        ours = {source for run in self._under_way for source in run.sources}
        # Of ours, `report` tells.
        ended = [s for s in self._failures if s not in ours and self._is_right(s)]
        if ended:
            self._forget(ended)
            program = self._craft.program
            message = f"{program} had failed; another process has since run it for {_paths(ended)}"
            self._tell(map(Built, ended), message)
        if is_distrusted:
            self._cut_off = tuple(s for s in sources if self._stamp(s.path) is not None)
            return self._cut_off
        return tuple(s for s in sources if s in put_off or self._is_wanted(s, is_retry))

    def _is_wanted(self, source: Source, is_retry: bool) -> bool:
        failure = self._failures.get(source)
        if failure is None:
            return not self._is_right(source) and self._stamp(source.path) is not None
        return is_retry or self._stamp(source.path) != failure.seen.source

    def _is_right(self, source: Source) -> bool:
        """Tell whether the database was built from the source as it is now.

        The dates decide; if we built it, also the source's stamp at that time, since `mv` can put a
        file in place that is older than the database. A database dated in the future was made
        before the clock was set back, and proves nothing.
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
        # If we saw the file change, its own modification date may still be an old one (`mv`).
        is_known = failure is not None or built is not None
        since = max(now.modified, now.changed) if is_known else now.modified
        return since <= database.modified <= time.time_ns()

    def apart(self, sources: Iterable[Source]) -> Mapping[bool, Sequence[Source]]:
        """Return those that are root's, under False, and those of others, under True."""
        found: dict[bool, list[Source]] = {}
        for source in sources:
            found.setdefault(self._craft.is_anothers(source.path), []).append(source)
        return found

    def rebuild(
        self, sources: Iterable[Source] = (), cycle: int | None = None, of_others: bool = False
    ) -> Rebuild:
        """Start to build these, or all of root's if none is given; after such a run in progress.

        `of_others`: they are not root's. A trigger reports its end. Raises HostError if it cannot
        be started.
        """
        asked = tuple(sources)
        known = asked or tuple(self.apart(self._named.sources).get(False, ()))
        run = Run(known)
        self._under_way.add(run)

        def build() -> str:
            with self._locks[of_others]:
                before = {s: (self._stamp(s.path), self._stamp(s.database)) for s in known}
                try:
                    run.built = self._craft.build([source.database for source in asked])
                except HostError as error:
                    run.built = [Built(source, str(error)) for source in asked or known]
                run.seen = {s: _Seen(*before[s], self._stamp(s.database)) for s in known}
            return ""

        ended = Trigger(self._craft.reason)
        work = Aside(self._craft.program, build, lambda: self._post(ended), self._spawn)
        return Rebuild(self, work, run, cycle)

    def report(self, run: Run, cycle: int | None) -> None:
        """Record what was built, and why a database failed: once, and once more for each cycle."""
        self._under_way.discard(run)
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
        # A run for a cycle, or for a changed file, does not put off a retry that is already set.
        may_mend = any(each.trouble and not each.is_final for each in run.built)
        if may_mend and (was_due or self._retry_at is None):
            self._retry_at = self._ticks() + self._backoff.grow()
        for trouble, each in {each.trouble: each for each in run.built if each.trouble}.items():
            if trouble not in self._told or cycle not in (None, self._told[trouble]):
                self._told[trouble] = cycle
                self._emit(self._craft.failed(each, cycle))
        if cycle is None:  # an activation has its own record at its end
            self._tell_built([each for each in run.built if not each.trouble], had_failed)

    def _tell_built(self, built: Sequence[Built], had_failed: Sequence[Source]) -> None:
        program, cut_off = self._craft.program, self._cut_off
        self._cut_off = ()
        again = [each for each in built if each.source in had_failed]
        first = [each for each in built if each.source not in (*had_failed, *cut_off)]
        late = [each for each in built if each.source in cut_off]
        paths = _paths(each.source for each in again)
        self._tell(again, f"{program} succeeded after an earlier failure, for {paths}")
        self._tell(first, f"{_paths(each.source for each in first)} changed; {program} was run")
        paths = _paths(each.source for each in late)
        self._tell(late, f"{program} was run for {paths}: the last run may have been interrupted")

    def _tell(self, built: Iterable[Built], message: str) -> None:
        for record in self._craft.built(tuple(built), message):
            self._emit(record)

    def _note_doubts(self, built: Built) -> None:
        if built.doubts not in ((), self._doubts.get(built.source)):
            doubts = "; ".join(built.doubts)
            self._remark(f"{self._craft.program}: {doubts}; fix the file")
        self._doubts[built.source] = built.doubts

    def _forget(self, sources: Iterable[Source]) -> None:
        """Clear the failures of these sources."""
        for source in sources:
            self._failures.pop(source, None)
        left = {failure.trouble for failure in self._failures.values()}
        self._told = {trouble: cycle for trouble, cycle in self._told.items() if trouble in left}
        if not self._failures:
            self._retry_at = None
            self._backoff.reset()


def _paths(sources: Iterable[Source]) -> str:
    return ", ".join(dict.fromkeys(source.path for source in sources))


@dataclass(eq=False)
class Run:
    """One run for these sources, and its result, once it has ended."""

    sources: Sequence[Source]
    built: Sequence[Built] = ()
    seen: Mapping[Source, _Seen] = field(default_factory=dict)


@dataclass(frozen=True)
class Rebuild:
    """One run, for a cycle or for changed files."""

    databases: Databases
    work: Aside[str]
    run: Run
    cycle: int | None

    def worked(self) -> bool | None:
        """Tell whether all of it worked; None while it runs. Its result is recorded."""
        if self.work.answer() is None:
            return None
        self.databases.report(self.run, self.cycle)
        return not any(built.trouble for built in self.run.built)
