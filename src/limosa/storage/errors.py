"""What SQLite reports, in Limosa's errors: the one place of this translation."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bson.errors

from ..errors import StateCorrupt, StateError, StateUnwritable

_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_TOOBIG,
    }
)
# ERROR is "no such table" or "no such column": the statements are ours, so the file is not.
_CORRUPT = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
)
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_SENSELESS = (
    ValueError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
    bson.errors.BSONError,
)


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Raise what SQLite or the file system reports as a `StateError` naming *path*."""
    try:
        yield
    except sqlite3.Error as error:
        raise _error_for(error, f"{doing}: {str(path)!r}: {error}") from error
    except OSError as error:
        msg = f"{doing}: {str(path)!r}: {error.strerror or error}"
        raise StateUnwritable(msg) from error


@contextmanager
def understood(path: Path, doing: str) -> Iterator[None]:
    """Raise `StateCorrupt` if what was read from *path* makes no sense."""
    try:
        yield
    except _SENSELESS as error:
        msg = f"{doing}: {str(path)!r}: a stored value makes no sense: {error}"
        raise StateCorrupt(msg) from error


def _error_for(error: sqlite3.Error, message: str) -> StateError:
    # Misuse, such as a closed connection, comes without a code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
    if code in _UNWRITABLE:
        return StateUnwritable(message)
    if code in _CORRUPT:
        return StateCorrupt(message)
    if code in _BUSY:
        return StateError(
            message, hint="end whatever keeps a transaction open in this file, such as a shell"
        )
    return StateError(message)
