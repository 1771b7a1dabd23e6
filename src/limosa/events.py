"""
What happens, as frozen values: the one source of log lines, progress, metrics and waits.

Whoever wants to know is handed to the `EventBus`. A subscriber must be quick and must not
raise; it is called in the thread in which the thing happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from .model import DefinitionKind, Mismatch, Namespace, SchemaVerb
from .state import Failure, Phase, State


@dataclass(frozen=True, slots=True)
class MigrationStarted:
    """A process has begun to drive the migration."""

    name: str
    source: str
    target: str
    generation: int  # 1 for the first start; more after a restart


@dataclass(frozen=True, slots=True)
class StateChanged:
    """An operator or the engine moved the migration."""

    before: State
    after: State


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The engine turned to something else."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class StepBegan:
    """A step is at work."""

    step: str
    attempt: int  # 1, and one more after each failure


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step is complete."""

    step: str
    took: timedelta  # since it was begun first, by the wall clock


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt of a managed run has failed; the next one begins after *wait*, if there is one."""

    step: str
    attempt: int
    attempts: int  # allowed
    failure: Failure
    wait: timedelta | None


@dataclass(frozen=True, slots=True)
class TaskDone:
    """A task that follows the commit is done."""

    task: str
    took: timedelta


@dataclass(frozen=True, slots=True)
class EndUnreachable:
    """A server does not answer."""

    side: str  # "source" or "target"
    error: str


@dataclass(frozen=True, slots=True)
class EndReachable:
    """A server that did not answer does so again."""

    side: str


@dataclass(frozen=True, slots=True)
class LagRising:
    """The target falls further behind the source, look by look."""

    lag: timedelta
    over: timedelta  # for how long it has been rising


@dataclass(frozen=True, slots=True)
class NothingMoving:
    """Nothing was copied, captured, applied or compared for a while."""

    phase: Phase
    over: timedelta


@dataclass(frozen=True, slots=True)
class Planned:
    """The work is cut; nothing was copied yet."""

    collections: int
    partitions: int
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BatchCopied:
    """A batch is durable on the target; its partition is not complete yet."""

    namespace: Namespace
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PartitionCopied:
    """A partition is durable on the target."""

    namespace: Namespace
    partition: str
    documents: int
    bytes: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class CopyCompleted:
    """Every partition is on the target."""

    documents: int
    bytes: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class IndexesBuilt:
    """The secondary indexes of a collection exist on the target."""

    namespace: Namespace
    indexes: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class IndexesBuilding:
    """How far the target is with one *step* of an index build, as it counts."""

    namespace: Namespace
    indexes: int
    step: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class DefinitionsCarried:
    """Views, roles or users are defined on the target."""

    kind: DefinitionKind
    count: int


@dataclass(frozen=True, slots=True)
class ChangesCaptured:
    """Changes are durable in the buffer."""

    events: int
    to: datetime
    bytes: int = 0  # of the events, as they were read


@dataclass(frozen=True, slots=True)
class ChangesApplied:
    """Changes are durable on the target."""

    changes: int
    to: datetime
    lag: timedelta


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    """A change of a collection or its indexes was carried over, or left out."""

    verb: SchemaVerb
    namespace: Namespace
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BecameConsistent:
    """The initial sync is complete."""

    at: datetime


@dataclass(frozen=True, slots=True)
class PartitionVerified:
    """A partition was compared; its differences wait for their recheck."""

    namespace: Namespace
    partition: str
    compared: int
    differences: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class KeysVerified:
    """Keys that changed after their partition was compared were compared again."""

    compared: int
    differences: int


@dataclass(frozen=True, slots=True)
class MismatchFound:
    """A difference that counts."""

    mismatch: Mismatch


@dataclass(frozen=True, slots=True)
class VerificationCompleted:
    """Every partition was compared once; from here on only what changes is."""

    compared: int
    mismatches: int


@dataclass(frozen=True, slots=True)
class ReadyToCommit:
    """A commit asked for from now on is accepted."""

    lag: timedelta


@dataclass(frozen=True, slots=True)
class CommitStarted:
    """The application has stopped writing; what it wrote until then is drained."""

    at: datetime


@dataclass(frozen=True, slots=True)
class TargetWritable:
    """The application may write to the target."""

    took: timedelta  # since the engine saw the commit


@dataclass(frozen=True, slots=True)
class Committed:
    """The migration is complete."""

    took: timedelta


@dataclass(frozen=True, slots=True)
class WritesBlocked:
    """Only limosa may write to an end from now on."""

    end: str  # "source" or "target"


@dataclass(frozen=True, slots=True)
class WritesAllowed:
    """Limosa has lifted its block of an end."""

    end: str


@dataclass(frozen=True, slots=True)
class Reversed:
    """Source and target have changed places; changes flow back from now on."""

    source: str
    target: str
    collections: int


@dataclass(frozen=True, slots=True)
class Retrying:
    """A call failed in a way that may pass; it is tried again after a while."""

    what: str
    error: str
    attempt: int
    wait: timedelta


@dataclass(frozen=True, slots=True)
class PaceChanged:
    """The migration is slower than it could be for another reason than before, or no longer."""

    throttled: str  # "target replication lag 12 s"; "" if nothing slows it down


@dataclass(frozen=True, slots=True)
class MemoryMeasured:
    """For how long the source will hold what capture has not seen, if capture stood still."""

    left: timedelta


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should look at today."""

    message: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The process was asked to end; the migration can go on later."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The migration stopped and needs a person."""

    failure: Failure


Event: TypeAlias = (
    MigrationStarted
    | StateChanged
    | PhaseChanged
    | StepBegan
    | StepEnded
    | AttemptFailed
    | TaskDone
    | EndUnreachable
    | EndReachable
    | LagRising
    | NothingMoving
    | Planned
    | BatchCopied
    | PartitionCopied
    | CopyCompleted
    | IndexesBuilt
    | IndexesBuilding
    | DefinitionsCarried
    | ChangesCaptured
    | ChangesApplied
    | SchemaChanged
    | BecameConsistent
    | PartitionVerified
    | KeysVerified
    | MismatchFound
    | VerificationCompleted
    | ReadyToCommit
    | CommitStarted
    | TargetWritable
    | Committed
    | WritesBlocked
    | WritesAllowed
    | Reversed
    | Retrying
    | PaceChanged
    | MemoryMeasured
    | Warned
    | StopRequested
    | Failed
)

Subscriber: TypeAlias = Callable[[Event], None]


class EventBus:
    """Hands every event to every subscriber."""

    def __init__(self, *subscribers: Subscriber) -> None:
        self._subscribers = subscribers

    def emit(self, event: Event) -> None:
        """Tell all subscribers, in the order in which they came."""
        for subscriber in self._subscribers:
            subscriber(event)
