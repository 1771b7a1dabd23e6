"""A MongoDB deployment as a target."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, assert_never

from ...connector import Readiness
from ...errors import CollectionGone
from ...model import (
    Batch,
    CollectionSpec,
    Document,
    Key,
    Namespace,
    SchemaChange,
    SchemaVerb,
    Unfinished,
)
from . import indexes, options
from .commands import alter
from .deployment import Deployment
from .reader import MongoReader
from .writes import Writer


class MongoTarget(MongoReader):
    """Where the data goes: a replica set of version 5.0 or later."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self._writer = Writer(deployment)
        self._capped: dict[Namespace, bool] = {}
        self._one_by_one = threading.Lock()

    def prepare(self, spec: CollectionSpec) -> None:
        """
        Create the collection as it is on the source, except that nothing expires.

        Raises:
            WriteRefused: it cannot be created so, or is there with other options.
        """
        namespace = spec.collection.namespace
        options.create(self._deployment, namespace, spec.options)
        self._capped.pop(namespace, None)

    def write(self, namespace: Namespace, batch: Batch) -> None:
        """
        Insert the documents that are not there yet; leave those that are.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        with self._ordered(namespace):
            self._writer.insert(namespace, batch)

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        """
        Delete, then replace or insert; no more than one command for some thousand keys.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        with self._ordered(namespace):
            self._writer.delete(namespace, [k for k, d in states.items() if d is None])
            present = ((k, d) for k, d in states.items() if d is not None)
            self._writer.replace(namespace, present)

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
                indexes.build(self._deployment, namespace, _indexes_of(change))
            case SchemaVerb.DROP_INDEXES:
                indexes.drop(self._deployment, namespace, _indexes_of(change))
            case SchemaVerb.MODIFY:
                options.modify(self._deployment, namespace, change.detail)
            case _:
                assert_never(change.verb)
        self._capped.clear()

    def finish(self, spec: CollectionSpec, readiness: Readiness) -> Sequence[Unfinished]:
        """
        Bring indexes and options to *readiness*; return what could not be done.

        Raises:
            WriteRefused: an index cannot be built.
        """
        namespace = spec.collection.namespace
        unfinished = indexes.finish(self._deployment, namespace, spec.indexes, readiness)
        if readiness is Readiness.COMPLETE:
            found = options.complete(self._deployment, namespace, spec.options)
            unfinished += [u for u in found if u not in unfinished]
        return unfinished

    def _ordered(self, namespace: Namespace) -> AbstractContextManager[object]:
        """Keep the order of a capped collection's documents: no two commands at a time."""
        capped = self._capped.get(namespace)
        if capped is None:
            entry = options.listed(self._deployment, namespace) or {}
            capped = self._capped[namespace] = bool(entry.get("options", {}).get("capped"))
        return self._one_by_one if capped else nullcontext()

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


def _indexes_of(change: SchemaChange) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = change.detail.get("indexes", ())
    return found
