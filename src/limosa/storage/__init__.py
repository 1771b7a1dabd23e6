"""
Where a migration is remembered: its state, the changes not yet applied, and its history.

They are apart, so that capture, which writes all the time, does not make the rest wait for the
disk, and so that the history can be lost without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from ..history import Entry, Histogram, Sample
from ..model import ChangeBatch, Mismatch, Namespace, Partition, ResumeToken
from ..state import (
    CollectionProgress,
    Migration,
    PartitionProgress,
    PartitionStatus,
    Suspect,
    Totals,
)
from ..steps import StepProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionQuery:
    """Which collections are asked for, in which order."""

    search: str = ""  # part of the name on the target, whatever its case
    sort: Literal["namespace", "documents", "copied", "compared", "bytes"] = "namespace"
    descending: bool = False
    offset: int = 0
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class CollectionPage:
    """Some of the collections that match, and how many there are."""

    #: Name on the target, documents planned, copied and compared, bytes copied.
    rows: Sequence[tuple[str, int, int, int, int]]
    matching: int
    total: int


class StateStore(Protocol):
    """
    Remembers one migration across crashes. Every method is one atomic, durable step.

    A store opened to drive a migration refuses to write once another process has taken the
    lease (`LeaseLost`); one opened to watch or steer has no lease and may only `update`.
    """

    def migration(self) -> Migration:
        """Return the migration as it is now, also as changed by other processes."""
        ...

    def update(self, change: Callable[[Migration], Migration]) -> Migration:
        """Replace the migration by ``change(migration)`` and return it."""
        ...

    def save_plan(
        self,
        collections: Sequence[CollectionProgress],
        partitions: Iterable[Partition],
        planned_at: datetime,
    ) -> None:
        """Store the whole plan in one step; what an unfinished plan left is replaced."""
        ...

    def remember_target(
        self, ids: Mapping[Namespace, str], change: Callable[[Migration], Migration]
    ) -> Migration:
        """
        Store the target's identities of its collections by their names there, with *change*.

        That is one step; the migration is returned.
        """
        ...

    def turn(
        self,
        collections: Sequence[CollectionProgress],
        *,
        held: Iterable[Partition],
        pending: Iterable[Partition],
        change: Callable[[Migration], Migration],
    ) -> Migration:
        """
        Replace the plan by that of the way back, with *change*, in one step.

        Documents of the partitions *held* are on both ends already. The migration is returned.
        """
        ...

    def collections(self, *, largest_first: bool = False) -> Iterator[CollectionProgress]:
        """
        Yield all collections, dropped ones included, in order of planning or of size.

        Some are read at a time: what changes meanwhile may be seen as it was or as it is.
        """
        ...

    def collection(self, id_: str) -> CollectionProgress | None:
        """Return the collection with the source's identity *id_*, None if it is not planned."""
        ...

    def collections_at(
        self, namespace: Namespace, *, at_target: bool = False
    ) -> list[CollectionProgress]:
        """Return what is not dropped and has that name on the source, or on the target."""
        ...

    def save_occupied(self, namespaces: Iterable[Namespace]) -> None:
        """Replace what is known to be on the target and not the migration's."""
        ...

    def occupied(self) -> frozenset[Namespace]:
        """Return what was on the target before anything was written, as far as it still counts."""
        ...

    def save_collection(self, collection: CollectionProgress) -> None:
        """Add a collection, or replace the one with the same id."""
        ...

    def partitions(self, status: PartitionStatus | None = None) -> Iterator[PartitionProgress]:
        """
        Yield partitions of collections that are not dropped, largest collection first.

        Some are read at a time: those whose *status* is another one by then are left out.
        """
        ...

    def cut(self, collection_id: str, partitions: Iterable[Partition]) -> None:
        """
        Have *partitions*, of a collection that joined later or is copied anew, take the place of
        those that it had, and of its differences; ``verified_at`` is cleared.
        """
        ...

    def partition_copied(self, partition_id: str, *, documents: int, size: int) -> None:
        """Record that a partition is durable on the target; *size* is in bytes."""
        ...

    def partition_verified(
        self, partition_id: str, *, compared: int, suspects: Sequence[Suspect]
    ) -> bool:
        """
        Record that a partition was compared, and what was not equal.

        False, with nothing recorded, if its collection was cut anew meanwhile.
        """
        ...

    def reset_verification(self) -> None:
        """Have everything compared again."""
        ...

    def suspects(self, *, counts: bool | None = None, limit: int = -1) -> list[Suspect]:
        """Return differences, oldest first: those that count, those that do not yet, or all."""
        ...

    def save_suspects(
        self, *, found: Sequence[Suspect], settled: Sequence[Suspect], verified_seq: int
    ) -> None:
        """Add or replace *found*, drop *settled*, and move ``verified_seq``."""
        ...

    def mismatches(self, *, limit: int = 1000) -> list[Mismatch]:
        """Return differences that count."""
        ...

    def totals(self) -> Totals:
        """Return sums over all collections and partitions that are not dropped."""
        ...

    def copied_by_namespace(self) -> dict[Namespace, tuple[int, int, int, int]]:
        """Return documents planned, copied, compared and bytes copied by target namespace."""
        ...

    def collection_page(self, query: CollectionQuery) -> CollectionPage:
        """Return the figures of some collections that are not dropped."""
        ...

    def steps(self) -> list[StepProgress]:
        """Return the steps that were begun, in their order."""
        ...

    def save_step(self, step: StepProgress) -> None:
        """Add a step, or replace the one of that name; may be called without the lease."""
        ...

    def close(self) -> None:
        """Give the lease back, if held, and close the file."""
        ...


@dataclass(frozen=True, slots=True)
class Room:
    """How much more a buffer may take, in bytes."""

    place: str  # what it is kept in
    left: int  # until no more than *kept* would be free; not above zero if it is full
    free: int  # on its disk
    kept: int  # of which so much stays free


class ChangeBuffer(Protocol):
    """
    A durable queue between the change stream and the target.

    Batches are numbered from 1 without reuse, also after all were trimmed.
    """

    def append(self, batch: ChangeBatch) -> int:
        """Store the changes and their resume token in one transaction; return the number."""
        ...

    def mark(self, token: ResumeToken, source_time: datetime) -> None:
        """Move the position of an idle stream forward."""
        ...

    def position(self) -> tuple[ResumeToken, datetime] | None:
        """Return where capture goes on, and the source time up to which all is stored."""
        ...

    def last_seq(self) -> int:
        """Return the number of the last batch ever appended, 0 before the first."""
        ...

    def read(
        self, *, after: int, limit: int, through: int | None = None
    ) -> tuple[int, ChangeBatch] | None:
        """
        Return what follows *after*, joined, and the number of its last batch.

        Stored batches are joined up to about *limit* changes and never past *through*; a
        schema change comes alone. None if nothing follows.
        """
        ...

    def waiting(self, *, after: int) -> int:
        """Return how many changes follow *after*."""
        ...

    def room(self) -> Room:
        """Return how much more it may take; asking costs microseconds."""
        ...

    def trim(self, *, through: int) -> None:
        """Drop batches up to *through*; what they took is used again, and given back at last."""
        ...

    def clear(self) -> None:
        """Drop all batches and the position; the numbers go on."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class History(Protocol):
    """
    What a migration leaves behind, written and read by several processes at once.

    Bounded in size. Nothing depends on it: it may begin anew, with numbers from 1, when it
    was damaged or removed, and a crash of the machine may take its last seconds. Any call may
    raise `StateError`.
    """

    def record(self, entries: Iterable[Entry]) -> None:
        """Add *entries*; their numbers are given here."""
        ...

    def entries(self, *, after: int = 0, limit: int = 500) -> list[Entry]:
        """Return the first *limit* entries with a number above *after*, in order."""
        ...

    def newest_entries(self, *, limit: int = 500) -> list[Entry]:
        """Return the last *limit* entries, in order."""
        ...

    def sample(self, sample: Sample) -> None:
        """Add a sample; the older ones are, the fewer are kept of them."""
        ...

    def samples(self, *, since: datetime | None = None, limit: int = 1000) -> list[Sample]:
        """
        Return samples in order of time: those later than *since*, or all there are.

        If there are more than *limit*, they are thinned evenly over the time between the first
        and the last, which are always among them.
        """
        ...

    def latest(self) -> Sample | None:
        """Return the last sample, None if there is none."""
        ...

    def observe(self, durations: Mapping[str, Histogram]) -> None:
        """Add to the histograms of those names."""
        ...

    def durations(self) -> dict[str, Histogram]:
        """Return all histograms by name."""
        ...

    def count(self, increments: Mapping[str, int]) -> None:
        """Add to the counters of those names."""
        ...

    def counters(self) -> dict[str, int]:
        """Return all counters by name."""
        ...

    def note(self, gauges: Mapping[str, float]) -> None:
        """Replace the values under those names."""
        ...

    def gauges(self) -> dict[str, float]:
        """Return the values noted last, by name."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
