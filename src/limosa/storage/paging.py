"""Collections and partitions in order, some at a time: of both there may be very many."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from ..state import PartitionStatus

#: Rows in memory at once.
_PAGE = 1_000

#: Lends the connection for one statement; between two of them others use it.
Lend: TypeAlias = Callable[[], AbstractContextManager[sqlite3.Connection]]

_COLLECTIONS = "SELECT * FROM collections WHERE number IN (SELECT value FROM json_each(?))"
_HOLDING = """
    SELECT c.number, count(*) FROM partitions p JOIN collections c ON c.id = p.collection_id
    WHERE NOT c.is_dropped AND p.status IN ({statuses})
    GROUP BY c.number ORDER BY c.bytes DESC, c.id
"""
_PARTITIONS = """
    SELECT p.collection_id, c.source_database, c.source_collection, p.id, p.status, p.documents,
           p.documents_copied, p.bytes_copied, p.documents_compared, p.bounds
    FROM collections c
    CROSS JOIN partitions p INDEXED BY partitions_by_status ON p.collection_id = c.id
    WHERE c.number IN (SELECT value FROM json_each(?)) AND NOT c.is_dropped
        AND p.status IN ({statuses}) AND p.id > ?
    ORDER BY c.bytes DESC, p.id LIMIT ?
"""


def collection_rows(lend: Lend, *, largest_first: bool) -> Iterator[sqlite3.Row]:
    """Yield the rows of all collections: those there are now, each as it is when it is read."""
    order = "bytes DESC, number" if largest_first else "number"
    with lend() as db:
        found = db.execute(f"SELECT number FROM collections ORDER BY {order}")  # noqa: S608
        numbers = array("q", (number for (number,) in found))
    for at in range(0, len(numbers), _PAGE):
        page = numbers[at : at + _PAGE]
        with lend() as db:
            rows = {r["number"]: r for r in db.execute(_COLLECTIONS, (_listed(page),))}
        yield from (rows.pop(number) for number in page if number in rows)


def partition_rows(lend: Lend, status: PartitionStatus | None) -> Iterator[list[sqlite3.Row]]:
    """
    Yield the partitions with *status*, or all, of collections that are not dropped.

    The collections are those that have any now, largest first.
    """
    wanted = ", ".join(f"'{s.value}'" for s in PartitionStatus if status in {None, s})
    with lend() as db:
        found = db.execute(_HOLDING.format(statuses=wanted))
        numbers, counts = array("q"), array("q")
        for number, count in found:
            numbers.append(number)
            counts.append(count)
    query = _PARTITIONS.format(statuses=wanted)
    for chunk, is_long in _chunks(numbers, counts):
        last, limit = "", _PAGE if is_long else -1
        while True:
            with lend() as db:
                rows = db.execute(query, (_listed(chunk), last, limit)).fetchall()
            yield rows
            if len(rows) != limit:
                break
            last = rows[-1]["id"]


def _chunks(numbers: array[int], counts: array[int]) -> Iterator[tuple[list[int], bool]]:
    """Yield collections with about a page of partitions, or one with more: then True with it."""
    chunk: list[int] = []
    total = 0
    for number, count in zip(numbers, counts, strict=True):
        if chunk and total + count > _PAGE:
            yield chunk, False
            chunk, total = [], 0
        if count > _PAGE:
            yield [number], True
            continue
        chunk.append(number)
        total += count
    if chunk:
        yield chunk, False


def _listed(numbers: Iterable[Any]) -> str:
    return json.dumps(list(numbers))
