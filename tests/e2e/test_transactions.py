"""Changes that are applied in transactions, and what becomes of those that do not succeed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import bson
import pytest
from bson import Int64, Timestamp
from failing import FailPoint
from pymongo import MongoClient

from limosa.canonical import key_for, key_of
from limosa.connectors.mongodb.deployment import Deployment
from limosa.connectors.mongodb.target import MongoTarget
from limosa.errors import ConnectionLost, LimosaError, WriteRefused
from limosa.model import Document, Key, Namespace, Slice

PEOPLE = Namespace("shop", "people")
COUNT = 40
FAULTS: dict[str, dict[str, Any]] = {
    "network error": {"closeConnection": True},
    "not primary": {"errorCode": 10107},
    "time-out": {"errorCode": 262},
    "write conflict": {"errorCode": 112, "errorLabels": ["TransientTransactionError"]},
    "refused": {"errorCode": 263},
    "write concern": {
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}
    },
}


@pytest.fixture
def target(ends: Any) -> Iterator[MongoTarget]:
    uri = f"{ends.target.uri}&heartbeatFrequencyMS=500"
    target = MongoTarget(Deployment(uri))
    yield target
    FailPoint(ends.target.client).off()
    target.close()


@pytest.fixture
def people(ends: Any) -> Any:
    """The collection as others see it, with a document for each even number."""
    people = ends.target.client.shop.people
    people.insert_many({"_id": i, "v": 0} for i in range(0, COUNT, 2))
    return people


def states(version: int, *more: dict[str, Any]) -> dict[Key, Document | None]:
    """Return changes: of each fourth document that it was deleted, of the others its state."""
    found: dict[Key, Document | None] = {key_for(i): None for i in range(0, COUNT, 4)}
    documents = [{"_id": i, "v": version} for i in range(COUNT) if i % 4]
    for document in [*documents, *more]:
        raw = bson.encode(document)
        found[key_of(raw)] = Slice(raw)
    return found


def seen(people: Any) -> list[Any]:
    return [(d["_id"], d.get("v")) for d in people.find().sort("_id", 1)]


def expected(version: int) -> list[Any]:
    return [(i, version) for i in range(COUNT) if i % 4]


def committed(ends: Any) -> int:
    count: int = ends.target.client.admin.command("serverStatus")["transactions"]["totalCommitted"]
    return count


def open_ones(ends: Any) -> list[Any]:
    idle = {"$match": {"type": "idleSession", "transaction": {"$exists": True}}}
    return list(ends.target.client.admin.aggregate([{"$currentOp": {}}, idle]))


def insist(target: MongoTarget, changes: dict[Key, Document | None]) -> int:
    """Apply as the engine does, and return how often it failed in passing."""
    for failures in range(20):
        try:
            target.apply(PEOPLE, changes)
        except ConnectionLost:
            time.sleep(0.2)
        else:
            return failures
    raise AssertionError


def test_many_at_once(ends: Any, target: MongoTarget, people: Any) -> None:
    """Deletes, replacements and inserts of a batch are one transaction."""
    before = committed(ends)

    target.apply(PEOPLE, states(1))

    assert committed(ends) == before + 1
    assert seen(people) == expected(1)


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (command, fault)
        for command in ("delete", "update", "commitTransaction")
        for fault in FAULTS
        if fault != "write concern" or command == "commitTransaction"
    ],
)
def test_fault(ends: Any, target: MongoTarget, people: Any, command: str, fault: str) -> None:
    """A command of a transaction that fails has its changes applied all the same."""
    point = FailPoint(ends.target.client)

    with point.while_on([command], times=1, **FAULTS[fault]):
        failures = insist(target, states(1))

    assert point.hits == 1
    assert failures == (1 if fault in {"network error", "not primary"} else 0)
    assert seen(people) == expected(1)
    assert open_ones(ends) == []


def test_fault_of_the_end(ends: Any, target: MongoTarget, people: Any) -> None:
    """A transaction that cannot be ended at once is ended before the next try."""
    point = FailPoint(ends.target.client)
    point.on(["update", "abortTransaction"], times=3, closeConnection=True)

    assert insist(target, states(1)) == 3

    assert point.hits == 3
    assert seen(people) == expected(1)
    assert open_ones(ends) == []


def test_all_or_nothing(ends: Any, target: MongoTarget, people: Any) -> None:
    """Nothing of a transaction that is not committed is to be seen."""
    point = FailPoint(ends.target.client)

    with (
        point.while_on(["commitTransaction"], times=1, closeConnection=True),
        pytest.raises(ConnectionLost),
    ):
        target.apply(PEOPLE, states(1))

    assert seen(people) == [(i, 0) for i in range(0, COUNT, 2)]


@pytest.mark.parametrize(
    "document",
    [
        {"_id": COUNT, "v": 1, "$set": 1},
        {"_id": {"$ref": "other", "$id": 1}, "v": 1},
        {"_id": COUNT, "v": 1, "at": Timestamp(0, 0)},
        {"_id": COUNT, "v": 1, "large": bytes(2_000_000)},
    ],
    ids=["dollar", "reference", "time of zero", "large"],
)
def test_not_in_a_transaction(target: MongoTarget, people: Any, document: dict[str, Any]) -> None:
    """What only other commands can write arrives, and all that came with it."""
    for _ in range(2):
        target.apply(PEOPLE, states(1, document))

    found = {bson.encode({"_": d["_id"]}): d for d in people.find()}
    assert bson.encode(found.pop(bson.encode({"_": document["_id"]}))) == bson.encode(document)
    assert sorted((d["_id"], d["v"]) for d in found.values()) == expected(1)


@pytest.mark.parametrize("kind", ["capped", "series"])
def test_collections_without(ends: Any, target: MongoTarget, kind: str) -> None:
    """Capped collections and buckets of time series are written to without transactions."""
    shop = ends.target.client.shop
    before = committed(ends)
    if kind == "capped":
        shop.create_collection("people", capped=True, size=100_000)
        target.apply(PEOPLE, states(1))
        assert shop.people.count_documents({"v": 1}) == COUNT * 3 // 4
    else:
        shop.create_collection("people", timeseries={"timeField": "at"})
        shop.people.insert_many({"at": bson.datetime.datetime(2026, 1, d + 1)} for d in range(20))
        buckets = list(shop["system.buckets.people"].find())
        target.apply(PEOPLE, {key_for(b["_id"]): None for b in buckets})
        assert shop.people.count_documents({}) == 0
    assert committed(ends) == before


def test_refused(ends: Any, target: MongoTarget, people: Any) -> None:
    """A value that an index does not allow twice is named as without a transaction."""
    people.create_index("email", unique=True, sparse=True)
    twice = [{"_id": COUNT + i, "email": "x"} for i in range(2)]

    with pytest.raises(WriteRefused, match=r"shop\.people: document .*4[01].* email_1 "):
        target.apply(PEOPLE, states(1, *twice))

    assert open_ones(ends) == []


def test_left_behind(ends: Any, target: MongoTarget, people: Any) -> None:
    """A transaction of a process that was killed holds up nobody: neither writes nor drops."""
    with MongoClient[Any](ends.target.uri, appname="limosa") as killed:
        leave_behind(killed)
        began = time.monotonic()
        target.apply(PEOPLE, states(1))
        assert seen(people) == expected(1)

        # One that begins now meets a target that has looked already.
        leave_behind(killed)
        target.apply(PEOPLE, states(2))
        assert seen(people) == expected(2)

        leave_behind(killed)
        with_another = MongoTarget(Deployment(ends.target.uri))
        with_another.relax(spec_of_people())
        people.drop()
        with_another.close()

    assert time.monotonic() - began < 20  # the server would end it after 60 s


def leave_behind(client: MongoClient[Any]) -> None:
    session = client.start_session()
    session.start_transaction()
    client.shop.people.update_one({"_id": 1}, {"$set": {"v": 99}}, upsert=True, session=session)
    time.sleep(0.3)


def spec_of_people() -> Any:
    from limosa.model import Collection, CollectionSpec

    return CollectionSpec(Collection(PEOPLE), {}, ())


def test_late(ends: Any, target: MongoTarget, people: Any) -> None:
    """A transaction that arrives after later changes of the same worker is refused."""
    target.apply(PEOPLE, states(1))
    late = target._transactions._numbering.own()
    number = late.next()
    target.apply(PEOPLE, states(2))
    command = {
        "update": "people",
        "updates": [{"q": {"_id": 1}, "u": {"_id": 1, "v": 1}}],
        "txnNumber": Int64(number),
        "autocommit": False,
        "startTransaction": True,
    }

    with pytest.raises(LimosaError, match=r"\(225\)"):
        target._deployment.run("shop", command, doing="late", session=late.session)

    assert seen(people) == expected(2)


def test_side_by_side(ends: Any, people: Any) -> None:
    """Workers at the end of a collection that grows do not slow each other down."""
    people.drop()
    target = MongoTarget(Deployment(ends.target.uri))
    parts = [
        {key_of(raw): Slice(raw) for n in range(i * 2_000, (i + 1) * 2_000) for raw in [grown(n)]}
        for i in range(8)
    ]
    people.insert_one({"_id": -1})
    began = cpu(ends)

    workers = [
        Thread(target=lambda own: [target.apply(PEOPLE, p) for p in own], args=(parts[i::4],))
        for i in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert people.count_documents({}) == 16_001
    # From first to last it took the server 500 us a document and more, now some 50.
    assert (cpu(ends) - began) / 16_000 < 250e-6
    target.close()


def grown(number: int) -> bytes:
    return bson.encode({"_id": number, "text": "x" * 500})


def cpu(ends: Any) -> float:
    usage = ends.target.client.admin.command("serverStatus")["extra_info"]
    return float(usage["user_time_us"] + usage["system_time_us"]) / 1e6
