"""Steering: what an operator asks for in the state is passed on to the workers."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

from .attempts import Attempts
from .events import CommitStarted, ReadyToCommit, StateChanged, StopRequested
from .state import Migration, State
from .steps import CLEANUP
from .work import Work
from .write_blocking import WriteGuard

#: How soon a pause, a commit or a stop takes effect.
_POLL_SECONDS = 0.05
#: A commit by itself waits until no more than this is left to apply.
_READY_LAG = timedelta(seconds=2)
_LAG_SECONDS = 1.0


class Steering:
    """Watches the state that commands and other processes change."""

    def __init__(
        self,
        work: Work,
        stop: threading.Event,
        attempts: Attempts,
        guard: WriteGuard,
        *,
        when_ready: bool,
    ) -> None:
        self._work = work
        self._guard = guard
        self._attempts = attempts
        self._stop = stop
        self._when_ready = when_ready
        self._told_ready = False
        self._looked = 0.0
        #: ``time.monotonic()`` of the moment a commit was seen.
        self.commit_seen = time.monotonic()

    def run(self) -> None:
        """Obey until the migration stops."""
        before = self._work.store.migration().state
        self._obey(self._work.store.migration(), before)
        while not self._stop.wait(_POLL_SECONDS):
            if self._work.pace.is_stopping:
                return
            migration = self._work.store.migration()
            if migration.state is State.COMMITTED:
                return  # told by whoever has done it
            if migration.state is not before:
                self._work.bus.emit(StateChanged(before, migration.state))
            self._obey(migration, before)
            before = migration.state
        self._work.bus.emit(StopRequested())
        self._work.pace.stop()

    def _obey(self, migration: Migration, before: State) -> None:
        match migration.state:
            case State.PAUSED:
                self._work.pace.pause()
            case State.COMMITTING:
                # A pause that was ended between two looks would be held for ever.
                self._work.pace.resume()
                self._commit(migration, before)
            case _:
                self._work.pace.resume()
        if migration.can_commit:
            self._offer()

    def _commit(self, migration: Migration, before: State) -> None:
        if before is not State.COMMITTING:
            self.commit_seen = time.monotonic()
        if migration.commit_at is not None:
            return
        # Whoever has to stop the application's writes does so now: what comes later is not drained.
        self._attempts.turn_to(CLEANUP)
        self._guard.close_source()
        at = self._work.pace.retrying("read the source's clock", self._work.source.clock)
        self._work.store.update(lambda m: replace(m, commit_at=at))
        self._work.bus.emit(CommitStarted(at))

    def _offer(self) -> None:
        """Say that a commit is possible, or ask for it where that is wanted."""
        if self._told_ready and not self._when_ready:
            return
        now = time.monotonic()
        if now - self._looked < _LAG_SECONDS and self._told_ready:
            return
        self._looked = now
        migration = self._work.store.migration()
        assert migration.applied_to is not None
        clock = self._work.pace.retrying("read the source's clock", self._work.source.clock)
        lag = max(timedelta(0), clock - migration.applied_to)
        if not self._told_ready:
            self._told_ready = True
            self._work.bus.emit(ReadyToCommit(lag))
        if self._when_ready and lag <= _READY_LAG:
            self._work.store.update(lambda m: m.committing() if m.state is State.RUNNING else m)
