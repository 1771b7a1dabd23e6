"""The status of a migration: the body of `status --json`, and the same for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..canonical import readable
from ..model import Mismatch
from ..state import Migration, State, Suspect, Totals
from ..steps import StepProgress
from .figures import duration, iso
from .keys import key_value
from .rows import rows_of
from .steps import steps_body

#: An idle MongoDB moves its clock every ten seconds; without news for longer than this, capture
#: has stopped, and the distance between captured and applied says nothing about the source.
_CAPTURE_ALIVE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Status:
    """A migration, its sums and steps, and whether a process drives it, all at *now*."""

    migration: Migration
    totals: Totals
    now: datetime
    is_driven: bool = False
    steps: Sequence[StepProgress] = ()  # that were begun, in order

    @property
    def lag(self) -> timedelta | None:
        """
        How far the target is behind the source; None before the first change was applied.

        By the source's clock while capture is alive, by this machine's otherwise. Never
        negative, and zero once committed.
        """
        migration = self.migration
        if migration.state is State.COMMITTED:
            return timedelta()
        if migration.applied_to is None or migration.is_reversing:
            return None
        captured = migration.captured_to
        fresh = captured is not None and self.now - captured < _CAPTURE_ALIVE
        until = captured if captured is not None and fresh and self.is_driven else self.now
        return max(timedelta(), until - migration.applied_to)

    @property
    def throttled(self) -> str:
        """Why it is slower than it could be at this moment; "" if it is not."""
        is_at_work = self.migration.state is State.RUNNING and self.is_driven
        return self.migration.throttled if is_at_work else ""

    @property
    def oplog_left(self) -> timedelta | None:
        """
        How long the source will hold what is not captured yet, by the last measurement.

        None if that is not known or of no interest any more.
        """
        lost_at = self.migration.position_lost_at
        if lost_at is None or self.migration.can_write:
            return None
        return max(timedelta(), lost_at - self.now)

    @property
    def equal(self) -> int:
        """Documents compared with their partition that did not differ."""
        totals = self.totals
        return max(0, totals.documents_compared - totals.suspects - totals.mismatches)


def status_body(status: Status) -> dict[str, Any]:
    """Return the body of `status --json`; it holds no key, no document and no credentials."""
    migration, lag = status.migration, status.lag
    failure = migration.failure
    return {
        "name": migration.name,
        "state": migration.state.value,
        "phase": migration.phase.value,
        "source": migration.source,
        "target": migration.target,
        "isDriven": status.is_driven,
        "holder": migration.holder or None,
        "starts": migration.generation,
        "isConsistent": migration.is_consistent,
        "canCommit": migration.can_commit,
        "canWrite": migration.can_write,
        "canReverse": migration.can_reverse,
        "reversals": migration.reversals,
        "reversibleUntil": iso(migration.return_lost_at),
        "blockedWrites": [end for end in ("source", "target") if migration.blocks(end)],
        "lagTimeSeconds": None if lag is None else round(lag.total_seconds(), 3),
        "startedAt": iso(migration.started_at),
        "plannedAt": iso(migration.planned_at),
        "copiedAt": iso(migration.copied_at),
        "commitAt": iso(migration.commit_at),
        "writableAt": iso(migration.writable_at),
        "committedAt": iso(migration.committed_at),
        "steps": steps_body(migration, status.steps),
        "collectionCopy": _copy_body(status.totals),
        "changes": {
            "eventsCaptured": migration.events_captured,
            "changesApplied": migration.changes_applied,
            "capturedTo": iso(migration.captured_to),
            "appliedTo": iso(migration.applied_to),
        },
        "verification": _verification_body(status),
        "limits": migration.limits.stored(),
        "throttled": status.throttled or None,
        "oplog": _oplog_body(status),
        "failure": failure
        and {"code": failure.code, "message": failure.message, "hint": failure.hint},
    }


def status_rows(status: Status) -> list[tuple[str, str]]:
    """Return what a person wants to know, as names and values, most important first."""
    return rows_of(status_body(status))


def verification_body(
    status: Status, mismatches: Sequence[Mismatch], *, is_complete: bool
) -> dict[str, Any]:
    """Return the body of `verify --json`: the figures and each mismatch with its whole key."""
    return {
        "name": status.migration.name,
        **_verification_body(status),
        "isComplete": is_complete,
        "mismatchedKeys": [
            {"kind": m.kind.value, "namespace": str(m.namespace), "key": key_value(m.key)}
            for m in mismatches
        ],
    }


def mismatch_rows(mismatches: Sequence[Mismatch]) -> list[tuple[str, str, str]]:
    """Return kind, namespace and readable key of each mismatch."""
    return [(m.kind.value, str(m.namespace), readable(m.key)) for m in mismatches]


def list_row(status: Status) -> tuple[str, ...]:
    """Return the line of `limosa list` about one migration."""
    migration = status.migration
    started = migration.started_at
    return (
        migration.name,
        migration.state.value,
        migration.phase.value,
        "yes" if status.is_driven else "no",
        "–" if started is None else f"{started:%Y-%m-%d %H:%M}",
        migration.source,
        migration.target,
    )


def is_verified(migration: Migration, suspects: Iterable[Suspect]) -> bool:
    """
    Whether everything was compared, and each difference found by that was rechecked.

    Differences found later do not matter: under traffic there are always some in doubt.
    """
    end = migration.verified_at
    return end is not None and all(each.counts or each.since > end for each in suspects)


def _copy_body(totals: Totals) -> dict[str, int]:
    return {
        "collections": totals.collections,
        "partitions": totals.partitions,
        "partitionsCopied": totals.partitions_copied,
        "estimatedDocuments": totals.documents,
        "estimatedBytes": totals.bytes,
        "copiedDocuments": totals.documents_copied,
        "copiedBytes": totals.bytes_copied,
    }


def _verification_body(status: Status) -> dict[str, Any]:
    migration, totals = status.migration, status.totals
    return {
        "isEnabled": migration.verifies,
        "isComplete": migration.verified_at is not None,
        "partitionsVerified": totals.partitions_verified,
        "comparedDocuments": totals.documents_compared,
        "equalDocuments": status.equal,
        "recheckedDocuments": migration.documents_rechecked,
        "waitingForRecheck": totals.suspects,
        "mismatches": totals.mismatches,
        "verifiedAt": iso(migration.verified_at),
    }


def _oplog_body(status: Status) -> dict[str, Any] | None:
    left = status.oplog_left
    if left is None:
        return None
    return {"remaining": duration(left), "remainingSeconds": round(left.total_seconds())}
