"""What is said of each event."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from ..events import (
    AttemptFailed,
    BatchCopied,
    BecameConsistent,
    ChangesApplied,
    ChangesCaptured,
    CommitStarted,
    Committed,
    CopyCompleted,
    DefinitionsCarried,
    EndReachable,
    EndUnreachable,
    Event,
    Failed,
    IndexesBuilding,
    IndexesBuilt,
    KeysVerified,
    LagRising,
    MemoryMeasured,
    MigrationStarted,
    MismatchFound,
    NothingMoving,
    PaceChanged,
    PartitionCopied,
    PartitionVerified,
    PhaseChanged,
    Planned,
    ReadyToCommit,
    Retrying,
    Reversed,
    SchemaChanged,
    StateChanged,
    StepBegan,
    StepEnded,
    StopRequested,
    TargetWritable,
    TaskDone,
    VerificationCompleted,
    Warned,
    WritesAllowed,
    WritesBlocked,
)
from .figures import count, duration, plural, size

_Work: TypeAlias = (
    BatchCopied
    | PartitionCopied
    | ChangesCaptured
    | ChangesApplied
    | PartitionVerified
    | KeysVerified
)
_Sum: TypeAlias = (
    Planned
    | CopyCompleted
    | IndexesBuilt
    | IndexesBuilding
    | DefinitionsCarried
    | VerificationCompleted
)
_Trouble: TypeAlias = MismatchFound | Retrying | Warned | Failed
_Managed: TypeAlias = (
    StepBegan
    | StepEnded
    | AttemptFailed
    | TaskDone
    | EndUnreachable
    | EndReachable
    | LagRising
    | NothingMoving
)
_Cutover: TypeAlias = ReadyToCommit | CommitStarted | TargetWritable | Committed


def text_of(event: Event) -> str:
    """Return the line that tells of *event*, without time and level."""
    match event:
        case (
            BatchCopied()
            | PartitionCopied()
            | ChangesCaptured()
            | ChangesApplied()
            | PartitionVerified()
            | KeysVerified()
        ):
            return _work(event)
        case MismatchFound() | Retrying() | Warned() | Failed():
            return _trouble(event)
        case ReadyToCommit() | CommitStarted() | TargetWritable() | Committed():
            return _cutover(event)
        case (
            StepBegan()
            | StepEnded()
            | AttemptFailed()
            | TaskDone()
            | EndUnreachable()
            | EndReachable()
            | LagRising()
            | NothingMoving()
        ):
            return _managed(event)
        case MigrationStarted(name, source, target, generation):
            again = "" if generation <= 1 else f", start {generation}"
            return f"migration {name}: {source} to {target}{again}"
        case StateChanged(before, after):
            return f"state {before} is now {after}"
        case PhaseChanged(phase):
            return f"phase: {phase}"
        case (
            Planned()
            | CopyCompleted()
            | IndexesBuilt()
            | IndexesBuilding()
            | DefinitionsCarried()
            | VerificationCompleted()
        ):
            return _sum(event)
        case SchemaChanged(verb, namespace, detail):
            return f"{verb} of {namespace}" + (f": {detail}" if detail else "")
        case BecameConsistent(at):
            return f"the target is consistent as of {at.isoformat(timespec='seconds')}"
        case WritesBlocked(end):
            return f"writes of others to the {end} are blocked"
        case WritesAllowed(end):
            return f"writes to the {end} are allowed again"
        case Reversed(source, target, collections):
            many = plural(collections, "collection")
            return f"reversed: changes of {many} flow from {source} to {target}"
        case PaceChanged(throttled):
            return f"throttled: {throttled}" if throttled else "no longer throttled"
        case MemoryMeasured(left):
            return f"the source still holds what comes next for about {duration(left)}"
        case StopRequested():
            return "stopping; what was recorded stays"


def _sum(event: _Sum) -> str:
    match event:
        case Planned(collections, partitions, documents, amount):
            return (
                f"planned {plural(collections, 'collection')} in {plural(partitions, 'partition')}:"
                f" about {plural(documents, 'document')}, {size(amount)}"
            )
        case CopyCompleted(documents, amount, took):
            what = f"{plural(documents, 'document')}, {size(amount)}"
            return f"copied {what} in {duration(took)}{_rate(documents, took)}"
        case IndexesBuilt(namespace, indexes, took):
            many = plural(indexes, "index").replace("indexs", "indexes")
            return f"built {many} of {namespace} in {duration(took)}"
        case IndexesBuilding(namespace, indexes, step, done, total):
            many = plural(indexes, "index").replace("indexs", "indexes")
            return f"building {many} of {namespace}: {step}, {100 * done // max(1, total)} %"
        case DefinitionsCarried(kind, count):
            return f"carried over {plural(count, kind.value)}"
        case VerificationCompleted(compared, mismatches):
            found = plural(mismatches, "mismatch").replace("mismatchs", "mismatches")
            return f"compared {plural(compared, 'document')}: {found}"


def _work(event: _Work) -> str:
    match event:
        case BatchCopied(namespace, documents, amount):
            return f"{namespace}: wrote {plural(documents, 'document')}, {size(amount)}"
        case PartitionCopied(_, partition, documents, _, took):
            return f"copied partition {partition}: {plural(documents, 'document')}" + _rate(
                documents, took
            )
        case ChangesCaptured(events, to):
            return f"captured {plural(events, 'change')} up to {to.isoformat(timespec='seconds')}"
        case ChangesApplied(changes, _, lag):
            return f"applied {plural(changes, 'change')}, lag {duration(lag)}"
        case PartitionVerified(_, partition, compared, differences):
            compared_text = f"compared partition {partition}: {plural(compared, 'document')}"
            return f"{compared_text}, {plural(differences, 'difference')}"
        case KeysVerified(compared, differences):
            return (
                f"compared {plural(compared, 'changed key')}, {plural(differences, 'difference')}"
            )


def _trouble(event: _Trouble) -> str:
    match event:
        case MismatchFound(mismatch):
            return f"mismatch in {mismatch.namespace}: {mismatch.kind}; see `limosa verify`"
        case Retrying(what, error, attempt, wait):
            return f"{what}: {error}; attempt {attempt}, again in {duration(wait)}"
        case Warned(message):
            return message
        case Failed(failure):
            return f"the migration has failed: {failure.message}"


def _cutover(event: _Cutover) -> str:
    match event:
        case ReadyToCommit(lag):
            return f"ready to commit, lag {duration(lag)}"
        case CommitStarted(at):
            return f"commit: draining changes up to {at.isoformat(timespec='seconds')}"
        case TargetWritable(took):
            return f"the application may write to the target, {duration(took)} after the commit"
        case Committed(took):
            return f"committed in {duration(took)}"


def _managed(event: _Managed) -> str:
    match event:
        case StepBegan(step, attempt):
            again = "" if attempt <= 1 else f", attempt {attempt}"
            return f"step {step} begins{again}"
        case StepEnded(step, took):
            return f"step {step} is complete after {duration(took)}"
        case AttemptFailed(step, attempt, attempts, failure, wait):
            then = "no more is made" if wait is None else f"the next one in {duration(wait)}"
            return f"attempt {attempt} of {attempts} at {step} failed: {failure.message}; {then}"
        case TaskDone(task, took):
            return f"task done in {duration(took)}: {task}"
        case EndUnreachable(side, error):
            return f"the {side} does not answer: {error}"
        case EndReachable(side):
            return f"the {side} answers again"
        case LagRising(lag, over):
            return f"lag has been rising for {duration(over)}, to {duration(lag)}"
        case NothingMoving(phase, over):
            return f"nothing has moved for {duration(over)} in {phase}"


def _rate(documents: int, took: timedelta) -> str:
    seconds = took.total_seconds()
    return f" ({count(documents / seconds)}/s)" if seconds > 0 else ""
