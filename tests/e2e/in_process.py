"""A migration in a thread of the test, through the public Python interface."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from waiting import PATIENCE, until

import limosa
from limosa.catalog import folder_for, watch
from limosa.connectors.mongodb.deployment import as_datetime
from limosa.errors import IllegalTransition
from limosa.events import (
    BatchCopied,
    ChangesApplied,
    ChangesCaptured,
    Event,
    PartitionVerified,
    PhaseChanged,
    Planned,
    ReadyToCommit,
    Retrying,
)
from limosa.settings import Settings
from limosa.state import Migration, Phase, State
from limosa.storage import StateStore

Client = MongoClient[dict[str, Any]]

#: Documents of a batch that is one of several.
MANY = 1_000

#: Where a migration can be held: by a subscriber that does not return for a while.
MOMENTS: dict[str, Callable[[Event], bool]] = {
    "plan": lambda e: isinstance(e, Planned),
    "copy": lambda e: isinstance(e, BatchCopied) and e.documents > MANY,
    "index build": lambda e: e == PhaseChanged(Phase.INDEX_BUILD),
    "application": lambda e: e == PhaseChanged(Phase.CHANGE_EVENT_APPLICATION),
    "verification": lambda e: isinstance(e, PartitionVerified),
    "commit": lambda e: isinstance(e, ChangesApplied),
}


class Running:
    """
    A migration that runs in a thread, as often as it is started, until it ends by itself.

    It can be held at one of `MOMENTS`; leaving the block asks it to stop.
    """

    def __init__(
        self, source: str, target: str, folder: Path, settings: Settings = Settings(), **given: Any
    ) -> None:
        self.events: list[Event] = []
        self.on_retry: Callable[[], None] = lambda: None
        self._ends = (source, target)
        self._folder = folder
        self._given = {"settings": settings, "retry_for": timedelta(seconds=40), **given}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._result: Migration | None = None
        self._error: BaseException | None = None
        self._hold: Callable[[Event], bool] | None = None
        self._held = threading.Event()
        self._released = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self.release()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def start(self) -> Self:
        """Start it, or go on with it."""
        self._stop.clear()
        self.events.clear()
        self._result = self._error = None
        self._thread = threading.Thread(target=self._run, name="migration", daemon=True)
        self._thread.start()
        return self

    @property
    def folder(self) -> Path:
        """Where its state is."""
        return self._folder

    def stop(self) -> None:
        """Ask it to stop, held or not, and wait for that."""
        self._stop.set()
        self.release()
        self.end()

    def end(self, *, seconds: float = PATIENCE) -> Migration:
        """Return the migration once it has ended; raise what it raised."""
        assert self._thread is not None
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"still running: {self.events[-10:]}"
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    @contextmanager
    def held_at(self, moment: str) -> Iterator[None]:
        """Start it, hold it at *moment* for a block, then let it go on."""
        self.hold_at(moment)
        self.start()
        self.await_held()
        try:
            yield
        finally:
            self.release()

    def hold_at(self, moment: str) -> None:
        """Hold the thread in which *moment* comes next, until `release`."""
        self._held.clear()
        self._released.clear()
        self._hold = MOMENTS[moment]

    def await_held(self) -> None:
        """Return once it is held."""
        until(lambda: self._held.is_set() or self._has_ended(), "hold")
        assert self._held.is_set(), (self._error, self._result)

    def release(self) -> None:
        """Let it go on."""
        self._hold = None
        self._released.set()

    def await_event(self, kind: type[Event], *, since: int = 0) -> Any:
        """Return the first event of *kind* after the first *since* events."""

        def look() -> Event | None:
            # Looked at first: an event may come just before the end.
            ended = self._has_ended()
            found = next((e for e in self.events[since:] if isinstance(e, kind)), None)
            assert found or not ended, (self._error, self._result)
            return found

        return until(look, kind.__name__)

    def await_ready(self) -> None:
        """Return once a commit would be accepted."""
        self.await_event(ReadyToCommit)

    def commit(self) -> None:
        """Ask for a commit as soon as it is possible."""
        self.await_ready()

        def is_taken() -> bool:
            try:
                self.update(Migration.committing)
            except IllegalTransition:
                return False  # what has just joined is compared first
            return True

        until(is_taken, "commit allowed")

    def committed(self) -> Migration:
        """Ask for a commit and return the committed migration."""
        self.commit()
        migration = self.end()
        assert migration.state is State.COMMITTED, migration.failure
        return migration

    def update(self, change: Callable[[Migration], Migration]) -> Migration:
        """Change the state as a command in another shell does."""
        with self.store() as store:
            return store.update(change)

    def migration(self) -> Migration:
        """Return what is stored of it now."""
        with self.store() as store:
            return store.migration()

    @contextmanager
    def store(self) -> Iterator[StateStore]:
        """Lend the state, opened to watch."""
        with closing(watch(folder_for("any", self._folder))) as store:
            yield store

    def await_captured(self, source: Client) -> None:
        """Return once everything written to *source* until now is in the buffer."""
        query = {
            "op": {"$ne": "n"},
            "ns": {"$not": re.compile(r"^(config|admin|local)\.")},
            "o.dropDatabase": {"$exists": False},  # told collection by collection
        }
        (last,) = source.local["oplog.rs"].find(query).sort("$natural", -1).limit(1)
        # A batch is stamped just before its time: more of that time could follow.
        end = as_datetime(last["ts"]) - timedelta(microseconds=1)

        def look() -> bool:
            captured = (e for e in reversed(self.events) if isinstance(e, ChangesCaptured))
            return any(e.to >= end for e in captured)

        until(look, "capture")

    def retries(self) -> list[str]:
        """Return what was tried again."""
        return [f"{e.what}: {e.error}" for e in self.events if isinstance(e, Retrying)]

    def _has_ended(self) -> bool:
        return self._result is not None or self._error is not None

    def _run(self) -> None:
        try:
            self._result = limosa.migrate(
                *self._ends,
                state=self._folder,
                stop=self._stop,
                on_event=self._take,
                **self._given,
            )
        except BaseException as error:
            self._error = error

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Retrying):
            self.on_retry()
        if self._hold is not None and self._hold(event):
            self._held.set()
            self._released.wait(PATIENCE)
