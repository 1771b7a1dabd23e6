"""State that cannot be used: a clear error, and nothing changed."""

from __future__ import annotations

import os
import resource
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from limosa.errors import StateCorrupt, StateError, StateTooNew, StateUnwritable, UnknownMigration
from limosa.storage import database
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.sqlite import SqliteStore

Opener = Callable[[Path], object]

NOBODY = 65534


def drive(folder: Path) -> object:
    return SqliteStore.drive(folder, "demo")


def buffer(folder: Path) -> object:
    return SqliteBuffer(folder / "buffer.db")


OPENERS = [
    pytest.param(drive, "state.db", id="drive"),
    pytest.param(SqliteStore.watch, "state.db", id="watch"),
    pytest.param(buffer, "buffer.db", id="buffer"),
]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with state and buffer."""
    SqliteStore.drive(tmp_path, "demo").close()
    SqliteBuffer(tmp_path / "buffer.db").close()
    return tmp_path


@pytest.mark.parametrize(("opener", "name"), OPENERS)
@pytest.mark.parametrize(
    "content", [b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_not_a_database(tmp_path: Path, opener: Opener, name: str, content: bytes) -> None:
    """A file that is no database is reported by name and stays as it is."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(StateCorrupt, match=name):
        opener(tmp_path)

    assert path.read_bytes() == content


@pytest.mark.parametrize(("opener", "name"), OPENERS)
def test_foreign_database(tmp_path: Path, opener: Opener, name: str) -> None:
    """A database of another program is not touched."""
    path = tmp_path / name
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE migration (mine TEXT)")
        db.commit()
    content = path.read_bytes()

    with pytest.raises(StateCorrupt, match="not a file that limosa wrote"):
        opener(tmp_path)

    assert path.read_bytes() == content


@pytest.mark.parametrize(("opener", "name"), OPENERS)
def test_newer_version(made: Path, opener: Opener, name: str) -> None:
    """A file of a newer version is refused and stays as it is."""
    path = made / name
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    content = path.read_bytes()

    with pytest.raises(StateTooNew, match="format 99"):
        opener(made)

    assert path.read_bytes() == content


@pytest.mark.parametrize("position", range(4096, 4096 * 10, 4096))
def test_damaged_page(made: Path, position: int) -> None:
    """A damaged page anywhere is found before a migration is driven, and nothing is changed."""
    path = made / "state.db"
    content = bytearray(path.read_bytes())
    content[position : position + 100] = b"\xff" * 100
    path.write_bytes(content)

    with pytest.raises(StateCorrupt, match=r"state\.db"):
        drive(made)

    assert path.read_bytes() == content


def test_cut_file(made: Path) -> None:
    """A file that lost its end is found."""
    path = made / "state.db"
    path.write_bytes(path.read_bytes()[: 4096 * 3])

    with pytest.raises(StateCorrupt):
        drive(made)


def test_senseless_value(made: Path) -> None:
    """A value that cannot be is reported as damage."""
    with closing(sqlite3.connect(made / "state.db")) as db:
        db.execute("UPDATE migration SET state = 'SLEEPING'")
        db.commit()

    with closing(SqliteStore.watch(made)) as store, pytest.raises(StateCorrupt, match="SLEEPING"):
        store.migration()


def test_failed_drive_gives_lease_back(made: Path) -> None:
    """A process that could not open the state does not keep others out."""
    good = (made / "state.db").read_bytes()
    (made / "state.db").write_bytes(b"x" * 5000)
    with pytest.raises(StateCorrupt):
        drive(made)

    (made / "state.db").write_bytes(good)

    SqliteStore.drive(made, "demo").close()


def test_empty_file(tmp_path: Path) -> None:
    """A crash before the first table leaves an empty file: unknown to watch, fine to drive."""
    (tmp_path / "state.db").touch()

    with pytest.raises(UnknownMigration):
        SqliteStore.watch(tmp_path)
    SqliteStore.drive(tmp_path, "demo").close()


def test_missing_file(tmp_path: Path) -> None:
    """To watch what is not there is an error and makes nothing."""
    with pytest.raises(StateUnwritable, match=r"state\.db"):
        SqliteStore.watch(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_folder_is_file(tmp_path: Path) -> None:
    """A state folder that is a file is reported by name."""
    (tmp_path / "state").touch()

    with pytest.raises(StateUnwritable, match="state"):
        drive(tmp_path / "state")


@pytest.mark.parametrize("opener", [drive, buffer])
def test_no_right_to_write(opener: Opener) -> None:
    """Without the right to write nothing is driven or captured, and the error names the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        SqliteStore.drive(folder, "demo").close()
        SqliteBuffer(folder / "buffer.db").close()
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)

        with unprivileged(), pytest.raises(StateUnwritable, match=name):
            opener(folder)


def test_no_right_to_make() -> None:
    """Without the right to make the folder the error names it."""
    with unprivileged(), pytest.raises(StateUnwritable, match="limosa-state"):
        drive(Path("/limosa-state"))


def test_disk_full(tmp_path: Path) -> None:
    """A full disk is an error that undoes the step; with space again the store goes on."""
    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        before = store.migration()

        with disk_full(), pytest.raises(StateUnwritable, match=r"state\.db"):
            store.update(lambda m: replace(m, source="x" * 1_000_000))

        assert store.migration() == before
        assert store.update(lambda m: replace(m, applied_seq=3)).applied_seq == 3


def test_no_space_to_begin(tmp_path: Path) -> None:
    """Where there is no space for the first table, no half state is left."""
    with disk_full(), pytest.raises(StateUnwritable, match=r"state\.db"):
        drive(tmp_path)

    SqliteStore.drive(tmp_path, "demo").close()


def test_locked_by_shell(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction left open in a shell is reported with what to do."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    with (
        closing(SqliteStore.watch(made)) as store,
        closing(sqlite3.connect(made / "state.db", isolation_level=None)) as shell,
    ):
        shell.execute("BEGIN IMMEDIATE")

        with pytest.raises(StateError, match="locked") as caught:
            store.update(lambda m: replace(m, applied_seq=1))

    assert "shell" in caught.value.hint


def test_closed_store(made: Path) -> None:
    """A store that is closed says so in Limosa's own error."""
    store = SqliteStore.watch(made)
    store.close()

    with pytest.raises(StateError, match="closed"):
        store.migration()


@contextmanager
def disk_full() -> Iterator[None]:
    """No file can grow beyond some kilobytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def unprivileged() -> Iterator[None]:
    """The super-user may write anywhere, so for a while the process is nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
