"""The steps of a migration: those that were begun, and those to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from ..state import Migration, State
from ..steps import (
    APPLICATION,
    CAPTURE,
    CLEANUP,
    COPY,
    OTHER,
    PREPARATION,
    WORDS,
    StepProgress,
    current,
)
from .figures import duration, iso, plural

#: What a person calls the steps of a migration that has none of its own.
_LABELS = {
    PREPARATION: "Preparation",
    CAPTURE: "Change capture",
    COPY: "Collection copy",
    APPLICATION: "Change application and verification",
    CLEANUP: "Commit and clean-up",
}


class StepState(StrEnum):
    """How a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"  # the last attempt has failed, the next one comes by itself
    FAILED = "failed"  # for good, until a person does something
    COMPLETED = "completed"


_WORDS = {
    StepState.PENDING: "to come",
    StepState.RUNNING: "under way",
    StepState.RETRYING: "waits for the next attempt",
    StepState.FAILED: "failed",
    StepState.COMPLETED: "done",
}


def steps_body(migration: Migration, begun: Sequence[StepProgress]) -> list[dict[str, Any]]:
    """Return every step in order, those that were *begun* with what became of them."""
    # A plan may call a step of its own as one of those that every migration has.
    labels = {CLEANUP: _LABELS[CLEANUP]} if migration.settings.get("steps") else _LABELS
    every = [*begun, *_to_come(migration, begun)]
    return [_body(step, labels.get(step.name, step.name)) for step in every]


def step_rows(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return what `steps_body` has returned for people; nothing before a step is begun."""
    if not any(step["beganAt"] for step in steps):
        return []
    return [(f"step {i}", _text(step)) for i, step in enumerate(steps, start=1)]


def _to_come(migration: Migration, begun: Sequence[StepProgress]) -> list[StepProgress]:
    if migration.state is State.COMMITTED:
        return []  # no step was ever begun, or the last one has its tasks under way
    last = current(begun)
    first = 0 if last is None else last.position + 1
    return [
        StepProgress(name, position)
        for position, name in enumerate(_names(migration))
        # Whether there are collections that no step names is known once they are copied.
        if position >= first and name != OTHER
    ]


def _names(migration: Migration) -> tuple[str, ...]:
    named = migration.settings.get("steps") or ()
    return (*(str(each["name"]) for each in named), OTHER, CLEANUP) if named else WORDS


def _state(step: StepProgress) -> StepState:
    if step.ended_at is not None:
        return StepState.COMPLETED
    if step.gave_up:
        return StepState.FAILED
    if step.last_error:
        return StepState.RETRYING
    return StepState.PENDING if step.began_at is None else StepState.RUNNING


def _body(step: StepProgress, label: str) -> dict[str, Any]:
    return {
        "name": step.name,
        "label": label,
        "state": _state(step).value,
        "attempts": step.attempts,
        "lastError": step.last_error or None,
        "gaveUp": step.gave_up,
        "beganAt": iso(step.began_at),
        "endedAt": iso(step.ended_at),
    }


def _text(step: Mapping[str, Any]) -> str:
    text = f"{step['label']}: {_WORDS[StepState(step['state'])]}"
    if step["endedAt"]:
        took = datetime.fromisoformat(step["endedAt"]) - datetime.fromisoformat(step["beganAt"])
        text += f" in {duration(took)}"
    if step["attempts"] > 1 or step["lastError"]:
        text += f", {plural(step['attempts'], 'attempt')}"
    return f"{text}: {step['lastError']}" if step["lastError"] else text
