"""Events as the lines of a log, in words and as fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ..errors import (
    AccessDenied,
    CollectionGone,
    ConnectionLost,
    PositionLost,
    Throttled,
    TransientError,
)
from ..events import (
    AttemptFailed,
    BatchCopied,
    ChangesApplied,
    ChangesCaptured,
    EndUnreachable,
    Event,
    Failed,
    KeysVerified,
    LagRising,
    MemoryMeasured,
    MismatchFound,
    NothingMoving,
    PartitionCopied,
    PartitionVerified,
    Retrying,
    Warned,
)
from ..history import Entry
from ..model import Mismatch
from ..state import Failure
from .figures import count, duration, iso, percentage, plural, size
from .progress import Figures
from .words import text_of


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
            | MemoryMeasured()
        ):
            return Level.DEBUG
        case Failed():
            return Level.ERROR
        case MismatchFound() | Warned():
            return Level.WARNING
        case AttemptFailed() | EndUnreachable() | LagRising() | NothingMoving():
            return Level.WARNING
        case Retrying(_, _, attempt):
            return Level.INFO if attempt < _PATIENCE else Level.WARNING
        case _:
            return Level.INFO


def told(event: Event) -> Line:
    """Return the line that *event* makes in the log; keys and documents never appear."""
    kind = type(event).__name__
    return Line(level_of(event), kind[0].lower() + kind[1:], text_of(event), _fields(event))


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
    if isinstance(event, Failed | AttemptFailed) and event.failure.code not in _SPEAKABLE:
        what = "the migration" if isinstance(event, Failed) else f"an attempt at {event.step}"
        text = f"{what} has failed [{event.failure.code}]"
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
    if figures.throttled:
        parts.append(f"throttled: {figures.throttled}")
    return Line(Level.INFO, "progress", ", ".join(parts), _progress_fields(figures))


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
        case None:
            return {name: None}
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
