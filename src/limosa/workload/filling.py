"""Loading invented data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, WriteConcern

from .dice import Dice
from .ids import SPECIMENS
from .shapes import COUNTERS, HOT_DOCUMENTS, ORDERS, RECORDS, SHAPES, Shape

#: Documents of one insert.
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Filled:
    """What was loaded."""

    documents: int
    bytes: int
    collections: int
    indexes: int  # without those of _id
    took: timedelta


@dataclass(frozen=True, slots=True)
class _Part:
    shape: Shape
    numbers: range


def fill(
    where: str | MongoClient[dict[str, Any]], *, documents: int = 200_000, seed: int = 1
) -> Filled:
    """
    Load about 0.6 kB times *documents* into new collections of several databases.

    The documents depend on *documents* and *seed* alone. There are at least as many as it takes
    to have a key of every kind; from some hundred on the number is exact.
    """
    if isinstance(where, str):
        with MongoClient[dict[str, Any]](where) as client:
            return fill(client, documents=documents, seed=seed)
    began = time.monotonic()
    for shape in SHAPES:
        where[shape.namespace.database].create_collection(
            shape.namespace.collection, **shape.options
        )
    counts = _counts(documents)
    with ThreadPoolExecutor(2, "fill") as pool:
        sizes = list(pool.map(lambda part: _load(where, part, seed), _parts(counts)))
        indexes = sum(pool.map(lambda shape: _index(where, shape), SHAPES))
    return Filled(
        documents=sum(counts.values()),
        bytes=sum(sizes),
        collections=len(SHAPES),
        indexes=indexes,
        took=timedelta(seconds=time.monotonic() - began),
    )


def documents_of(shape: Shape, numbers: range, *, seed: int) -> list[RawBSONDocument]:
    """Return the documents with these numbers, encoded."""
    dice = Dice(f"{seed}/{shape.namespace}/{numbers.start}")
    return [RawBSONDocument(bson.encode(shape.document(dice, n))) for n in numbers]


def _counts(documents: int) -> dict[Shape, int]:
    counts = {shape: int(documents * shape.share) for shape in SHAPES}
    counts[COUNTERS] = HOT_DOCUMENTS
    counts[RECORDS] = max(counts[RECORDS], len(SPECIMENS))
    others = sum(count for shape, count in counts.items() if shape is not ORDERS)
    counts[ORDERS] = max(0, documents - others)
    return counts


def _parts(counts: dict[Shape, int]) -> Iterator[_Part]:
    for shape, count in counts.items():
        for start in range(0, count, BATCH):
            yield _Part(shape, range(start, min(start + BATCH, count)))


def _load(client: MongoClient[dict[str, Any]], part: _Part, seed: int) -> int:
    """Insert the documents of *part*; return their size in bytes."""
    documents = documents_of(part.shape, part.numbers, seed=seed)
    namespace = part.shape.namespace
    collection = client[namespace.database].get_collection(
        namespace.collection,
        # Without waiting for the journal each time: the indexes wait for it at the end.
        write_concern=WriteConcern(w=1, j=False),
    )
    collection.insert_many(documents, ordered=False)
    return sum(len(d.raw) for d in documents)


def _index(client: MongoClient[dict[str, Any]], shape: Shape) -> int:
    if not shape.indexes:
        return 0
    collection = client[shape.namespace.database][shape.namespace.collection]
    return len(collection.create_indexes(list(shape.indexes)))
