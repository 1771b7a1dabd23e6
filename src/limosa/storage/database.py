"""One SQLite file as state and buffer use it: checked before use, shared by threads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..errors import StateCorrupt, StateTooNew, UnknownMigration
from .errors import translated

#: Seconds to wait for another process's transaction; storing a plan of a million partitions
#: took 20 s.
BUSY_TIMEOUT = 60.0

#: Bytes to which the write-ahead log is cut back once it grew beyond them.
WAL_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Format:
    """How a file is laid out, and how such a file is recognised."""

    application_id: int
    version: int  # ``PRAGMA user_version``
    schema: str  # name of the SQL file beside this module
    page_size: int  # bytes


class Database:
    """
    One connection to an SQLite file, for many threads.

    Every commit is on disk when it returns. Whatever SQLite reports is raised as a
    `StateError`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        # Reentrant, so that a change computed inside a transaction may read.
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls, path: Path, layout: Format, *, create: bool = False, check: bool = False
    ) -> Database:
        """
        Open *path*, made first if *create* is set, after a full *check* if that is set.

        Raises:
            UnknownMigration: nothing was stored in it yet.
            StateCorrupt: damaged, or a file of another kind; it is left as it is.
            StateTooNew: written by a newer version; it is left as it is.
            StateUnwritable: not there, or no right to write it.
        """
        with translated(path, "open"):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.row_factory = sqlite3.Row
                _prepare(path, connection, layout, create=create, check=check)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    @contextmanager
    def statement(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Lend the connection outside any transaction, for one statement."""
        with self._lock, translated(self.path, doing):
            yield self._connection

    @contextmanager
    def writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one transaction: all of it becomes durable, or nothing."""
        with self._lock, translated(self.path, doing):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk has SQLite roll back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; closed already is fine."""
        with self._lock, translated(self.path, "close"):
            self._connection.close()


def _prepare(
    path: Path, connection: sqlite3.Connection, layout: Format, *, create: bool, check: bool
) -> None:
    """Recognise the file before anything is written to it, then make it ready."""
    is_empty = _recognise(path, connection, layout)
    if is_empty and not create:
        msg = f"open: {str(path)!r}: nothing is stored here yet"
        raise UnknownMigration(msg)
    if check and not is_empty:
        _check(path, connection)
    if create:
        connection.execute(f"PRAGMA page_size = {layout.page_size:d}")
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT:d}")
    if is_empty:
        connection.executescript(_script(layout))


def _recognise(path: Path, connection: sqlite3.Connection, layout: Format) -> bool:
    """Return whether the file is empty; raise unless it is that or one of ours."""
    # In one transaction: another process may be making the file at this moment.
    connection.execute("BEGIN")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        connection.execute("ROLLBACK")
    if (version, application_id, tables) == (0, 0, 0):
        return True
    if application_id != layout.application_id or version < 1:
        msg = f"open: {str(path)!r}: not a file that limosa wrote"
        raise StateCorrupt(msg)
    if version > layout.version:
        msg = (
            f"open: {str(path)!r}: written in format {version}, "
            f"this version reads formats up to {layout.version}"
        )
        raise StateTooNew(msg)
    return False


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        msg = f"check: {str(path)!r}: {verdict}"
        raise StateCorrupt(msg)


def _script(layout: Format) -> str:
    # The version comes with the tables in one transaction: a crash leaves an empty file, and
    # of two processes that make the file at once the second finds everything there.
    schema = files(__package__).joinpath(layout.schema).read_text(encoding="utf-8")
    return (
        f"BEGIN IMMEDIATE;\n{schema}\n"
        f"PRAGMA application_id = {layout.application_id:d};\n"
        f"PRAGMA user_version = {layout.version:d};\n"
        "COMMIT;"
    )
