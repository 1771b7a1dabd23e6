"""
A database in memory: the reference connector, and the double that tests use.

It does what the contract asks for in the simplest way that is correct: keys are their bytes,
partitions are intervals of these, and time counts the writes, a microsecond each.
"""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, assert_never

import bson
from bson.raw_bson import RawBSONDocument

from ...canonical import key_for, key_of
from ...connector import Connector, Readiness
from ...errors import ConfigError, WriteRefused
from ...model import (
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
    SchemaVerb,
    Unfinished,
)
from ...slices import documents_of
from .data import Data, Entry, Stored
from .matching import matcher

#: When the clock stood at zero writes.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

#: How long a stream waits for a write before it says that there was none.
_IDLE_SECONDS = 0.05

#: What an index does beyond helping to find documents.
_UNIQUE = frozenset({"unique", "prepareUnique"})
_TTL = frozenset({"expireAfterSeconds"})


class MemoryDatabase:
    """
    A source, a target, and what an application does to it, all at once.

    *batch_documents* is the size of the batches read, *history_limit* how many writes the
    change stream still knows (all, unless given). With *documents_in_stream* changes carry
    the documents written; otherwise, and for deletes always, they are to be looked up.
    Uniqueness is looked at by `finish` alone; nothing ever expires.
    """

    def __init__(
        self,
        *,
        batch_documents: int = 1_000,
        history_limit: int | None = None,
        documents_in_stream: bool = False,
    ) -> None:
        self._data = Data(history_limit=history_limit)
        self._changed = self._data.changed
        self._batch_documents = batch_documents
        self._is_blocked = False
        self._documents_in_stream = documents_in_stream

    # What an application does; refused while its writes are blocked.

    def put(self, namespace: Namespace, *documents: Mapping[str, Any]) -> None:
        """Insert each document, or replace the one with its ``_id``."""
        with self._changed:
            self._refuse_blocked()
            for document in documents:
                raw = RawBSONDocument(bson.encode(document))
                self._data.put(namespace, key_of(raw.raw), raw)

    def delete(self, namespace: Namespace, *ids: object) -> None:
        """Delete the documents with these ``_id`` values, where there are such."""
        with self._changed:
            self._refuse_blocked()
            for value in ids:
                self._data.delete(namespace, key_for(value))

    def create(self, namespace: Namespace, **options: object) -> None:
        """Create a collection; ValueError if there is one."""
        with self._changed:
            self._refuse_existing(namespace)
            self._data.create(namespace, options)

    def drop(self, namespace: Namespace) -> None:
        """Drop a collection, if there is one."""
        with self._changed:
            self._data.drop(namespace)

    def drop_database(self, database: str) -> None:
        """Drop all collections of a database, one by one."""
        with self._changed:
            for namespace in sorted(self._data.collections):
                if namespace.database == database:
                    self._data.drop(namespace)

    def rename(self, namespace: Namespace, to: Namespace, *, replace: bool = False) -> None:
        """Rename a collection; what is named *to* is replaced if *replace*, else ValueError."""
        with self._changed:
            if not replace:
                self._refuse_existing(to)
            self._data.rename(namespace, to)

    def create_index(self, namespace: Namespace, **index: object) -> None:
        """Create an index from its document: at least ``name`` and ``key``."""
        with self._changed:
            self._data.create_indexes(namespace, [index])

    def drop_index(self, namespace: Namespace, name: str) -> None:
        """Drop an index by name, if there is one."""
        with self._changed:
            self._data.drop_indexes(namespace, {name})

    def modify(self, namespace: Namespace, **fields: object) -> None:
        """Change options, or an index: ``index={"name": ..., "hidden": ...}``."""
        with self._changed:
            self._data.modify(namespace, fields)

    def documents(self, namespace: Namespace) -> dict[Key, Document]:
        """Return all documents of a collection; none if there is no such collection."""
        with self._changed:
            stored = self._data.collections.get(namespace)
            return dict(stored.documents) if stored else {}

    # What both ends of a migration are asked.

    def identities(self) -> dict[Namespace, str]:
        with self._changed:
            return {n: stored.id for n, stored in self._data.collections.items()}

    def check_blocking(self, *, bypass: bool) -> None:
        """Return at once: everybody may, and limosa's writes come in another way."""

    def writes_blocked(self) -> bool:
        return self._is_blocked

    def block_writes(self) -> None:
        with self._changed:
            self._is_blocked = True

    def allow_writes(self) -> None:
        with self._changed:
            self._is_blocked = False

    def collections(self) -> list[CollectionSpec]:
        with self._changed:
            return [self._data.described(n) for n in sorted(self._data.collections)]

    def namespaces(self) -> list[Namespace]:
        with self._changed:
            return sorted(self._data.collections)

    def described(self, collection: Collection) -> CollectionSpec | None:
        with self._changed:
            return self._data.described_by_id(collection.id)

    def partitions(self, spec: CollectionSpec, *, documents: int) -> Iterator[Partition]:
        keys = self._keys(spec.collection)
        cuts = keys[::documents][1:]
        name = spec.collection.id or str(spec.collection)
        for number, (low, high) in enumerate(zip([b"", *cuts], [*cuts, b""], strict=True)):
            bounds = bson.encode({"low": low, "high": high})
            here = min(documents, len(keys) - number * documents)
            yield Partition(f"{name}/{number}", spec.collection, bounds, here)

    def read(self, partition: Partition) -> Iterator[Batch]:
        bounds = bson.decode(partition.bounds)
        low, high = bounds["low"], bounds["high"]
        keys = [k for k in self._keys(partition.collection) if low <= k and (not high or k < high)]
        for start in range(0, len(keys), self._batch_documents):
            wanted = keys[start : start + self._batch_documents]
            if found := self.lookup(partition.collection, wanted):
                yield Batch.of(found.values())

    def lookup(self, collection: Collection, keys: Some[Key]) -> Mapping[Key, Document]:
        with self._changed:
            stored = self._data.find(collection)
            known = stored.documents if stored else {}
            found = {key: known[key] for key in keys if key in known}
        if collection.where is None:
            return found
        is_meant = matcher(collection.where)
        return {key: document for key, document in found.items() if is_meant(document)}

    def ping(self) -> None:
        """Return at once."""

    def close(self) -> None:
        """Do nothing: the data stays, as with a server that is disconnected from."""

    # What a source is asked.

    def position(self) -> ResumeToken:
        with self._changed:
            return _token(self._data.written)

    def clock(self) -> datetime:
        with self._changed:
            return _time(self._data.written)

    def changes(self, after: ResumeToken) -> Iterator[ChangeBatch]:
        at = int(after)
        while True:
            with self._changed:
                # Asked before the wait also, so that a lost position is told at once.
                entries = self._data.entries(at) or self._awaited(at)
            if not entries:
                yield ChangeBatch(_token(at), _time(at))
            for _, numbered in groupby(enumerate(entries, at + 1), _run):
                run = list(numbered)
                at = run[-1][0]
                yield self._batch([entry for _, entry in run], at)

    # What a target is asked.

    def prepare(self, spec: CollectionSpec) -> None:
        with self._changed:
            if spec.collection.namespace not in self._data.collections:
                self._data.create(spec.collection.namespace, spec.options)

    def write(self, namespace: Namespace, batch: Batch) -> None:
        with self._changed:
            known = self._data.for_write(namespace).documents
            for document in documents_of(batch.array):
                if (key := key_of(document)) not in known:
                    self._data.put(namespace, key, RawBSONDocument(document))

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        with self._changed:
            for key, document in states.items():
                if document is None:
                    self._data.delete(namespace, key)
            for key, document in states.items():
                if document is not None:
                    self._data.put(namespace, key, document)

    def evolve(self, change: SchemaChange) -> None:
        namespace, indexes = change.collection.namespace, change.detail.get("indexes", ())
        with self._changed:
            match change.verb:
                case SchemaVerb.CREATE:
                    if namespace not in self._data.collections:
                        self._data.create(namespace, change.detail)
                case SchemaVerb.DROP:
                    self._data.drop(namespace)
                case SchemaVerb.RENAME:
                    assert change.to is not None
                    self._data.rename(namespace, change.to)
                case SchemaVerb.CREATE_INDEXES:
                    inert = [_ready(i, Readiness.INDEXED) for i in indexes]
                    self._data.create_indexes(namespace, inert)
                case SchemaVerb.DROP_INDEXES:
                    self._data.drop_indexes(namespace, {i["name"] for i in indexes})
                case SchemaVerb.MODIFY:
                    self._data.modify(namespace, change.detail, but=_UNIQUE | _TTL)
                case _:
                    assert_never(change.verb)

    def finish(self, spec: CollectionSpec, readiness: Readiness) -> list[Unfinished]:
        namespace = spec.collection.namespace
        unfinished = []
        with self._changed:
            stored = self._data.for_write(namespace)
            for index in () if spec.leaves_indexes else spec.indexes:
                ready = _ready(index, readiness)
                if ready.get("unique") and _has_duplicates(stored, index):
                    ready = _ready(index, Readiness.INDEXED)
                    what = f"index {index['name']}"
                    unfinished.append(Unfinished(namespace, what, "duplicate values"))
                self._data.create_indexes(namespace, [ready])
            if readiness is Readiness.COMPLETE:
                stored.options = dict(spec.options)
        return unfinished

    def relax(self, spec: CollectionSpec) -> None:
        namespace = spec.collection.namespace
        with self._changed:
            stored = self._data.collections.get(namespace)
            if stored is not None:
                inert = [_ready(i, Readiness.INDEXED) for i in stored.indexes]
                self._data.create_indexes(namespace, inert)

    def _refuse_blocked(self) -> None:
        if self._is_blocked:
            msg = "writes are blocked"
            raise WriteRefused(msg)

    def _refuse_existing(self, namespace: Namespace) -> None:
        if namespace in self._data.collections:
            msg = f"expected no collection {namespace}"
            raise ValueError(msg)

    def _keys(self, collection: Collection) -> list[Key]:
        with self._changed:
            stored = self._data.find(collection)
            return sorted(stored.documents) if stored else []

    def _awaited(self, at: int) -> list[Entry]:
        self._changed.wait_for(lambda: self._data.written > at, timeout=_IDLE_SECONDS)
        return self._data.entries(at)

    def _batch(self, run: Sequence[Entry], through: int) -> ChangeBatch:
        changes: dict[Collection, dict[Key, Document | None]] = {}
        for entry in run:
            if isinstance(entry, SchemaChange):
                return ChangeBatch(_token(through), _time(through), schema=entry, events=1)
            document = entry.document if self._documents_in_stream else None
            changes.setdefault(entry.collection, {})[entry.key] = document
        return ChangeBatch(_token(through), _time(through), changes, events=len(run))


def connector_to(databases: Mapping[str, MemoryDatabase]) -> Connector:
    """Return a connector that finds each of *databases* at ``memory://`` and its name."""

    def opened(uri: str, *, database: str | None = None) -> MemoryDatabase:  # noqa: ARG001 - all is open to all
        scheme, _, name = uri.partition("://")
        if scheme != "memory" or name not in databases:
            known = ", ".join(f"memory://{n}" for n in sorted(databases))
            msg = f"expected one of {known}, got {uri!r}"
            raise ConfigError(msg)
        return databases[name]

    return Connector(
        kind="memory",
        schemes=("memory",),
        open_source=opened,
        open_target=opened,
        identity=lambda uri: uri,
        reverses=True,
        blocks_writes=True,
        examine=lambda _uri, _role, _specs: (),
    )


def _token(written: int) -> ResumeToken:
    return ResumeToken(b"%d" % written)


def _time(written: int) -> datetime:
    return EPOCH + timedelta(microseconds=written)


def _run(numbered: tuple[int, Entry]) -> int:
    """Tell each schema change from its neighbours, and no write from the next."""
    number, entry = numbered
    return number if isinstance(entry, SchemaChange) else 0


def _ready(index: Mapping[str, Any], readiness: Readiness) -> dict[str, Any]:
    match readiness:
        case Readiness.INDEXED:
            late = _UNIQUE | _TTL
        case Readiness.WRITABLE:
            late = _TTL
        case Readiness.COMPLETE:
            late = frozenset()
        case _:
            assert_never(readiness)
    return {name: value for name, value in index.items() if name not in late}


def _has_duplicates(stored: Stored, index: Mapping[str, Any]) -> bool:
    seen = set()
    for document in stored.documents.values():
        values = bson.encode({name: _value(document, name) for name in index["key"]})
        if values in seen:
            return True
        seen.add(values)
    return False


def _value(document: Document, path: str) -> object:
    value: object = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
