"""An oplog that holds seconds of writes: what is captured in time is safe, the rest is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import fill
from in_process import Running
from judge import differences
from pymongo import MongoClient

from limosa.embedded import Options, ReplicaSet
from limosa.state import State

Client = MongoClient[dict[str, Any]]

#: Some seconds of writes; a server forgets only what its last checkpoint holds.
SMALL = {"oplog_mb": 32, "arguments": ("--syncdelay", "1")}
#: Of writes until the oplog must have rolled over.
MOST_BYTES = 400_000_000


@pytest.fixture(scope="module")
def forgetful(mongod_options: Options) -> Iterator[ReplicaSet]:
    """A source with a very small oplog."""
    with ReplicaSet(replace(mongod_options, **SMALL)) as servers:  # type: ignore[arg-type] # a dict
        yield servers


@pytest.fixture
def source(forgetful: ReplicaSet) -> Iterator[Client]:
    """The same, filled."""
    with MongoClient[dict[str, Any]](forgetful.uri) as client:
        client.drop_database("shop")
        fill(client)
        yield client


def test_captured_in_time(
    forgetful: ReplicaSet, source: Client, target_server: Any, tmp_path: Path
) -> None:
    """A migration that takes far longer than the oplog reaches back loses nothing."""
    target_server.clear()
    with Running(forgetful.uri, target_server.uri, tmp_path / "state") as running:
        with running.held_at("index build"):
            source.shop.people.delete_many({"_id": {"$lt": 10}})
            for _ in range(2):
                _roll_over(source, every_few=lambda: running.await_captured(source))
        running.committed()

    assert differences(source, target_server.client) == []


def test_forgotten(
    forgetful: ReplicaSet, source: Client, target_server: Any, tmp_path: Path
) -> None:
    """Changes that the oplog has lost meanwhile fail the migration; begun anew it ends equal."""
    target_server.clear()
    with Running(forgetful.uri, target_server.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        running.stop()
        source.shop.people.delete_many({"_id": {"$lt": 10}})
        _roll_over(source)
        for _ in range(2):  # trying again is no cure
            failed = running.start().end()

            assert failed.state is State.FAILED
            assert failed.failure is not None
            assert failed.failure.code == "position_lost"
            assert "replSetResizeOplog" in failed.failure.hint

        shutil.rmtree(running.folder)
        target_server.clear()
        running.start()
        running.committed()

    assert differences(source, target_server.client) == []


def _roll_over(source: Client, *, every_few: Callable[[], None] = lambda: None) -> None:
    """Write until the oplog has forgotten what is its latest entry now."""
    (last,) = source.local["oplog.rs"].find().sort("$natural", -1).limit(1)
    source.shop.notes.insert_many({"_id": f"{last}/{i}"} for i in range(100))
    for written in range(0, MOST_BYTES, 1_000_000):
        text = f"{written:010}" * 1_000  # what stays the same is not in the oplog
        source.shop.notes.update_many({}, {"$set": {"text": text}})
        (first,) = source.local["oplog.rs"].find().sort("$natural", 1).limit(1)
        if first["ts"] > last["ts"]:
            return
        if written % 4_000_000 == 0:
            every_few()  # an eighth of the oplog
    pytest.fail(f"the oplog forgot nothing after {MOST_BYTES:,} bytes")
