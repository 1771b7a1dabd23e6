"""A managed run: a migration driven to its end, with attempts, hooks, tasks and notices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .. import catalog
from ..attempts import Supervision
from ..ends import Ends
from ..errors import IllegalTransition, LeaseHeld, LimosaError, StateError, TransientError
from ..events import AttemptFailed, Event, EventBus, Failed, StepBegan, Subscriber, Warned
from ..limits import LimitChange
from ..migrations import migrate
from ..pings import Pinged
from ..settings import ReadFrom
from ..state import Failure, Migration, State
from ..steps import CLEANUP, StepProgress
from ..views.result import Result
from ..views.story import entry
from .commands import Commands
from .errors import HookFailed, OutOfTime, codes_of
from .following import Following
from .health import Health
from .notices import Notices
from .plan_file import PlanFile
from .record import Record
from .secrecy import Secrets
from .time_limit import TimeLimit
from .variables import variables


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: complete, unless there is a *failure* or it *was_stopped*."""

    migration: Migration
    result: Result
    failure: Failure | None = None
    was_stopped: bool = False


class ManagedRun:
    """
    Drives one migration as its plan file says.

    The same run again goes on where the last one ended: with the attempt that was interrupted,
    with all attempts anew once they were used up, with the task that was not done.
    """

    def __init__(
        self, plan: PlanFile, secrets: Secrets, *, on_event: Subscriber, stop: threading.Event
    ) -> None:
        """
        Take a plan, and what of it must never be told.

        Raises:
            ConfigError: the ends cannot be used.
        """
        self._plan = plan
        self._secrets = secrets
        self._on_event = on_event
        self._stop = stop
        self._ends = Ends.of(plan.source.get_secret_value(), plan.target.get_secret_value())
        name = plan.name or catalog.name_for(self._ends.source_id, self._ends.target_id)
        #: Where the migration has its files; they need not be there yet.
        self.folder = catalog.folder_for(name, plan.state)
        self._record = Record(self.folder, plan.step_names[0])
        self._limit = TimeLimit(plan.timeout, stop=stop, waits=self._waits_for_person)
        self._commands = Commands(stop=self._limit.halt, secrets=secrets)
        self._bus = EventBus(on_event)
        self._has_begun = self._is_recorded = False
        #: Set once, with the first attempt that begins: what a person changes later holds.
        self._limits = plan.limits.as_change()

    def run(self) -> Ended:
        """
        Return once the migration and its tasks are complete, or have failed for good.

        Raises:
            StateError: the local state cannot be used, or another process drives the migration.
            ConfigError: the request is wrong; nothing was begun.
            IllegalTransition: the migration is on its way back.
        """
        self._refuse_way_back()
        if self._record.is_complete():
            return self._ended(was_complete=True)
        self._record.allow_attempts()
        with ExitStack() as stack:
            notices = Notices(
                self._plan.notify,
                name=self.folder.name,
                warn=lambda text: self._on_event(Warned(text)),
            )
            stack.callback(notices.close)
            health = self._health()
            self._bus = EventBus(self._note, health, notices, self._on_event)
            stack.enter_context(self._limit)
            health.begin()
            stack.callback(health.close)
            try:
                return self._run(self._following(notices))
            except LeaseHeld:
                raise  # all is well with the migration: another process drives it
            except StateError as error:
                notices.failed(Failure.of(error))
                raise

    def _refuse_way_back(self) -> None:
        migration = self._record.migration()
        if migration is not None and (migration.is_reversing or migration.is_way_back):
            msg = f"cannot run {self.folder.name!r}: it is on its way back"
            raise IllegalTransition(msg, hint="drive it with `limosa migrate`")

    def _run(self, following: Following) -> Ended:
        while True:
            failure = self._attempt(following)
            if self._record.is_complete():
                return self._ended()
            if self._limit.is_over:
                failure = Failure.of(self._out_of_time())
            elif self._stop.is_set() or failure is None:
                return self._ended(was_stopped=True)
            step = self._failed(failure)
            if step.gave_up:
                return self._ended(failure)
            # Once the time is over or a stop is asked for, the next attempt ends at once.
            self._limit.halt.wait(self._delay(step, failure).total_seconds())

    def _attempt(self, following: Following) -> Failure | None:
        """Drive the migration once; return what it failed of."""
        self._has_begun = self._is_recorded = False
        try:
            migration = self._migrate()
            if migration.state is not State.COMMITTED:
                return migration.failure
            step = self._record.step() if self._has_begun else None
            if step is None:
                step = self._record.begin()
                self._tell(StepBegan(step.name, step.attempts))
            following.run(step)
        except StateError:
            raise
        except LimosaError as error:
            if not self._record.exists:
                raise  # nothing was begun
            return Failure.of(error)
        except Exception as error:  # noqa: BLE001 - a defect may pass, too; the attempt counts
            message = self._secrets.hidden(f"{type(error).__name__}: {error}")
            return Failure(LimosaError.code, message)
        return None

    def _migrate(self) -> Migration:
        plan = self._plan
        return migrate(
            self._ends.source,
            self._ends.target,
            settings=plan.as_settings(),
            name=self.folder.name,
            state=self.folder.path,
            commit="when-ready" if self._commits_by_itself() else "manual",
            workers=plan.workers,
            retry_for=plan.retry_for,
            limits=self._limits,
            read_from=plan.read_from and ReadFrom(plan.read_from),
            on_event=self._bus.emit,
            stop=self._limit.halt,
            supervision=Supervision(
                attempts=plan.attempts,
                before=lambda step: self._hooks(step, "before"),
                after=lambda step: self._hooks(step, "after"),
                tasks_follow=True,
            ),
        )

    def _commits_by_itself(self) -> bool:
        """Whether no person is waited for; one who has asked for the commit is not asked again."""
        if self._plan.cutover == "when-ready":
            return True
        step = self._record.step()
        return step is not None and step.name == CLEANUP

    def _waits_for_person(self) -> bool:
        try:
            migration = self._record.migration()
        except LimosaError:
            return False  # what is wrong with the state is told by who drives
        if migration is None:
            return False
        return migration.state is State.PAUSED or (
            migration.can_commit and not self._commits_by_itself()
        )

    def _hooks(self, step: StepProgress, moment: str) -> None:
        for hook in self._plan.hooks:
            if not hook.is_for(step.name, before=moment == "before"):
                continue
            failure = self._commands.run(
                hook.run, variables=self._variables(step, moment), timeout=hook.timeout
            )
            if failure:
                msg = f"hook {moment} {step.name}: {failure}"
                raise HookFailed(msg)

    def _variables(self, step: StepProgress, moment: str) -> dict[str, str]:
        return variables(
            self._record.status(),
            step,
            moment=moment,
            attempts=self._plan.attempts,
            folder=self.folder,
        )

    def _failed(self, failure: Failure) -> StepProgress:
        """Record that the attempt has failed, unless the engine has; return its step."""
        if not self._has_begun:
            self._record.begin()
        if failure.code == OutOfTime.code:
            self._record.fail(failure, allowed=0)
        elif not self._is_recorded:
            self._record.fail(failure, allowed=self._plan.attempts)
        step = self._record.step()
        assert step is not None
        wait = None if step.gave_up else self._delay(step, failure)
        attempts = max(self._plan.attempts, step.attempts)
        self._tell(AttemptFailed(step.name, step.attempts, attempts, failure, wait))
        return step

    def _delay(self, step: StepProgress, failure: Failure) -> timedelta:
        """
        Return the time until the next attempt.

        What no time cures is tried again at once: whoever counts attempts must see all of them
        used up before giving up.
        """
        if not _may_pass(failure.code):
            return timedelta(0)
        return self._plan.delay * self._plan.backoff ** (step.attempts - 1)

    def _out_of_time(self) -> OutOfTime:
        assert self._plan.timeout is not None
        seconds = self._plan.timeout.total_seconds()
        return OutOfTime(f"the run was not complete after {seconds:g} s")

    def _ended(
        self,
        failure: Failure | None = None,
        *,
        was_stopped: bool = False,
        was_complete: bool = False,
    ) -> Ended:
        migration = self._record.migration()
        assert migration is not None
        told = self._record.result(was_complete=was_complete)
        return Ended(migration, told, failure, was_stopped)

    def _note(self, event: Event) -> None:
        match event:
            case StepBegan():
                self._has_begun = True
                self._limits = LimitChange()
            case Failed():
                self._is_recorded = True
            case _:
                pass

    def _tell(self, event: Event) -> None:
        """Tell what the engine does not know of, also to the history."""
        self._bus.emit(event)
        self._record.tell(entry(event, datetime.now(UTC)))

    def _following(self, notices: Notices) -> Following:
        return Following(
            self._plan,
            self._ends,
            record=self._record,
            commands=self._commands,
            hooks=self._hooks,
            variables=self._variables,
            say=notices.say,
            tell=self._tell,
            halt=self._limit.halt,
        )

    def _health(self) -> Health:
        ends = self._ends
        opened: dict[str, Callable[[], Pinged]] = {
            "source": lambda: ends.source_kind.open_source(ends.source),
            "target": lambda: ends.target_kind.open_target(ends.target),
        }
        return Health(self._plan.health, folder=self.folder, ends=opened, tell=self._tell)


def _may_pass(code: str) -> bool:
    """Whether a failure with that code may be gone after a while."""
    return code == LimosaError.code or code in codes_of(TransientError)
