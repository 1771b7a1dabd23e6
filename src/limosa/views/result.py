"""The result of a migration in four fields, for those who watch nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypedDict

from ..state import Failure, Migration, State
from ..steps import WORDS, StepProgress, current, in_one_line


class Outcome(StrEnum):
    """How a migration stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    MIGRATED = "migrated"  # was complete before anybody of this process looked
    FAILED = "failed"


class Result(TypedDict):
    """The body of ``GET /migrate/result``."""

    status: str
    step: str
    last_err: str | None
    try_count: int


def result(
    migration: Migration | None,
    steps: Sequence[StepProgress],
    *,
    failure: Failure | None = None,
    was_complete: bool = False,
) -> Result:
    """
    Return the result of *migration*, None before there is any.

    *failure* is why it stands still; it counts where no step has recorded one. *was_complete*
    tells whether it was found complete when the process began that answers.
    """
    step = current(steps)
    error = step.last_error if step is not None else ""
    outcome = _outcome(migration, step, was_complete=was_complete)
    if outcome is Outcome.RUNNING and failure is not None and not error:
        outcome, error = Outcome.FAILED, in_one_line(failure)
    return Result(
        status=outcome.value,
        step=_first_name(migration) if step is None else step.name,
        last_err=error or None,
        try_count=0 if step is None else step.attempts,
    )


def is_complete(migration: Migration | None, steps: Sequence[StepProgress]) -> bool:
    """Whether the migration is committed, and what was to follow is done."""
    if migration is None or migration.state is not State.COMMITTED:
        return False
    return not any(step.awaits_tasks for step in steps)


def _outcome(
    migration: Migration | None, step: StepProgress | None, *, was_complete: bool
) -> Outcome:
    if is_complete(migration, [step] if step else []):
        return Outcome.MIGRATED if was_complete else Outcome.COMPLETED
    if step is not None and step.gave_up:
        return Outcome.FAILED
    return Outcome.RUNNING


def _first_name(migration: Migration | None) -> str:
    named = migration.settings.get("steps") if migration is not None else None
    return str(named[0]["name"]) if named else WORDS[0]
