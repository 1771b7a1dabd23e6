"""What the conformance suite is told about a connector, and what it says back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import bson
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument

from ..canonical import key_of
from ..connector import Readable, Source, Target
from ..model import (
    ChangeBatch,
    Collection,
    CollectionSpec,
    Document,
    Key,
    Namespace,
    Partition,
    SchemaVerb,
)
from ..slices import documents_of

#: Patience with anything that must happen, on a slow machine.
DEADLINE_SECONDS = 60.0


class Application(Protocol):
    """Writes to the source as its users do; each call returns when a majority has it."""

    def put(self, namespace: Namespace, *documents: Mapping[str, Any]) -> None:
        """Insert each document, or replace the one with its ``_id``."""
        ...

    def delete(self, namespace: Namespace, *ids: object) -> None:
        """Delete documents by ``_id``."""
        ...

    def create(self, namespace: Namespace) -> None:
        """Create an empty collection."""
        ...

    def drop(self, namespace: Namespace) -> None:
        """Drop a collection."""
        ...

    def rename(self, namespace: Namespace, to: Namespace, *, replace: bool = False) -> None:
        """Rename a collection; what is named *to* goes if *replace*."""
        ...

    def create_index(self, namespace: Namespace, **index: object) -> None:
        """Create an index from ``name`` and ``key``."""
        ...

    def drop_index(self, namespace: Namespace, name: str) -> None:
        """Drop an index."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """
    A source and a target of one kind, and the application that writes to the source.

    *namespace* does not exist at either end when a test begins, nor does any other of its
    database. *options* are what a collection of this kind may be created with. Where a source
    `HoldsDefinitions`, ``define(view, reads)`` has the application define a view of the collection
    *reads*, in place of what had that name.
    """

    source: Source
    target: Target
    application: Application
    namespace: Namespace
    options: Mapping[str, Any] = field(default_factory=dict)
    define: Callable[[Namespace, Namespace], None] | None = None

    def other(self, collection: str) -> Namespace:
        """Return another namespace in the same database."""
        return Namespace(self.namespace.database, collection)

    def spec(self, namespace: Namespace | None = None) -> CollectionSpec:
        """Return what the source says of a collection."""
        return spec_of(self.source, namespace or self.namespace)

    def changes_until(
        self, after: Any, is_enough: Callable[[list[ChangeBatch]], bool]
    ) -> list[ChangeBatch]:
        """Return the batches that follow *after* until there are enough."""
        batches: list[ChangeBatch] = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        for batch in self.source.changes(after):
            batches.append(batch)
            if is_enough(batches):
                return batches
            assert time.monotonic() < deadline, f"the stream did not get there: {batches[-5:]}"
        msg = "the change stream ended"
        raise AssertionError(msg)

    def changes_to_now(self, after: Any) -> list[ChangeBatch]:
        """Return the batches that follow *after*, up to the source's present clock."""
        now = self.source.clock()
        return self.changes_until(after, lambda batches: batches[-1].source_time >= now)


def spec_of(end: Readable, namespace: Namespace) -> CollectionSpec:
    """Return what *end* says of a collection."""
    (spec,) = [s for s in end.collections() if s.collection.namespace == namespace]
    return spec


def by_name(spec: CollectionSpec) -> CollectionSpec:
    """Return *spec* without the id that is valid at its own end only."""
    return CollectionSpec(
        Collection(spec.collection.namespace), spec.options, spec.indexes, spec.documents, spec.size
    )


def documents_in(end: Readable, partitions: Iterable[Partition]) -> list[bytes]:
    """Return all documents of *partitions*, as bytes."""
    return [d for p in partitions for batch in end.read(p) for d in documents_of(batch.array)]


def all_documents(end: Readable, namespace: Namespace) -> list[bytes]:
    """Return all documents of a collection, as bytes."""
    return documents_in(end, end.partitions(spec_of(end, namespace), documents=1_000_000))


def raw(document: Document) -> bytes:
    """Return the bytes of *document*, comparable."""
    return bytes(document.raw)


def keys_in(batches: Iterable[ChangeBatch]) -> set[Key]:
    """Return the keys of all changes."""
    return {key for b in batches for states in b.changes.values() for key in states}


def story_of(batches: Iterable[ChangeBatch]) -> list[set[Key] | tuple[SchemaVerb, Namespace]]:
    """Return keys and schema changes in their order, however they were cut into batches."""
    story: list[set[Key] | tuple[SchemaVerb, Namespace]] = []
    for batch in batches:
        if batch.schema is not None:
            story.append((batch.schema.verb, batch.schema.collection.namespace))
        for states in batch.changes.values():
            if story and isinstance(story[-1], set):
                story[-1] |= set(states)
            else:
                story.append(set(states))
    return story


def documents_of_every_kind() -> list[Document]:
    """Return documents with every kind of ``_id``, no two of which a database holds equal."""
    documents = [RawBSONDocument(bson.encode({"_id": i, "v": n})) for n, i in enumerate(_ids())]
    legacy = (
        b"\x0e_id\0\x07\0\0\0symbol\0",
        b"\x0c_id\0\x03\0\0\0ab\0" + bytes(range(12)),
        b"\x09_id\0" + b"\xff" * 7 + b"\x7f",  # a date that no calendar knows
        b"\x05_id\0\x08\0\0\0\x02\x04\0\0\0abcd",  # the old kind of binary
    )
    size = len(documents)
    for number, element in enumerate(legacy, size):
        content = element + bson.encode({"v": number})[4:-1]
        raw = (len(content) + 5).to_bytes(4, "little") + content + b"\0"
        documents.append(RawBSONDocument(raw))
    assert len({key_of(d.raw) for d in documents}) == len(documents)
    return documents


def _ids() -> Iterator[object]:
    yield from (None, True, False, MinKey(), MaxKey())
    yield from (1, Int64(2), 3.0, Decimal128("4"), -7, 2**31 - 1, Int64(2**63 - 1), Int64(-(2**63)))
    yield from (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308, 0.1, 2.0**62)
    yield from (Decimal128("0.1"), Decimal128("1E-6176"), Decimal128("9.99E+6144"))
    yield from ("", "a", "a\0b", "1", "ä", "\U0001f426", "x" * 2_000)
    yield from (ObjectId("0" * 24), ObjectId("f" * 24), ObjectId())
    yield from (datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC))
    yield from (
        Timestamp(0, 1),
        Timestamp(2**32 - 1, 2**32 - 1),
        Code("f()"),
        Code("f()", {"a": 1}),
    )
    yield from (Binary(b"\1\2\3", s) for s in (0, 1, 3, 4, 5, 6, 7, 8, 9, 128, 255))
    yield from (Binary(b"", 0), Binary(b"\1" * 16, 4), Binary(b"\xff" * 300, 0))
    yield from ({}, {"a": 1}, {"a": Int64(2)}, {"b": 1, "a": 1}, {"a": 1, "b": 1}, {"": {}})
    yield from (
        {"a": math.nan},
        {"a": -0.0},
        {"a": [1, [2.0, {"b": None}], []]},
        {"a": Regex("^x")},
    )
    yield from ({"a": MinKey()}, {"a": MaxKey()}, {"a": {"b": {"c": Binary(b"\0", 128)}}})
