"""A look at the state twice a second, so that no request waits for a disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from .. import catalog
from ..errors import LimosaError
from ..state import Failure, Migration, State
from ..views.mongosync import Indexing
from ..views.result import is_complete
from .engine import Engine
from .snapshot import Reader, Snapshot

#: Seconds between two looks.
_EVERY = 0.5
#: Looking may take a tenth of the time: sums over 100,000 collections are not for every second.
_SHARE = 10
#: Seconds between two looks at the indexes of all collections.
_INDEXES_EVERY = 5.0


class Watcher:
    """Holds the newest snapshot; `seen` is read without any lock."""

    def __init__(
        self,
        folder: catalog.Folder,
        *,
        engine: Engine | None,
        pings: Callable[[], Mapping[str, int]],
    ) -> None:
        self._reader = Reader(folder)
        self._engine = engine
        self._pings = pings
        self._looking = threading.Lock()
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._is_initializing = True
        self._was_complete: bool | None = None  # before the first look
        #: How far they were, whether that was after the last was built, and when it was read.
        self._indexed: tuple[Indexing | None, bool, float] | None = None
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        #: What was seen last.
        self.seen = Snapshot(at=datetime.now(UTC), is_initializing=True)

    def begin(self) -> None:
        """Look again and again, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._reader.close()

    def initialized(self) -> None:
        """Take note that the state of before is back."""
        self._is_initializing = False
        self.look()

    def look(self) -> Snapshot:
        """Return the state as it is now."""
        with self._looking:
            seen = self._looked()
        with self._news:
            self.seen = seen
            self._news.notify_all()
        return seen

    def changed(self, after: Snapshot, *, seconds: float) -> Snapshot:
        """Return the first snapshot that is not *after*, or that one when *seconds* are over."""
        with self._news:
            self._news.wait_for(lambda: self.seen is not after, timeout=seconds)
            return self.seen

    def _run(self) -> None:
        pause = _EVERY
        while not self._closing.wait(pause):
            started = time.monotonic()
            self.look()
            pause = max(_EVERY, (time.monotonic() - started) * _SHARE)

    def _looked(self) -> Snapshot:
        now = datetime.now(UTC)
        before = self.seen
        try:
            readings = self._reader.readings()
            steps = self._reader.steps()
        except LimosaError as error:
            # A state that cannot be read now may be later: the last figures stay, and why.
            return Snapshot(
                at=now,
                readings=before.readings,
                is_initializing=self._is_initializing,
                failure=Failure.of(error),
                pings=self._pings(),
                steps=before.steps,
                was_complete=before.was_complete,
            )
        migration = None if readings is None else readings.status.migration
        if self._was_complete is None:
            self._was_complete = is_complete(migration, steps)
        failure = self._engine.failure if self._engine else None
        if migration is not None and migration.state is State.FAILED:
            failure = migration.failure or failure
        elif migration is not None and migration.state in {State.IDLE, State.COMMITTED}:
            failure = None
        return Snapshot(
            at=now,
            readings=readings,
            is_initializing=self._is_initializing,
            failure=failure,
            indexing=None if migration is None else self._indexing(migration),
            recent=self._reader.recent(),
            steps=steps,
            was_complete=self._was_complete,
            pings=self._pings(),
        )

    def _indexing(self, migration: Migration) -> Indexing | None:
        """Return how far the indexes are, read again now and then until all are built."""
        if migration.copied_at is None:
            return None
        is_over, at = migration.indexed_at is not None, time.monotonic()
        if self._indexed is None or not (
            self._indexed[1] or at - self._indexed[2] < _INDEXES_EVERY
        ):
            self._indexed = (self._reader.indexing(), is_over, at)
        return self._indexed[0]
