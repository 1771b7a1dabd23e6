"""A MongoDB deployment as a target."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, assert_never

from bson import Binary

from ...connector import Build, Readiness
from ...errors import CollectionGone
from ...model import (
    Batch,
    Collection,
    CollectionSpec,
    Definition,
    DefinitionKind,
    Document,
    Key,
    Namespace,
    SchemaChange,
    SchemaVerb,
    Unfinished,
)
from . import accounts, indexes, options, timeseries, views
from .commands import alter
from .deployment import Deployment
from .reader import MongoReader
from .relaxing import relax
from .writes import Writer


class MongoTarget(MongoReader):
    """Where the data goes: a replica set of version 5.0 or later."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self._writer = Writer(deployment)
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
        self._places.pop(namespace, None)

    def write(self, namespace: Namespace, batch: Batch) -> None:
        """
        Insert the documents that are not there yet; leave those that are.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        place = self._place(namespace)
        with self._ordered(place):
            self._writer.insert(place.stored, batch)

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        """
        Delete, then replace or insert; no more than one command for some thousand keys.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        place = self._place(namespace)
        with self._ordered(place):
            self._writer.delete(place.stored, [k for k, d in states.items() if d is None])
            present = ((k, d) for k, d in states.items() if d is not None)
            self._writer.replace(place.stored, present)

    def evolve(self, change: SchemaChange) -> None:
        """
        Carry a schema change over; indexes and expiry stay inert, done already is done.

        Raises:
            WriteRefused: the target does not do it.
        """
        namespace = change.collection.namespace
        match change.verb:
            case SchemaVerb.CREATE:
                options.create(self._deployment, namespace, change.detail)
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
            case _:
                assert_never(change.verb)
        with self._placing:
            self._places.clear()
            self._moves += 1

    def finish(self, spec: CollectionSpec, readiness: Readiness) -> Sequence[Unfinished]:
        """
        Bring indexes and options to *readiness*; return what could not be done.

        Raises:
            WriteRefused: an index cannot be built.
        """
        namespace = spec.collection.namespace
        stored = timeseries.stored_as(namespace, spec.options)
        unfinished: list[Unfinished] = []
        if not spec.leaves_indexes:
            found = indexes.finish(self._deployment, stored, spec.indexes, readiness)
            unfinished = [replace(u, namespace=namespace) for u in found]
        if readiness is Readiness.COMPLETE:
            found = options.complete(self._deployment, namespace, spec.options)
            unfinished += [u for u in found if u not in unfinished]
        return unfinished

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

    def builds(self) -> Sequence[Build]:
        """
        List the index builds that are under way, as far as the server counts them.

        Raises:
            AccessDenied: the user may not look at operations (privilege ``inprog``).
        """
        return indexes.builds(self._deployment)

    def relax(self, spec: CollectionSpec) -> None:
        """
        Have no value unique and nothing expire until `finish`; a missing collection is fine.

        Raises:
            WriteRefused: the target does not do it.
        """
        namespace = spec.collection.namespace
        relax(self._deployment, namespace, timeseries.stored_as(namespace, spec.options))

    def _address(self, collection: Collection) -> str | Binary:
        if collection.id:
            return super()._address(collection)
        return self._place(collection.namespace).stored.collection

    def _ordered(self, place: Place) -> AbstractContextManager[object]:
        """Keep the order of a capped collection's documents: no two commands at a time."""
        return self._one_by_one if place.is_capped else nullcontext()

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

    @classmethod
    def of(cls, namespace: Namespace, options: Mapping[str, Any]) -> Place:
        """Take it from the collection's options."""
        return cls(timeseries.stored_as(namespace, options), bool(options.get("capped")))


def _indexes_of(change: SchemaChange) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = change.detail.get("indexes", ())
    return found
