"""Collections in memory, and the log of all that was done to them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection as Some
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...errors import CollectionGone, PositionLost
from ...model import Collection, CollectionSpec, Document, Key, Namespace, SchemaChange, SchemaVerb

#: What one look at the log takes at most, so that a reader does not hold up the writers.
_LOG_ENTRIES = 1_000


@dataclass(slots=True)
class Stored:
    """A collection as it is now."""

    id: str
    namespace: Namespace
    options: dict[str, Any] = field(default_factory=dict)
    indexes: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[Key, Document] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Write:
    """A document that was written, or deleted if it is None."""

    collection: Collection
    key: Key
    document: Document | None


Entry: TypeAlias = Write | SchemaChange


class Data:
    """
    All collections and their log, for callers that hold ``changed``.

    The log numbers its entries from 1; what changes nothing is not logged. Entries older
    than the last *history_limit* are forgotten.
    """

    def __init__(self, *, history_limit: int | None) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.collections: dict[Namespace, Stored] = {}
        self._by_id: dict[str, Stored] = {}  # or a hundred thousand are too many to look through
        self._log: list[Entry] = []
        self._trimmed = 0  # entries that are no longer in the log
        self._history_limit = history_limit

    @property
    def written(self) -> int:
        """The number of the last entry, 0 before the first."""
        return self._trimmed + len(self._log)

    def entries(self, after: int) -> list[Entry]:
        """
        Return some of the entries that follow number *after*.

        Raises:
            PositionLost: they were forgotten, or *after* is of another database.
        """
        oldest = 0
        if self._history_limit is not None:
            oldest = max(0, self.written - self._history_limit)
        if not oldest <= after <= self.written:
            msg = f"expected a position from {oldest} to {self.written}, got {after}"
            raise PositionLost(msg)
        start = after - self._trimmed
        return self._log[start : start + _LOG_ENTRIES]

    def find(self, collection: Collection) -> Stored | None:
        """
        Return the collection by its id, if it has one; by name alone, None if there is none.

        Raises:
            CollectionGone: no collection has this id any more.
        """
        if not collection.id:
            return self.collections.get(collection.namespace)
        if stored := self._by_id.get(collection.id):
            return stored
        msg = f"expected collection {collection} with the id {collection.id}"
        raise CollectionGone(msg)

    def described(self, namespace: Namespace) -> CollectionSpec:
        """Return what a collection is."""
        stored = self.collections[namespace]
        return CollectionSpec(
            Collection(namespace, stored.id),
            options=dict(stored.options),
            indexes=tuple(dict(i) for i in stored.indexes),
            documents=len(stored.documents),
            size=sum(len(d.raw) for d in stored.documents.values()),
        )

    def described_by_id(self, collection_id: str) -> CollectionSpec | None:
        """Return what the collection with this id is, None if there is none."""
        stored = self._by_id.get(collection_id)
        return None if stored is None else self.described(stored.namespace)

    def for_write(self, namespace: Namespace) -> Stored:
        """Return the collection; create it if there is none."""
        return self.collections.get(namespace) or self.create(namespace, {})

    def put(self, namespace: Namespace, key: Key, document: Document) -> None:
        """Insert or replace a document."""
        stored = self.for_write(namespace)
        stored.documents[key] = document
        self._append(Write(Collection(namespace, stored.id), key, document))

    def delete(self, namespace: Namespace, key: Key) -> None:
        """Delete a document, if there is one."""
        stored = self.collections.get(namespace)
        if stored and stored.documents.pop(key, None) is not None:
            self._append(Write(Collection(namespace, stored.id), key, None))

    def create(self, namespace: Namespace, options: Mapping[str, Any]) -> Stored:
        """Create a collection where there is none."""
        stored = self.collections[namespace] = Stored(uuid.uuid4().hex, namespace, dict(options))
        self._by_id[stored.id] = stored
        self._append_schema(SchemaVerb.CREATE, namespace, options)
        return stored

    def drop(self, namespace: Namespace) -> None:
        """Drop a collection, if there is one."""
        if namespace in self.collections:
            self._append_schema(SchemaVerb.DROP, namespace, {})
            del self._by_id[self.collections.pop(namespace).id]

    def rename(self, namespace: Namespace, to: Namespace) -> None:
        """Rename a collection, if there is one; what was named *to* is gone."""
        if namespace in self.collections and namespace != to:
            self._append_schema(SchemaVerb.RENAME, namespace, {}, to=to)
            if to in self.collections:
                del self._by_id[self.collections[to].id]
            self.collections[to] = self.collections.pop(namespace)
            self.collections[to].namespace = to

    def create_indexes(self, namespace: Namespace, indexes: Iterable[Mapping[str, Any]]) -> None:
        """Add indexes; one of the same name is replaced."""
        stored = self.for_write(namespace)
        new = [dict(i) for i in indexes if i not in stored.indexes]
        names = {i["name"] for i in new}
        if new:
            stored.indexes = [i for i in stored.indexes if i["name"] not in names] + new
            self._append_schema(SchemaVerb.CREATE_INDEXES, namespace, {"indexes": new})

    def drop_indexes(self, namespace: Namespace, names: Some[str]) -> None:
        """Drop the indexes that there are of these names."""
        stored = self.collections.get(namespace)
        gone = [i for i in stored.indexes if i["name"] in names] if stored else []
        if stored and gone:
            stored.indexes = [i for i in stored.indexes if i not in gone]
            self._append_schema(SchemaVerb.DROP_INDEXES, namespace, {"indexes": gone})

    def modify(
        self, namespace: Namespace, fields: Mapping[str, Any], *, but: Some[str] = ()
    ) -> None:
        """Change options, and an index but for its fields *but*, as ``collMod`` does."""
        stored = self.collections.get(namespace)
        if stored is None:
            return
        chosen = fields.get("index", {})
        changed = {n: v for n, v in chosen.items() if n not in {"name", "keyPattern", *but}}
        stored.options |= {n: v for n, v in fields.items() if n != "index"}
        for index in stored.indexes:
            if index["name"] == chosen.get("name") or index["key"] == chosen.get("keyPattern"):
                index |= changed
        self._append_schema(SchemaVerb.MODIFY, namespace, fields)

    def _append_schema(
        self,
        verb: SchemaVerb,
        namespace: Namespace,
        detail: Mapping[str, Any],
        *,
        to: Namespace | None = None,
    ) -> None:
        collection = Collection(namespace, self.collections[namespace].id)
        self._append(SchemaChange(verb, collection, dict(detail), to))

    def _append(self, entry: Entry) -> None:
        self._log.append(entry)
        limit = self._history_limit
        if limit is not None and len(self._log) > 2 * limit:  # seldom, so that it costs little
            self._trimmed += len(self._log) - limit
            del self._log[: len(self._log) - limit]
        self.changed.notify_all()
