"""
What a database must offer to be a source or a target.

The engine pulls; there are no callbacks. Every call may raise a `TransientError`, after
which the engine calls again, or a `PermanentError`, after which the migration has failed.
Calls come from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Some
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Protocol, TypeGuard

from .errors import ConfigError
from .limits import Load, Memory
from .model import (
    Batch,
    ChangeBatch,
    Collection,
    CollectionSpec,
    Definition,
    DefinitionKind,
    Document,
    Key,
    Namespace,
    Partition,
    ResumeToken,
    SchemaChange,
    Unfinished,
)


class Readable(Protocol):
    """Both ends can be read: the verifier needs it."""

    def collections(self) -> Iterable[CollectionSpec]:
        """List every user collection; filtering is not the connector's job."""
        ...

    def partitions(self, spec: CollectionSpec, *, documents: int) -> Iterable[Partition]:
        """
        Cut a collection into parts of about *documents* documents.

        They cover every possible key, without overlap, also keys written later.

        Raises:
            CollectionGone: it was dropped meanwhile.
        """
        ...

    def read(self, partition: Partition) -> Iterator[Batch]:
        """
        Yield every document of *partition*, as it is now or later, in batches.

        Follows the collection by its identity when it has one; of one that is narrowed by a
        query, yields what matches it.

        Raises:
            CollectionGone: it was dropped meanwhile.
        """
        ...

    def lookup(self, collection: Collection, keys: Some[Key]) -> Mapping[Key, Document]:
        """
        Return the documents found, by the very keys asked for; missing keys are absent, and so
        are those whose documents do not match the query of a collection that is narrowed.

        A source answers from a majority, not older than any change it has reported.

        Raises:
            CollectionGone: it was dropped meanwhile.
            PermanentError: among others, the query is not one that the database understands.
        """
        ...

    def ping(self) -> None:
        """
        Return once the deployment has answered something that is no work for it.

        Raises:
            TransientError: it does not answer.
        """
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class Source(Readable, Protocol):
    """Where the data is."""

    def position(self) -> ResumeToken:
        """Return the present end of the change stream."""
        ...

    def clock(self) -> datetime:
        """Return the source's own time, not before any write acknowledged so far."""
        ...

    def changes(self, after: ResumeToken) -> Iterator[ChangeBatch]:
        """
        Yield change batches forever, starting right after *after*.

        An idle stream yields an empty batch at least once a second.

        Raises:
            PositionLost: the source no longer holds the changes after *after*.
        """
        ...

    def identities(self) -> Mapping[Namespace, str]:
        """
        Return the id of each of the deployment's own collections by its present name.

        Asked only of a connector that `Connector.reverses`.
        """
        ...


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


class Readiness(StrEnum):
    """How far `Target.finish` goes."""

    INDEXED = "indexed"  # after the copy: secondary indexes exist, inert
    WRITABLE = "writable"  # constraints hold for what is written from now on
    COMPLETE = "complete"  # all as it is on the source


class Target(Readable, Protocol):
    """Where the data goes. Every call is idempotent and durable on return."""

    def prepare(self, spec: CollectionSpec) -> None:
        """
        Create the collection with its options, before the copy.

        Raises:
            WriteRefused: it cannot be created so.
        """
        ...

    def write(self, namespace: Namespace, batch: Batch) -> None:
        """Insert the documents that are not there yet; leave those that are."""
        ...

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        """
        Make each key's document what is given; None deletes it.

        Deletes come first: a key that equals another one in the eyes of the database but
        not byte by byte (1 and 1.0) must not delete what the other has just written.
        """
        ...

    def evolve(self, change: SchemaChange) -> None:
        """Carry a schema change over; done already is done."""
        ...

    def finish(self, spec: CollectionSpec, readiness: Readiness) -> Sequence[Unfinished]:
        """Bring indexes and options to *readiness*; return what could not be done."""
        ...

    def relax(self, spec: CollectionSpec) -> None:
        """
        Take back what holds at `Readiness.COMPLETE` and would be in the way of changes.

        No value is unique and nothing expires until `finish`; a missing collection is fine.
        """
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `limosa doctor`: what was looked at, how it is, what to do."""

    check: str  # stable snake_case name
    level: str  # "ok", "warning" or "error"
    message: str
    advice: str = ""


class OpenSource(Protocol):
    """How a source is opened."""

    def __call__(self, uri: str, *, database: str | None = None) -> Source:
        """
        Return the source at *uri*; nothing is asked of it yet.

        With *database* nothing outside it will be needed: who may read no more than that can
        open it, too.
        """
        ...


@dataclass(frozen=True, slots=True)
class Connector:
    """A kind of database: how to open it and how to examine it."""

    kind: str
    schemes: tuple[str, ...]
    open_source: OpenSource
    open_target: Callable[[str], Target]
    #: The address without credentials, the same for every spelling of one deployment.
    identity: Callable[[str], str]
    #: ``examine(uri, role, specs)`` with role "source" or "target" and the collections to be
    #: migrated (empty when the source could not be read).
    examine: Callable[[str, str, Sequence[CollectionSpec]], Iterable[Finding]]
    #: Whether both ends, however they are addressed, are one deployment; asks them.
    are_same: Callable[[Source, Target], bool] = lambda _source, _target: False
    #: Whether ends can be read as a target's way back, and be targets after that.
    reverses: bool = False
    #: Whether both ends are `Blockable`.
    blocks_writes: bool = False
    #: ``examine_blocking(uri, role)``: what blocking writes at that end would need.
    examine_blocking: Callable[[str, str], Iterable[Finding]] = lambda _uri, _role: ()


def connector_for(uri: str) -> Connector:
    """
    Return the connector that understands *uri*.

    Connectors are found by the entry point group ``limosa.connectors``.

    Raises:
        ConfigError: no connector knows the scheme.
    """
    scheme = uri.partition("://")[0]
    known = []
    for entry in entry_points(group="limosa.connectors"):
        schemes = entry.name.split(",")
        known += schemes
        if scheme in schemes and "://" in uri:
            found: Connector = entry.load()
            return found
    msg = f"expected a URI that starts with one of {', '.join(s + '://' for s in sorted(known))}"
    raise ConfigError(msg)
