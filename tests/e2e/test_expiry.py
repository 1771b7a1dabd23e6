"""Nothing expires on the target before the commit, and everything does after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bson import SON
from in_process import Running
from pymongo import MongoClient
from waiting import until

from limosa.embedded import Options, ReplicaSet

Client = MongoClient[dict[str, Any]]

DOCUMENTS = 30
#: Long ago, so that all has expired.
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NAMES = ("by_index", "by_part_of_it", "clustered", "series")


@pytest.fixture(scope="module")
def eager(mongod_options: Options) -> Iterator[ReplicaSet]:
    """A target that looks every second for what has expired."""
    parameters = {**mongod_options.parameters, "ttlMonitorSleepSecs": 1}
    with ReplicaSet(replace(mongod_options, parameters=parameters)) as servers:
        yield servers


@pytest.fixture
def source(source_server: Any) -> Iterator[Any]:
    """A source full of what has expired, on which nobody looks for that."""
    source_server.clear()
    source_server.client.admin.command("setParameter", 1, ttlMonitorEnabled=False)
    _fill(source_server.client)
    yield source_server
    source_server.client.admin.command("setParameter", 1, ttlMonitorEnabled=True)


def test_expiry(source: Any, eager: ReplicaSet, tmp_path: Path) -> None:
    """What has expired stays while the source has it, and goes when the target is in charge."""
    with MongoClient[dict[str, Any]](eager.uri) as target:
        with Running(source.uri, eager.uri, tmp_path / "state") as running:
            running.start()
            running.await_ready()
            source.client.shop.command("collMod", "by_index", index=_expiring(seconds=2))
            source.client.shop.late.insert_one({"seen": LONG_AGO})
            source.client.shop.late.create_index("seen", expireAfterSeconds=1)
            passes = _passes(target)
            until(lambda: _passes(target) >= passes + 2, "two looks at all that could expire")
            kept = {name: target.shop[name].count_documents({}) for name in NAMES}
            running.committed()

        assert kept == dict.fromkeys(NAMES, DOCUMENTS)
        for name in (*NAMES, "late"):
            until(partial(_is_empty, target.shop[name]), f"expiry of {name}")


def _fill(client: Client) -> None:
    shop = client.shop
    shop.by_index.insert_many({"seen": LONG_AGO} for _ in range(DOCUMENTS))
    shop.by_index.create_index("seen", expireAfterSeconds=1)
    shop.by_part_of_it.insert_many({"seen": LONG_AGO, "n": 1} for _ in range(DOCUMENTS))
    shop.by_part_of_it.create_index(
        "seen", expireAfterSeconds=1, partialFilterExpression={"n": {"$gt": 0}}
    )
    key = SON([("key", {"_id": 1}), ("unique", True)])
    shop.create_collection("clustered", clusteredIndex=key, expireAfterSeconds=1)
    shop.clustered.insert_many({"_id": LONG_AGO + timedelta(days=d)} for d in range(DOCUMENTS))
    shop.create_collection("series", timeseries={"timeField": "at"}, expireAfterSeconds=1)
    shop.series.insert_many({"at": LONG_AGO + timedelta(days=d)} for d in range(DOCUMENTS))


def _is_empty(collection: Any) -> bool:
    return collection.find_one() is None


def _expiring(*, seconds: int) -> dict[str, Any]:
    return {"name": "seen_1", "expireAfterSeconds": seconds}


def _passes(client: Client) -> int:
    found: int = client.admin.command("serverStatus")["metrics"]["ttl"]["passes"]
    return found
