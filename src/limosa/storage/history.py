"""The history of a migration in one SQLite file, which may be lost without harm."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StateCorrupt, StateError, StateTooNew
from ..history import Entry, Histogram, Sample
from .database import Database, Format
from .errors import translated, understood
from .rows import time_text

T = TypeVar("T")

HISTORY_FILE = "history.db"
#: What is appended to the name of a history that could not be read and was put aside.
ASIDE = ".damaged"

#: The application id is "Limh" in ASCII.
HISTORY_FORMAT = Format(application_id=0x4C696D68, version=1, schema="history.sql", page_size=4096)

#: Milliseconds to wait for another process; all transactions here take a few.
_BUSY_MS = 5_000

#: Entries kept, of some 300 bytes each; and how many are added between two looks at it.
MAX_ENTRIES = 100_000
_ENTRIES_BETWEEN = 1_000

#: From which age on one sample is kept for how long a time. With these a history of a year has
#: some 60,000 samples of 60 bytes.
THINNED = (
    (timedelta(hours=1), timedelta(seconds=10)),
    (timedelta(days=1), timedelta(minutes=1)),
    (timedelta(days=14), timedelta(minutes=10)),
)
_SAMPLES_BETWEEN = 600

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class SqliteHistory:
    """
    A `History` in a file of its own, for several threads and processes.

    A file that is damaged, or that something else wrote, is put aside under another name and a
    new one begun, of which *warn* is told; one that was removed is begun anew without a word.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] | None = None) -> None:
        """
        Open the file, made first if there is none.

        Raises:
            StateUnwritable: no right to, no space left, or no such folder.
        """
        self._path = path
        self._warn = warn or (lambda _message: None)
        self._lock = threading.RLock()
        self._database: Database | None = None
        self._inode = 0
        self._entries = self._samples = 0  # added since the last look at how many there are
        self._using(lambda _database: None)

    def record(self, entries: Iterable[Entry]) -> None:
        rows = [
            (time_text(e.at), e.kind, e.level, e.message, json.dumps(dict(e.fields), default=str))
            for e in entries
        ]
        if not rows:
            return
        with self._lock:
            self._entries += len(rows)
            is_due = self._entries >= _ENTRIES_BETWEEN
            if is_due:
                self._entries = 0

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_RECORD, rows)
            if is_due:
                _drop_entries(db)

        self._write("record what happened", write)

    def entries(self, *, after: int = 0, limit: int = 500) -> list[Entry]:
        return self._read("read the entries", _ENTRIES, (after, limit), _entry)

    def newest_entries(self, *, limit: int = 500) -> list[Entry]:
        return self._read("read the entries", _NEWEST_ENTRIES, (limit,), _entry)[::-1]

    def sample(self, sample: Sample) -> None:
        at = _milliseconds(sample.at)
        row = (at, *(getattr(sample, name) for name in _FIGURES))
        with self._lock:
            self._samples += 1
            is_due = self._samples >= _SAMPLES_BETWEEN
            if is_due:
                self._samples = 0

        def write(db: sqlite3.Connection) -> None:
            db.execute(_SAMPLE, row)
            if is_due:
                _thin(db, at)

        self._write("record a sample", write)

    def samples(self, *, since: datetime | None = None, limit: int = 1000) -> list[Sample]:
        doing = "read the samples"
        after = -1 if since is None else _milliseconds(since)

        def read(database: Database) -> list[Sample]:
            with database.statement(doing) as db:
                first, last, count = db.execute(_SPAN, (after,)).fetchone()
                if count <= limit:
                    rows = db.execute(_SAMPLES, (after,)).fetchall()
                else:
                    # The first, and the last of each of so many spans of equal length.
                    step = -(-(last - first) // max(1, limit - 1))
                    rows = db.execute(_THINNED, {"first": first, "step": step}).fetchall()
            with understood(database.path, doing):
                return [_sample(row) for row in rows[-limit:]]

        return self._using(read)

    def latest(self) -> Sample | None:
        found = self._read("read the last sample", _LATEST, (), _sample)
        return found[0] if found else None

    def observe(self, durations: Mapping[str, Histogram]) -> None:
        def write(db: sqlite3.Connection) -> None:
            for name, added in durations.items():
                row = db.execute("SELECT * FROM durations WHERE name = ?", (name,)).fetchone()
                h = added if row is None else _histogram(row).joined(added)
                values = (name, json.dumps(h.bounds), json.dumps(h.counts), h.total, h.count)
                db.execute("INSERT OR REPLACE INTO durations VALUES (?, ?, ?, ?, ?)", values)

        self._write("record durations", write)

    def durations(self) -> dict[str, Histogram]:
        query = "SELECT * FROM durations ORDER BY name"
        return dict(self._read("read the durations", query, (), _named_histogram))

    def count(self, increments: Mapping[str, int]) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.executemany(_COUNT, increments.items())

        self._write("record counters", write)

    def counters(self) -> dict[str, int]:
        query = "SELECT name, value FROM counters ORDER BY name"
        return dict(self._read("read the counters", query, (), tuple))

    def note(self, gauges: Mapping[str, float]) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO gauges VALUES (?, ?)", gauges.items())

        self._write("record values", write)

    def gauges(self) -> dict[str, float]:
        query = "SELECT name, value FROM gauges ORDER BY name"
        return dict(self._read("read the values", query, (), tuple))

    def close(self) -> None:
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def _read(
        self, doing: str, query: str, values: tuple[Any, ...], made: Callable[[Any], T]
    ) -> list[T]:
        def read(database: Database) -> list[T]:
            with database.statement(doing) as db:
                rows = db.execute(query, values).fetchall()
            with understood(database.path, doing):
                return [made(row) for row in rows]

        return self._using(read)

    def _write(self, doing: str, write: Callable[[sqlite3.Connection], None]) -> None:
        def in_one_step(database: Database) -> None:
            with database.writing(doing) as db, understood(database.path, doing):
                write(db)

        self._using(in_one_step)

    def _using(self, use: Callable[[Database], T]) -> T:
        """Return what *use* does with the file; if that is damaged, what it does with a new one."""
        with self._lock:
            try:
                return use(self._opened())
            except (StateCorrupt, StateTooNew) as error:
                self._put_aside(error)
                return use(self._opened())

    def _opened(self) -> Database:
        """Return the file, opened again if another one lies there by now."""
        if self._database is not None and _inode(self._path) == self._inode:
            return self._database
        self._forget()
        database = Database.open(self._path, HISTORY_FORMAT, create=True)
        try:
            with database.statement("set up the history") as db:
                # A crash of the machine may take the last seconds: no disk is waited for.
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute(f"PRAGMA busy_timeout = {_BUSY_MS:d}")
        except BaseException:
            database.close()
            raise
        self._database, self._inode = database, _inode(self._path)
        return database

    def _put_aside(self, error: StateError) -> None:
        """Make room for a new file, unless another process has done so."""
        was_opened, inode = self._database is not None, self._inode
        self._forget()
        if was_opened and _inode(self._path) != inode:
            return
        aside = self._path.with_name(self._path.name + ASIDE)
        with translated(self._path, "put the damaged history aside"):
            with suppress(FileNotFoundError):
                self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._warn(f"the history begins anew, what could not be used is in {str(aside)!r}: {error}")

    def _forget(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(StateError):  # it is of no use any more
                database.close()


_FIGURES = tuple(f.name for f in fields(Sample) if f.name != "at")

_RECORD = "INSERT INTO entries (at, kind, level, message, fields) VALUES (?, ?, ?, ?, ?)"
_ENTRIES = "SELECT * FROM entries WHERE number > ? ORDER BY number LIMIT ?"
_NEWEST_ENTRIES = "SELECT * FROM entries ORDER BY number DESC LIMIT ?"
_SAMPLE = "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SAMPLES = "SELECT * FROM samples WHERE at > ? ORDER BY at"
_LATEST = "SELECT * FROM samples ORDER BY at DESC LIMIT 1"
_SPAN = "SELECT min(at), max(at), count(*) FROM samples WHERE at > ?"
_COUNT = """
    INSERT INTO counters VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
"""
_THINNED = """
    SELECT * FROM samples WHERE at IN
        (SELECT max(at) FROM samples WHERE at >= :first GROUP BY (at - :first + :step - 1) / :step)
    ORDER BY at
"""
_DROP_ENTRIES = """
    DELETE FROM entries WHERE number IN
        (SELECT number FROM entries {which} ORDER BY number LIMIT ?)
"""
_THIN = """
    DELETE FROM samples WHERE at < :before AND at NOT IN
        (SELECT max(at) FROM samples WHERE at < :before GROUP BY at / :step)
"""


def _drop_entries(db: sqlite3.Connection) -> None:
    """Drop the oldest, those that tell of trouble last."""
    for which in ("WHERE level = 'info'", ""):
        (count,) = db.execute("SELECT count(*) FROM entries").fetchone()
        if count > MAX_ENTRIES:
            db.execute(_DROP_ENTRIES.format(which=which), (count - MAX_ENTRIES,))


def _thin(db: sqlite3.Connection, now: int) -> None:
    for age, step in THINNED:
        before = now - age // _MILLISECOND
        db.execute(_THIN, {"before": before, "step": step // _MILLISECOND})


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        number=row["number"],
        at=datetime.fromisoformat(row["at"]),
        kind=row["kind"],
        level=row["level"],
        message=row["message"],
        fields=json.loads(row["fields"]),
    )


def _sample(row: sqlite3.Row) -> Sample:
    return Sample(_EPOCH + row["at"] * _MILLISECOND, *(row[name] for name in _FIGURES))


def _histogram(row: sqlite3.Row) -> Histogram:
    bounds, counts = json.loads(row["bounds"]), json.loads(row["counts"])
    return Histogram(tuple(bounds), tuple(counts), row["total"], row["count"])


def _named_histogram(row: sqlite3.Row) -> tuple[str, Histogram]:
    return row["name"], _histogram(row)
