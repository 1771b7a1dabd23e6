"""What is counted while a migration runs, until it is written to its history."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from .history import BOUNDS, Entry, Histogram, Sample

#: Entries held while the history cannot be written; later ones replace the oldest.
_HELD = 10_000
#: Of one kind so many entries are kept at once, and one more every so many seconds: 1,000 dropped
#: connections are one thing that happened.
_BURST = 50
_REFILL = 5.0


class Tally:
    """A histogram that is being filled."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds

    def histogram(self) -> Histogram:
        return Histogram(BOUNDS, tuple(self._counts), self._total, sum(self._counts))

    def join(self, later: Tally) -> None:
        self._counts = [a + b for a, b in zip(self._counts, later._counts, strict=True)]
        self._total += later._total


@dataclass(slots=True)
class Pending:
    """What is to be written."""

    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=_HELD))
    counts: Counter[str] = field(default_factory=Counter)
    durations: dict[str, Tally] = field(default_factory=dict)

    def took(self, name: str, seconds: float) -> None:
        tally = self.durations.get(name)
        if tally is None:
            tally = self.durations[name] = Tally()
        tally.add(seconds)

    def joined(self, later: Pending) -> Pending:
        """Return *later* after this."""
        self.entries.extend(later.entries)
        self.counts.update(later.counts)
        for name, tally in later.durations.items():
            self.durations.setdefault(name, Tally()).join(tally)
        return self


class Copied:
    """
    What is copied, batches of partitions that are under way included.

    The state counts whole partitions. A partition is copied by one thread at a time, which is
    also where its events come from: that tells whose batches are void when it begins again.
    """

    def __init__(self, before: Sample) -> None:
        self._base = (before.documents_copied, before.bytes_copied)
        self._done = (0, 0)
        self._under_way: dict[int, tuple[int, int]] = {}

    def batch(self, documents: int, size: int) -> None:
        thread = threading.get_ident()
        before = self._under_way.get(thread, (0, 0))
        self._under_way[thread] = (before[0] + documents, before[1] + size)

    def partition(self, documents: int, size: int) -> None:
        self._under_way.pop(threading.get_ident(), None)
        self._done = (self._done[0] + documents, self._done[1] + size)

    def again(self) -> None:
        self._under_way.pop(threading.get_ident(), None)

    def seen_in(self, sample: Sample) -> Sample:
        """Return *sample* with what is under way added."""
        parts = [self._base, self._done, *self._under_way.values()]
        return replace(
            sample,
            documents_copied=max(sample.documents_copied, sum(p[0] for p in parts)),
            bytes_copied=max(sample.bytes_copied, sum(p[1] for p in parts)),
        )


class Limit:
    """How many entries of one kind are kept."""

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._at = time.monotonic()
        self._out = 0

    def allows(self, now: float) -> bool:
        self._left = min(float(_BURST), self._left + (now - self._at) / _REFILL)
        self._at = now
        if self._left < 1:
            self._out += 1
            return False
        self._left -= 1
        return True

    def left_out(self) -> int:
        """Return how many were not kept since the last that was."""
        out, self._out = self._out, 0
        return out


class Sum:
    """Partitions that were dealt with since the last entry about them."""

    def __init__(self, kind: str, verb: str) -> None:
        self._kind = kind
        self._verb = verb
        self._partitions = self._documents = 0

    def add(self, documents: int) -> None:
        self._partitions += 1
        self._documents += documents

    def taken(self, now: datetime) -> Entry | None:
        """Return the entry and begin anew; None if there were none."""
        if not self._partitions:
            return None
        fields: Mapping[str, int] = {"partitions": self._partitions, "documents": self._documents}
        message = f"{self._verb} {self._partitions:,} partitions, {self._documents:,} documents"
        self._partitions = self._documents = 0
        return Entry(at=now, kind=self._kind, level="info", message=message, fields=fields)
