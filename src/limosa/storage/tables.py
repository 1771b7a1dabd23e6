"""What stands in the tables of the state: how it is asked for, and written in a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from ..model import Namespace
from ..state import CollectionProgress, Migration
from ..steps import StepProgress
from .rows import collection_row, migration_row, step_row

#: What is there under a name; seldom more than one.
AT_SOURCE = """
    SELECT * FROM collections
    WHERE source_database = ? AND source_collection = ? AND NOT is_dropped ORDER BY number
"""
AT_TARGET = """
    SELECT * FROM collections
    WHERE target_database = ? AND target_collection = ? AND NOT is_dropped ORDER BY number
"""

REMEMBER_TARGET = """
    UPDATE collections SET target_id = ?
    WHERE target_database = ? AND target_collection = ? AND NOT is_dropped
"""

TOTALS = """
    SELECT count(*) AS collections,
           coalesce(sum(partitions_verified >= partitions), 0) AS collections_verified,
           coalesce(sum(partitions), 0) AS partitions,
           coalesce(sum(partitions_copied), 0) AS partitions_copied,
           coalesce(sum(partitions_verified), 0) AS partitions_verified,
           coalesce(sum(documents), 0) AS documents,
           coalesce(sum(bytes), 0) AS bytes,
           coalesce(sum(documents_copied), 0) AS documents_copied,
           coalesce(sum(bytes_copied), 0) AS bytes_copied,
           coalesce(sum(documents_compared), 0) AS documents_compared,
           (SELECT count(*) FROM differences WHERE NOT counts) AS suspects,
           (SELECT count(*) FROM differences WHERE counts) AS mismatches
    FROM collections WHERE NOT is_dropped
"""

SUSPECTS = """
    SELECT * FROM differences WHERE ? IS NULL OR counts = ?
    ORDER BY since, collection_id, key LIMIT ?
"""

BY_NAMESPACE = """
    SELECT target_database, target_collection, sum(documents), sum(documents_copied),
           sum(documents_compared), sum(bytes_copied)
    FROM collections WHERE NOT is_dropped GROUP BY target_database, target_collection
"""


def replace_migration(db: sqlite3.Connection, migration: Migration) -> None:
    """Store the migration, in place of the one there was."""
    _insert(db, "INSERT OR REPLACE INTO migration", {"only": 1, **migration_row(migration)})


def replace_plan(
    db: sqlite3.Connection,
    collections: Iterable[CollectionProgress],
    partitions: Iterable[tuple[Any, ...]],
) -> None:
    """Store the whole plan, in place of what there was; what was found different goes with it."""
    for table in ("partitions", "suspects", "collections"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    for collection in collections:
        save_collection(db, collection)
    add_partitions(db, partitions)


def save_collection(db: sqlite3.Connection, collection: CollectionProgress) -> None:
    """Add the collection, or replace the one with the same id; its place and sums stay."""
    row = collection_row(collection)
    changed = ", ".join(f"{column} = excluded.{column}" for column in row if column != "id")
    _insert(db, "INSERT INTO collections", row, f"ON CONFLICT (id) DO UPDATE SET {changed}")


def add_partitions(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Add what `partition_row` made; those known stay as they are."""
    # In the order of the table: out of order takes four times as long.
    for collection_id, group in groupby(sorted(rows), key=itemgetter(0)):
        added = db.executemany(
            "INSERT INTO partitions (collection_id, id, documents, bounds) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            group,
        ).rowcount
        db.execute(
            "UPDATE collections SET partitions = partitions + ? WHERE id = ?",
            (added, collection_id),
        )


def replace_partitions(
    db: sqlite3.Connection, collection_id: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    """Put what `partition_row` made in place of all that is known of parts of a collection."""
    for table in ("partitions", "suspects"):
        db.execute(f"DELETE FROM {table} WHERE collection_id = ?", (collection_id,))  # noqa: S608 - names from the line above
    db.execute(
        "UPDATE collections SET partitions = 0, partitions_copied = 0, partitions_verified = 0,"
        " documents_copied = 0, bytes_copied = 0, documents_compared = 0 WHERE id = ?",
        (collection_id,),
    )
    add_partitions(db, rows)


def save_occupied(db: sqlite3.Connection, namespaces: Iterable[Namespace]) -> None:
    """Replace what the table of that name holds."""
    db.execute("DELETE FROM occupied")
    rows = sorted((n.database, n.collection) for n in namespaces)
    db.executemany("INSERT INTO occupied VALUES (?, ?)", rows)


def save_suspects(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Add what `suspect_row` made, or replace what is known of those documents."""
    db.executemany("INSERT OR REPLACE INTO suspects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def save_step(db: sqlite3.Connection, step: StepProgress) -> None:
    """Add the step, or replace the one of that name."""
    _insert(db, "INSERT OR REPLACE INTO steps", step_row(step))


def _insert(db: sqlite3.Connection, verb: str, row: Mapping[str, Any], clause: str = "") -> None:
    marks = ", ".join("?" for _ in row)
    db.execute(f"{verb} ({', '.join(row)}) VALUES ({marks}) {clause}", tuple(row.values()))
