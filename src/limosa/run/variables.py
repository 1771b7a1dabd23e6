"""What commands of the operator are told, as variables of their environment."""

from __future__ import annotations

from ..catalog import Folder
from ..steps import StepProgress
from ..views.status import Status


def variables(
    status: Status, step: StepProgress, *, moment: str, attempts: int, folder: Folder
) -> dict[str, str]:
    """Return the variables of a command that is run at a *moment* of *step*; none is a secret."""
    migration, totals, lag = status.migration, status.totals, status.lag
    return {
        "LIMOSA_MIGRATION": migration.name,
        "LIMOSA_STATE_DIR": str(folder.path),
        "LIMOSA_SOURCE_ADDRESS": migration.source,
        "LIMOSA_TARGET_ADDRESS": migration.target,
        "LIMOSA_MOMENT": moment,  # before, after or task
        "LIMOSA_STEP": step.name,
        "LIMOSA_ATTEMPT": str(step.attempts),
        "LIMOSA_ATTEMPTS": str(attempts),
        "LIMOSA_STATE": migration.state.value,
        "LIMOSA_PHASE": migration.phase.value,
        "LIMOSA_DOCUMENTS": str(totals.documents),
        "LIMOSA_DOCUMENTS_COPIED": str(totals.documents_copied),
        "LIMOSA_BYTES_COPIED": str(totals.bytes_copied),
        "LIMOSA_CHANGES_APPLIED": str(migration.changes_applied),
        "LIMOSA_LAG_SECONDS": "" if lag is None else f"{lag.total_seconds():.3f}",
        "LIMOSA_MISMATCHES": str(totals.mismatches),
    }
