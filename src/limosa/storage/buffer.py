"""The buffer: changes captured from the source that wait to be applied, in one SQLite file."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ..errors import StateCorrupt
from ..model import ChangeBatch, ResumeToken
from . import Room
from .database import Database, Format
from .encoding import (
    decoded_changes,
    decoded_schema_change,
    encoded_changes,
    encoded_schema_change,
    joined,
    size_of,
)
from .errors import translated, understood
from .rows import time_text

BUFFER_FILE = "buffer.db"

#: The application id is "Limb" in ASCII. Large pages: a body of 1,000 keys takes two of them.
BUFFER_FORMAT = Format(
    application_id=0x4C696D62, version=1, schema="buffer.sql", page_size=16 * 1024
)

#: Bytes that `SqliteBuffer.read` joins at most, where keys are large or states stored with them.
READ_LIMIT = 32 * 1024 * 1024

#: Freed pages are used again. Only when this much is free, and no more than `SHRINK_BELOW` is in
#: use, is the file rewritten, which takes milliseconds then.
SHRINK_ABOVE = 64 * 1024 * 1024
SHRINK_BELOW = 8 * 1024 * 1024

#: Bytes of its disk that are kept free, or that share of a small one: other programs need some, and
#: so does the state, which has to say why nothing is captured any more.
KEEP_FREE = 1024**3
KEEP_FREE_SHARE = 0.05

#: Bytes of freed pages below which the file is taken to grow with the next batch: more than the
#: largest answer of a source.
_REUSABLE = 32 * 1024 * 1024


class SqliteBuffer:
    """
    A `ChangeBuffer` in a file of its own, for several threads.

    Reading does not wait for the disk while capture writes. A stored batch that was damaged is
    noticed by its checksum: a lost change would be a lost document.
    """

    def __init__(self, path: Path, *, keep_free: int | None = None) -> None:
        """Open the file, made if it is not there; *keep_free* is in bytes, in place of 1 GiB."""
        self._keep_free = keep_free
        self._writer = Database.open(path, BUFFER_FORMAT, create=True)
        try:
            self._reader = Database.open(path, BUFFER_FORMAT)
        except BaseException:
            self._writer.close()
            raise

    def append(self, batch: ChangeBatch) -> int:
        if batch.schema is None:
            body = encoded_changes(batch.changes)
            changes = sum(map(len, batch.changes.values()))
        else:
            body = encoded_schema_change(batch.schema)
            changes = 1
        time = time_text(batch.source_time)
        is_schema, token = batch.schema is not None, batch.resume_token
        row = (is_schema, changes, changes, batch.events, time, token, zlib.crc32(body), body)
        with self._writer.writing("append to the buffer") as db:
            inserted = db.execute(_APPEND, row)
            db.execute(_MOVE, (token, time))
        assert inserted.lastrowid is not None
        return inserted.lastrowid

    def mark(self, token: ResumeToken, source_time: datetime) -> None:
        with self._writer.writing("store the position") as db:
            db.execute(_MOVE, (token, time_text(source_time)))

    def position(self) -> tuple[ResumeToken, datetime] | None:
        row = self._first("read the position", "SELECT token, source_time FROM position")
        if row is None:
            return None
        with understood(self._reader.path, "read the position"):
            return ResumeToken(row[0]), datetime.fromisoformat(row[1])

    def last_seq(self) -> int:
        # AUTOINCREMENT remembers it here, also after the batch is gone.
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'batches'"
        row = self._first("read the buffer's end", query)
        return row[0] if row else 0

    def read(
        self, *, after: int, limit: int, through: int | None = None
    ) -> tuple[int, ChangeBatch] | None:
        rows = self._joinable(after, limit, through)
        if not rows:
            return None
        last = rows[-1]
        with understood(self._reader.path, "read the buffer"):
            token, time = ResumeToken(last["token"]), datetime.fromisoformat(last["source_time"])
            bodies = [self._body(row) for row in rows]
            events = sum(row["events"] for row in rows)
            if last["is_schema"]:
                schema = decoded_schema_change(bodies[0])
                return last["seq"], ChangeBatch(token, time, schema=schema, events=events)
            changes = joined(map(decoded_changes, bodies))
            return last["seq"], ChangeBatch(token, time, changes, events=events)

    def waiting(self, *, after: int) -> int:
        row = self._first("count the changes that wait", _WAITING, after)
        return 0 if row is None else int(row[0])

    def room(self) -> Room:
        path = self._writer.path
        with translated(path, "look how much is free"):
            disk = os.statvfs(path)
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        kept = self._keep_free
        if kept is None:
            kept = min(KEEP_FREE, int(total * KEEP_FREE_SHARE))
        left = free - kept
        if left <= 0:
            with self._reader.statement("look for freed pages") as db:
                left = max(left, _reusable(db) - _REUSABLE)
        return Room(str(path), left=left, free=free, kept=kept)

    def trim(self, *, through: int) -> None:
        with self._writer.writing("trim the buffer") as db:
            db.execute("DELETE FROM batches WHERE seq <= ?", (through,))
        with self._writer.statement("shrink the buffer") as db:
            if _is_mostly_free(db):
                db.execute("VACUUM")

    def clear(self) -> None:
        with self._writer.writing("clear the buffer") as db:
            db.execute("DELETE FROM batches")
            db.execute("DELETE FROM position")

    def close(self) -> None:
        try:
            self._reader.close()
        finally:
            self._writer.close()

    def _joinable(self, after: int, limit: int, through: int | None) -> Sequence[sqlite3.Row]:
        """Return the batches to be joined: a schema change, or document changes up to the next."""
        end = through if through is not None else _LAST
        rows: list[sqlite3.Row] = []
        changes = size = 0
        with self._reader.statement("read the buffer") as db:
            # Row by row: where to stop is known from the rows, and bodies are large.
            cursor = db.execute(_FOLLOWING, (after, end))
            try:
                for row in cursor:
                    if row["is_schema"]:
                        return rows or [row]
                    rows.append(row)
                    changes += row["changes"]
                    size += size_of(row["body"])
                    if changes >= limit or size >= READ_LIMIT:
                        break
            finally:
                cursor.close()
        return rows

    def _body(self, row: sqlite3.Row) -> bytes:
        body: bytes = row["body"]
        if zlib.crc32(body) != row["checksum"]:
            msg = f"read the buffer: {str(self._reader.path)!r}: batch {row['seq']} is damaged"
            raise StateCorrupt(msg)
        return body

    def _first(self, doing: str, query: str, *values: int) -> sqlite3.Row | None:
        with self._reader.statement(doing) as db:
            rows = db.execute(query, values).fetchall()
        return rows[0] if rows else None


_LAST = 2**63 - 1

_APPEND = """
    INSERT INTO batches
        (is_schema, changes, total, events, source_time, token, checksum, body)
    VALUES (?, ?, ? + coalesce((SELECT total FROM batches ORDER BY seq DESC LIMIT 1), 0),
            ?, ?, ?, ?, ?)
"""

_MOVE = "INSERT OR REPLACE INTO position (only, token, source_time) VALUES (1, ?, ?)"

_FOLLOWING = """
    SELECT seq, is_schema, changes, events, source_time, token, checksum, body
    FROM batches WHERE seq > ? AND seq <= ? ORDER BY seq
"""

# Two rows instead of all that wait.
_WAITING = """
    SELECT (SELECT total FROM batches ORDER BY seq DESC LIMIT 1) - (total - changes)
    FROM batches WHERE seq > ? ORDER BY seq LIMIT 1
"""


def _is_mostly_free(db: sqlite3.Connection) -> bool:
    free = _reusable(db)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    used = pages * BUFFER_FORMAT.page_size - free
    return bool(free >= SHRINK_ABOVE and used <= SHRINK_BELOW)


def _reusable(db: sqlite3.Connection) -> int:
    """Return the bytes of pages that are there and hold nothing."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    return int(free) * BUFFER_FORMAT.page_size
