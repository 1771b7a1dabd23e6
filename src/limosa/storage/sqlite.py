"""The state of a migration in one SQLite file, open to a person with the `sqlite3` shell."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..errors import LeaseLost, StateError, UnknownMigration
from ..model import Mismatch, Namespace, Partition
from ..state import (
    CollectionProgress,
    Migration,
    PartitionProgress,
    PartitionStatus,
    Suspect,
    Totals,
)
from ..steps import StepProgress
from .database import Database, Format
from .errors import translated, understood
from .lease import Lease
from .rows import (
    collection_of,
    collection_row,
    migration_of,
    migration_row,
    mismatch_of,
    partition_row,
    partitions_of,
    save_occupied,
    step_of,
    step_row,
    suspect_of,
    suspect_row,
    time_text,
)

STATE_FILE = "state.db"
LOCK_FILE = "lock"

#: The application id is "Lims" in ASCII.
STATE_FORMAT = Format(application_id=0x4C696D73, version=1, schema="schema.sql", page_size=4096)


class SqliteStore:
    """
    A `StateStore` in the file ``state.db`` of a folder.

    Only the process that holds the lease drives: `drive` takes it, `watch` goes without.
    """

    def __init__(self, database: Database, lease: Lease | None, generation: int) -> None:
        self._database = database
        self._lease = lease
        self._generation = generation

    @classmethod
    def drive(cls, folder: Path, name: str) -> SqliteStore:
        """
        Take the lease and return the store, new under *name* if there is none yet.

        A migration that exists keeps the name it has.

        Raises:
            LeaseHeld: another process drives it.
            StateCorrupt, StateTooNew, StateUnwritable: and nothing was changed.
        """
        with translated(folder, "make the state folder"):
            # Keys of documents are in it, so it is its owner's alone.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lease = Lease.take(folder / LOCK_FILE)
        try:
            path = folder / STATE_FILE
            database = Database.open(path, STATE_FORMAT, create=True, check=True)
            try:
                return cls(database, lease, _take_over(database, name, lease.holder))
            except BaseException:
                database.close()
                raise
        except BaseException:
            lease.release()
            raise

    @classmethod
    def watch(cls, folder: Path) -> SqliteStore:
        """
        Return the store to look at and steer a migration that another process may drive.

        Raises:
            UnknownMigration: nothing was stored yet.
            StateCorrupt, StateTooNew, StateUnwritable: it cannot be used.
        """
        return cls(Database.open(folder / STATE_FILE, STATE_FORMAT), None, 0)

    def migration(self) -> Migration:
        with self._database.statement("read the migration") as db:
            return _migration(self._database, db)

    def update(self, change: Callable[[Migration], Migration]) -> Migration:
        with self._writing("update the migration") as db:
            before = _migration(self._database, db)
            after = change(before)
            if after != before:
                _replace_migration(db, after)
            return after

    def save_plan(
        self,
        collections: Sequence[CollectionProgress],
        partitions: Iterable[Partition],
        planned_at: datetime,
    ) -> None:
        # Cutting partitions asks the source: before the transaction, not inside it.
        rows = [partition_row(partition) for partition in partitions]
        with self._writing("store the plan") as db:
            _replace_plan(db, collections, rows)
            db.execute("UPDATE migration SET planned_at = ?", (time_text(planned_at),))

    def remember_target(
        self, ids: Mapping[Namespace, str], change: Callable[[Migration], Migration]
    ) -> Migration:
        rows = [(id_, name.database, name.collection) for name, id_ in ids.items()]
        with self._writing("store the identities of the target's collections") as db:
            db.execute("UPDATE collections SET target_id = ''")
            db.executemany(_REMEMBER, rows)
            after = change(_migration(self._database, db))
            _replace_migration(db, after)
        return after

    def turn(
        self,
        collections: Sequence[CollectionProgress],
        *,
        held: Iterable[Partition],
        pending: Iterable[Partition],
        change: Callable[[Migration], Migration],
    ) -> Migration:
        there = [partition_row(partition) for partition in held]
        rows = [partition_row(partition) for partition in pending]
        with self._writing("turn the migration round") as db:
            _replace_plan(db, collections, there)
            db.execute("DELETE FROM steps")
            db.execute("UPDATE partitions SET status = 'copied', documents_copied = documents")
            _add_partitions(db, rows)
            after = change(_migration(self._database, db))
            _replace_migration(db, after)
        return after

    def collections(self) -> list[CollectionProgress]:
        rows = self._rows("read the collections", "SELECT * FROM collections ORDER BY number")
        with understood(self._database.path, "read the collections"):
            return [collection_of(row) for row in rows]

    def save_occupied(self, namespaces: Iterable[Namespace]) -> None:
        with self._writing("store what the target holds") as db:
            save_occupied(db, namespaces)

    def occupied(self) -> frozenset[Namespace]:
        rows = self._rows("read what the target held", "SELECT * FROM occupied")
        return frozenset(Namespace(*row) for row in rows)

    def save_collection(self, collection: CollectionProgress) -> None:
        with self._writing(f"store collection {collection.spec.collection}") as db:
            _save_collection(db, collection)

    def partitions(self, status: PartitionStatus | None = None) -> list[PartitionProgress]:
        doing = "read the partitions"
        if status is None:
            rows = self._rows(doing, _PARTITIONS.format(chosen=""))
        else:
            rows = self._rows(doing, _PARTITIONS.format(chosen="AND p.status = ?"), status.value)
        with understood(self._database.path, doing):
            return partitions_of(rows)

    def add_partitions(self, partitions: Iterable[Partition]) -> None:
        rows = [partition_row(partition) for partition in partitions]
        with self._writing("add partitions") as db:
            _add_partitions(db, rows)

    def partition_copied(self, partition_id: str, *, documents: int, size: int) -> None:
        with self._writing(f"record partition {partition_id!r} as copied") as db:
            updated = db.execute(
                "UPDATE partitions SET status = 'copied', documents_copied = ?,"
                " bytes_copied = ?, documents_compared = 0 WHERE id = ?",
                (documents, size, partition_id),
            )
            _expect_one(updated, partition_id)

    def partition_verified(
        self, partition_id: str, *, compared: int, suspects: Sequence[Suspect]
    ) -> None:
        rows = [suspect_row(suspect) for suspect in suspects]
        with self._writing(f"record partition {partition_id!r} as verified") as db:
            updated = db.execute(
                "UPDATE partitions SET status = 'verified', documents_compared = ? WHERE id = ?",
                (compared, partition_id),
            )
            _expect_one(updated, partition_id)
            _save_suspects(db, rows)

    def reset_verification(self) -> None:
        """Have everything compared again; ``verified_at`` and all differences are cleared."""
        with self._writing("begin the verification anew") as db:
            db.execute(
                "UPDATE partitions SET status = 'copied', documents_compared = 0"
                " WHERE status = 'verified'"
            )
            db.execute("DELETE FROM suspects")
            db.execute("UPDATE migration SET verified_at = NULL")

    def suspects(self) -> list[Suspect]:
        doing = "read the differences"
        rows = self._rows(doing, "SELECT * FROM differences ORDER BY since, collection_id, key")
        with understood(self._database.path, doing):
            return [suspect_of(row) for row in rows]

    def save_suspects(
        self, *, found: Sequence[Suspect], settled: Sequence[Suspect], verified_seq: int
    ) -> None:
        rows = [suspect_row(suspect) for suspect in found]
        with self._writing("store the differences") as db:
            db.executemany(
                "DELETE FROM suspects WHERE collection_id = ? AND key = ?",
                ((suspect.collection_id, suspect.mismatch.key) for suspect in settled),
            )
            _save_suspects(db, rows)
            db.execute("UPDATE migration SET verified_seq = ?", (verified_seq,))

    def mismatches(self, *, limit: int = 1000) -> list[Mismatch]:
        doing = "read the mismatches"
        rows = self._rows(doing, "SELECT * FROM mismatches LIMIT ?", limit)
        with understood(self._database.path, doing):
            return [mismatch_of(row) for row in rows]

    def totals(self) -> Totals:
        (row,) = self._rows("read the totals", _TOTALS)
        return Totals(**{name: row[name] for name in row.keys()})  # noqa: SIM118 - not a mapping

    def copied_by_namespace(self) -> dict[Namespace, tuple[int, int, int, int]]:
        rows = self._rows("read the progress", _BY_NAMESPACE)
        return {Namespace(row[0], row[1]): (row[2], row[3], row[4], row[5]) for row in rows}

    def steps(self) -> list[StepProgress]:
        rows = self._rows("read the steps", "SELECT * FROM steps ORDER BY position")
        with understood(self._database.path, "read the steps"):
            return [step_of(row) for row in rows]

    def save_step(self, step: StepProgress) -> None:
        with self._writing(f"store step {step.name!r}") as db:
            _insert(db, "INSERT OR REPLACE INTO steps", step_row(step))

    def close(self) -> None:
        try:
            if self._lease is not None:
                self._clear_holder()
        finally:
            self._database.close()
            if self._lease is not None:
                self._lease.release()
                self._lease = None

    def _clear_holder(self) -> None:
        with self._database.writing("give the lease back") as db:
            db.execute("UPDATE migration SET holder = '' WHERE generation = ?", (self._generation,))

    def _rows(self, doing: str, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._database.statement(doing) as db:
            return db.execute(query, values).fetchall()

    @contextmanager
    def _writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one transaction, unless the state was removed or taken over."""
        with self._database.writing(doing) as db:
            if self._lease is not None:
                self._check_generation(doing, db)
                self._lease.check()
            yield db

    def _check_generation(self, doing: str, db: sqlite3.Connection) -> None:
        generation, holder = db.execute("SELECT generation, holder FROM migration").fetchone()
        if generation != self._generation:
            msg = (
                f"{doing}: {str(self._database.path)!r}: {holder or 'another process'!r} took "
                f"over (generation {generation}, this process has {self._generation})"
            )
            raise LeaseLost(msg)


_PARTITIONS = """
    SELECT p.collection_id, c.source_database, c.source_collection, p.id, p.status, p.documents,
           p.documents_copied, p.bytes_copied, p.documents_compared, p.bounds
    FROM partitions p JOIN collections c ON c.id = p.collection_id
    WHERE NOT c.is_dropped {chosen}
    ORDER BY c.bytes DESC, p.id
"""

_REMEMBER = """
    UPDATE collections SET target_id = ?
    WHERE target_database = ? AND target_collection = ? AND NOT is_dropped
"""

_TOTALS = """
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

_BY_NAMESPACE = """
    SELECT target_database, target_collection, sum(documents), sum(documents_copied),
           sum(documents_compared), sum(bytes_copied)
    FROM collections WHERE NOT is_dropped GROUP BY target_database, target_collection
"""


def _take_over(database: Database, name: str, holder: str) -> int:
    """Make this process the holder and return its generation."""
    with database.writing("take the migration over") as db:
        is_new = db.execute("SELECT 1 FROM migration").fetchone() is None
        before = Migration(name) if is_new else _migration(database, db)
        after = replace(before, generation=before.generation + 1, holder=holder)
        _replace_migration(db, after)
    return after.generation


def _migration(database: Database, db: sqlite3.Connection) -> Migration:
    row = db.execute("SELECT * FROM migration").fetchone()
    if row is None:
        # Only between the first two transactions of the very first `drive`.
        msg = f"read the migration: {str(database.path)!r}: nothing is stored here yet"
        raise UnknownMigration(msg)
    with understood(database.path, "read the migration"):
        return migration_of(row)


def _replace_migration(db: sqlite3.Connection, migration: Migration) -> None:
    _insert(db, "INSERT OR REPLACE INTO migration", {"only": 1, **migration_row(migration)})


def _replace_plan(
    db: sqlite3.Connection,
    collections: Iterable[CollectionProgress],
    partitions: Iterable[tuple[Any, ...]],
) -> None:
    for table in ("partitions", "suspects", "collections"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    for collection in collections:
        _save_collection(db, collection)
    _add_partitions(db, partitions)


def _save_collection(db: sqlite3.Connection, collection: CollectionProgress) -> None:
    row = collection_row(collection)
    changed = ", ".join(f"{column} = excluded.{column}" for column in row if column != "id")
    _insert(db, "INSERT INTO collections", row, f"ON CONFLICT (id) DO UPDATE SET {changed}")


def _insert(db: sqlite3.Connection, verb: str, row: Mapping[str, Any], clause: str = "") -> None:
    marks = ", ".join("?" for _ in row)
    db.execute(f"{verb} ({', '.join(row)}) VALUES ({marks}) {clause}", tuple(row.values()))


def _add_partitions(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
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


def _save_suspects(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    db.executemany("INSERT OR REPLACE INTO suspects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _expect_one(updated: sqlite3.Cursor, partition_id: str) -> None:
    if updated.rowcount != 1:
        msg = f"partition {partition_id!r} is not in the plan"
        raise StateError(msg, hint="this is a defect; please report it")
