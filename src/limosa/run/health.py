"""Watching over a run: are both ends there, does the lag rise, does anything move."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

from .. import catalog
from ..errors import LimosaError
from ..events import (
    BatchCopied,
    ChangesApplied,
    ChangesCaptured,
    Event,
    IndexesBuilt,
    KeysVerified,
    LagRising,
    NothingMoving,
    PartitionVerified,
    Subscriber,
)
from ..pings import Pinged, Pings
from ..state import Migration, State
from ..views.status import Status
from .plan_file import HealthSection

#: A lag that has risen by less than this part of the time that went by is no trend.
_RISE = 0.25
_MOVING = (
    BatchCopied,
    ChangesCaptured,
    ChangesApplied,
    IndexesBuilt,
    PartitionVerified,
    KeysVerified,
)


class Health:
    """
    Looks every few seconds from `begin` to `close`, also between two attempts.

    A subscriber, too: what moves is known from events.
    """

    def __init__(
        self,
        section: HealthSection,
        *,
        folder: catalog.Folder,
        ends: Mapping[str, Callable[[], Pinged]],
        tell: Subscriber,
    ) -> None:
        """Watch *ends*, named "source" and "target"; they are opened and closed here."""
        self._every = section.every.total_seconds()
        self._folder = folder
        self._tell = tell
        self._lags = Lags(section.lag_rising_for)
        self._motion = Motion(section.still_for)
        self._moved = 0
        self._closing = threading.Event()
        self._pings = Pings(ends, every=self._every)
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)

    def __call__(self, event: Event) -> None:
        """Take note that something moves."""
        if isinstance(event, _MOVING):
            self._moved += 1

    def begin(self) -> None:
        """Look from now on."""
        self._pings.begin(self._tell)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        self._pings.close()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(self._every):
            for event in self._looked(time.monotonic()):
                self._tell(event)

    def _looked(self, now: float) -> list[Event]:
        try:
            with closing(catalog.watch(self._folder)) as store:
                migration, totals = store.migration(), store.totals()
        except LimosaError:
            return []  # nothing is stored yet; what else is wrong is told by who drives
        driven = catalog.is_driven(self._folder)
        lag = Status(migration, totals, datetime.now(UTC), is_driven=driven).lag
        found: list[Event] = []
        if rising := self._lags.seen(now, lag if migration.state is State.RUNNING else None):
            found.append(rising)
        if still := self._motion.seen(now, migration, self._moved, is_driven=driven):
            found.append(still)
        return found


class Lags:
    """Says when the lag has been rising for *over*, once for each such span."""

    def __init__(self, over: timedelta) -> None:
        self._over = over.total_seconds()
        self._seen: deque[tuple[float, float]] = deque()

    def seen(self, now: float, lag: timedelta | None) -> LagRising | None:
        """Take a look at *lag* into account; None for one that means nothing."""
        if lag is None:
            self._seen.clear()
            return None
        self._seen.append((now, lag.total_seconds()))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._over:
            self._seen.popleft()
        if not _is_rising(self._seen, self._over):
            return None
        spent = timedelta(seconds=now - self._seen[0][0])
        self._seen.clear()
        return LagRising(lag, spent)


class Motion:
    """Says when nothing has moved for *over*, once for each such span."""

    def __init__(self, over: timedelta) -> None:
        self._over = over
        self._last: object = None
        self._since = 0.0

    def seen(
        self, now: float, migration: Migration, moved: int, *, is_driven: bool
    ) -> NothingMoving | None:
        """Take a look into account; *moved* counts what was heard of so far."""
        working = is_driven and migration.state in {State.RUNNING, State.COMMITTING}
        mark = (moved, migration.phase, migration.captured_to, migration.applied_to)
        if not working or mark != self._last:
            self._last, self._since = mark, now
            return None
        still = timedelta(seconds=now - self._since)
        if still < self._over:
            return None
        self._since = now
        return NothingMoving(migration.phase, still)


def _is_rising(seen: Sequence[tuple[float, float]], over: float) -> bool:
    """Whether the lags *seen* cover *over* seconds, and rise to the last."""
    (first_at, first), (last_at, last) = seen[0], seen[-1]
    took = last_at - first_at
    if took < over or took <= 0:
        return False
    return last - first >= took * _RISE and last >= max(lag for _, lag in seen)
