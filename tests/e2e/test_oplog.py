"""How long the oplog still holds is known, and a copy that outlives it by far loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from program import limosa
from pymongo import MongoClient
from waiting import until

from limosa.connectors.mongodb import CONNECTOR
from limosa.connectors.mongodb.source import MongoSource
from limosa.embedded import Options, ReplicaSet
from limosa.events import BatchCopied, MemoryMeasured, PartitionCopied, Warned
from limosa.limits import UNLIMITED, LimitChange

Client = MongoClient[dict[str, Any]]

#: Two batches of the copy.
DOCUMENTS = 10_000
#: Of writes until the oplog must have rolled over.
MOST_BYTES = 400_000_000


@pytest.fixture(scope="module")
def forgetful(mongod_options: Options) -> Iterator[ReplicaSet]:
    """A source with the smallest oplog, which forgets what its last checkpoint holds."""
    options = replace(mongod_options, oplog_mb=16, arguments=("--syncdelay", "1"))
    with ReplicaSet(options) as servers:
        yield servers


@pytest.fixture
def source(forgetful: ReplicaSet) -> Iterator[Client]:
    with MongoClient[dict[str, Any]](forgetful.uri) as client:
        client.drop_database("shop")
        client.shop.people.insert_many({"_id": i, "name": f"n{i}"} for i in range(DOCUMENTS))
        yield client


def test_slow_copy(
    forgetful: ReplicaSet, source: Client, target_server: Any, tmp_path: Path
) -> None:
    """While a copy is held back the oplog rolls over; capture is not, and nothing is lost."""
    target_server.clear()
    limits = LimitChange(documents_per_second=1)
    state = tmp_path / "s"
    with Running(forgetful.uri, target_server.uri, state, limits=limits) as running:
        running.start()
        running.await_event(BatchCopied)
        source.shop.people.delete_many({"_id": {"$lt": 10}})
        source.shop.people.update_many({"_id": {"$gte": DOCUMENTS - 10}}, {"$set": {"name": "z"}})
        roll_over(source, running)

        assert not any(isinstance(e, PartitionCopied) for e in running.events)
        until(lambda: warnings(running), "warning of a short oplog")
        running.update(lambda m: replace(m, limits=UNLIMITED))
        running.committed()

    assert "replSetResizeOplog" in warnings(running)[0]
    assert differences(source, target_server.client) == []


def test_shown(forgetful: ReplicaSet, source: Client, target_server: Any, tmp_path: Path) -> None:
    """What the oplog still holds is in the status, until the application has moved."""
    target_server.clear()
    state = tmp_path / "s"
    with Running(forgetful.uri, target_server.uri, state) as running:
        running.start()
        measured = running.await_event(MemoryMeasured)
        status = limosa("status", "--state", state, "--json").json
        shown = limosa("status", "--state", state).out
        migration = running.committed()

    assert measured.left > timedelta()
    assert abs(status["oplog"]["remainingSeconds"] - measured.left.total_seconds()) < 60
    assert "still holds" in shown
    assert migration.position_lost_at is not None
    assert limosa("status", "--state", state, "--json").json["oplog"] is None


def test_remembers(forgetful: ReplicaSet, source: Client) -> None:
    """What the oplog has forgotten is held for no time, what has just come for some."""
    connected = CONNECTOR.open_source(forgetful.uri)
    assert isinstance(connected, MongoSource)
    try:
        lost = connected.remembers(datetime(2020, 1, 1, tzinfo=UTC))
        fresh = connected.remembers(connected.clock())
    finally:
        connected.close()

    assert lost is not None
    assert lost.left == timedelta()
    assert fresh is not None
    assert fresh.left > timedelta()


def test_without_rights(mongod_options: Options) -> None:
    """Who may not ask how a server is learns nothing of it, without an error."""
    options = replace(mongod_options, user="root", password="secret")
    with ReplicaSet(options) as servers:
        with MongoClient[dict[str, Any]](servers.uri) as client:
            client.admin.command("createUser", "guest", pwd="guest", roles=["readAnyDatabase"])
        connected = CONNECTOR.open_source(servers.uri.replace("root:secret", "guest:guest"))
        assert isinstance(connected, MongoSource)
        try:
            load, memory = connected.load(), connected.remembers(datetime.now(UTC))
        finally:
            connected.close()

    assert memory is None
    assert load.queue is None
    assert load.latency is not None
    assert load.replication_lag is not None


def warnings(running: Running) -> list[str]:
    found = [e.message for e in running.events if isinstance(e, Warned)]
    return [m for m in found if "oplog" in m]


def roll_over(source: Client, running: Running) -> None:
    """Write until the oplog has forgotten what is its latest entry now."""
    (last,) = source.local["oplog.rs"].find().sort("$natural", -1).limit(1)
    source.shop.notes.insert_many({"_id": i} for i in range(100))
    for written in range(0, MOST_BYTES, 1_000_000):
        text = f"{written:010}" * 1_000  # what stays the same is not in the oplog
        source.shop.notes.update_many({}, {"$set": {"text": text}})
        (first,) = source.local["oplog.rs"].find().sort("$natural", 1).limit(1)
        if first["ts"] > last["ts"]:
            return
        if written % 4_000_000 == 0:
            running.await_captured(source)  # a quarter of the oplog
    pytest.fail(f"the oplog forgot nothing after {MOST_BYTES:,} bytes")
