"""The state of a migration in one SQLite file, open to a person with the `sqlite3` shell."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
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
from . import CollectionPage, CollectionQuery, listing
from .database import Database, Format
from .errors import translated, understood
from .lease import Lease
from .paging import Lend, collection_rows, partition_rows
from .rows import (
    collection_of,
    migration_of,
    mismatch_of,
    partition_row,
    partitions_of,
    step_of,
    suspect_of,
    suspect_row,
    time_text,
)
from .tables import (
    AT_SOURCE,
    AT_TARGET,
    BY_NAMESPACE,
    REMEMBER_TARGET,
    SUSPECTS,
    TOTALS,
    add_partitions,
    replace_migration,
    replace_partitions,
    replace_plan,
    save_collection,
    save_occupied,
    save_step,
    save_suspects,
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
                replace_migration(db, after)
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
            replace_plan(db, collections, rows)
            db.execute("UPDATE migration SET planned_at = ?", (time_text(planned_at),))

    def remember_target(
        self, ids: Mapping[Namespace, str], change: Callable[[Migration], Migration]
    ) -> Migration:
        rows = [(id_, name.database, name.collection) for name, id_ in ids.items()]
        with self._writing("store the identities of the target's collections") as db:
            db.execute("UPDATE collections SET target_id = ''")
            db.executemany(REMEMBER_TARGET, rows)
            after = change(_migration(self._database, db))
            replace_migration(db, after)
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
            replace_plan(db, collections, there)
            db.execute("DELETE FROM steps")
            db.execute("UPDATE partitions SET status = 'copied', documents_copied = documents")
            add_partitions(db, rows)
            after = change(_migration(self._database, db))
            replace_migration(db, after)
        return after

    def collections(self, *, largest_first: bool = False) -> Iterator[CollectionProgress]:
        doing = "read the collections"
        for row in collection_rows(self._lent(doing), largest_first=largest_first):
            with understood(self._database.path, doing):
                progress = collection_of(row)
            yield progress

    def collection(self, id_: str) -> CollectionProgress | None:
        found = self._some("SELECT * FROM collections WHERE id = ?", id_)
        return found[0] if found else None

    def collections_at(
        self, namespace: Namespace, *, at_target: bool = False
    ) -> list[CollectionProgress]:
        query = AT_TARGET if at_target else AT_SOURCE
        return self._some(query, namespace.database, namespace.collection)

    def save_occupied(self, namespaces: Iterable[Namespace]) -> None:
        with self._writing("store what the target holds") as db:
            save_occupied(db, namespaces)

    def occupied(self) -> frozenset[Namespace]:
        rows = self._rows("read what the target held", "SELECT * FROM occupied")
        return frozenset(Namespace(*row) for row in rows)

    def save_collection(self, collection: CollectionProgress) -> None:
        with self._writing(f"store collection {collection.spec.collection}") as db:
            save_collection(db, collection)

    def partitions(self, status: PartitionStatus | None = None) -> Iterator[PartitionProgress]:
        doing = "read the partitions"
        for rows in partition_rows(self._lent(doing), status):
            with understood(self._database.path, doing):
                found = partitions_of(rows)
            yield from found

    def cut(self, collection_id: str, partitions: Iterable[Partition]) -> None:
        rows = [partition_row(partition) for partition in partitions]
        with self._writing("store the partitions of a collection") as db:
            replace_partitions(db, collection_id, rows)
            db.execute("UPDATE migration SET verified_at = NULL")

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
    ) -> bool:
        rows = [suspect_row(suspect) for suspect in suspects]
        with self._writing(f"record partition {partition_id!r} as verified") as db:
            updated = db.execute(
                "UPDATE partitions SET status = 'verified', documents_compared = ?"
                " WHERE id = ? AND status <> 'pending'",
                (compared, partition_id),
            )
            if is_there := updated.rowcount == 1:
                save_suspects(db, rows)
        return is_there

    def reset_verification(self) -> None:
        """Have everything compared again; ``verified_at`` and all differences are cleared."""
        with self._writing("begin the verification anew") as db:
            db.execute(
                "UPDATE partitions SET status = 'copied', documents_compared = 0"
                " WHERE status = 'verified'"
            )
            db.execute("DELETE FROM suspects")
            db.execute("UPDATE migration SET verified_at = NULL")

    def suspects(self, *, counts: bool | None = None, limit: int = -1) -> list[Suspect]:
        doing = "read the differences"
        rows = self._rows(doing, SUSPECTS, counts, counts, limit)
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
            save_suspects(db, rows)
            db.execute("UPDATE migration SET verified_seq = ?", (verified_seq,))

    def mismatches(self, *, limit: int = 1000) -> list[Mismatch]:
        doing = "read the mismatches"
        rows = self._rows(doing, "SELECT * FROM mismatches LIMIT ?", limit)
        with understood(self._database.path, doing):
            return [mismatch_of(row) for row in rows]

    def totals(self) -> Totals:
        (row,) = self._rows("read the totals", TOTALS)
        return Totals(**{name: row[name] for name in row.keys()})  # noqa: SIM118 - not a mapping

    def copied_by_namespace(self) -> dict[Namespace, tuple[int, int, int, int]]:
        rows = self._rows("read the progress", BY_NAMESPACE)
        return {Namespace(row[0], row[1]): (row[2], row[3], row[4], row[5]) for row in rows}

    def collection_page(self, query: CollectionQuery) -> CollectionPage:
        with self._database.statement("list the collections") as db:
            return listing.page(db, query)

    def steps(self) -> list[StepProgress]:
        rows = self._rows("read the steps", "SELECT * FROM steps ORDER BY position")
        with understood(self._database.path, "read the steps"):
            return [step_of(row) for row in rows]

    def save_step(self, step: StepProgress) -> None:
        with self._writing(f"store step {step.name!r}") as db:
            save_step(db, step)

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

    def _lent(self, doing: str) -> Lend:
        return lambda: self._database.statement(doing)

    def _some(self, query: str, *values: str) -> list[CollectionProgress]:
        doing = "look up a collection"
        rows = self._rows(doing, query, *values)
        with understood(self._database.path, doing):
            return [collection_of(row) for row in rows]

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


def _take_over(database: Database, name: str, holder: str) -> int:
    """Make this process the holder and return its generation."""
    with database.writing("take the migration over") as db:
        is_new = db.execute("SELECT 1 FROM migration").fetchone() is None
        before = Migration(name) if is_new else _migration(database, db)
        after = replace(before, generation=before.generation + 1, holder=holder)
        replace_migration(db, after)
    return after.generation


def _migration(database: Database, db: sqlite3.Connection) -> Migration:
    row = db.execute("SELECT * FROM migration").fetchone()
    if row is None:
        # Only between the first two transactions of the very first `drive`.
        msg = f"read the migration: {str(database.path)!r}: nothing is stored here yet"
        raise UnknownMigration(msg)
    with understood(database.path, "read the migration"):
        return migration_of(row)


def _expect_one(updated: sqlite3.Cursor, partition_id: str) -> None:
    if updated.rowcount != 1:
        msg = f"partition {partition_id!r} is not in the plan"
        raise StateError(msg, hint="this is a defect; please report it")
