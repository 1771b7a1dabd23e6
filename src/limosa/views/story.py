"""Events as the lines of a log, in words and as fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from ..errors import (
    AccessDenied,
    CollectionGone,
    ConnectionLost,
    PositionLost,
    Throttled,
    TransientError,
)
from ..events import (
    BatchCopied,
    BecameConsistent,
    ChangesApplied,
    ChangesCaptured,
    CommitStarted,
    Committed,
    CopyCompleted,
    Event,
    Failed,
    IndexesBuilt,
    KeysVerified,
    MigrationStarted,
    MismatchFound,
    PartitionCopied,
    PartitionVerified,
    PhaseChanged,
    Planned,
    ReadyToCommit,
    Retrying,
    SchemaChanged,
    StateChanged,
    StopRequested,
    TargetWritable,
    VerificationCompleted,
    Warned,
)
from ..history import Entry
from ..model import Mismatch
from ..state import Failure
from .figures import count, duration, iso, percentage, plural, size
from .progress import Figures


class Level(StrEnum):
    """How much a line asks for attention."""

    DEBUG = "debug"  # every batch and partition
    INFO = "info"  # the story of the migration
    WARNING = "warning"  # look today
    ERROR = "error"  # the migration has stopped


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log: *text* for people, *event* and *fields* for programs."""

    level: Level
    event: str
    text: str
    fields: dict[str, Any]


#: Retries before a person should know: elections are over by then.
_PATIENCE = 3

#: Errors whose messages name servers, namespaces and positions. Others may quote a document.
_SPEAKABLE = frozenset(
    e.code
    for e in (
        AccessDenied,
        CollectionGone,
        ConnectionLost,
        PositionLost,
        Throttled,
        TransientError,
    )
)

_Work: TypeAlias = (
    BatchCopied
    | PartitionCopied
    | ChangesCaptured
    | ChangesApplied
    | PartitionVerified
    | KeysVerified
)
_Trouble: TypeAlias = MismatchFound | Retrying | Warned | Failed
_Cutover: TypeAlias = ReadyToCommit | CommitStarted | TargetWritable | Committed


def level_of(event: Event) -> Level:
    """Return how much *event* asks for attention; cheap enough for every batch."""
    match event:
        case (
            BatchCopied()
            | PartitionCopied()
            | ChangesCaptured()
            | ChangesApplied()
            | PartitionVerified()
            | KeysVerified()
        ):
            return Level.DEBUG
        case Failed():
            return Level.ERROR
        case MismatchFound() | Warned():
            return Level.WARNING
        case Retrying(_, _, attempt):
            return Level.INFO if attempt < _PATIENCE else Level.WARNING
        case _:
            return Level.INFO


def told(event: Event) -> Line:
    """Return the line that *event* makes in the log; keys and documents never appear."""
    kind = type(event).__name__
    return Line(level_of(event), kind[0].lower() + kind[1:], _text(event), _fields(event))


def entry(event: Event, at: datetime) -> Entry | None:
    """
    Return *event* as the history keeps it; None for what is too much to be kept one by one.

    Whoever may look at the history need not be allowed to see data: of a failure whose message
    may quote a document, only its code and its hint are kept.
    """
    if level_of(event) is Level.DEBUG:
        return None
    line = told(event)
    text, named = line.text, line.fields
    if isinstance(event, Failed) and event.failure.code not in _SPEAKABLE:
        text = f"the migration has failed [{event.failure.code}]"
        text += f": {event.failure.hint}" if event.failure.hint else ""
        named = {name: value for name, value in named.items() if name != "message"}
    return Entry(
        at=at,
        kind=type(event).__name__,
        level=line.level.value,
        message=" ".join(text.split()),
        fields=named,
    )


def progress_line(figures: Figures) -> Line:
    """Return the line that says how far the migration has come."""
    lag = "unknown" if figures.lag is None else duration(figures.lag)
    parts = [
        f"{figures.phase}: {count(figures.documents_copied)} of {count(figures.documents)} "
        f"documents copied ({percentage(figures.fraction_copied)})"
    ]
    if figures.documents_rate:
        parts.append(f"{count(figures.documents_rate)}/s, {size(figures.bytes_rate)}/s")
    if figures.remaining is not None:
        parts.append(f"{duration(figures.remaining)} left")
    if figures.documents_compared:
        parts.append(f"{count(figures.documents_compared)} compared")
    parts.append(f"{plural(figures.changes_applied, 'change')} applied")
    parts.append(f"{count(figures.changes_waiting)} waiting, lag {lag}")
    return Line(Level.INFO, "progress", ", ".join(parts), _progress_fields(figures))


def _text(event: Event) -> str:
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
        case MigrationStarted(name, source, target, generation):
            again = "" if generation <= 1 else f", start {generation}"
            return f"migration {name}: {source} to {target}{again}"
        case StateChanged(before, after):
            return f"state {before} is now {after}"
        case PhaseChanged(phase):
            return f"phase: {phase}"
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
        case SchemaChanged(verb, namespace, detail):
            return f"{verb} of {namespace}" + (f": {detail}" if detail else "")
        case BecameConsistent(at):
            return f"the target is consistent as of {at.isoformat(timespec='seconds')}"
        case VerificationCompleted(compared, mismatches):
            found = plural(mismatches, "mismatch").replace("mismatchs", "mismatches")
            return f"compared {plural(compared, 'document')}: {found}"
        case StopRequested():
            return "stopping; what was recorded stays"


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


def _rate(documents: int, took: timedelta) -> str:
    seconds = took.total_seconds()
    return f" ({count(documents / seconds)}/s)" if seconds > 0 else ""


def _fields(event: Event) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for each in fields(event):
        named |= _field(each.name, getattr(event, each.name))
    return named


def _field(name: str, value: Any) -> dict[str, Any]:
    match value:
        case timedelta():
            unit = "TimeSeconds" if name == "lag" else "Seconds"
            return {name + unit: round(value.total_seconds(), 3)}
        case datetime():
            return {name: iso(value)}
        case Mismatch():
            return {"kind": value.kind.value, "namespace": str(value.namespace)}
        case Failure():
            return {"code": value.code, "message": value.message, "hint": value.hint}
        case int() | float():
            return {name: value}
        case _:
            return {name: str(value)}


def _progress_fields(figures: Figures) -> dict[str, Any]:
    remaining, lag = figures.remaining, figures.lag
    return {
        "phase": figures.phase.value,
        "estimatedDocuments": figures.documents,
        "copiedDocuments": figures.documents_copied,
        "copiedBytes": figures.bytes_copied,
        "documentsPerSecond": round(figures.documents_rate),
        "bytesPerSecond": round(figures.bytes_rate),
        "remainingSeconds": None if remaining is None else round(remaining.total_seconds()),
        "comparedDocuments": figures.documents_compared,
        "changesCaptured": figures.changes_captured,
        "changesApplied": figures.changes_applied,
        "changesWaiting": figures.changes_waiting,
        "lagTimeSeconds": None if lag is None else round(lag.total_seconds(), 3),
        "mismatches": figures.mismatches,
    }
