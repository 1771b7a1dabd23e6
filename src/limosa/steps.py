"""Steps: the named parts of a migration, in order, each with its attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from .errors import ConfigError
from .model import Namespace
from .namespaces import NamespaceFilter
from .state import Failure

T = TypeVar("T")

#: What a migration goes through where a plan names no steps, in the words of dashboards that
#: know these five and draw their bar from the order.
PREPARATION = "user"  # position taken, collections listed
CAPTURE = "channel"  # partitions cut, change stream followed
COPY = "message"
APPLICATION = "conversation"  # changes applied, everything verified
CLEANUP = "cleanup"  # the commit and what follows it; the last one in any case
WORDS = (PREPARATION, CAPTURE, COPY, APPLICATION, CLEANUP)

#: The step of collections that no named step names.
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Step:
    """A named part of the collection copy, begun when the one before is copied."""

    name: str
    namespaces: NamespaceFilter

    @classmethod
    def of(cls, name: str, include: Iterable[str]) -> Step:
        """
        Take a name and patterns as a person types them.

        Raises:
            ConfigError: a pattern is not understood, or there is none.
        """
        patterns = tuple(include)
        if not name or name in {CLEANUP, OTHER} or not patterns:
            msg = f"step {name!r}: expected patterns and a name, not {CLEANUP!r} or {OTHER!r}"
            raise ConfigError(msg)
        return cls(name, NamespaceFilter.parse(patterns))

    def stored(self) -> dict[str, Any]:
        """Return what the state keeps, as JSON."""
        return {"name": self.name, "include": list(self.namespaces.include)}

    @classmethod
    def restored(cls, stored: Step | Mapping[str, Any]) -> Step:
        """Return what `stored` was called on."""
        return stored if isinstance(stored, Step) else cls.of(stored["name"], stored["include"])


@dataclass(frozen=True, slots=True)
class StepProgress:
    """
    A step and what became of it.

    An attempt begins with the step, and anew after a failure; a stop or a crash only
    interrupts it.
    """

    name: str
    position: int  # in the order of steps, from 0
    attempts: int = 0
    last_error: str = ""  # one line; "" while an attempt goes on
    gave_up: bool = False  # no further attempt is made by itself
    awaits_tasks: bool = False  # something follows the commit
    tasks_done: int = 0  # of what follows it, from the first on
    began_at: datetime | None = None
    ended_at: datetime | None = None

    def begun(self, now: datetime) -> StepProgress:
        """Return the step at work: in its next attempt, or in the one that was interrupted."""
        is_new = not self.attempts or bool(self.last_error)
        return replace(
            self,
            attempts=self.attempts + is_new,
            last_error="",
            gave_up=False,
            began_at=self.began_at or now,
        )

    def failed(self, failure: Failure, *, allowed: int) -> StepProgress:
        """Return the step with its attempt failed, the last one of *allowed* perhaps."""
        return replace(self, last_error=in_one_line(failure), gave_up=self.attempts >= allowed)

    def anew(self) -> StepProgress:
        """Return the step with all attempts allowed again, if it had given up."""
        if not self.gave_up:
            return self
        return replace(self, attempts=0, last_error="", gave_up=False)

    def ended(self, now: datetime) -> StepProgress:
        """Return the step completed."""
        return replace(self, ended_at=self.ended_at or now, awaits_tasks=False)


def in_one_line(failure: Failure) -> str:
    """Return what happened, its code and what to do."""
    line = f"{failure.message} [{failure.code}]"
    return " ".join((f"{line}; {failure.hint}" if failure.hint else line).split())


def names_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the names of all steps in order, of a plan with these named ones."""
    return (*(s.name for s in steps), OTHER, CLEANUP) if steps else WORDS


def current(progress: Iterable[StepProgress]) -> StepProgress | None:
    """Return the step that was begun last; None before any."""
    begun = [p for p in progress if p.began_at is not None]
    return max(begun, key=lambda p: p.position, default=None)


def in_steps(
    steps: Sequence[Step], items: Iterable[tuple[Namespace, T]]
) -> list[tuple[str, list[T]]]:
    """
    Return items by the first step that names them, in the order of steps.

    Each step is there, also without items; what none names comes last, under `OTHER`.
    """
    grouped: dict[str, list[T]] = {s.name: [] for s in steps}
    for namespace, item in items:
        grouped.setdefault(step_of(steps, namespace), []).append(item)
    return list(grouped.items())


def step_of(steps: Sequence[Step], namespace: Namespace) -> str:
    """Return the name of the first step that names *namespace*; `OTHER` if none does."""
    return next((s.name for s in steps if s.namespaces.includes(namespace)), OTHER)


def distinct(steps: Sequence[Step]) -> tuple[Step, ...]:
    """
    Return *steps*, or refuse two of one name.

    Raises:
        ConfigError: a name is there twice.
    """
    names = [s.name for s in steps]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        msg = f"steps: expected each name once, got {', '.join(map(repr, twice))} twice"
        raise ConfigError(msg)
    return tuple(steps)
