"""The steps of a migration as they are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from limosa.state import Failure, Migration, State
from limosa.steps import StepProgress
from limosa.views.steps import step_rows, steps_body

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PLANNED = {"steps": [{"name": "user", "include": ["a"]}, {"name": "message", "include": ["b"]}]}
NAMED = Migration("m", state=State.RUNNING, settings=PLANNED)
DONE = StepProgress("user", 0).begun(NOW).ended(NOW + timedelta(seconds=3))
FAULT = Failure("hook_failed", "hook before message: no", "see what it wrote")


def states(migration: Migration, *begun: StepProgress) -> list[tuple[str, str]]:
    return [(step["name"], step["state"]) for step in steps_body(migration, begun)]


def test_steps_without_a_plan() -> None:
    """Without any named ones the five words are the steps, each with a label for people."""
    body = steps_body(Migration("m", state=State.RUNNING), [StepProgress("user", 0).begun(NOW)])

    assert [step["state"] for step in body] == ["running", *["pending"] * 4]
    assert [step["label"] for step in body][1:3] == ["Change capture", "Collection copy"]


def test_steps_of_a_plan() -> None:
    """Steps of a plan are shown before they are begun; the rest only where there is one."""
    begun = StepProgress("message", 1).begun(NOW)
    rest = StepProgress("other", 2).begun(NOW)

    assert [step["label"] for step in steps_body(NAMED, [])][:2] == ["user", "message"]
    assert states(NAMED) == [("user", "pending"), ("message", "pending"), ("cleanup", "pending")]
    assert states(NAMED, DONE, begun)[1:] == [("message", "running"), ("cleanup", "pending")]
    assert states(NAMED, DONE, rest)[1:] == [("other", "running"), ("cleanup", "pending")]


def test_a_step_that_fails() -> None:
    """A step whose attempt has failed waits for the next, until all are used up."""
    begun = StepProgress("message", 1).begun(NOW)
    once = begun.failed(FAULT, allowed=2)
    twice = once.begun(NOW).failed(FAULT, allowed=2)

    assert states(NAMED, once)[0] == ("message", "retrying")
    assert states(NAMED, once.begun(NOW))[0] == ("message", "running")
    assert states(NAMED, twice)[0] == ("message", "failed")


def test_lines() -> None:
    """A line says what became of a step, its attempts where it took several, and its last error."""
    failed = StepProgress("message", 1).begun(NOW).failed(FAULT, allowed=2)

    assert step_rows(steps_body(NAMED, [DONE, failed])) == [
        ("step 1", "user: done in 3.0 s"),
        (
            "step 2",
            "message: waits for the next attempt, 1 attempt: hook before message: no "
            "[hook_failed]; see what it wrote",
        ),
        ("step 3", "Commit and clean-up: to come"),
    ]


def test_nothing_begun() -> None:
    """Before anything is begun there are no lines."""
    assert step_rows(steps_body(NAMED, [])) == []
