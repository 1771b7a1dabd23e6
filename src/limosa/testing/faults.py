"""
Connectors that fail where a test wants them to.

A `FaultySource` or `FaultyTarget` passes every call on to a real one; a plan decides which
calls fail, how, and after how much of the work. A fault that dies raises `Crash`, which no
code of a migration catches: the next engine starts from what is durable, as after ``kill -9``.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Some
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeAlias, TypeVar, cast

from ..connector import Readable, Readiness, Source, Target
from ..model import (
    Batch,
    ChangeBatch,
    Collection,
    CollectionSpec,
    Document,
    Key,
    Namespace,
    Partition,
    ResumeToken,
    SchemaChange,
    Unfinished,
)


class Crash(BaseException):
    """The process died here; not an `Exception`, so that nothing handles it."""


class Done(Enum):
    """How much of a call's work is done when it fails."""

    NONE = "none"
    HALF = "half"  # of the documents or states of a write; other calls do all
    ALL = "all"  # the caller does not hear of it


@dataclass(frozen=True, slots=True)
class Fault:
    """An error to raise, and how much is done before."""

    error: Callable[[], BaseException] = Crash
    done: Done = Done.NONE


#: Decides whether a call fails, by its method and its number, counted from 1.
Plan: TypeAlias = Callable[[str, int], Fault | None]

T = TypeVar("T")

Faults: TypeAlias = Mapping[tuple[str, int], Fault]


def at(faults: Faults) -> Plan:
    """Fail at chosen calls: ``at({("write", 3): Fault()})``."""
    return lambda call, number: faults.get((call, number))


def randomly(
    seed: int,
    *,
    probability: float,
    calls: Iterable[str] = ("write", "apply"),
    error: Callable[[], BaseException] = Crash,
    limit: int | None = None,
) -> Plan:
    """Fail at random calls after none, half or all of the work, at most *limit* times."""
    chance = random.Random(seed)  # noqa: S311 - a test's dice need no secrecy
    lock, names = threading.Lock(), frozenset(calls)
    left = [limit]

    def plan(call: str, _number: int) -> Fault | None:
        with lock:
            if call not in names or left[0] == 0 or chance.random() >= probability:
                return None
            if left[0] is not None:
                left[0] -= 1
            return Fault(error, chance.choice(list(Done)))

    return plan


class _Calls:
    """Counts calls by name and asks the plan about each."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    def fault(self, name: str) -> Fault | None:
        with self._lock:
            self._counts[name] += 1
            number = self._counts[name]
        return self._plan(name, number)

    def make(self, name: str, work: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        """Do *work*, unless the plan has it fail."""
        fault = self.fault(name)
        if fault is None:
            return work()
        if fault.done is Done.HALF and half is not None:
            half()
        elif fault.done is not Done.NONE:
            work()
        raise fault.error()

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Yield *items*; each is a call of its own."""
        end = object()
        iterator = iter(items)
        while True:
            item: T | object = self.make(name, lambda: next(iterator, end))
            if item is end:
                return
            yield cast(T, item)


class _FaultyReadable:
    def __init__(self, end: Readable, plan: Plan) -> None:
        self._readable = end
        self._calls = _Calls(plan)

    def calls(self, name: str) -> int:
        """Return how often the method *name* was called; each batch of a stream is a call."""
        return self._calls.count(name)

    def collections(self) -> Iterable[CollectionSpec]:
        return self._calls.make("collections", lambda: list(self._readable.collections()))

    def partitions(self, spec: CollectionSpec, *, documents: int) -> Iterator[Partition]:
        items = self._readable.partitions(spec, documents=documents)
        return self._calls.each("partitions", items)

    def read(self, partition: Partition) -> Iterator[Batch]:
        return self._calls.each("read", self._readable.read(partition))

    def lookup(self, collection: Collection, keys: Some[Key]) -> Mapping[Key, Document]:
        return self._calls.make("lookup", lambda: self._readable.lookup(collection, keys))

    def close(self) -> None:
        self._readable.close()


class FaultySource(_FaultyReadable):
    """A source that fails as planned."""

    def __init__(self, source: Source, plan: Plan) -> None:
        super().__init__(source, plan)
        self._source = source

    def position(self) -> ResumeToken:
        return self._calls.make("position", self._source.position)

    def clock(self) -> datetime:
        return self._calls.make("clock", self._source.clock)

    def changes(self, after: ResumeToken) -> Iterator[ChangeBatch]:
        return self._calls.each("changes", self._source.changes(after))


class FaultyTarget(_FaultyReadable):
    """A target that fails as planned; half of a write or of applied states may be done."""

    def __init__(self, target: Target, plan: Plan) -> None:
        super().__init__(target, plan)
        self._target = target

    def prepare(self, spec: CollectionSpec) -> None:
        self._calls.make("prepare", lambda: self._target.prepare(spec))

    def write(self, namespace: Namespace, batch: Batch) -> None:
        def half() -> None:
            first = batch.documents[: len(batch.documents) // 2]
            self._target.write(namespace, Batch.of(first))

        self._calls.make("write", lambda: self._target.write(namespace, batch), half)

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        def half() -> None:
            # Deletes come first, so that half of the work is what a target would have done.
            ordered = sorted(states.items(), key=lambda item: item[1] is not None)
            self._target.apply(namespace, dict(ordered[: len(ordered) // 2]))

        self._calls.make("apply", lambda: self._target.apply(namespace, states), half)

    def evolve(self, change: SchemaChange) -> None:
        self._calls.make("evolve", lambda: self._target.evolve(change))

    def finish(self, spec: CollectionSpec, readiness: Readiness) -> Sequence[Unfinished]:
        return self._calls.make("finish", lambda: self._target.finish(spec, readiness))
