"""Indexes of every kind arrive, inert until the commit, in each of the ways to build them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from bson import Int64
from failing import FailPoint
from in_process import Running
from judge import differences
from program import Program, limosa
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError
from waiting import until

from limosa.events import IndexesBuilding, IndexesBuilt, Warned
from limosa.settings import IndexMode, Settings
from limosa.state import State

Client = MongoClient[dict[str, Any]]

TEN_YEARS = 315_360_000
#: What the server takes for "never": 68 years.
NEVER = 2_147_483_647
SEEN = datetime(2030, 1, 1, tzinfo=UTC)
#: Besides that of the key.
MOST_INDEXES = 63
#: What a server answers that has lost another one; it may pass.
HOST_UNREACHABLE = 6

#: Name, key and options; each on a collection with `documents`.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "single": ({"n": 1}, {}),
    "compound": ({"a": 1, "b": -1, "c.d": 1}, {}),
    "multikey": ({"tags": 1, "n": 1}, {}),
    "text": (
        {"title": "text", "body": "text", "n": 1},
        {"weights": {"title": 9, "body": 2}, "default_language": "german"},
    ),
    "sphere": ({"place": "2dsphere", "n": 1}, {}),
    "flat": ({"spot": "2d"}, {"min": -500, "max": 500, "bits": 20}),
    "hashed": ({"h": "hashed"}, {}),
    "compound hashed": ({"n": 1, "h": "hashed"}, {}),
    "wild": ({"$**": 1}, {"wildcardProjection": {"tags": 0, "body": 0}}),
    "wild below": ({"c.$**": 1}, {}),
    "partial": ({"p": 1}, {"partialFilterExpression": {"n": {"$gt": 5}, "p": {"$exists": True}}}),
    "sparse": ({"s": 1}, {"sparse": True}),
    "hidden": ({"x": 1}, {"hidden": True}),
    "ttl": ({"seen": 1}, {"expireAfterSeconds": TEN_YEARS}),
    "ttl partial": (
        {"seen": -1},
        {"expireAfterSeconds": TEN_YEARS, "partialFilterExpression": {"n": {"$lt": 5}}},
    ),
    "collated": ({"name": 1}, {"collation": {"locale": "de", "strength": 1}}),
    "unique": ({"u": 1}, {"unique": True}),
    "unique sparse": ({"us": 1}, {"unique": True, "sparse": True}),
    "unique partial": (
        {"up": 1},
        {"unique": True, "partialFilterExpression": {"up": {"$gt": 0}}},
    ),
    "unique collated": ({"name": -1}, {"unique": True, "collation": {"locale": "de"}}),
    "unique hidden": ({"u": -1}, {"unique": True, "hidden": True}),
    "rival": ({"r": 1}, {}),
    "rival unique": ({"r": 1}, {"unique": True}),
    "prepared": ({"q": 1}, {"prepareUnique": True}),
    "odd numbers": ({"o": 1.5, "p": -2, "q": Int64(7)}, {}),
    "truthy": ({"t": 1}, {"sparse": 1, "unique": 0}),
    "storage": ({"w": 1}, {"storageEngine": {"wiredTiger": {"configString": ""}}}),
}  # fmt: skip


def documents(number: int = 200) -> Iterator[dict[str, Any]]:
    for i in range(number):
        yield {
            "_id": i, "n": i % 10, "a": i, "b": i % 3, "c": {"d": [i, -i]}, "u": i, "us": i,
            "up": i, "r": i, "q": i, "o": i, "p": i, "h": f"h{i}", "name": f"Name {i}", "x": i,
            "t": i, "w": i, "seen": SEEN, "tags": ["a", i % 7, None], "title": "Der Vogel",
            "body": f"fliegt {i} Meilen", "spot": [i % 100, i % 50],
            "place": {"type": "Point", "coordinates": [i % 90, i % 45]},
        }  # fmt: skip


@pytest.mark.parametrize("mode", [IndexMode.AFTER, IndexMode.BEFORE])
def test_every_kind(ends: Any, tmp_path: Path, mode: IndexMode) -> None:
    """Indexes of every kind are on the target after the commit, and as many as there can be."""
    source, target = ends.source.client, ends.target.client
    source.shop.all.insert_many(documents())
    _create(source.shop.all)
    source.shop.most.insert_many({"_id": i, "f1": i} for i in range(100))
    source.shop.command(
        "createIndexes",
        "most",
        indexes=[
            _model({f"f{i}": 1}, {"name": f"f{i}", "unique": i == 1})
            for i in range(1, MOST_INDEXES)
        ],
    )
    with Running(
        ends.source.uri, ends.target.uri, tmp_path / "state", Settings(indexes=mode)
    ) as running:
        running.start()
        running.await_ready()
        inert = {i["name"]: i for i in target.shop.all.list_indexes()}
        source.shop.most.create_index("last", expireAfterSeconds=TEN_YEARS)
        running.committed()

    for name in ("unique", "ttl", "hidden"):
        assert not inert[name].get("unique")
        assert inert[name].get("expireAfterSeconds", NEVER) == NEVER
        assert not inert[name].get("hidden")
    assert len(list(target.shop.most.list_indexes())) == MOST_INDEXES + 1
    assert differences(source, target) == []


def test_never(ends: Any, tmp_path: Path) -> None:
    """On request no index is built, at no time, and those that the target has stay."""
    source, target = ends.source.client, ends.target.client
    source.shop.people.insert_many({"_id": i, "email": f"{i}"} for i in range(50))
    source.shop.people.create_index("email", unique=True)
    settings = Settings(indexes=IndexMode.NEVER)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start()
        running.await_ready()
        target.shop.people.create_index("name", name="of the target")
        source.shop.people.create_index("late")
        source.shop.command("collMod", "people", index={"name": "email_1", "hidden": True})
        source.shop.people.drop_index("late_1")
        source.shop.people.insert_one({"_id": "late", "email": "late"})
        running.committed()

    assert {i["name"] for i in target.shop.people.list_indexes()} == {"_id_", "of the target"}
    assert list(target.shop.people.find()) == list(source.shop.people.find())


def test_conflict_at_commit(ends: Any, tmp_path: Path) -> None:
    """
    A conflict of unique values is told while changes are applied, found before anybody may write,
    and names index and documents; the source goes on, also with values that change hands, and the
    next commit goes through.
    """
    source, target = ends.source.client, ends.target.client
    _fill_unique(source)
    with Running(
        ends.source.uri, ends.target.uri, tmp_path / "state", Settings(verify=False)
    ) as running:
        with running.held_at("application"):
            target.shop.people.insert_one({"_id": "intruder", "email": "7"})
        told = until(lambda: _told(running, "by email"), "warning")
        running.commit()
        refused = running.end()
        for collection, field in ((source.shop.people, "email"), (source.shop.orders, "number")):
            _swap(collection, field)
        target.shop.people.delete_one({"_id": "intruder"})
        running.start()
        running.committed()

    assert refused.state is State.FAILED
    assert not refused.can_write
    assert refused.failure is not None
    for named in ("shop.people", "by email", "intruder", "7"):
        assert named in refused.failure.message
        assert named in told
    assert differences(source, target) == []


def test_unique_ahead_of_the_commit(ends: Any, tmp_path: Path) -> None:
    """
    Unique values are enforced when changes are followed: nobody else can break them. What
    changes hands on the source is applied all the same, also after a restart.
    """
    source, target = ends.source.client, ends.target.client
    _fill_unique(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        until(lambda: _is_prepared(target.shop.people, "by email"), "index that is enforced")
        with pytest.raises(DuplicateKeyError):
            target.shop.people.insert_one({"_id": "intruder", "email": "7"})
        _swap(source.shop.people, "email")
        running.stop()
        target.shop.command("collMod", "people", index={"name": "by email", "prepareUnique": True})
        _swap(source.shop.people, "email", pairs=[(7, 8), (9, 10), (11, 12)])
        running.start()
        running.committed()

    assert differences(source, target) == []


def test_values_change_hands_after_a_failed_commit(ends: Any, tmp_path: Path) -> None:
    """What a commit has made unique before it failed is not so when changes are applied again."""
    source, target = ends.source.client, ends.target.client
    for name in ("first", "second"):
        source.shop[name].insert_many({"_id": i, "r": i} for i in range(50))
        source.shop[name].create_index("r", name="plain")
        source.shop[name].create_index("r", name="unique", unique=True)
    broken = FailPoint(target)
    with Running(
        ends.source.uri,
        ends.target.uri,
        tmp_path / "state",
        workers=1,
        retry_for=timedelta(seconds=1),
    ) as running:
        running.start()
        running.await_ready()
        # Only at the commit do two indexes of one key differ: these are its only builds.
        broken.on(["createIndexes"], skip=1, errorCode=HOST_UNREACHABLE)
        running.commit()
        failed = running.end()
        built = [n for n in ("first", "second") if _is_unique(target.shop[n], "unique")]
        broken.off()
        for name in built:
            _swap(source.shop[name], "r")
        running.start()
        running.committed()

    assert failed.state is State.FAILED
    assert len(built) == 1
    assert differences(source, target) == []


def test_killed_in_the_commit(ends: Any, tmp_path: Path) -> None:
    """A process that is killed while it makes values unique is followed by one that does so."""
    source, target = ends.source.client, ends.target.client
    _fill_unique(source)
    for name in ("people", "orders"):
        source.shop[name].update_many({}, [{"$set": {"r": "$_id"}}])
        source.shop[name].create_index("r", name="plain")
        source.shop[name].create_index("r", name="unique", unique=True)
    with Program(ends.source.uri, ends.target.uri, tmp_path / "state") as program:
        program.start()
        program.await_phase("following")
        with _held_in_build(target):
            asked = limosa("commit", "--no-wait", "--state", program.folder)
            until(lambda: _builds(target), "index build")
            program.kill()
        program.start()
        code = program.end()

    assert asked.code == 0, asked.err
    assert code == 0, program.log()[-3000:]
    assert differences(source, target) == []


def test_progress(ends: Any, tmp_path: Path) -> None:
    """While an index is built, the target's own count of what is done is told."""
    source = ends.source.client
    source.shop.people.insert_many({"_id": i, "a": i} for i in range(2_000))
    source.shop.people.create_index("a")
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        with _held_in_build(ends.target.client):
            running.start()
            told = running.await_event(IndexesBuilding)
        running.committed()

    assert str(told.namespace) == "shop.people"
    assert (told.indexes, told.total) == (1, 2_000)
    assert 0 <= told.done <= told.total
    assert "scanning" in told.step
    assert differences(source, ends.target.client) == []


def test_build_that_is_killed(ends: Any, tmp_path: Path) -> None:
    """A build that somebody kills on the target is begun again."""
    source, target = ends.source.client, ends.target.client
    source.shop.people.insert_many({"_id": i, "a": i} for i in range(2_000))
    source.shop.people.create_index("a")
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        with _held_in_build(target):
            running.start()
            until(lambda: _builds(target), "index build")
            killer = Thread(target=target.shop.people.drop_index, args=["a_1"])
            killer.start()
            until(lambda: _is_dropping(target), "order to kill it")
        killer.join()
        running.await_event(IndexesBuilt)
        retries = running.retries()
        running.committed()

    assert "build" in retries[0]
    assert differences(source, target) == []


def test_largest_first_and_resumed(ends: Any, tmp_path: Path) -> None:
    """Indexes are built from the largest collection down; those that are done are not again."""
    source, target = ends.source.client, ends.target.client
    for name, number in (("small", 10), ("large", 3_000), ("medium", 500)):
        source.shop[name].insert_many({"_id": i, "a": i} for i in range(number))
        source.shop[name].create_index("a")
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", workers=1) as running:
        with _held_in_build(target, after=1):
            running.start()
            running.await_event(IndexesBuilt)
            first = _built(running)
            running.stop()
        running.start()
        running.committed()
        rest = _built(running)

    assert first == ["shop.large"]
    assert rest == ["shop.medium", "shop.small"]
    assert differences(source, target) == []


def _create(collection: Any) -> None:
    for name, (key, options) in KINDS.items():
        collection.database.command(
            {"createIndexes": collection.name, "indexes": [_model(key, {"name": name, **options})]}
        )


def _model(key: dict[str, Any], options: dict[str, Any]) -> Any:
    return {"key": key, **options}


def _built(running: Running) -> list[str]:
    return [str(e.namespace) for e in running.events if isinstance(e, IndexesBuilt)]


def _fill_unique(source: Client) -> None:
    source.shop.people.insert_many({"_id": i, "email": f"{i}"} for i in range(100))
    source.shop.people.create_index("email", unique=True, name="by email")
    source.shop.orders.insert_many({"_id": i, "number": i} for i in range(100))
    source.shop.orders.create_index("number", unique=True)


def _told(running: Running, what: str) -> str:
    """Return the warning that names *what*, "" as long as there is none."""
    told = (e.message for e in running.events if isinstance(e, Warned))
    return next((message for message in told if what in message), "")


def _is_prepared(collection: Any, name: str) -> bool:
    return bool(collection.index_information().get(name, {}).get("prepareUnique"))


def _is_unique(collection: Any, name: str) -> bool:
    return bool(collection.index_information().get(name, {}).get("unique"))


def _swap(
    collection: Any, field: str, *, pairs: Sequence[tuple[int, int]] = ((1, 2), (3, 4), (5, 6))
) -> None:
    """Have values go round among documents, so that they collide in passing."""
    for a, b in pairs:
        mine, other = collection.find_one({"_id": a})[field], collection.find_one({"_id": b})[field]
        collection.update_one({"_id": a}, {"$unset": {field: 1}})
        collection.update_one({"_id": b}, {"$set": {field: mine}})
        collection.update_one({"_id": a}, {"$set": {field: other}})


def _builds(client: Client) -> list[Any]:
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"msg": {"$regex": "^Index Build"}}},
    ]
    return list(client.admin.aggregate(stages))


def _is_dropping(client: Client) -> bool:
    operations = client.admin.aggregate([{"$currentOp": {}}])
    return any("dropIndexes" in operation.get("command", {}) for operation in operations)


@contextmanager
def _held_in_build(client: Client, *, after: int = 0) -> Iterator[None]:
    """Have index builds hang before their scan, but for the first *after*."""
    name = "hangAfterSettingUpIndexBuild"
    mode = {"skip": after} if after else "alwaysOn"
    client.admin.command({"configureFailPoint": name, "mode": mode})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": name, "mode": "off"})
