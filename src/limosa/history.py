"""What a migration leaves behind for those who look later: figures, events and durations."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import accumulate
from typing import Any

#: Seconds. A lookup of one key takes one millisecond, a batch of 4 MB some ten, a partition
#: seconds, an index of a large collection an hour.
BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a migration had come at one moment."""

    at: datetime  # wall clock, UTC
    phase: str
    documents_copied: int = 0
    bytes_copied: int = 0
    events_captured: int = 0
    changes_applied: int = 0
    documents_compared: int = 0
    waiting: int = 0  # changes in the buffer
    lag_seconds: float | None = None  # None: unknown, as before the first change is applied
    mismatches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened, as it is shown: one line without credentials or documents."""

    number: int = 0  # in order of recording, from 1; 0 until it is stored
    at: datetime  # wall clock, UTC
    kind: str  # the class of the event; "Request" for a request of a face
    level: str  # "info", "warning" or "error"
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)  # may be written as JSON


@dataclass(frozen=True, slots=True)
class Histogram:
    """
    How often something took how long.

    *counts* has one number for each of *bounds*, of what took as long as that or less and
    longer than the one before, and a last one for what took longer than all.
    """

    bounds: tuple[float, ...] = BOUNDS  # seconds, rising
    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: float = 0.0  # seconds
    count: int = 0

    def plus(self, value: float) -> Histogram:
        """Return this with one more that took *value* seconds."""
        at = bisect_left(self.bounds, value)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return replace(self, counts=counts, total=self.total + value, count=self.count + 1)

    def joined(self, other: Histogram) -> Histogram:
        """
        Return the sum of both; of different bounds, as of another version, *other* alone.

        Figures start anew then, which whoever reads counters knows how to take.
        """
        if self.bounds != other.bounds:
            return other
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return replace(
            self, counts=counts, total=self.total + other.total, count=self.count + other.count
        )

    @property
    def cumulative(self) -> tuple[int, ...]:
        """How many took as long as each of *bounds* or less; all of them at last."""
        return tuple(accumulate(self.counts))
