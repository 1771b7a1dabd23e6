"""What the server knows of its migration at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from .. import catalog
from ..errors import StateError, UnknownMigration
from ..history import Sample
from ..state import Failure, Migration, State
from ..steps import StepProgress
from ..storage import History, StateStore
from ..views.mongosync import Indexing
from ..views.readings import Readings
from ..views.status import Status

#: The time over which the fall of the lag is taken.
_TREND = timedelta(seconds=30)
_TREND_SAMPLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    The migration as it was at *at*.

    Half a second old at most while the disk answers. Read it once per request: the next one
    is another value.
    """

    at: datetime
    #: The state and all that its history holds; None if nothing was ever started.
    readings: Readings | None = None
    #: The server has begun and the state of before is not back yet.
    is_initializing: bool = False
    #: Why the migration stands still: its own failure, or why no process drives it.
    failure: Failure | None = None
    indexing: Indexing | None = None  # None before the copy is complete
    recent: Sequence[Sample] = ()  # of the last 30 s, oldest first
    steps: Sequence[StepProgress] = ()  # that were begun, in order
    was_complete: bool = False  # already when the server began
    pings: Mapping[str, int] = field(default_factory=dict)  # ms by "cluster0", …; -1: none

    @property
    def status(self) -> Status | None:
        return None if self.readings is None else self.readings.status

    @property
    def migration(self) -> Migration | None:
        return None if self.readings is None else self.readings.status.migration

    @property
    def state(self) -> State:
        """The state to act upon: FAILED also if it is the engine that could not be started."""
        if self.failure is not None:
            return State.FAILED
        return State.IDLE if self.migration is None else self.migration.state


class Reader:
    """Reads the folder of a migration again and again, with files kept open. For one thread."""

    def __init__(self, folder: catalog.Folder) -> None:
        self._folder = folder
        self._store: StateStore | None = None
        self._history: History | None = None

    def migration(self) -> Migration | None:
        """Return the migration; None if there is none yet."""
        store = self._opened()
        try:
            return None if store is None else store.migration()
        except (StateError, UnknownMigration):
            self._forget()
            raise

    def readings(self) -> Readings | None:
        """
        Return all there is to show; None if there is no migration yet.

        Raises:
            StateError: the state cannot be used.
        """
        migration = self.migration()
        if migration is None or self._store is None:
            return None
        status = Status(
            migration,
            self._store.totals(),
            datetime.now(UTC),
            is_driven=catalog.is_driven(self._folder),
            steps=self._store.steps(),
        )
        try:
            history = self._opened_history()
            return Readings(
                status,
                sample=history.latest(),
                counters=history.counters(),
                durations=history.durations(),
                gauges=history.gauges(),
            )
        except StateError:
            # Nothing depends on it, so its loss takes only its own figures away.
            self._history = None
            return Readings(status)

    def recent(self) -> list[Sample]:
        """Return samples of the last half minute, oldest first."""
        if self._history is None:
            return []
        try:
            since = datetime.now(UTC) - _TREND
            return self._history.samples(since=since, limit=_TREND_SAMPLES)
        except StateError:
            self._history = None
            return []

    def steps(self) -> list[StepProgress]:
        """Return the steps that were begun, in order."""
        return [] if self._store is None else self._store.steps()

    def indexing(self) -> Indexing | None:
        """Return how far the indexes are; reads every collection."""
        return None if self._store is None else Indexing.of(self._store.collections())

    def close(self) -> None:
        """Close the files."""
        self._forget()
        if self._history is not None:
            self._history.close()

    def _opened(self) -> StateStore | None:
        if self._store is not None and not self._folder.state_file.exists():
            self._forget()  # cleaned up meanwhile
        if self._store is None:
            try:
                self._store = catalog.watch(self._folder)
            except UnknownMigration:
                return None
        return self._store

    def _opened_history(self) -> History:
        if self._history is None:
            self._history = catalog.history(self._folder)
        return self._history

    def _forget(self) -> None:
        if self._store is not None:
            with closing(self._store):
                self._store = None
