"""
The one model of a migration's state, and the moves it allows.

*State* is what an operator may do next and is stored; *phase* is what the engine is doing
and is derived. Two clocks stand for flags: the target is *consistent* once ``applied_to``
has reached ``copied_at``, a commit is drained once it has reached ``commit_at``; all three
are on the source's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from .errors import IllegalTransition, LimosaError
from .model import CollectionSpec, Mismatch, Namespace, Partition, ResumeToken


class State(StrEnum):
    """What an operator may do next."""

    IDLE = "IDLE"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMMITTING = "COMMITTING"
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"


_MOVES: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.RUNNING}),
    State.RUNNING: frozenset({State.PAUSED, State.COMMITTING, State.FAILED}),
    State.PAUSED: frozenset({State.RUNNING, State.FAILED}),
    State.COMMITTING: frozenset({State.COMMITTED, State.FAILED}),
    State.COMMITTED: frozenset(),
    State.FAILED: frozenset({State.RUNNING}),
}


class Phase(StrEnum):
    """What the engine is doing, in mongosync's words where it has one."""

    PLANNING = "planning"
    COLLECTION_COPY = "collection copy"
    INDEX_BUILD = "index build"
    CHANGE_EVENT_APPLICATION = "change event application"
    WAITING_FOR_COMMIT = "waiting for commit to complete"
    COMMIT_COMPLETED = "commit completed"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a migration failed, as it is stored and shown."""

    code: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: LimosaError) -> Failure:
        """Take what a person needs from *error*."""
        return cls(error.code, str(error), error.hint)


@dataclass(frozen=True, slots=True)
class Migration:
    """Everything known about a migration at one moment, but for its parts."""

    name: str
    state: State = State.IDLE
    source: str = ""  # identity without credentials
    target: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0  # counts the processes that have driven it
    holder: str = ""  # "host:pid" of the process that drives it, "" if none does
    started_at: datetime | None = None  # wall clock of the first start
    position: ResumeToken | None = None  # taken before the first read
    planned_at: datetime | None = None  # source clock from here on
    copied_at: datetime | None = None
    indexed_at: datetime | None = None
    captured_to: datetime | None = None
    applied_to: datetime | None = None
    verified_at: datetime | None = None  # every partition was found equal, or recorded
    commit_at: datetime | None = None
    writable_at: datetime | None = None  # wall clock from here on
    committed_at: datetime | None = None
    applied_seq: int = 0  # of the buffer
    verified_seq: int = 0
    events_captured: int = 0
    changes_applied: int = 0  # documents written or deleted, after coalescing
    documents_rechecked: int = 0  # compared by key after their partition was
    failure: Failure | None = None

    def moved_to(self, state: State, *, failure: Failure | None = None) -> Migration:
        """Return the migration in *state*, or refuse."""
        if state not in _MOVES[self.state]:
            msg = f"cannot go from {self.state} to {state}"
            raise IllegalTransition(msg)
        return replace(self, state=state, failure=failure)

    def committing(self) -> Migration:
        """Return the migration with a commit asked for, or refuse and say why."""
        if self.state is State.RUNNING and not self.can_commit:
            what = "the initial sync" if not self.is_consistent else "the first verification"
            msg = f"cannot commit: {what} is not complete"
            raise IllegalTransition(msg, hint="wait until `limosa status` says that it can commit")
        return replace(self.moved_to(State.COMMITTING), commit_at=None)

    @property
    def phase(self) -> Phase:
        """What the engine is doing, or would be doing if it were not paused or failed."""
        if self.planned_at is None:
            return Phase.PLANNING
        if self.state is State.COMMITTED:
            return Phase.COMMIT_COMPLETED
        if self.state is State.COMMITTING:
            return Phase.WAITING_FOR_COMMIT
        if self.copied_at is None:
            return Phase.COLLECTION_COPY
        if self.indexed_at is None:
            return Phase.INDEX_BUILD
        return Phase.CHANGE_EVENT_APPLICATION

    @property
    def is_consistent(self) -> bool:
        """Whether the target has been, once, a faithful copy of the source."""
        return (
            self.copied_at is not None
            and self.applied_to is not None
            and self.applied_to >= self.copied_at
        )

    @property
    def is_drained(self) -> bool:
        """Whether everything written before the commit was asked for is on the target."""
        return (
            self.commit_at is not None
            and self.applied_to is not None
            and self.applied_to >= self.commit_at
        )

    @property
    def verifies(self) -> bool:
        return bool(self.settings.get("verify", True))

    @property
    def can_commit(self) -> bool:
        """Whether a commit asked for now would be accepted."""
        verified = self.verified_at is not None or not self.verifies
        return self.state is State.RUNNING and self.is_consistent and verified

    @property
    def can_write(self) -> bool:
        """Whether the application may write to the target."""
        return self.writable_at is not None


class PartitionStatus(StrEnum):
    """How far a partition has come."""

    PENDING = "pending"
    COPIED = "copied"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """A partition and what became of it."""

    partition: Partition
    status: PartitionStatus = PartitionStatus.PENDING
    documents: int = 0  # copied
    bytes: int = 0
    compared: int = 0  # documents, of both sides together where they differ in number


@dataclass(frozen=True, slots=True)
class CollectionProgress:
    """A collection that is migrated: how the source described it, where it stands now."""

    spec: CollectionSpec
    target: Namespace  # its name on the target as of ``applied_to``
    is_dropped: bool = False
    is_indexed: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over collections and partitions."""

    collections: int = 0
    partitions: int = 0
    partitions_copied: int = 0
    partitions_verified: int = 0
    documents: int = 0  # estimated when planned
    bytes: int = 0
    documents_copied: int = 0
    bytes_copied: int = 0
    documents_compared: int = 0
    suspects: int = 0  # differences waiting for their recheck
    mismatches: int = 0  # differences that count


@dataclass(frozen=True, slots=True)
class Suspect:
    """A difference that waits until changes have caught up with *since*."""

    mismatch: Mismatch
    collection_id: str
    since: datetime  # source clock, not before the source was read
    digest: bytes  # of the source's document; b"" if it has none
    counts: bool = False  # seen again with the source unchanged: a mismatch
