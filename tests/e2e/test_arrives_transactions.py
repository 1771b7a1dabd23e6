"""Transactions, aggregations that write, and many schema changes in a row arrive whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from pymongo import MongoClient
from pymongo.errors import OperationFailure

Client = MongoClient[dict[str, Any]]

#: Of `MOMENTS` those that differ most, for the sake of time.
THREE = ("copy", "application", "commit")
#: Documents; the copy is held within a collection of more than one batch.
MANY = 5_500
#: Comes to more than one oplog entry can hold.
LARGE = [{"_id": f"large {i}", "fill": bytes([i]) * 1_000_000} for i in range(18)]
SCHEMA_CHANGES = 300


def large(source: Client) -> None:
    """Of more than 16 MB."""
    with source.start_session() as session, session.start_transaction():
        source.shop.people.insert_many(LARGE, session=session)
        source.shop.people.delete_many({"_id": {"$in": [1, 2, 3]}}, session=session)
        source.shop.orders.update_many({}, {"$inc": {"total": 1}}, session=session)


def wide(source: Client) -> None:
    """Of thousands of operations in many collections, some of them new."""
    with source.start_session() as session, session.start_transaction():
        for number in range(30):
            collection = source[f"d{number % 3}"][f"c{number}"]
            collection.insert_many(({"_id": i, "v": number} for i in range(50)), session=session)
            collection.update_many({"_id": {"$lt": 10}}, {"$set": {"v": -1}}, session=session)
            collection.delete_many({"_id": {"$gte": 45}}, session=session)


def aborted(source: Client) -> None:
    """Of which nothing may arrive."""
    with source.start_session() as session:
        session.start_transaction()
        source.shop.people.update_many({"_id": {"$lt": 50}}, {"$set": {"no": 1}}, session=session)
        source.shop.orders.delete_many({}, session=session)
        session.abort_transaction()
        session.start_transaction()
        source.shop.people.update_one({"_id": 7}, {"$set": {"no": 2}}, session=session)
        with pytest.raises(OperationFailure):
            source.shop.people.insert_one({"_id": 8}, session=session)


def prepared(source: Client) -> None:
    """Prepared as those over several shards are; one is committed late, one aborted."""
    with source.start_session() as kept, source.start_session() as given_up:
        kept.start_transaction()
        given_up.start_transaction()
        source.shop.people.update_one({"_id": 11}, {"$set": {"late": 1}}, session=kept)
        source.shop.orders.insert_one({"_id": "late"}, session=kept)
        source.shop.people.update_one({"_id": 12}, {"$set": {"no": 1}}, session=given_up)
        majority = {"w": "majority"}
        prepared_at = source.admin.command(
            "prepareTransaction", session=kept, writeConcern=majority
        )["prepareTimestamp"]
        source.admin.command("prepareTransaction", session=given_up, writeConcern=majority)
        source.shop.people.update_one({"_id": 13}, {"$set": {"between": 1}})
        source.admin.command("abortTransaction", session=given_up, writeConcern=majority)
        source.admin.command(
            {"commitTransaction": 1, "commitTimestamp": prepared_at, "writeConcern": majority},
            session=kept,
        )


def merge(source: Client) -> None:
    """``$merge`` in all its ways, into new and existing collections, also of another database."""
    people = source.shop.people
    some: list[dict[str, Any]] = [{"$match": {"_id": {"$lt": 60}}}, {"$project": {"name": 1}}]
    people.aggregate([*some, {"$merge": {"into": "merged"}}])
    people.aggregate([*some, {"$merge": {"into": {"db": "crm", "coll": "merged"}}}])
    people.aggregate([*some, {"$merge": {"into": "orders", "whenMatched": "replace"}}])
    people.aggregate(
        [*some, {"$merge": {"into": "merged", "whenMatched": [{"$set": {"again": True}}]}}]
    )
    people.aggregate(
        [*some, {"$merge": {"into": "kept", "on": "name", "whenMatched": "keepExisting"}}]
    )
    people.aggregate([*some, {"$set": {"_id": {"$add": ["$_id", 500]}}}, {"$merge": "orders"}])
    people.aggregate([*some, {"$out": "copied"}])
    people.aggregate([*some, {"$limit": 5}, {"$out": "copied"}])
    people.aggregate([*some, {"$out": {"db": "crm", "coll": "copied"}}])


@pytest.mark.parametrize("moment", THREE)
@pytest.mark.parametrize(
    "changes", [(large, aborted), (wide, prepared), (merge,)], ids=lambda c: c[0].__name__
)
def test_transactions(
    ends: Any, tmp_path: Path, moment: str, changes: tuple[Callable[[Client], None], ...]
) -> None:
    """What happens in transactions and aggregations at any moment arrives whole, or not at all."""
    source = ends.source.client
    _fill(source, moment)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        _run(running, moment, source, changes)

    assert differences(source, ends.target.client) == []


def test_transaction_begun_before(ends: Any, tmp_path: Path) -> None:
    """What a transaction wrote before the migration began arrives when it is committed later."""
    source = ends.source.client
    _fill(source, "application")
    with source.start_session() as session:
        session.start_transaction()
        source.shop.people.update_many({"_id": {"$lt": 9}}, {"$set": {"v": 1}}, session=session)
        source.shop.people.insert_one({"_id": "new"}, session=session)
        with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
            running.start()
            running.await_ready()
            session.commit_transaction()
            running.committed()

    assert ends.target.client.shop.people.find_one({"_id": "new"})
    assert differences(source, ends.target.client) == []


@pytest.mark.parametrize(("moment", "number"), [("copy", 120), ("application", SCHEMA_CHANGES)])
def test_many_schema_changes(ends: Any, tmp_path: Path, moment: str, number: int) -> None:
    """Hundreds of schema changes in a row arrive in order with the data between them."""
    source = ends.source.client
    _fill(source, moment)
    dice = random.Random(f"{moment} {number}")

    def change_schema(source: Client) -> None:
        began = datetime.now(UTC)
        for count in range(number):
            _change_schema(source, dice, count)
        # A thousand in a minute is what is asked for.
        assert (datetime.now(UTC) - began).total_seconds() < 60

    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        _run(running, moment, source, [change_schema])

    assert differences(source, ends.target.client) == []


def _change_schema(source: Client, dice: random.Random, count: int) -> None:
    """Do one thing to one of a few collections, whatever there is under that name."""
    database = source[dice.choice(("shop", "crm"))]
    name, other = dice.choice("abcdefgh"), dice.choice("abcdefgh")
    known = database.list_collection_names(filter={"name": {"$in": list("abcdefgh")}})
    collection = database[name]
    if name not in known:
        if dice.random() < 0.3:
            database.create_collection(name, validator={"v": {"$exists": True}})
        collection.insert_many({"_id": i, "v": count} for i in range(dice.randrange(1, 20)))
        return
    match dice.randrange(7):
        case 0:
            collection.drop()
        case 1 if name != other:
            collection.rename(other, dropTarget=True)
        case 2:
            field = dice.choice("xyz") + str(count)
            collection.create_index(field, sparse=bool(count % 2))
        case 3:
            collection.drop_indexes()
        case 4:
            database.command("collMod", name, validator={"v": {"$gte": -count}})
        case 5:
            space = dice.choice(("shop", "crm"))
            if space != database.name:
                command = {"renameCollection": f"{database.name}.{name}", "to": f"{space}.{other}"}
                source.admin.command({**command, "dropTarget": True})
        case _:
            collection.update_many({"_id": {"$mod": [2, count % 2]}}, {"$set": {"w": count}})
            collection.delete_one({"_id": dice.randrange(20)})


def _fill(source: Client, moment: str) -> None:
    source.shop.people.insert_many(
        {"_id": i, "name": f"n{i}"} for i in range(MANY if moment == "copy" else 200)
    )
    source.shop.orders.insert_many({"_id": i, "total": i} for i in range(100))
    source.shop.kept.insert_many({"_id": f"k{i}", "name": f"n{i}"} for i in range(10))
    source.shop.kept.create_index("name", unique=True)


def _run(running: Running, moment: str, source: Client, changes: Any) -> None:
    """Run a migration to its commit, with *changes* at *moment*."""
    if moment == "commit":
        running.start()
        running.await_ready()
        running.hold_at(moment)
        source.shop.people.insert_one({"_id": "waited for"})
    else:
        running.hold_at(moment)
        running.start()
    running.await_held()
    for change in changes:
        change(source)
    source.shop.people.update_one({"_id": 3}, {"$set": {"last": True}}, upsert=True)
    running.await_captured(source)
    if moment == "commit":
        running.commit()
    running.release()
    migration = running.committed() if moment != "commit" else running.end()
    assert migration.failure is None
