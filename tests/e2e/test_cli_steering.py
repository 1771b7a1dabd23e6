"""The commands that look at a migration and steer it, against its state alone."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest

from limosa.cli import run
from limosa.model import Collection, CollectionSpec, Key, Mismatch, MismatchKind, Namespace
from limosa.model import Partition as Part
from limosa.state import CollectionProgress, Failure, Migration, State, Suspect
from limosa.storage.sqlite import SqliteStore

NOW = datetime.now(UTC)
PEOPLE = Namespace("shop", "people")
COLLECTION = Collection(PEOPLE, "c1")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of all migrations."""
    monkeypatch.setenv("LIMOSA_HOME", str(tmp_path))
    return tmp_path


def running(migration: Migration) -> Migration:
    """A migration that is consistent, verified and may be committed."""
    return replace(
        migration.moved_to(State.RUNNING),
        source="mongodb://a:1",
        target="mongodb://b:1",
        started_at=NOW,
        planned_at=NOW,
        copied_at=NOW,
        indexed_at=NOW,
        captured_to=NOW,
        applied_to=NOW,
        verified_at=NOW,
    )


def driven(home: Path, name: str = "m") -> SqliteStore:
    store = SqliteStore.drive(home / name, name)
    part = Part("c1/0", COLLECTION, b"", 10)
    store.save_plan([CollectionProgress(CollectionSpec(COLLECTION), PEOPLE)], [part], NOW)
    store.partition_copied("c1/0", documents=10, size=100)
    store.update(running)
    store.partition_verified("c1/0", compared=10, suspects=[])
    return store


@pytest.fixture
def engine(home: Path) -> Iterator[SqliteStore]:
    """The store of a process that drives the only migration."""
    store = driven(home)
    yield store
    store.close()


@pytest.fixture
def idle(home: Path) -> Path:
    """The folder of the only migration, which no process drives."""
    driven(home).close()
    return home / "m"


def changed(folder: Path, change: Callable[[Migration], Migration]) -> Migration:
    store = SqliteStore.watch(folder)
    try:
        return store.update(change)
    finally:
        store.close()


def committed(migration: Migration) -> Migration:
    return replace(
        migration, state=State.COMMITTED, commit_at=NOW, writable_at=NOW, committed_at=NOW
    )


def mismatch(store: SqliteStore) -> None:
    key = Key(bson.encode({"_id": 7}))
    found = Mismatch(MismatchKind.DIFFERENT, PEOPLE, key)
    store.save_suspects(
        found=[Suspect(found, "c1", NOW, b"x", counts=True)], settled=[], verified_seq=0
    )


def output(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_status(engine: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Status shows the only migration without being told its name."""
    assert run(["status"]) == 0

    shown = capsys.readouterr().out
    assert "RUNNING" in shown
    assert "change event application" in shown
    assert "no process drives it" not in shown


def test_status_json(engine: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Status as JSON says that a process drives the migration, and which."""
    assert run(["status", "m", "--json"]) == 0

    body = output(capsys)
    assert body["isDriven"]
    assert body["holder"]
    assert body["canCommit"]


def test_status_of_a_folder(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A migration can be named by its folder; what nobody drives is said so."""
    assert run(["status", "--state", str(idle)]) == 0

    assert "run the same command again" in capsys.readouterr().out


def test_status_watched(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Watching ends by itself when the migration has."""
    changed(idle, committed)

    assert run(["status", "--watch", "--json"]) == 0
    assert output(capsys)["state"] == "COMMITTED"


@pytest.mark.parametrize("arguments", [["status"], ["pause"], ["commit"], ["verify"], ["cleanup"]])
def test_unknown_migration(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not known is an error of the command line."""
    assert run([*arguments, "nobody"]) == 2

    assert "'nobody'" in capsys.readouterr().err


def test_name_needed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where several migrations are known, the names are shown and one is needed."""
    driven(home, "one").close()
    driven(home, "two").close()

    assert run(["status"]) == 2
    shown = capsys.readouterr().err
    assert "one" in shown
    assert "two" in shown
    assert run(["status", "--name", "two"]) == 0


def test_two_names(idle: Path) -> None:
    """Two different names at once are refused."""
    assert run(["status", "m", "--name", "other"]) == 2


def test_pause_and_resume(engine: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    """The driving process sees the pause and the resume."""
    assert run(["pause"]) == 0
    assert engine.migration().state is State.PAUSED
    assert run(["resume", "m"]) == 0

    assert engine.migration().state is State.RUNNING
    assert "no process drives it" not in capsys.readouterr().out


def test_pause_of_what_nobody_drives(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pause is kept for the next start when no process drives the migration, and said so."""
    assert run(["pause"]) == 0

    assert "no process drives it" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["pause", "commit"])
def test_illegal(idle: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the present state does not allow is refused and changes nothing."""
    before = changed(idle, committed)

    assert run([command]) == 6
    assert changed(idle, lambda m: m) == before
    assert "COMMITTED" in capsys.readouterr().err


def test_resume_of_a_failed_migration(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failed migration is not resumed but started again, and the error says so."""
    failure = Failure("write_refused", "it was refused")
    changed(idle, lambda m: m.moved_to(State.FAILED, failure=failure))

    assert run(["resume"]) == 6
    assert "limosa migrate" in capsys.readouterr().err


def test_commit_too_early(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit before the verification is complete is refused and says what is missing."""
    changed(idle, lambda m: replace(m, verified_at=None))

    assert run(["commit"]) == 6
    assert "verification" in capsys.readouterr().err


def test_commit_without_waiting(engine: SqliteStore) -> None:
    """A commit can be asked for without waiting for it."""
    assert run(["commit", "--no-wait"]) == 0

    assert engine.migration().state is State.COMMITTING


def test_commit_of_what_nobody_drives(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit that no process can carry out does not count as done."""
    assert run(["commit"]) == 6

    assert "no process drives it" in capsys.readouterr().out


def obeying(engine: SqliteStore, change: Callable[[Migration], Migration]) -> threading.Thread:
    """Start a thread that applies *change* once a commit is asked for."""

    def obey() -> None:
        waiting = threading.Event()
        while engine.migration().state is not State.COMMITTING:
            waiting.wait(0.01)
        engine.update(change)

    thread = threading.Thread(target=obey)
    thread.start()
    return thread


def test_commit(engine: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit waits for the engine, and says when the application may write."""
    thread = obeying(engine, committed)

    assert run(["commit"]) == 0
    thread.join()
    shown = capsys.readouterr().out
    assert "may write to the target" in shown
    assert "COMMITTED" in shown


def test_commit_that_finds_mismatches(
    engine: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """A commit that fails because of mismatches ends with their exit code."""
    failure = Failure("verification_failed", "1 mismatch", "see `limosa verify`")
    thread = obeying(engine, lambda m: m.moved_to(State.FAILED, failure=failure))

    assert run(["commit"]) == 4
    thread.join()
    assert "see `limosa verify`" in capsys.readouterr().err


def test_verify(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify is content when everything was compared and is equal."""
    assert run(["verify", "--json"]) == 0

    body = output(capsys)
    assert (body["comparedDocuments"], body["equalDocuments"], body["isComplete"]) == (10, 10, True)
    assert body["mismatchedKeys"] == []


def test_verify_with_mismatches(engine: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify names each mismatch, for people and programs, and ends with its exit code."""
    mismatch(engine)

    assert run(["verify"]) == 4
    assert "different  shop.people" in capsys.readouterr().out
    assert run(["verify", "--json"]) == 4
    assert output(capsys)["mismatchedKeys"] == [
        {"kind": "different", "namespace": "shop.people", "key": {"$numberInt": "7"}}
    ]


def test_verify_incomplete(idle: Path) -> None:
    """A verification that is not complete is no success."""
    changed(idle, lambda m: replace(m, verified_at=None))

    assert run(["verify"]) == 6


def test_verify_again(engine: SqliteStore) -> None:
    """Verifying again waits until the engine has compared everything once more."""

    def compare() -> None:
        waiting = threading.Event()
        while engine.migration().verified_at is not None:
            waiting.wait(0.01)
        engine.partition_verified("c1/0", compared=10, suspects=[])
        engine.update(lambda m: replace(m, verified_at=NOW))

    thread = threading.Thread(target=compare)
    thread.start()

    assert run(["verify", "--again"]) == 0
    thread.join()


def test_verify_again_by_nobody(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verifying again needs a process that drives the migration."""
    assert run(["verify", "--again"]) == 6

    assert "no process drives" in capsys.readouterr().err


def test_verify_switched_off(idle: Path) -> None:
    """A migration that does not verify has no result to show."""
    changed(idle, lambda m: replace(m, settings={"verify": False}))

    assert run(["verify"]) == 6


def test_cleanup(idle: Path) -> None:
    """The state of a committed migration is removed."""
    changed(idle, committed)

    assert run(["cleanup", "--yes"]) == 0
    assert not idle.exists()


def test_cleanup_of_an_unfinished_migration(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The state of a migration that could go on is removed by force only."""
    assert run(["cleanup", "--yes"]) == 6
    assert "--force" in capsys.readouterr().err
    assert idle.exists()

    assert run(["cleanup", "--yes", "--force"]) == 0
    assert not idle.exists()


def test_cleanup_of_a_driven_migration(engine: SqliteStore, home: Path) -> None:
    """The state is not pulled away under the process that drives the migration."""
    assert run(["cleanup", "--yes", "--force"]) == 5

    assert (home / "m").exists()


def test_cleanup_without_an_answer(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is removed where nobody can be asked."""
    changed(idle, committed)

    assert run(["cleanup"]) == 2
    assert idle.exists()


def test_damaged_state(idle: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged state is told as such, does not hide the others, and can be removed."""
    driven(home, "other").close()
    (idle / "state.db").write_bytes(b"this is no database" * 1000)

    assert run(["status", "m"]) == 5
    assert "state.db" in capsys.readouterr().err
    assert run(["list"]) == 0
    shown = capsys.readouterr().out
    assert "unreadable" in shown
    assert "other" in shown
    assert run(["cleanup", "m", "--force", "--yes"]) == 0


def test_state_of_a_newer_version(idle: Path) -> None:
    """A state written by a newer version is left alone."""
    with sqlite3.connect(idle / "state.db") as database:
        database.execute("PRAGMA user_version = 999")

    assert run(["status"]) == 5


def test_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All migrations known here are listed, as a table and as JSON."""
    driven(home, "one").close()
    driven(home, "two").close()

    assert run(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert run(["list", "--json"]) == 0
    assert [each["name"] for each in output(capsys)] == ["one", "two"]
