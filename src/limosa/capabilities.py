"""
What a source or a target may be able to do beyond what each has to; the engine asks for it.

Each capability is known by a method, found by a function beside it, and no more is taken for
granted of what an end can do than what that function says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeGuard

from .limits import Load, Memory
from .model import (
    Collection,
    CollectionSpec,
    Definition,
    DefinitionKind,
    Key,
    Namespace,
    Partition,
    Unfinished,
)


class Blockable(Protocol):
    """An end that can keep out all writers but limosa: of a connector that `blocks_writes`."""

    def check_blocking(self, *, bypass: bool) -> None:
        """
        Return if this user may block writes, and with *bypass* would go on writing himself.

        Raises:
            AccessDenied: a privilege is missing.
            ConfigError: limosa would be kept out as well.
        """
        ...

    def writes_blocked(self) -> bool:
        """Whether writes are blocked now, by whomever; False where that cannot be asked."""
        ...

    def block_writes(self) -> None:
        """Refuse the writes of others from now on; blocked already is fine."""
        ...

    def allow_writes(self) -> None:
        """Take the writes of all again; allowed already is fine."""
        ...


class HoldsDefinitions(Protocol):
    """
    A source that has views, roles and users beside its collections; not every source does.

    They are carried over whole, at commit, when nobody changes them any more.
    """

    def definitions(self, kind: DefinitionKind) -> Iterable[Definition]:
        """
        List all of one kind, but for the user who asks.

        Raises:
            AccessDenied: this user may not see them.
        """
        ...


class TakesDefinitions(Protocol):
    """A target that can be given what a source of its kind `HoldsDefinitions` of."""

    def define(
        self, definitions: Sequence[Definition], *, target_of: Callable[[Namespace], Namespace]
    ) -> Sequence[Unfinished]:
        """
        Create each of *definitions*, all of one kind; return what could not be done.

        Collections and views stand under the names that *target_of* gives theirs. A view that is
        there is replaced; a role or a user that is there stays as it is.
        """
        ...


def holds_definitions(end: object) -> TypeGuard[HoldsDefinitions]:
    """Whether *end* can be asked for what is not a collection."""
    # Not by ``isinstance``: an end may be wrapped by something that passes its calls on.
    return callable(getattr(end, "definitions", None))


def takes_definitions(end: object) -> TypeGuard[TakesDefinitions]:
    """Whether *end* can be given what is not a collection."""
    return callable(getattr(end, "define", None))


@dataclass(frozen=True, slots=True)
class Build:
    """An index build that is under way: *done* of *total* of one *step*, as the target counts."""

    namespace: Namespace
    indexes: int
    step: str
    done: int
    total: int


class ReportsBuilds(Protocol):
    """A target that says how far it is with its index builds; not every target does."""

    def builds(self) -> Sequence[Build]:
        """
        List the builds that are under way.

        Raises:
            AccessDenied: this user may not see them.
        """
        ...


def reports_builds(end: object) -> TypeGuard[ReportsBuilds]:
    """Whether *end* can be asked for its index builds."""
    return callable(getattr(end, "builds", None))


class ConstrainsAhead(Protocol):
    """A target that can have its constraints hold before the commit; not every target can."""

    def constrain(self, spec: CollectionSpec) -> Sequence[Unfinished]:
        """
        Have unique values of *spec* hold from now on, if they can; return what contradicts, once
        it has done so for longer than a change in passing.

        Then `Target.finish` need not look for what breaks them. A change that does so in passing
        is applied all the same: it takes back what holds, and a later call brings it back. So
        it is called again and again; where there is nothing to do it returns at once. It may
        take as long as to read an index. A missing collection is fine.
        """
        ...


def constrains_ahead(end: object) -> TypeGuard[ConstrainsAhead]:
    """Whether *end* can have constraints hold while changes are still applied to it."""
    return callable(getattr(end, "constrain", None))


class Moved(StrEnum):
    """What became of the collection that had a name."""

    AWAY = "away"  # dropped, or renamed: what has the name now, if anything, came later
    REPLACED = "replaced"  # another one was renamed to this name


@dataclass(frozen=True, slots=True)
class Written:
    """Documents of a target that somebody has written: their keys, by the collection's name."""

    keys: Mapping[Namespace, Sequence[Key]]
    until: bytes  # where to go on
    is_all: bool  # that was written when it was asked for
    #: What happened last to names of collections, by whomever.
    moved: Mapping[Namespace, Moved] = field(default_factory=dict)


class SeesOthers(Protocol):
    """A target that can tell what others write to it; not every target can."""

    def present(self) -> bytes | None:
        """Return from where on writes are seen, None where this user may not see them."""
        ...

    def written_by_others(self, after: bytes) -> Written:
        """
        Return what was written after a mark that `present` or this has given.

        Some of it may be limosa's own; the documents that it applied as usual are not among it.

        Raises:
            PositionLost: it is too long ago.
        """
        ...


def sees_others(end: object) -> TypeGuard[SeesOthers]:
    """Whether *end* can be asked what others write to it."""
    return callable(getattr(end, "written_by_others", None))


class ReportsLoad(Protocol):
    """An end that says how busy it is; not every end does."""

    def load(self) -> Load:
        """
        Return how busy the deployment is now, as far as this user may know.

        Asking is no work for it, and takes a few seconds at most.
        """
        ...


def reports_load(end: object) -> TypeGuard[ReportsLoad]:
    """Whether *end* can be asked how busy it is."""
    return callable(getattr(end, "load", None))


class SpreadsCollections(Protocol):
    """An end that may be a cluster of shards; not every kind has any."""

    def is_sharded(self) -> bool:
        """Whether collections can be spread over shards here."""
        ...


def spreads_collections(end: object) -> TypeGuard[SpreadsCollections]:
    """Whether *end* can be asked if it is sharded."""
    return callable(getattr(end, "is_sharded", None))


class MeasuresMemory(Protocol):
    """A source that can tell how soon it will have forgotten changes; not every source can."""

    def remembers(self, since: datetime) -> Memory | None:
        """
        Return how long the changes after *since* will be there, if writes go on as they do.

        None if it cannot be told, or this user may not know.
        """
        ...


def measures_memory(end: object) -> TypeGuard[MeasuresMemory]:
    """Whether *end* can be asked how long it remembers."""
    return callable(getattr(end, "remembers", None))


class FindsCollections(Protocol):
    """An end that need not look at all collections to find one; not every end does."""

    def namespaces(self) -> Iterable[Namespace]:
        """List the names of every user collection, which is much quicker than to describe all."""
        ...

    def described(self, collection: Collection) -> CollectionSpec | None:
        """Describe the collection with this id under its present name; None if it is gone."""
        ...


def finds_collections(end: object) -> TypeGuard[FindsCollections]:
    """Whether *end* can be asked for one collection, and for names alone."""
    return callable(getattr(end, "described", None))


class ShowsRanges(Protocol):
    """An end that can say what keys a partition covers; not every end can."""

    def range_of(self, partition: Partition) -> tuple[Any, Any]:
        """Return the lowest key that may be in *partition* and the lowest that comes after it."""
        ...


def shows_ranges(end: object) -> TypeGuard[ShowsRanges]:
    """Whether *end* can be asked what keys a partition covers."""
    return callable(getattr(end, "range_of", None))
