"""What a managed run finds in the durable state, and what it writes there itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .. import catalog
from ..attempts import record_failure
from ..errors import IllegalTransition, LimosaError
from ..history import Entry
from ..state import Failure, Migration, State
from ..steps import StepProgress, current
from ..storage import StateStore
from ..views.result import Result, is_complete, result
from ..views.status import Status


@dataclass(frozen=True, slots=True)
class Record:
    """The state of one migration, which need not be there yet, between the engine's writes."""

    folder: catalog.Folder
    first_step: str

    @property
    def exists(self) -> bool:
        return self.folder.state_file.exists()

    @contextmanager
    def store(self) -> Iterator[StateStore]:
        """Lend the state."""
        with closing(catalog.watch(self.folder)) as store:
            yield store

    def migration(self) -> Migration | None:
        """Return the migration, None if there is none yet."""
        if not self.exists:
            return None
        with self.store() as store:
            return store.migration()

    def step(self) -> StepProgress | None:
        """Return the step that was begun last, None before any."""
        if not self.exists:
            return None
        with self.store() as store:
            return current(store.steps())

    def status(self) -> Status:
        """Return everything that there is to tell."""
        with self.store() as store:
            driven = catalog.is_driven(self.folder)
            return Status(
                store.migration(),
                store.totals(),
                datetime.now(UTC),
                is_driven=driven,
                steps=store.steps(),
            )

    def result(self, *, was_complete: bool = False) -> Result:
        """Return the result as it stands."""
        with self.store() as store:
            return result(store.migration(), store.steps(), was_complete=was_complete)

    def final_result(self) -> Result:
        """Return the result as it will be once the last step has ended."""
        with self.store() as store:
            now = datetime.now(UTC)
            return result(store.migration(), [step.ended(now) for step in store.steps()])

    def is_complete(self) -> bool:
        """Whether the migration and all that follows it is done."""
        if not self.exists:
            return False
        with self.store() as store:
            return is_complete(store.migration(), store.steps())

    def allow_attempts(self) -> None:
        """Allow all attempts again, at a step that had given up."""
        step = self.step()
        if step is not None:
            self.save(step.anew())

    def begin(self) -> StepProgress:
        """Begin the next attempt at the step that was begun last, or at the first one."""
        step = self.step() or StepProgress(self.first_step, 0)
        return self.save(step.begun(datetime.now(UTC)))

    def save(self, step: StepProgress) -> StepProgress:
        """Store *step* and return it."""
        with self.store() as store:
            store.save_step(step)
        return step

    def task_done(self, step: StepProgress) -> StepProgress:
        """Note that one more of the tasks is done that follow the commit."""
        return self.save(replace(step, tasks_done=step.tasks_done + 1))

    def fail(self, failure: Failure, *, allowed: int) -> None:
        """Note that the present attempt has failed, the last one of *allowed* perhaps."""
        with self.store() as store:
            record_failure(store, failure, allowed=allowed)
            with suppress(IllegalTransition):  # nothing was begun, or all is committed
                store.update(lambda m: m.moved_to(State.FAILED, failure=failure))

    def tell(self, entry: Entry | None) -> None:
        """Add *entry* to the history, if there is one; its loss stops nothing."""
        if entry is not None and self.folder.history_file.exists():
            with suppress(LimosaError), closing(catalog.history(self.folder)) as history:
                history.record([entry])
