"""Which step is at work, how often it was begun, and what it failed of: recorded as it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .events import EventBus, StepBegan, StepEnded
from .state import Failure
from .steps import CLEANUP, WORDS, StepProgress, current
from .storage import StateStore


def _nothing(_step: StepProgress) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """
    What the one who drives a migration has to do with its steps.

    *before* and *after* are called where a step begins and ends, and may raise a `LimosaError`,
    which fails the attempt. *before* is called in each attempt, also in one that goes on after
    a stop; *after* once the step is complete, again if it failed.
    """

    attempts: int = 1  # allowed for each step; after them the step has failed for good
    before: Callable[[StepProgress], None] = _nothing
    after: Callable[[StepProgress], None] = _nothing
    #: Whether something follows the commit: the last step ends with that, not with the commit.
    tasks_follow: bool = False


class Attempts:
    """
    Records each step of one migration as it is begun, fails and ends.

    A step never falls back: to turn to an earlier one than the present is to go on with this.
    """

    def __init__(
        self,
        store: StateStore,
        bus: EventBus,
        *,
        names: tuple[str, ...],
        supervision: Supervision = Supervision(),
    ) -> None:
        """Work with steps of these *names*, in this order; see `steps.names_of`."""
        self._store = store
        self._bus = bus
        self._names = names
        self._supervision = supervision
        self._at = -1
        self._lock = threading.RLock()

    def start(self) -> None:
        """Begin an attempt at the step that was begun last, or at the first one."""
        step = current(self._store.steps())
        self.turn_to(self._names[0] if step is None else step.name)

    def phase(self, word: str) -> None:
        """Turn to *word*, unless the steps have names of their own."""
        if self._names == WORDS:
            self.turn_to(word)

    def turn_to(self, name: str) -> None:
        """Begin the step *name*; those before it have ended."""
        position = self._names.index(name)
        with self._lock:
            if position <= self._at:
                return
            now = datetime.now(UTC)
            known = {s.name: s for s in self._store.steps()}
            for earlier in known.values():
                if earlier.position < position and earlier.ended_at is None:
                    self._end(earlier)
            self._at = position
            step = known.get(name, StepProgress(name, position)).begun(now)
            if name == CLEANUP and step.ended_at is None:
                step = replace(step, awaits_tasks=self._supervision.tasks_follow)
            self._store.save_step(step)
            self._bus.emit(StepBegan(name, step.attempts))
            if step.ended_at is None:
                self._supervision.before(step)

    def end(self, name: str) -> None:
        """Note that the step *name* is complete."""
        with self._lock:
            for step in self._store.steps():
                if step.name == name and step.ended_at is None:
                    self._end(step)

    def finish(self) -> None:
        """Note that the migration is committed: the last step ends, or its tasks begin."""
        self.turn_to(CLEANUP)
        if not self._supervision.tasks_follow:
            self.end(CLEANUP)

    def fail(self, failure: Failure) -> None:
        """Note that the present attempt has failed."""
        record_failure(self._store, failure, allowed=self._supervision.attempts)

    def _end(self, step: StepProgress) -> None:
        self._supervision.after(step)
        ended = step.ended(datetime.now(UTC))
        self._store.save_step(ended)
        assert ended.ended_at is not None
        self._bus.emit(StepEnded(step.name, ended.ended_at - (step.began_at or ended.ended_at)))


def record_failure(store: StateStore, failure: Failure, *, allowed: int) -> None:
    """Note at the step that was begun last, if any, that its attempt has failed."""
    step = current(store.steps())
    if step is not None:
        store.save_step(step.failed(failure, allowed=allowed))
