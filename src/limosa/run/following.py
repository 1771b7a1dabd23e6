"""What follows the commit: tasks in order, each done once, and the end of the last step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

from .. import migrations
from ..ends import Ends
from ..events import StepEnded, Subscriber, TaskDone
from ..steps import StepProgress
from ..views.status import status_body
from .commands import Commands
from .integrity import Integrity
from .plan_file import PlanFile
from .record import Record
from .tasks import Tasks, named


class Following:
    """Does what is left to do after the commit; a task that is done is not done again."""

    def __init__(
        self,
        plan: PlanFile,
        ends: Ends,
        *,
        record: Record,
        commands: Commands,
        hooks: Callable[[StepProgress, str], None],
        variables: Callable[[StepProgress, str], dict[str, str]],
        say: Callable[[str], None],
        tell: Subscriber,
        halt: threading.Event,
    ) -> None:
        self._plan = plan
        self._ends = ends
        self._record = record
        self._hooks = hooks
        self._variables = variables
        self._tell = tell
        self._halt = halt
        self._tasks = Tasks(commands=commands, verify=self._verify, notify=say)

    def run(self, step: StepProgress) -> None:
        """
        Do the tasks of the last *step*, then its hooks, and end it.

        Raises:
            TaskFailed, HookFailed, IntegrityFailed: one did not end well; those before it did.
            Stopped: the run was asked to stop.
        """
        for task in self._plan.after[step.tasks_done :]:
            began = datetime.now(UTC)
            given = self._variables(step, "task")
            self._tasks.perform(task, body=self._body(), variables=given)
            step = self._record.task_done(step)
            self._tell(TaskDone(named(task), datetime.now(UTC) - began))
        self._hooks(step, "after")
        now = datetime.now(UTC)
        self._record.save(step.ended(now))
        self._tell(StepEnded(step.name, now - (step.began_at or now)))

    def _verify(self) -> None:
        with ExitStack() as stack:
            store = stack.enter_context(self._record.store())
            settings = self._plan.as_settings()
            source, target = self._ends.open(stack, settings)
            workers = migrations.in_threads(max(2, self._plan.workers // 2), name="integrity")
            Integrity(
                store,
                source,
                target,
                settings=settings,
                workers=stack.enter_context(closing(workers)),
                retry_for=self._plan.retry_for,
                stop=self._halt,
                on_event=self._tell,
            ).check()

    def _body(self) -> dict[str, Any]:
        """Return what a task is told: the result as it will be once all of them are done."""
        return {
            "success": True,
            "result": self._record.final_result(),
            "migration": status_body(self._record.status()),
        }
