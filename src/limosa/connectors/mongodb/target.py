"""A MongoDB deployment as a target."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, assert_never

import bson
from bson import Binary, MaxKey, MinKey

from ...connector import Build, Readiness, Written
from ...errors import CollectionGone, WriteRefused
from ...model import (
    Batch,
    Collection,
    CollectionSpec,
    Definition,
    DefinitionKind,
    Document,
    Key,
    Namespace,
    Partition,
    SchemaChange,
    SchemaVerb,
    Unfinished,
)
from . import accounts, conversion, indexes, options, sharding, timeseries, views
from .commands import alter
from .deployment import PLAIN, Deployment
from .guarding import Guards
from .numbering import Numbering
from .others import Others
from .reader import Bounds, MongoReader
from .relaxing import relax
from .transactions import Transactions
from .writes import Writer


class MongoTarget(MongoReader):
    """Where the data goes: a replica set or sharded cluster of version 5.0 or later."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        numbering = Numbering(deployment)
        self._writer = Writer(deployment, numbering)
        self._transactions = Transactions(deployment, numbering)
        self._guards = Guards(deployment)
        self._others = Others(deployment, numbering)
        self._places: dict[Namespace, Place] = {}
        self._placing = threading.Lock()
        self._moves = 0
        self._one_by_one = threading.Lock()

    def prepare(self, spec: CollectionSpec) -> None:
        """
        Create the collection as it is on the source, except that nothing expires.

        Raises:
            WriteRefused: it cannot be created so, or is there with other options.
        """
        namespace = spec.collection.namespace
        options.create(self._deployment, namespace, spec.options)
        sharding.shard(self._deployment, namespace, spec.options, spec.indexes)
        with self._placing:
            self._places[namespace] = Place.of(namespace, spec.options)

    def write(self, namespace: Namespace, batch: Batch) -> None:
        """
        Insert the documents that are not there yet; leave those that are.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        place = self._place(namespace)
        with self._ordered(place):
            self._let_in(place.stored, lambda: self._writer.insert(place.stored, batch))

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        """
        Delete, then replace or insert: in one transaction if the target takes it so.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        self._transactions.clear()
        place = self._place(namespace)
        deleted = [k for k, d in states.items() if d is None]
        written = [(k, d) for k, d in states.items() if d is not None]
        if place.is_plain and self._transactions.apply(place.stored, deleted, written):
            return
        with self._ordered(place):
            self._writer.delete(place.stored, deleted)
            self._let_in(place.stored, lambda: self._writer.replace(place.stored, written))

    def evolve(self, change: SchemaChange) -> None:
        """
        Carry a schema change over; indexes and expiry stay inert, done already is done.

        Raises:
            WriteRefused: the target does not do it.
        """
        self._transactions.clear()
        namespace = change.collection.namespace
        match change.verb:
            case SchemaVerb.CREATE:
                options.create(self._deployment, namespace, change.detail)
                sharding.shard(self._deployment, namespace, change.detail)
            case SchemaVerb.DROP:
                self._drop(namespace)
            case SchemaVerb.RENAME:
                assert change.to is not None
                self._rename(namespace, change.to)
            case SchemaVerb.CREATE_INDEXES:
                stored = self._place(namespace).stored
                indexes.build(self._deployment, stored, _indexes_of(change))
            case SchemaVerb.DROP_INDEXES:
                stored = self._place(namespace).stored
                indexes.drop(self._deployment, stored, _indexes_of(change))
            case SchemaVerb.MODIFY:
                options.modify(self._deployment, namespace, change.detail)
                sharding.shard(self._deployment, namespace, change.detail)
            case _:
                assert_never(change.verb)
        self._guards.forget(*filter(None, (namespace, change.to)))
        self._writer.forget_keys()
        with self._placing:
            self._places.clear()
            self._moves += 1

    def finish(self, spec: CollectionSpec, readiness: Readiness) -> Sequence[Unfinished]:
        """
        Bring indexes and options to *readiness*; return what could not be done.

        Raises:
            WriteRefused: an index cannot be built.
        """
        self._transactions.clear()
        namespace = spec.collection.namespace
        stored = timeseries.stored_as(namespace, spec.options)
        unfinished: list[Unfinished] = []
        if not spec.leaves_indexes:
            wanted = sharding.with_supporting(spec.indexes, self._writer.shard_key(stored))
            with self._guards.settled(stored) as guarded:
                found = conversion.finish(
                    self._deployment,
                    stored,
                    wanted,
                    readiness,
                    guarded=guarded,
                    leaves_hashed=spec.leaves_hashed,
                )
            unfinished = [replace(u, namespace=namespace) for u in found]
        if readiness is Readiness.COMPLETE:
            found = options.complete(self._deployment, namespace, spec.options)
            unfinished += [u for u in found if u not in unfinished]
        return unfinished

    def constrain(self, spec: CollectionSpec) -> Sequence[Unfinished]:
        """
        Enforce unique values from now on, unless or until a change is in the way of that.

        Raises:
            WriteRefused: the target does not do it.
        """
        self._transactions.clear()
        # Buckets of a time series have no unique index: they lie where their name says.
        return self._guards.constrain(spec.collection.namespace, spec.indexes)

    def define(
        self, definitions: Sequence[Definition], *, target_of: Callable[[Namespace], Namespace]
    ) -> Sequence[Unfinished]:
        """
        Create views, roles or users; what cannot be created is returned.

        Raises:
            AccessDenied: the user may not create them.
        """
        by_kind = {k: [d for d in definitions if d.kind is k] for k in DefinitionKind}
        return [
            *views.define(self._deployment, by_kind[DefinitionKind.VIEW], target_of=target_of),
            *accounts.define_roles(self._deployment, by_kind[DefinitionKind.ROLE]),
            *accounts.define_users(self._deployment, by_kind[DefinitionKind.USER]),
        ]

    def present(self) -> bytes | None:
        """Return where the oplog ends now; None where it cannot be read."""
        return self._others.present()

    def written_by_others(self, after: bytes) -> Written:
        """
        Return what others than this process have written since, as the oplog tells.

        Raises:
            PositionLost: the oplog no longer reaches back so far.
        """
        return self._others.after(after)

    def builds(self) -> Sequence[Build]:
        """
        List the index builds that are under way, as far as the server counts them.

        Raises:
            AccessDenied: the user may not look at operations (privilege ``inprog``).
        """
        return indexes.builds(self._deployment)

    def range_of(self, partition: Partition) -> tuple[Any, Any]:
        """Return the bounds of *partition* as values of ``_id``, MinKey and MaxKey at the ends."""
        bounds = Bounds.decode(partition.bounds)
        low, high = (k and bson.decode(k, PLAIN)["_id"] for k in (bounds.low, bounds.high))
        return MinKey() if bounds.low is None else low, MaxKey() if bounds.high is None else high

    def relax(self, spec: CollectionSpec) -> None:
        """
        Have no value unique and nothing expire until `finish`; a missing collection is fine.

        Raises:
            WriteRefused: the target does not do it.
        """
        self._transactions.clear()
        namespace = spec.collection.namespace
        self._guards.forget(namespace)
        relax(self._deployment, namespace, timeseries.stored_as(namespace, spec.options))

    def _address(self, collection: Collection) -> str | Binary:
        if collection.id:
            return super()._address(collection)
        return self._place(collection.namespace).stored.collection

    def _ordered(self, place: Place) -> AbstractContextManager[object]:
        """Keep the order of a capped collection's documents: no two commands at a time."""
        return self._one_by_one if place.is_capped else nullcontext()

    def _let_in(self, stored: Namespace, write: Callable[[], None]) -> None:
        """Have *write* done, also where an index stands against it before its time."""
        while True:
            seen = self._guards.changes(stored)
            try:
                return write()
            except WriteRefused:
                if not self._guards.lift(stored, since=seen):
                    raise

    def _place(self, namespace: Namespace) -> Place:
        place = self._places.get(namespace)
        if place is None:
            moves = self._moves
            entry = options.listed(self._deployment, namespace) or {}
            place = Place.of(namespace, entry.get("options", {}))
            with self._placing:
                if moves == self._moves:  # or it was looked up before a change of this name
                    self._places[namespace] = place
        return place

    def _drop(self, namespace: Namespace) -> None:
        command = {"drop": namespace.collection}
        with suppress(CollectionGone):
            alter(self._deployment, namespace.database, command, doing=f"drop {namespace}")

    def _rename(self, namespace: Namespace, to: Namespace) -> None:
        command = {"renameCollection": str(namespace), "to": str(to), "dropTarget": True}
        doing = f"rename {namespace} to {to}"
        # Missing means renamed already: a change is carried over again only if it was the last.
        with suppress(CollectionGone):
            alter(self._deployment, "admin", command, doing=doing)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the documents of a collection lie, and how they get there."""

    stored: Namespace
    is_capped: bool

    @property
    def is_plain(self) -> bool:
        """Whether servers let it be written to in a transaction."""
        return not self.is_capped and not self.stored.collection.startswith("system.")

    @classmethod
    def of(cls, namespace: Namespace, options: Mapping[str, Any]) -> Place:
        """Take it from the collection's options."""
        return cls(timeseries.stored_as(namespace, options), bool(options.get("capped")))


def _indexes_of(change: SchemaChange) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = change.detail.get("indexes", ())
    return found
