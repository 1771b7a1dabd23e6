"""What the dashboard shows: the state, the history and their sums as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..history import Entry, Sample
from ..model import Mismatch
from ..state import Failure, Phase, State
from ..steps import current
from .figures import iso
from .keys import key_value
from .status import Status, status_body

#: Over what rates are taken: smooths batches, and shows soon that something has stopped.
WINDOW = timedelta(seconds=10)

#: Samples come every second while a process drives; without one for so long, nothing moves.
_FRESH = timedelta(seconds=15)

#: The order of columns in the body of a history: numbers by column are a third of the size of
#: objects, which counts where a page asks for thousands of samples.
SAMPLE_COLUMNS = (
    *("at", "phase", "documentsCopied", "bytesCopied", "eventsCaptured", "changesApplied"),
    *("documentsCompared", "changesWaiting", "lagTimeSeconds", "mismatches"),
)

COLLECTION_COLUMNS = ("namespace", "documents", "copied", "compared", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that the head of the page stands on, at one moment."""

    status: Status
    #: The state to act upon, and why the migration stands still: both may come from the process
    #: that drives it rather than from what is stored.
    state: State
    failure: Failure | None = None
    is_initializing: bool = False
    recent: Sequence[Sample] = ()  # oldest first
    gauges: Mapping[str, float] = field(default_factory=dict)
    may_steer: bool = True  # whether who asks has the right to
    drives: bool = True  # whether the server can start a process that drives
    is_kept: bool = False  # whether it has started one, or is about to
    most_lag: timedelta | None = None  # beyond it a commit is refused
    silent: Collection[str] = ()  # sides that have not answered the server itself
    clusters: Sequence[str] = ()  # identities of the two ends that the server was given


@dataclass(frozen=True, slots=True)
class Rates:
    """Amounts per second, zero where nothing moves."""

    documents: float = 0.0
    bytes: float = 0.0
    captured: float = 0.0
    applied: float = 0.0
    compared: float = 0.0


def dashboard_body(reading: Reading) -> dict[str, Any]:
    """Return what changes all the time: one object that holds no key and no credentials."""
    status, failure = reading.status, reading.failure
    last = reading.recent[-1] if reading.recent else None
    rates = rates_of(reading)
    copied = max(status.totals.documents_copied, last.documents_copied if last else 0)
    size = max(status.totals.bytes_copied, last.bytes_copied if last else 0)
    return {
        **status_body(status),
        "canCommit": not _commit_refusal(reading),
        "state": "INITIALIZING" if reading.is_initializing else reading.state.value,
        "failure": failure
        and {"code": failure.code, "message": failure.message, "hint": failure.hint},
        "at": iso(status.now),
        "headline": headline(reading),
        "advice": advice(reading),
        "progress": {
            "copiedDocuments": copied,
            "copiedBytes": size,
            "fractionCopied": round(_fraction_copied(status, copied), 4),
            "fractionVerified": round(_fraction_verified(status), 4),
            "remainingSeconds": _remaining(status, rates, copied),
            "changesWaiting": last.waiting if last else None,
            "documentsPerSecond": round(rates.documents, 1),
            "bytesPerSecond": round(rates.bytes, 1),
            "eventsCapturedPerSecond": round(rates.captured, 1),
            "changesAppliedPerSecond": round(rates.applied, 1),
            "documentsComparedPerSecond": round(rates.compared, 1),
        },
        "ends": {side: {"isUnavailable": _is_gone(reading, side)} for side in ("source", "target")},
        "clusters": list(reading.clusters),
        "controls": controls(reading),
    }


def headline(reading: Reading) -> str:
    """Return in two or three words what is going on."""
    if reading.is_initializing:
        return "Starting up"
    match reading.state:
        case State.IDLE:
            return "Not started"
        case State.PAUSED:
            return "Paused"
        case State.FAILED:
            return "Waiting for the next attempt" if _is_retried(reading) else "Stopped by an error"
        case State.COMMITTING:
            return "Committing"
        case State.COMMITTED:
            return "Committed"
        case State.REVERSING:
            return "Reversing"
        case State.RUNNING:
            return _running(reading)


def advice(reading: Reading) -> str:
    """Return one sentence about what that means and what a person may do."""
    state = reading.state
    if _is_retried(reading):
        return "The next attempt begins by itself."
    if reading.failure is not None:
        return _sentence(reading.failure.hint)
    match state:
        case State.COMMITTED:
            return "The migration is complete. The application belongs to the target now."
        case State.IDLE:
            return "" if _start_refusal(reading) else "Choose what is migrated, and where to."
        case _ if _is_starting(reading):
            return "The process that drives it is starting."
        case _ if not reading.status.is_driven and not reading.is_initializing:
            return "No process drives it: run the same command again."
        case State.PAUSED:
            return "Nothing is copied or applied. Changes are captured all the while."
        case State.COMMITTING:
            return "The last changes are drained; then the application may write to the target."
        case State.REVERSING:
            return "Source and target change places."
        case State.RUNNING if reading.status.throttled:
            return _sentence(f"throttled: {reading.status.throttled}")
        case State.RUNNING if not _commit_refusal(reading):
            return "The target follows the source. Commit whenever it suits the application."
        case _:
            return ""


def controls(reading: Reading) -> dict[str, dict[str, Any]]:
    """Return for each verb whether it would be accepted now, and if not, why."""
    state = reading.state
    refusals = {
        "start": _start_refusal(reading),
        "pause": "" if state is State.RUNNING else f"the migration is {state}",
        "resume": _resume_refusal(reading),
        "commit": _commit_refusal(reading),
        "reverse": _reverse_refusal(reading),
        "throttle": _throttle_refusal(reading),
    }
    if reading.is_initializing:
        refusals = dict.fromkeys(refusals, "the server is starting up")
    if not reading.may_steer:
        refusals = dict.fromkeys(refusals, "only who may steer it can do this")
    return {verb: {"enabled": not why, "reason": why} for verb, why in refusals.items()}


def rates_of(reading: Reading) -> Rates:
    """Return the rates over the recent samples; all zero when nothing was sampled lately."""
    now = reading.status.now
    recent = [s for s in reading.recent if now - s.at <= _FRESH]
    # Only what is as near to the newest as the window is wide.
    recent = [s for s in recent if recent[-1].at - s.at <= WINDOW]
    if len(recent) < 2:
        return Rates()
    first, last = recent[0], recent[-1]
    seconds = (last.at - first.at).total_seconds()
    if seconds <= 0:
        return Rates()

    def rate(before: int, after: int) -> float:
        return max(0, after - before) / seconds

    captured = rate(first.events_captured, last.events_captured)
    if reading.state is State.PAUSED:
        # Capture alone goes on; what else the last seconds held was before the pause.
        return Rates(captured=captured)
    return Rates(
        documents=rate(first.documents_copied, last.documents_copied),
        bytes=rate(first.bytes_copied, last.bytes_copied),
        captured=captured,
        applied=rate(first.changes_applied, last.changes_applied),
        compared=rate(first.documents_compared, last.documents_compared),
    )


def history_body(samples: Iterable[Sample]) -> dict[str, Any]:
    """Return samples by column, times as seconds since 1970."""
    return {"columns": list(SAMPLE_COLUMNS), "samples": [_sample_row(s) for s in samples]}


def collections_body(rows: Sequence[Sequence[Any]], *, matching: int, total: int) -> dict[str, Any]:
    """Return figures of collections by column, and how many there are beside these."""
    return {
        "columns": list(COLLECTION_COLUMNS),
        "collections": rows,
        "matching": matching,
        "total": total,
    }


def entries_body(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return entries of the log, oldest first."""
    return {
        "entries": [
            {
                "number": entry.number,
                "at": iso(entry.at),
                "kind": entry.kind,
                "level": entry.level,
                "message": entry.message,
                "fields": dict(entry.fields),
            }
            for entry in entries
        ]
    }


def mismatches_body(mismatches: Iterable[Mismatch], *, with_keys: bool) -> dict[str, Any]:
    """Return mismatches, with their whole keys as `limosa verify` shows them or without."""
    return {
        "mismatches": [
            {
                "kind": m.kind.value,
                "namespace": str(m.namespace),
                "key": key_value(m.key) if with_keys else None,
            }
            for m in mismatches
        ]
    }


def past_body(status: Status) -> dict[str, Any]:
    """Return one line about a migration among others."""
    migration = status.migration
    return {
        "name": migration.name,
        "state": migration.state.value,
        "source": migration.source,
        "target": migration.target,
        "isDriven": status.is_driven,
        "startedAt": iso(migration.started_at),
        "committedAt": iso(migration.committed_at),
        "documents": status.totals.documents_copied,
        "bytes": status.totals.bytes_copied,
        "mismatches": status.totals.mismatches,
    }


def _running(reading: Reading) -> str:
    migration = reading.status.migration
    if not reading.status.is_driven:
        return "Starting up" if _is_starting(reading) else "Interrupted"
    match migration.phase:
        case Phase.PLANNING:
            return "Planning"
        case Phase.COLLECTION_COPY:
            return "Copying collections"
        case Phase.INDEX_BUILD:
            return "Building indexes"
        case _ if not migration.is_consistent or _is_behind(reading):
            return "Catching up"
        case _:
            return "Ready to commit" if migration.can_commit else "Verifying"


def _is_starting(reading: Reading) -> bool:
    return reading.is_kept and not reading.status.is_driven


def _is_retried(reading: Reading) -> bool:
    """Whether the command that drives the migration makes another attempt after a while."""
    step = current(reading.status.steps)
    if reading.state is not State.FAILED or reading.drives or step is None:
        return False
    return bool(step.last_error) and not step.gave_up


def _start_refusal(reading: Reading) -> str:
    if reading.state is not State.IDLE:
        return f"the migration is {reading.state}"
    return "" if reading.drives else "it is started by the command that drives it"


def _throttle_refusal(reading: Reading) -> str:
    if reading.state in (State.IDLE, State.COMMITTED):
        return f"the migration is {reading.state}"
    return ""


def _resume_refusal(reading: Reading) -> str:
    match reading.state:
        case State.PAUSED:
            return ""
        case State.FAILED if _is_retried(reading):
            return "the next attempt begins by itself"
        case State.FAILED:
            return "" if reading.drives else "run the command again that drives it"
        case _:
            return f"the migration is {reading.state}, not {State.PAUSED}"


def _commit_refusal(reading: Reading) -> str:
    migration = reading.status.migration
    if reading.state is not State.RUNNING:
        return f"the migration is {reading.state}"
    if not migration.is_consistent:
        return "the initial sync is not complete"
    if not migration.can_commit:
        return "the verification is not complete"
    return "the target is too far behind" if _is_behind(reading) else ""


def _is_behind(reading: Reading) -> bool:
    lag, most = reading.status.lag, reading.most_lag
    return lag is not None and most is not None and lag > most


def _reverse_refusal(reading: Reading) -> str:
    if reading.state is not State.COMMITTED:
        return f"the migration is {reading.state}, not {State.COMMITTED}"
    if not reading.status.migration.can_reverse:
        return "the migration was not begun as a reversible one"
    return ""


def _is_gone(reading: Reading, side: str) -> bool:
    if side in reading.silent:
        return True
    return reading.status.is_driven and reading.gauges.get(f"unavailable.{side}", 0.0) > 0


def _sentence(text: str) -> str:
    """Return *text*, which begins small and has no full stop, as a sentence."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


def _fraction_copied(status: Status, copied: int) -> float:
    if status.migration.copied_at is not None:
        return 1.0
    planned = status.totals.documents
    # Estimates may be low: all is there only when the state says so.
    return min(0.999, copied / planned) if planned else 0.0


def _fraction_verified(status: Status) -> float:
    if status.migration.verified_at is not None:
        return 1.0
    return status.totals.partitions_verified / max(1, status.totals.partitions)


def _remaining(status: Status, rates: Rates, copied: int) -> float | None:
    """Return the seconds left of the copy or of the first verification, if it can be told."""
    migration, totals = status.migration, status.totals
    if migration.state is not State.RUNNING:
        return None
    if migration.phase is Phase.COLLECTION_COPY and rates.documents > 0:
        return round(max(0, totals.documents - copied) / rates.documents, 1)
    verifying = migration.copied_at is not None and migration.verified_at is None
    if verifying and migration.verifies and rates.compared > 0:
        left = max(0, totals.documents_copied - totals.documents_compared)
        return round(left / rates.compared, 1)
    return None


def _sample_row(sample: Sample) -> list[Any]:
    return [
        round(sample.at.timestamp(), 3),
        sample.phase,
        sample.documents_copied,
        sample.bytes_copied,
        sample.events_captured,
        sample.changes_applied,
        sample.documents_compared,
        sample.waiting,
        None if sample.lag_seconds is None else round(sample.lag_seconds, 3),
        sample.mismatches,
    ]
