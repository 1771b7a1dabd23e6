"""Sums, rates and remaining time, made of events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ..events import (
    BatchCopied,
    ChangesApplied,
    ChangesCaptured,
    Committed,
    CopyCompleted,
    Event,
    Failed,
    KeysVerified,
    MigrationStarted,
    MismatchFound,
    PaceChanged,
    PartitionCopied,
    PartitionVerified,
    PhaseChanged,
    Planned,
    ReadyToCommit,
    Retrying,
    StateChanged,
    TargetWritable,
    VerificationCompleted,
)
from ..model import Namespace
from ..state import Phase, State, Totals

#: Long enough to smooth batches, short enough to show that something has stopped.
WINDOW = timedelta(seconds=10)

#: Captured batches are remembered one by one up to this many; beyond, neighbours are joined.
_MAX_WAITING = 4096


@dataclass(frozen=True, slots=True)
class CollectionFigures:
    """How far one collection has come; *documents* is 0 where nobody knows."""

    documents: int = 0
    copied: int = 0
    compared: int = 0
    bytes: int = 0  # copied


@dataclass(frozen=True, slots=True)
class Figures:
    """How far a migration has come, at one moment. Rates are per second."""

    name: str = ""
    source: str = ""
    target: str = ""
    state: State = State.IDLE
    phase: Phase = Phase.PLANNING
    elapsed: timedelta = timedelta()
    partitions: int = 0
    partitions_copied: int = 0
    partitions_verified: int = 0
    documents: int = 0  # estimated when planned
    bytes: int = 0
    documents_copied: int = 0
    bytes_copied: int = 0
    documents_compared: int = 0
    keys_compared: int = 0  # again, after they changed
    changes_captured: int = 0
    changes_applied: int = 0
    changes_waiting: int = 0
    retries: int = 0
    mismatches: int = 0
    lag: timedelta | None = None
    can_commit: bool = False
    throttled: str = ""  # why it is slower than it could be
    writable_after: timedelta | None = None  # since the engine saw the commit
    documents_rate: float = 0.0
    bytes_rate: float = 0.0
    compared_rate: float = 0.0
    captured_rate: float = 0.0
    applied_rate: float = 0.0
    #: How long each phase has lasted so far in this process.
    phases: Mapping[Phase, timedelta] = field(default_factory=dict)
    collections: Mapping[Namespace, CollectionFigures] = field(default_factory=dict)

    @property
    def fraction_copied(self) -> float:
        """The part of the planned documents that is on the target, at most 1."""
        if self.phase not in (Phase.PLANNING, Phase.COLLECTION_COPY):
            return 1.0
        return min(1.0, self.documents_copied / self.documents) if self.documents else 0.0

    @property
    def fraction_verified(self) -> float:
        """The part of the partitions that has been compared."""
        return min(1.0, self.partitions_verified / self.partitions) if self.partitions else 0.0

    @property
    def remaining(self) -> timedelta | None:
        """The estimated rest of the collection copy; None if it cannot be told."""
        left = self.documents - self.documents_copied
        if self.phase is not Phase.COLLECTION_COPY or self.documents_rate <= 0:
            return None
        return timedelta(seconds=max(0, left) / self.documents_rate)


class Meter:
    """The rate of something over a sliding window."""

    def __init__(self, *, window: timedelta = WINDOW) -> None:
        self._window = window.total_seconds()
        self._since: float | None = None
        self._steps: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, amount: int, now: float) -> None:
        """Count *amount* at *now*, in seconds of any steady clock."""
        if self._since is None:
            self._since = now
        # A twentieth of the window is as fine as anybody can see.
        if self._steps and now - self._steps[-1][0] < self._window / 20:
            then, before = self._steps.pop()
            self._steps.append((then, before + amount))
        else:
            self._steps.append((now, amount))
        self._sum += amount

    def rate(self, now: float) -> float:
        """Return the amount per second, over the window or since the first if that is less."""
        while self._steps and self._steps[0][0] < now - self._window:
            self._sum -= self._steps.popleft()[1]
        if self._since is None or not self._sum:
            return 0.0
        return self._sum / min(self._window, max(now - self._since, self._window / 20))


class Waiting:
    """Changes that were captured and are not applied yet, as far as events tell."""

    def __init__(self) -> None:
        self._batches: deque[tuple[datetime, int]] = deque()
        self.changes = 0

    def captured(self, events: int, to: datetime) -> None:
        """Add what was captured up to *to*."""
        if events:
            self._batches.append((to, events))
            self.changes += events
        if len(self._batches) > _MAX_WAITING:
            self._join_neighbours()

    def applied(self, to: datetime) -> None:
        """Drop what was captured up to *to*."""
        while self._batches and self._batches[0][0] <= to:
            self.changes -= self._batches.popleft()[1]

    def _join_neighbours(self) -> None:
        # A copy that lasts for days must not make this grow; what comes first is applied first,
        # so whole pairs may go late by one batch, never early.
        batches = list(self._batches)
        pairs = zip(batches[::2], batches[1::2], strict=False)
        joined = [(later[0], earlier[1] + later[1]) for earlier, later in pairs]
        self._batches = deque(joined + batches[len(joined) * 2 :])


class Progress:
    """
    A subscriber that knows how far the migration has come in this process.

    May be called from any thread. What earlier processes did is known once `seed` was called.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, window: timedelta = WINDOW
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._figures = Figures()
        self._collections: dict[Namespace, CollectionFigures] = {}
        self._meters = {
            name: Meter(window=window)
            for name in ("documents", "bytes", "compared", "captured", "applied")
        }
        self._waiting = Waiting()
        self._phases: dict[Phase, float] = {}
        self._applied_last = 0.0
        self._started = self._phase_since = clock()

    def __call__(self, event: Event) -> None:
        """Take an event into account."""
        with self._lock:
            self._count(event)

    def seed(
        self,
        totals: Totals,
        collections: Mapping[Namespace, tuple[int, int, int, int]],
        *,
        state: State = State.RUNNING,
    ) -> None:
        """
        Start from what the state knows.

        *collections* are documents planned, copied, compared and bytes copied by namespace.
        """
        with self._lock:
            self._figures = replace(
                self._figures,
                state=state,
                partitions=totals.partitions,
                partitions_copied=totals.partitions_copied,
                partitions_verified=totals.partitions_verified,
                documents=totals.documents,
                bytes=totals.bytes,
                documents_copied=totals.documents_copied,
                bytes_copied=totals.bytes_copied,
                documents_compared=totals.documents_compared,
                mismatches=totals.mismatches,
            )
            self._collections = {
                namespace: CollectionFigures(planned, copied, compared, size)
                for namespace, (planned, copied, compared, size) in collections.items()
            }

    def figures(self) -> Figures:
        """Return how far it is now."""
        with self._lock:
            now = self._clock()
            phases = dict(self._phases)
            current = self._figures.phase
            phases[current] = phases.get(current, 0.0) + now - self._phase_since
            return replace(
                self._figures,
                elapsed=timedelta(seconds=now - self._started),
                changes_waiting=self._waiting.changes,
                lag=self._lag(now),
                documents_rate=self._meters["documents"].rate(now),
                bytes_rate=self._meters["bytes"].rate(now),
                compared_rate=self._meters["compared"].rate(now),
                captured_rate=self._meters["captured"].rate(now),
                applied_rate=self._meters["applied"].rate(now),
                phases={phase: timedelta(seconds=spent) for phase, spent in phases.items()},
                collections=dict(self._collections),
            )

    def _lag(self, now: float) -> timedelta | None:
        lag = self._figures.lag
        if lag is None or not self._waiting.changes:
            return lag
        # Nothing tells that nothing is applied, as while the migration is paused.
        return lag + timedelta(seconds=now - self._applied_last)

    def _count(self, event: Event) -> None:
        match event:
            case BatchCopied() | PartitionCopied() | CopyCompleted():
                self._count_copied(event)
            case ChangesCaptured() | ChangesApplied():
                self._count_changes(event)
            case PartitionVerified() | KeysVerified() | VerificationCompleted() | MismatchFound():
                self._count_verified(event)
            case _:
                self._count_milestone(event)

    def _count_copied(self, event: BatchCopied | PartitionCopied | CopyCompleted) -> None:
        figures = self._figures
        match event:
            case BatchCopied(namespace, documents, size):
                now = self._clock()
                self._meters["documents"].add(documents, now)
                self._meters["bytes"].add(size, now)
                before = self._collections.get(namespace, CollectionFigures())
                self._collections[namespace] = replace(
                    before, copied=before.copied + documents, bytes=before.bytes + size
                )
                self._figures = replace(
                    figures,
                    documents_copied=figures.documents_copied + documents,
                    bytes_copied=figures.bytes_copied + size,
                )
            case PartitionCopied():
                self._figures = replace(figures, partitions_copied=figures.partitions_copied + 1)
            case CopyCompleted(documents, size):
                # The batches of a partition that was tried again were counted twice.
                self._figures = replace(
                    figures,
                    documents_copied=documents,
                    bytes_copied=size,
                    partitions_copied=max(figures.partitions, figures.partitions_copied),
                )

    def _count_changes(self, event: ChangesCaptured | ChangesApplied) -> None:
        figures, now = self._figures, self._clock()
        match event:
            case ChangesCaptured(events, to):
                self._meters["captured"].add(events, now)
                self._waiting.captured(events, to)
                self._figures = replace(figures, changes_captured=figures.changes_captured + events)
            case ChangesApplied(changes, to, lag):
                self._meters["applied"].add(changes, now)
                self._waiting.applied(to)
                applied = figures.changes_applied + changes
                self._figures = replace(figures, changes_applied=applied, lag=lag)
                self._applied_last = now

    def _count_verified(
        self, event: PartitionVerified | KeysVerified | VerificationCompleted | MismatchFound
    ) -> None:
        figures, now = self._figures, self._clock()
        match event:
            case PartitionVerified(namespace, _, compared):
                self._meters["compared"].add(compared, now)
                before = self._collections.get(namespace, CollectionFigures())
                self._collections[namespace] = replace(before, compared=before.compared + compared)
                self._figures = replace(
                    figures,
                    partitions_verified=figures.partitions_verified + 1,
                    documents_compared=figures.documents_compared + compared,
                )
            case KeysVerified(compared):
                self._meters["compared"].add(compared, now)
                self._figures = replace(figures, keys_compared=figures.keys_compared + compared)
            case VerificationCompleted(_, mismatches):
                self._figures = replace(figures, mismatches=mismatches)
            case MismatchFound():
                self._figures = replace(figures, mismatches=figures.mismatches + 1)

    def _count_milestone(self, event: Event) -> None:
        figures = self._figures
        match event:
            case MigrationStarted(name, source, target):
                self._figures = replace(figures, name=name, source=source, target=target)
            case Planned(_, partitions, documents, size):
                self._figures = replace(
                    figures, partitions=partitions, documents=documents, bytes=size
                )
            case StateChanged(_, after):
                ready = figures.can_commit and after is State.RUNNING
                self._figures = replace(figures, state=after, can_commit=ready)
                if after is State.COMMITTING:
                    self._turn_to(Phase.WAITING_FOR_COMMIT)
            case PhaseChanged(phase):
                self._turn_to(phase)
            case ReadyToCommit(lag):
                self._figures = replace(figures, can_commit=True, lag=lag)
                self._applied_last = self._clock()
            case TargetWritable(took):
                self._figures = replace(figures, writable_after=took, lag=timedelta())
            case Committed():
                self._turn_to(Phase.COMMIT_COMPLETED)
                self._figures = replace(self._figures, state=State.COMMITTED)
            case Failed():
                self._figures = replace(figures, state=State.FAILED, can_commit=False)
            case Retrying():
                self._figures = replace(figures, retries=figures.retries + 1)
            case PaceChanged(throttled):
                self._figures = replace(figures, throttled=throttled)
            case _:
                pass

    def _turn_to(self, phase: Phase) -> None:
        now, before = self._clock(), self._figures.phase
        self._phases[before] = self._phases.get(before, 0.0) + now - self._phase_since
        self._phase_since = now
        self._figures = replace(self._figures, phase=phase)
