"""Where the connection string or an option asks for it, collections are read from secondaries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from pymongo import MongoClient

from limosa.embedded import Mongod, Options, ReplicaSet
from limosa.settings import ReadFrom

Client = MongoClient[dict[str, Any]]

#: Two batches.
DOCUMENTS = 10_000


@pytest.fixture(scope="module")
def three(mongod_options: Options) -> Iterator[ReplicaSet]:
    """A source of three members."""
    with ReplicaSet(mongod_options, members=3) as servers:
        yield servers


@pytest.fixture
def source(three: ReplicaSet) -> Iterator[Client]:
    with MongoClient[dict[str, Any]](three.uri, w=3) as client:
        client.drop_database("shop")
        client.shop.people.insert_many({"_id": i, "name": f"n{i}"} for i in range(DOCUMENTS))
        yield client


def returned(member: Mongod) -> int:
    """Return how many documents it has given out since it was started."""
    metrics = member.client.admin.command("serverStatus")["metrics"]
    count: int = metrics["document"]["returned"]
    return count


def preferring(servers: ReplicaSet) -> str:
    return f"{servers.uri}&readPreference=secondaryPreferred"


@pytest.mark.parametrize("asked", ["in the URI", "by the option"])
def test_read_from_secondaries(
    three: ReplicaSet, source: Client, target_server: Any, tmp_path: Path, asked: str
) -> None:
    """Copy and verification read on secondaries, and what is written meanwhile arrives."""
    target_server.clear()
    before = {m.address: returned(m) for m in three.members}
    option: dict[str, Any] = {}
    uri = preferring(three)
    if asked == "by the option":
        uri, option = three.uri, {"read_from": ReadFrom.SECONDARIES}
    with Running(uri, target_server.uri, tmp_path / "s", **option) as running:
        with running.held_at("copy"):
            source.shop.people.update_many({"_id": {"$lt": 50}}, {"$set": {"name": "changed"}})
        running.committed()

    primary = three.primary().address
    given = {m.address: returned(m) - before[m.address] for m in three.members}
    assert given.pop(primary) < DOCUMENTS
    assert sum(given.values()) >= 2 * DOCUMENTS
    assert differences(source, target_server.client) == []


def test_read_from_the_primary(
    three: ReplicaSet, source: Client, target_server: Any, tmp_path: Path
) -> None:
    """What the URI says of secondaries can be overruled for a start."""
    target_server.clear()
    before = {m.address: returned(m) for m in three.members}
    with Running(
        preferring(three), target_server.uri, tmp_path / "s", read_from=ReadFrom.PRIMARY
    ) as running:
        running.start()
        running.committed()

    given = {m.address: returned(m) - before[m.address] for m in three.members}
    assert given.pop(three.primary().address) >= 2 * DOCUMENTS
    assert sum(given.values()) < DOCUMENTS
    assert differences(source, target_server.client) == []


def test_secondary_lost(
    three: ReplicaSet, source: Client, target_server: Any, tmp_path: Path
) -> None:
    """A secondary that is killed while it is read from is replaced by another member."""
    target_server.clear()
    primary = three.primary()
    secondaries = [i for i, m in enumerate(three.members) if m is not primary]
    with Running(preferring(three), target_server.uri, tmp_path / "s") as running:
        with running.held_at("copy"):
            three.members[secondaries[0]].kill()
        running.committed()
    three.restart(secondaries[0])

    assert differences(source, target_server.client) == []
