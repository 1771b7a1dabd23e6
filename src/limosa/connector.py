"""
What a database must offer to be a source or a target.

The engine pulls; there are no callbacks. Every call may raise a `TransientError`, after
which the engine calls again, or a `PermanentError`, after which the migration has failed.
Calls come from several threads at once. What not every database can do is in `capabilities`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Some
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Protocol

from .capabilities import (
    Blockable,
    Build,
    ConstrainsAhead,
    FindsCollections,
    HoldsDefinitions,
    MeasuresMemory,
    Moved,
    ReportsBuilds,
    ReportsLoad,
    SeesOthers,
    ShowsRanges,
    SpreadsCollections,
    TakesDefinitions,
    Written,
    constrains_ahead,
    finds_collections,
    holds_definitions,
    measures_memory,
    reports_builds,
    reports_load,
    sees_others,
    shows_ranges,
    spreads_collections,
    takes_definitions,
)
from .errors import ConfigError
from .model import (
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
from .settings import ReadFrom

__all__ = [
    "Blockable",
    "Build",
    "Connector",
    "ConstrainsAhead",
    "Finding",
    "FindsCollections",
    "HoldsDefinitions",
    "MeasuresMemory",
    "Moved",
    "OpenSource",
    "Readable",
    "Readiness",
    "ReportsBuilds",
    "ReportsLoad",
    "SeesOthers",
    "ShowsRanges",
    "Source",
    "SpreadsCollections",
    "TakesDefinitions",
    "Target",
    "Written",
    "connector_for",
    "constrains_ahead",
    "finds_collections",
    "holds_definitions",
    "measures_memory",
    "reports_builds",
    "reports_load",
    "sees_others",
    "shows_ranges",
    "spreads_collections",
    "takes_definitions",
]


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
        """
        Bring indexes and options to *readiness*; return what could not be done.

        What the documents contradict is found at `Readiness.WRITABLE`, in a collection of any
        size: what holds then can be brought to `Readiness.COMPLETE`.
        """
        ...

    def relax(self, spec: CollectionSpec) -> None:
        """
        Take back what holds from `Readiness.WRITABLE` on and would be in the way of changes.

        No value is unique and nothing expires until `finish`; a missing collection is fine.
        Called whenever changes are to be applied where a `finish` may have been: after a commit
        that was refused, before a migration goes on whose commit failed or was interrupted, and
        of the old source, when a reversal makes it the target.
        """
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `limosa doctor`: what was looked at, how it is, what to do."""

    check: str  # stable snake_case name
    level: str  # "ok", "warning" or "error"
    message: str
    advice: str = ""
    #: What it stands on, for whoever judges by another measure: of ``disk``, bytes by name.
    figures: Mapping[str, int] = field(default_factory=dict)


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
    #: ``read_from(uri, whom)``: the address by which whole collections are read there; the same
    #: where there is no choice.
    read_from: Callable[[str, ReadFrom], str] = lambda uri, _whom: uri
    #: Whether ends can be read as a target's way back, and be targets after that.
    reverses: bool = False
    #: Whether both ends are `Blockable`.
    blocks_writes: bool = False
    #: ``examine_blocking(uri, role)``: what blocking writes at that end would need.
    examine_blocking: Callable[[str, str], Iterable[Finding]] = lambda _uri, _role: ()
    #: ``examine_accounts(uri, role)``: what carrying users and roles over would need at that end.
    examine_accounts: Callable[[str, str], Iterable[Finding]] = lambda _uri, _role: ()


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
