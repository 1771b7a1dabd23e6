"""Every command that Limosa issues fails a few times, at either end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from failing import FailPoint
from in_process import Running
from judge import differences
from pymongo import MongoClient

from limosa.state import State

Client = MongoClient[dict[str, Any]]

SOURCE_COMMANDS = (
    "hello",
    "buildInfo",
    "ping",
    "listDatabases",
    "listCollections",
    "listIndexes",
    "aggregate",
    "find",
    "getMore",
    "killCursors",
)
TARGET_COMMANDS = (
    "listDatabases",
    "listCollections",
    "listIndexes",
    "find",
    "getMore",
    "create",
    "insert",
    "update",
    "delete",
    "createIndexes",
    "dropIndexes",
    "collMod",
    "renameCollection",
    "drop",
)
#: Two batches, so that there is a ``getMore``.
DOCUMENTS = 5_020
WRITES = {"insert", "update", "delete", "create", "createIndexes", "dropIndexes", "collMod"}
WRITES |= {"renameCollection", "drop"}
TRANSACTED = {"update", "delete"}
#: A cursor that dies is opened again where it stood, one that is not closed is forgotten in
#: time, and a monitor's ``hello`` is the driver's.
RETRIED_SILENTLY = {"getMore", "killCursors", "hello"}
#: How a command fails, in the words of ``failCommand``.
FAULTS: dict[str, dict[str, Any]] = {
    "network error": {"closeConnection": True},
    "not primary": {"errorCode": 10107},
    "time-out": {"errorCode": 262},
    "write conflict": {"errorCode": 112},
    "write concern": {
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}
    },
}
ONLY_OF_WRITES = {"write conflict", "write concern"}
#: What fails, where, at which command, and what the failure is called.
PERMANENT = (
    ("source", "find", 13, "access_denied"),
    ("source", "aggregate", 8000, "permanent_error"),
    ("source", "getMore", 13, "access_denied"),
    ("source", "getMore", 286, "position_lost"),
    ("target", "insert", 13, "access_denied"),
    ("target", "insert", 8000, "permanent_error"),
    ("target", "update", 8000, "permanent_error"),
    ("target", "createIndexes", 67, "write_refused"),
    ("target", "find", 13, "access_denied"),
    ("target", "collMod", 13, "access_denied"),
)


@pytest.fixture
def filled(ends: Any) -> Iterator[Any]:
    """Both ends, the source filled; afterwards nothing fails any more."""
    people = ends.source.client.shop.people
    people.insert_many({"_id": i, "number": i} for i in range(DOCUMENTS))
    people.create_index("number", unique=True)
    ends.source.client.shop.orders.insert_many({"_id": i, "total": i} for i in range(20))
    ends.source.client.shop.orders.create_index("total")
    ends.source.client.shop.old.insert_one({"_id": 1})
    yield ends
    for end in ends:
        FailPoint(end.client).off()


@pytest.mark.parametrize("command", SOURCE_COMMANDS)
def test_passing_faults_of_the_source(filled: Any, tmp_path: Path, command: str) -> None:
    """A command of the source that fails in every passing way is tried again by itself."""
    _migrate_with_faults(filled, tmp_path, "source", command)


@pytest.mark.parametrize("command", TARGET_COMMANDS)
def test_passing_faults_of_the_target(filled: Any, tmp_path: Path, command: str) -> None:
    """A command of the target that fails in every passing way is tried again by itself."""
    _migrate_with_faults(filled, tmp_path, "target", command)


@pytest.mark.parametrize("fault", ["network error", "time-out"])
def test_fault_of_a_batch_on_the_way(filled: Any, tmp_path: Path, fault: str) -> None:
    """A stream of changes that breaks again and again goes on where it broke."""
    point = FailPoint(filled.source.client)
    with Running(*_uris(filled), tmp_path / "state") as running:
        running.start()
        running.await_ready()
        for number in range(4):
            point.on(["getMore"], times=1, **FAULTS[fault])
            filled.source.client.shop.orders.insert_one({"_id": f"more {number}"})
            running.await_captured(filled.source.client)
        running.committed()

    assert differences(filled.source.client, filled.target.client) == []


@pytest.mark.parametrize(("end", "command", "code", "name"), PERMANENT)
def test_permanent_fault(
    filled: Any, tmp_path: Path, end: str, command: str, code: int, name: str
) -> None:
    """What trying again cannot cure fails the migration; with its cause gone it goes on."""
    point = FailPoint(getattr(filled, end).client)
    with Running(*_uris(filled), tmp_path / "state") as running:
        if (command, end) in {("update", "target"), ("collMod", "target"), ("find", "source")}:
            running.start()
            running.await_ready()
            point.on([command], errorCode=code)
            _change(filled.source.client)
            _ask_for_commit(running)
        else:
            _fail_after_the_plan(running, lambda: point.on([command], errorCode=code))
        failed = running.end()
        point.off()

        assert failed.state is State.FAILED
        assert failed.failure is not None
        assert failed.failure.code == name
        assert str(code) in failed.failure.message
        assert failed.failure.hint

        running.start()
        running.committed()

    assert differences(filled.source.client, filled.target.client) == []


def test_stream_that_only_opens(filled: Any, tmp_path: Path) -> None:
    """A change stream that opens but never goes on is tried again with backoff, then fails."""
    point = FailPoint(filled.source.client)
    given: dict[str, Any] = {"retry_for": timedelta(seconds=1)}
    with Running(filled.source.uri, filled.target.uri, tmp_path / "state", **given) as running:
        running.start()
        running.await_ready()
        with point.while_on(["getMore"], errorCode=262):
            failed = running.end()

        assert failed.failure is not None
        assert failed.failure.code == "transient_error"
        assert 0 < len(running.retries()) < 60

        running.start()
        running.committed()

    assert differences(filled.source.client, filled.target.client) == []


def test_retries_end(filled: Any, tmp_path: Path) -> None:
    """A fault that does not pass fails the migration after the time set for retries."""
    point = FailPoint(filled.target.client)
    settings: dict[str, Any] = {"retry_for": timedelta(seconds=1)}
    with Running(*_uris(filled), tmp_path / "state", **settings) as running:
        with point.while_on(["insert"], errorCode=112):
            failed = running.start().end()

        assert failed.failure is not None
        assert failed.failure.code == "transient_error"
        assert failed.failure.hint
        assert running.retries()

        running.start()
        running.committed()

    assert differences(filled.source.client, filled.target.client) == []


def _uris(ends: Any) -> tuple[str, str]:
    # The driver believes a server that says it is not primary until the next heartbeat; in a
    # real election that comes at once.
    source, target = (f"{end.uri}&heartbeatFrequencyMS=500" for end in ends)
    return source, target


def _migrate_with_faults(filled: Any, folder: Path, end: str, command: str) -> None:
    point = FailPoint(getattr(filled, end).client)
    faults = [f for name, f in FAULTS.items() if command in WRITES or name not in ONLY_OF_WRITES]
    # The first failure in a transaction has the same done without one, and nobody is told.
    times = 2 if command in TRANSACTED else 1
    left = iter(faults)
    armed = 0

    def arm_next() -> None:
        # Called before the command is tried again: so it meets one fault after the other. A
        # lost connection has other commands fail too.
        nonlocal armed
        if point.hits >= armed and (fault := next(left, None)):
            point.on([command], times=times, **fault)
            armed += times

    arm_next()
    with Running(*_uris(filled), folder / "state") as running:
        running.on_retry = arm_next
        running.start()
        running.await_ready()
        _change(filled.source.client)
        running.await_captured(filled.source.client)
        running.committed()

    assert point.hits >= (1 if command in RETRIED_SILENTLY else times * len(faults))
    assert differences(filled.source.client, filled.target.client) == []


def _fail_after_the_plan(running: Running, begin_to_fail: Callable[[], None]) -> None:
    with running.held_at("plan"):
        begin_to_fail()


def _ask_for_commit(running: Running) -> None:
    # It may have failed before it is asked.
    with running.store() as store:
        store.update(lambda m: m.committing() if m.state is State.RUNNING else m)


def _change(source: Client) -> None:
    shop = source.shop
    shop.people.update_many({"_id": {"$lt": 20}}, {"$set": {"at": datetime.now(UTC)}})
    shop.people.delete_many({"_id": {"$gt": 5_000}})
    shop.people.insert_one({"_id": 10_000, "number": 10_000})
    shop.orders.drop_index("total_1")
    shop.orders.rename("bills")
    shop.bills.create_index("total", name="new")
    shop.old.drop()
    shop.create_collection("new", validator={"name": {"$exists": True}})
    shop.command("collMod", "new", validationLevel="moderate")
