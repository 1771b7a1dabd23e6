"""What `limosa doctor` says of rights beyond the common ones is enough, and is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from pymongo import MongoClient

from limosa.connector import Finding
from limosa.embedded import Options, ReplicaSet
from limosa.migrations import examine
from limosa.settings import Settings
from limosa.state import State

Client = MongoClient[dict[str, Any]]
Ends = tuple[ReplicaSet, ReplicaSet]

SECRET = "s3cret-of-mine"  # must never be seen
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ON_BUCKETS = {
    "source": ["find"],
    "target": [
        *("find", "insert", "update", "remove", "bypassDocumentValidation"),
        *("createIndex", "dropIndex", "listIndexes", "collMod"),
    ],
}
ON_ONE = {
    "source": [{"role": "read", "db": "shop"}],
    "target": [{"role": "readWrite", "db": "shop"}, {"role": "dbAdmin", "db": "shop"}],
}
ACCOUNTS = {
    "source": ["readAnyDatabase", "clusterMonitor"],
    "target": ["readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"],
}


@pytest.fixture(scope="module")
def pair(mongod_options: Options) -> Iterator[Ends]:
    """Two replica sets with access control."""
    guarded = replace(mongod_options, user="admin", password=SECRET)
    with ReplicaSet(guarded) as source, ReplicaSet(guarded) as target:
        yield source, target


@pytest.fixture
def clients(pair: Ends) -> Iterator[tuple[Client, Client]]:
    """Administrators of both ends, nothing in ``shop``, a time series in that of the source."""
    with Client(pair[0].uri) as source, Client(pair[1].uri) as target:
        for client in (source, target):
            client.drop_database("shop")
        source.shop.create_collection("heat", timeseries={"timeField": "at", "metaField": "room"})
        _measure(source.shop.heat)
        source.shop.heat.create_index("room")
        yield source, target


def user(servers: ReplicaSet, roles: Sequence[Any], *privileges: Any) -> str:
    """Make limosa's user anew; return a URI for it."""
    with MongoClient[dict[str, Any]](servers.uri) as client:
        admin = client.admin
        if admin.command("usersInfo", "mover")["users"]:
            admin.command("dropUser", "mover")
            admin.command("dropRole", "moving")
        resources = [{"resource": r, "actions": a} for r, a in privileges]
        admin.command("createRole", "moving", privileges=resources, roles=list(roles))
        admin.command("createUser", "mover", pwd=SECRET, roles=["moving"])
    return f"mongodb://mover:{SECRET}@{servers.members[0].address}/?replicaSet={servers.name}"


def uris(pair: Ends, poor: str, roles: Sequence[Any], *privileges: Any) -> tuple[str, str]:
    """Return both URIs, the user being an administrator but at the end that is *poor*."""
    made = user(pair[poor == "target"], roles, *privileges)
    return (made, pair[1].uri) if poor == "source" else (pair[0].uri, made)


def errors(ends: tuple[str, str], poor: str, settings: Settings) -> dict[str, Finding]:
    findings = examine(*ends, settings=settings)
    assert SECRET not in repr(findings)
    return {f.check: f for end, f in findings if end == poor and f.level == "error"}


@pytest.mark.parametrize("end", ["source", "target"])
def test_buckets(pair: Ends, clients: tuple[Client, Client], tmp_path: Path, end: str) -> None:
    """Who has rights on one database alone is told what time series take, and that is enough."""
    settings = Settings.of(include=["shop"])
    without = errors(uris(pair, end, ON_ONE[end]), end, settings)
    lacking = ", ".join(f"{a} on shop.system.buckets.heat" for a in ON_BUCKETS[end])
    assert list(without) == ["privileges"]
    assert without["privileges"].message == f"mover@admin lacks {lacking}"
    assert "system_buckets" in without["privileges"].advice

    buckets = {"db": "shop", "system_buckets": ""}
    granted = uris(pair, end, ON_ONE[end], (buckets, ON_BUCKETS[end]))
    assert errors(granted, end, settings) == {}
    source, target = clients
    with Running(*granted, tmp_path / "state", settings) as running:
        running.start()
        running.await_ready()
        source.shop.create_collection("late", timeseries={"timeField": "at"})
        for series in (source.shop.heat, source.shop.late):
            _measure(series)
        source.shop.heat.delete_many({"room": 1})
        source.shop.heat.drop_index("room_1")
        source.shop.heat.create_index([("room", 1), ("at", 1)], hidden=True)
        source.shop.command("collMod", "heat", timeseries={"granularity": "minutes"})
        running.committed()

    assert differences(source, target) == []


@pytest.mark.parametrize("end", ["source", "target"])
def test_one_collection_of_buckets(pair: Ends, clients: tuple[Client, Client], end: str) -> None:
    """Rights on the buckets of the one time series that is migrated are rights enough."""
    assert clients
    settings = Settings.of(include=["shop.heat"])
    for resource in (
        {"db": "shop", "system_buckets": "heat"},
        {"db": "", "system_buckets": "heat"},
        {"db": "shop", "collection": "system.buckets.heat"},
    ):
        ends = uris(pair, end, ON_ONE[end], (resource, ON_BUCKETS[end]))
        assert errors(ends, end, settings) == {}
    for resource in (
        {"db": "shop", "system_buckets": "other"},
        {"db": "other", "system_buckets": ""},
        {"db": "shop", "collection": ""},
    ):
        ends = uris(pair, end, ON_ONE[end], (resource, ON_BUCKETS[end]))
        assert list(errors(ends, end, settings)) == ["privileges"]


@pytest.mark.parametrize("end", ["source", "target"])
def test_accounts(pair: Ends, clients: tuple[Client, Client], tmp_path: Path, end: str) -> None:
    """What users and roles take is named when they are asked for, and the role named has it."""
    settings = Settings.of(include=["shop"], accounts=True)
    plain = uris(pair, end, ACCOUNTS[end])
    assert errors(plain, end, Settings.of(include=["shop"])) == {}
    lacking = errors(plain, end, settings)
    named = "system.users" if end == "source" else "createRole"
    role = "backup" if end == "source" else "restore"
    assert list(lacking) == ["accounts"]
    assert named in lacking["accounts"].message
    assert f"role {role} on admin" in lacking["accounts"].advice

    granted = uris(pair, end, [*ACCOUNTS[end], role])
    assert errors(granted, end, settings) == {}
    source, target = clients
    source.shop.command("createRole", "clerk", privileges=[], roles=["read"])
    source.shop.command("createUser", "ann", pwd=SECRET, roles=["clerk"])
    try:
        with Running(*granted, tmp_path / "state", settings) as running:
            running.start()
            assert running.committed().state is State.COMMITTED
        assert target.shop.command("usersInfo", "ann")["users"]
    finally:
        for client in clients:
            client.shop.command("dropAllUsersFromDatabase")
            client.shop.command("dropAllRolesFromDatabase")


def _measure(series: Any) -> None:
    series.insert_many(
        {"at": NOON + timedelta(minutes=i), "room": i % 3, "v": i} for i in range(60)
    )
