"""Regulation: the pace follows what a person has asked for, and what both servers can bear."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from .connector import measures_memory, reports_load
from .errors import LimosaError
from .events import MemoryMeasured, PaceChanged, Warned
from .limits import Excess, Limits, Rates
from .state import Migration, State
from .work import Work

T = TypeVar("T")

#: How soon a limit that is changed takes effect, and a commit lifts them all.
_POLL_SECONDS = 0.1
#: How often both ends are asked how busy they are.
_LOOK_SECONDS = 1.0
#: Looks in a row until something that is too high counts: one may be chance.
_LOOKS = 2
#: Each look at servers that suffer halves the workers' time; each at others gives some back.
_LESS, _MORE = 0.5, 1.25
#: It never stops altogether: who waits for servers that never recover would not end.
_LEAST_SHARE = 1 / 64
#: How often the numbers in the reason that is shown are refreshed.
_TELL_SECONDS = 5.0
#: How often the source is asked how long it remembers.
_MEMORY_SECONDS = 10.0
#: Less than this is warned about, and then each time that it has halved.
_SHORT_MEMORY = timedelta(minutes=15)


class Regulation:
    """Sets the pace of all workers but capture, which must not fall behind."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._share = 1.0
        self._excess: Excess | None = None  # why the share is what it is
        self._over = 0  # looks in a row
        self._look_due = self._memory_due = self._told = 0.0
        self._rates: Rates | None = None
        self._causes: list[str] = []
        self._warned_below = _SHORT_MEMORY

    def run(self) -> None:
        """Regulate until the migration stops."""
        while True:
            migration = self._work.store.migration()
            self._regulate(migration, datetime.now().astimezone(), time.monotonic())
            self._measure_memory(migration, time.monotonic())
            self._work.pace.wait(_POLL_SECONDS)

    def _regulate(self, migration: Migration, now: datetime, at: float) -> None:
        limits = migration.limits
        if migration.state is State.COMMITTING:
            # The application stands still: nothing may make it wait.
            self._set(Rates())
            self._tell(migration, "", at)
            return
        if not limits.regards(now):
            self._share, self._excess = 1.0, None
        elif at >= self._look_due:
            self._look_due = at + _LOOK_SECONDS
            self._react(self._found(limits))
        self._set(limits.rates(now, workers=self._work.workers.width, share=self._share))
        asked = limits.reasons(now)
        cause, value = (self._excess.cause, str(self._excess)) if self._excess else ("", "")
        self._tell(migration, ", ".join(filter(None, [value, *asked])), at, of=[cause, *asked])

    def _set(self, rates: Rates) -> None:
        if rates != self._rates:
            self._rates = rates
            self._work.pace.limit(rates)

    def _found(self, limits: Limits) -> Excess | None:
        """Return what is too high at either end; the target first, which bears the writes."""
        for side, end in (("target", self._work.target), ("source", self._work.source)):
            load = _answered(end.load) if reports_load(end) else None
            excess = limits.excess(side, load) if load is not None else None
            if excess is not None:
                return excess
        return None

    def _react(self, excess: Excess | None) -> None:
        self._over = self._over + 1 if excess is not None else 0
        if self._over >= _LOOKS:
            self._share = max(_LEAST_SHARE, self._share * _LESS)
            self._excess = excess
        elif excess is None and self._excess is not None:
            self._share = min(1.0, self._share * _MORE)
            if self._share >= 1.0:
                self._excess = None

    def _tell(self, migration: Migration, text: str, at: float, *, of: Sequence[str] = ()) -> None:
        """Say and store why it is slow: new causes at once, what is measured now and then."""
        is_new = list(of) != self._causes
        if text == migration.throttled or (not is_new and at - self._told < _TELL_SECONDS):
            return
        self._told, self._causes = at, list(of)
        self._work.store.update(lambda m: replace(m, throttled=text))
        if is_new:
            self._work.bus.emit(PaceChanged(text))

    def _measure_memory(self, migration: Migration, at: float) -> None:
        """Store until when the source will hold what capture has not seen."""
        source, since = self._work.source, migration.captured_to
        if at < self._memory_due or since is None or not measures_memory(source):
            return
        self._memory_due = at + _MEMORY_SECONDS
        memory = _answered(lambda: source.remembers(since))
        if memory is None:
            return
        left = memory.left
        lost_at = datetime.now(UTC) + left
        self._work.store.update(lambda m: replace(m, position_lost_at=lost_at))
        self._work.bus.emit(MemoryMeasured(left))
        if left < self._warned_below and not memory.is_growing:
            self._warned_below = left / 2
            self._work.bus.emit(Warned(_short(left)))


def _answered(ask: Callable[[], T]) -> T | None:
    """Return the answer, None if there is none now."""
    try:
        return ask()
    except LimosaError:
        # Whoever works with that server says so; here, nothing new is known of it.
        return None


def _short(left: timedelta) -> str:
    return (
        f"the source's oplog holds no more than {left.total_seconds():,.0f} s of changes that are "
        "not captured yet: a pause of this process for longer loses them; enlarge the oplog with "
        "replSetResizeOplog"
    )
