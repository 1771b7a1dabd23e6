"""
The one model of a migration's state, and the moves it allows.

*State* is what an operator may do next and is stored; *phase* is what the engine is doing
and is derived. Two clocks stand for flags: the target is *consistent* once ``applied_to``
has reached ``copied_at``, a commit is drained once it has reached ``commit_at``; all three
are on the source's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .errors import IllegalTransition, LimosaError
from .limits import Limits
from .model import CollectionSpec, Mismatch, Namespace, Partition, ResumeToken


class State(StrEnum):
    """What an operator may do next."""

    IDLE = "IDLE"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMMITTING = "COMMITTING"
    COMMITTED = "COMMITTED"
    REVERSING = "REVERSING"
    FAILED = "FAILED"


_MOVES: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.RUNNING}),
    State.RUNNING: frozenset({State.PAUSED, State.COMMITTING, State.FAILED}),
    State.PAUSED: frozenset({State.RUNNING, State.FAILED}),
    State.COMMITTING: frozenset({State.COMMITTED, State.FAILED}),
    State.COMMITTED: frozenset({State.REVERSING}),
    State.REVERSING: frozenset({State.RUNNING, State.FAILED}),
    State.FAILED: frozenset({State.RUNNING, State.REVERSING}),
}


class Phase(StrEnum):
    """What the engine is doing, in mongosync's words where it has one."""

    PLANNING = "planning"
    COLLECTION_COPY = "collection copy"
    INDEX_BUILD = "index build"
    CHANGE_EVENT_APPLICATION = "change event application"
    WAITING_FOR_COMMIT = "waiting for commit to complete"
    COMMIT_COMPLETED = "commit completed"
    REVERSAL = "reversal"


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
    """
    Everything known about a migration at one moment, but for its parts.

    *source* and *target* are those of the present direction: a reversal swaps them.
    """

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
    reversals: int = 0  # how often source and target have changed places
    return_position: ResumeToken | None = None  # of the target, from before it was writable
    return_lost_at: datetime | None = None  # estimated: the target forgets that position
    limits: Limits = field(default_factory=Limits)  # how much of both servers it may take
    throttled: str = ""  # why it is slower than it could be, "" if it is not
    #: Estimated, wall clock: where capture stands is forgotten by the source, if it stood still.
    position_lost_at: datetime | None = None
    blocked: str = ""  # the ends whose other writers limosa keeps out: "source", "source,target"
    target_mark: ResumeToken | None = None  # up to where what others write there is compared

    def moved_to(self, state: State, *, failure: Failure | None = None) -> Migration:
        """Return the migration in *state*, or refuse."""
        # A reversal that failed goes on as one; nothing else does.
        is_other = self.state is State.FAILED and (state is State.REVERSING) != self.is_reversing
        if state not in _MOVES[self.state] or is_other:
            msg = f"cannot go from {self.state} to {state}"
            raise IllegalTransition(msg)
        return replace(self, state=state, failure=failure)

    def begun(self) -> Migration:
        """Return the migration as a process that begins to drive it makes it."""
        if self.state not in {State.IDLE, State.FAILED}:
            return self
        if self.is_reversing:
            return self.moved_to(State.REVERSING)
        started = self.started_at or datetime.now(UTC)
        return replace(self.moved_to(State.RUNNING), started_at=started, commit_at=None)

    def committing(self) -> Migration:
        """Return the migration with a commit asked for, or refuse and say why."""
        if self.state is State.RUNNING and not self.can_commit:
            what = "the initial sync" if not self.is_consistent else "the verification"
            msg = f"cannot commit: {what} is not complete"
            raise IllegalTransition(msg, hint="wait until `limosa status` says that it can commit")
        return replace(self.moved_to(State.COMMITTING), commit_at=None)

    def reversing(self) -> Migration:
        """Return the migration with its reversal asked for, or refuse and say why."""
        if self.state is State.COMMITTED and not self.can_reverse:
            msg = "cannot reverse: the migration was not begun as a reversible one"
            raise IllegalTransition(msg, hint="begin a migration with --reversible for that")
        return self.moved_to(State.REVERSING)

    def turned(self, *, planned_at: datetime, applied_seq: int) -> Migration:
        """
        Return the migration as it begins the way back: source and target have changed places.

        *planned_at* is the time of the new source, *applied_seq* the last of what was in the
        buffer.
        """
        fresh: dict[str, Any] = {
            f.name: f.default for f in fields(Migration) if f.name in _OF_ONE_DIRECTION
        }
        swapped = {"source": "target", "target": "source"}
        return replace(
            replace(self.moved_to(State.RUNNING), **fresh),
            source=self.target,
            target=self.source,
            blocked=",".join(sorted(swapped[end] for end in self._blocked_ends)),
            reversals=self.reversals + 1,
            position=self.return_position,
            planned_at=planned_at,
            applied_seq=applied_seq,
            verified_seq=applied_seq,
        )

    def with_blocked(self, end: str, *, is_blocked: bool) -> Migration:
        """Return the migration with it noted whether limosa blocks writes to *end*."""
        ends = self._blocked_ends - {end} | ({end} if is_blocked else set())
        return replace(self, blocked=",".join(sorted(ends)))

    def blocks(self, end: str) -> bool:
        """Whether limosa has blocked, or is about to, the writes of others to *end*."""
        return end in self._blocked_ends

    @property
    def _blocked_ends(self) -> set[str]:
        return set(filter(None, self.blocked.split(",")))

    @property
    def phase(self) -> Phase:
        """What the engine is doing, or would be doing if it were not paused or failed."""
        if self.planned_at is None:
            return Phase.PLANNING
        if self.is_reversing:
            return Phase.REVERSAL
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
    def is_reversing(self) -> bool:
        """Whether source and target are about to change places, also if that has failed."""
        was_committed = self.committed_at is not None
        return self.state is State.REVERSING or (self.state is State.FAILED and was_committed)

    @property
    def is_way_back(self) -> bool:
        """Whether the ends stand, or are about to, the other way round than at the start."""
        return (self.reversals + self.is_reversing) % 2 == 1

    @property
    def can_reverse(self) -> bool:
        """Whether a reversal asked for now would be accepted, if the target still knows."""
        return self.state is State.COMMITTED and self.return_position is not None

    @property
    def can_write(self) -> bool:
        """Whether the application may write to the target."""
        return self.writable_at is not None


#: What begins anew with each direction.
_OF_ONE_DIRECTION = frozenset(
    {
        "return_position",
        "target_mark",
        "return_lost_at",
        "position_lost_at",
        "copied_at",
        "indexed_at",
        "captured_to",
        "applied_to",
        "verified_at",
        "commit_at",
        "writable_at",
        "committed_at",
    }
)


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
    target_id: str = ""  # the target's own identity of it, once a way back begins there


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over collections and partitions."""

    collections: int = 0
    collections_verified: int = 0  # compared to the end
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
