"""The catalog: migrations are found by name or folder, and removed without trace."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from limosa import catalog
from limosa.errors import ConfigError, LeaseHeld, StateError, UnknownMigration
from limosa.state import State
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMOSA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def made(name: str, state: Path | None = None) -> catalog.Folder:
    """Return a migration that no process drives."""
    folder = catalog.folder_for(name, state)
    SqliteStore.drive(folder.path, name).close()
    SqliteBuffer(folder.buffer_file).close()
    return folder


def test_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home is what LIMOSA_HOME says, else the system's place for state."""
    assert catalog.home() == home

    monkeypatch.delenv("LIMOSA_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/states")

    assert catalog.home() == Path("/var/states/limosa")


def test_name_for() -> None:
    """A made name is readable, always the same, and another one for other ends."""
    source, target = "mongodb://db1.example.com:27017,db2:27017", "mongodb://10.0.0.7:27018"

    name = catalog.name_for(source, target)

    assert name.startswith("db1.example.com-27017-to-10.0.0.7-27018-")
    assert name == catalog.name_for(source, target)
    others = {
        catalog.name_for(target, source),
        catalog.name_for(source, "mongodb://10.0.0.8:27018"),
    }
    assert len({name, *others}) == 3


@pytest.mark.parametrize(
    "identity",
    ["mongodb://[::1]:27017", "mongodb+srv://x", "memory://", "a" * 500, "", "mongodb://-.-/ü"],
)
def test_made_names_are_valid(identity: str) -> None:
    """Whatever the two ends are called, the name made of them is a valid one."""
    name = catalog.name_for(identity, identity)

    assert catalog.folder_for(name).name == name


def test_made_name_without_credentials() -> None:
    """No user or password gets into a name."""
    name = catalog.name_for("mongodb://me:secret@host:1/db", "mongodb://b")

    assert "secret" not in name
    assert name.startswith("host-1-to-b-")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-x", "a b", ".hidden", "ü", "a\n", "a" * 129]
)
def test_bad_names(name: str) -> None:
    """A name that cannot be a folder everywhere is refused."""
    with pytest.raises(ConfigError, match="the name of a migration"):
        catalog.folder_for(name)
    with pytest.raises(ConfigError):
        catalog.find(name)


def test_folder_for(home: Path, tmp_path: Path) -> None:
    """A migration lives under its name in the home, unless a folder is given."""
    assert catalog.folder_for("demo").path == home / "demo"
    assert catalog.folder_for("demo", tmp_path / "here").path == tmp_path / "here"


def test_known(home: Path) -> None:
    """All migrations in the home are listed by name; other files are not."""
    assert catalog.known() == []
    made("zeta")
    made("alpha")
    (home / "notes").mkdir()
    (home / "file").touch()

    assert [folder.name for folder in catalog.known()] == ["alpha", "zeta"]


def test_known_with_a_corrupt_one() -> None:
    """A corrupt state is listed with the others and an error only to who opens it."""
    made("good")
    bad = made("bad")
    bad.state_file.write_bytes(b"x" * 5000)

    assert [folder.name for folder in catalog.known()] == ["bad", "good"]
    with closing(catalog.watch(catalog.find("good"))) as store:
        assert store.migration().name == "good"
    with pytest.raises(StateError):
        catalog.watch(bad)


def test_find(tmp_path: Path) -> None:
    """A migration is found by folder, by name, or because it is the only one."""
    first = made("first")
    assert catalog.find() == first

    second = made("second")
    elsewhere = made("third", tmp_path / "elsewhere")
    assert catalog.find("second") == second
    assert catalog.find("second", tmp_path / "elsewhere") == elsewhere


def test_find_nothing(tmp_path: Path) -> None:
    """What is not found is said together with the names there are."""
    with pytest.raises(UnknownMigration, match="no migration is known"):
        catalog.find()
    made("first")
    made("second")

    with pytest.raises(UnknownMigration, match="must be named; known: first, second"):
        catalog.find()
    with pytest.raises(UnknownMigration, match="'other'; known: first, second"):
        catalog.find("other")
    with pytest.raises(UnknownMigration, match="elsewhere"):
        catalog.find(state=tmp_path / "elsewhere")


def test_watch() -> None:
    """A watched migration can be steered while another process drives it."""
    folder = made("demo")
    with (
        closing(SqliteStore.drive(folder.path, "demo")) as driving,
        closing(catalog.watch(folder)) as watching,
    ):
        watching.update(lambda m: m.moved_to(State.RUNNING))

        assert driving.migration().state is State.RUNNING


def test_watch_nothing(home: Path) -> None:
    """To watch what was never started is an error and makes nothing."""
    with pytest.raises(UnknownMigration):
        catalog.watch(catalog.folder_for("demo"))

    assert not home.exists()


def test_is_driven() -> None:
    """A migration is driven exactly while a process holds its lease."""
    folder = catalog.folder_for("demo")
    assert not catalog.is_driven(folder)

    with closing(SqliteStore.drive(folder.path, "demo")):
        assert catalog.is_driven(folder)

    assert not catalog.is_driven(folder)


@pytest.mark.parametrize("content", [None, b"x" * 5000])
def test_remove(home: Path, content: bytes | None) -> None:
    """A migration is removed with its folder, also when its state is corrupt."""
    folder = made("demo")
    if content is not None:
        folder.state_file.write_bytes(content)

    catalog.remove(folder)

    assert list(home.iterdir()) == []


def test_remove_keeps_other_files() -> None:
    """Files that Limosa did not make stay, and so does their folder."""
    folder = made("demo")
    (folder.path / "notes.txt").touch()

    catalog.remove(folder)

    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]
    assert catalog.known() == []


def test_remove_driven() -> None:
    """A migration that is driven is not removed."""
    folder = catalog.folder_for("demo")
    with closing(SqliteStore.drive(folder.path, "demo")) as store:
        with pytest.raises(LeaseHeld):
            catalog.remove(folder)

        assert store.update(lambda m: m.moved_to(State.RUNNING)).state is State.RUNNING


def test_remove_nothing(home: Path) -> None:
    """To remove what is not there is an error and makes nothing."""
    with pytest.raises(UnknownMigration):
        catalog.remove(catalog.folder_for("demo"))

    assert not home.exists()
