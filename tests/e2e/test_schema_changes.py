"""Collections and indexes change while their documents are on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from in_process import MOMENTS, Running
from judge import described, differences
from pymongo import MongoClient

from limosa.settings import Settings

Client = MongoClient[dict[str, Any]]

#: Documents; more than one batch where the copy is to be held within the collection.
PEOPLE = {"copy": 5_500}
FEW_PEOPLE = 300
TEN_YEARS = 315_360_000
SEEN = datetime(2030, 1, 1, tzinfo=UTC)


def create(source: Client) -> None:
    rules = {"$jsonSchema": {"required": ["name"]}}
    source.shop.create_collection("guests", validator=rules, validationLevel="moderate")
    source.shop.create_collection("log", capped=True, size=65_536, max=100)
    source.shop.create_collection("names", collation={"locale": "en", "strength": 2})
    source.shop.names.create_index("name", unique=True)
    source.shop.guests.insert_many({"_id": i, "name": "g"} for i in range(20))
    source.shop.log.insert_many({"line": i} for i in range(120))
    source.shop.names.insert_many([{"_id": "a", "name": "Ada"}, {"_id": "b", "name": "Bob"}])


def drop(source: Client) -> None:
    source.shop.people.drop()


def drop_indexed(source: Client) -> None:
    source.shop.orders.drop()


def rename(source: Client) -> None:
    source.shop.people.rename("persons")
    _change(source.shop.persons)


def rename_twice(source: Client) -> None:
    source.shop.people.rename("persons")
    _change(source.shop.persons)
    source.shop.persons.rename("humans")
    _change(source.shop.humans)


def rename_and_back(source: Client) -> None:
    source.shop.people.rename("persons")
    _change(source.shop.persons)
    source.shop.persons.rename("people")


def rename_over_another(source: Client) -> None:
    source.shop.people.rename("orders", dropTarget=True)
    _change(source.shop.orders)


def rename_across_databases(source: Client) -> None:
    source.admin.command("renameCollection", "shop.people", to="crm.people")
    _change(source.crm.people)


def rename_across_over_another(source: Client) -> None:
    source.admin.command("renameCollection", "shop.people", to="crm.old", dropTarget=True)
    _change(source.crm.old)


def swap(source: Client) -> None:
    source.shop.people.rename("between")
    source.shop.orders.rename("people")
    source.shop.between.rename("orders")
    _change(source.shop.orders)


def drop_and_make_again(source: Client) -> None:
    source.shop.people.drop()
    source.shop.create_collection("people", validator={"name": {"$exists": True}})
    source.shop.people.insert_many({"_id": i, "name": "new", "age": 1} for i in range(30))
    source.shop.people.create_index([("age", -1)], name="by age")


def rename_and_make_again(source: Client) -> None:
    source.shop.people.rename("persons")
    source.shop.people.insert_many({"_id": i, "other": True} for i in range(25, 50))
    _change(source.shop.persons)


def create_indexes(source: Client) -> None:
    source.shop.people.create_index("email", unique=True, name="by email")
    source.shop.people.create_index(
        [("name", 1), ("age", -1)], partialFilterExpression={"age": {"$gt": 5}}, sparse=False
    )
    source.shop.people.create_index([("name", "text")], default_language="none")
    source.shop.orders.create_index("seen", expireAfterSeconds=TEN_YEARS)
    source.shop.people.create_index("tags.$**", name="wild", hidden=False)


def drop_indexes(source: Client) -> None:
    source.shop.people.drop_index("number_1")
    source.shop.orders.drop_indexes()


def replace_index(source: Client) -> None:
    source.shop.people.drop_index("number_1")
    source.shop.people.create_index("number", name="number_1", sparse=True)
    source.shop.people.drop_index("seen_1")
    source.shop.people.create_index("seen", name="seen_1", unique=False)


def modify(source: Client) -> None:
    source.shop.command(
        "collMod", "people", validator={"age": {"$gte": 0}}, validationLevel="moderate"
    )
    seen = {"name": "seen_1", "expireAfterSeconds": TEN_YEARS + 1}
    source.shop.command("collMod", "people", index=seen)
    source.shop.command("collMod", "people", index={"name": "age_1", "hidden": True})
    source.shop.command("collMod", "orders", changeStreamPreAndPostImages={"enabled": True})


def modify_to_unique(source: Client) -> None:
    source.shop.people.create_index("email", name="by email")
    source.shop.command("collMod", "people", index={"name": "by email", "prepareUnique": True})
    source.shop.command("collMod", "people", index={"name": "by email", "unique": True})


def modify_and_back(source: Client) -> None:
    source.shop.command("collMod", "people", validator={"age": {"$gte": 0}})
    source.shop.command("collMod", "people", index={"name": "age_1", "hidden": True})
    source.shop.command("collMod", "people", validator={}, validationLevel="off")
    source.shop.command("collMod", "people", index={"name": "age_1", "hidden": False})


def drop_database(source: Client) -> None:
    source.drop_database("shop")


def drop_database_and_make_again(source: Client) -> None:
    source.drop_database("shop")
    source.shop.people.insert_many({"_id": i, "again": True} for i in range(10))


def convert_to_capped(source: Client) -> None:
    source.shop.command("convertToCapped", "orders", size=1_000_000)
    source.shop.orders.insert_one({"_id": "after"})


def write_by_aggregation(source: Client) -> None:
    stages: list[dict[str, Any]] = [{"$match": {"_id": {"$lt": 40}}}, {"$project": {"name": 1}}]
    source.shop.people.aggregate([*stages, {"$out": "orders"}])
    source.shop.people.aggregate([*stages, {"$out": "made"}])
    source.shop.people.aggregate([*stages, {"$out": {"db": "crm", "coll": "made"}}])
    source.shop.orders.update_many({}, {"$set": {"later": 1}})


def move_unique_values(source: Client) -> None:
    people = source.shop.people
    for a, b in ((100, 101), (102, 103)):
        people.update_one({"_id": a}, {"$set": {"number": -a}})
        people.update_one({"_id": b}, {"$set": {"number": a}})
        people.update_one({"_id": a}, {"$set": {"number": b}})
    people.delete_one({"_id": 104})
    people.insert_one({"_id": "104", "number": 104})


CHANGES: tuple[Callable[[Client], None], ...] = (
    create,
    drop,
    drop_indexed,
    rename,
    rename_twice,
    rename_and_back,
    rename_over_another,
    rename_across_databases,
    rename_across_over_another,
    swap,
    drop_and_make_again,
    rename_and_make_again,
    create_indexes,
    drop_indexes,
    replace_index,
    modify,
    modify_to_unique,
    modify_and_back,
    drop_database,
    drop_database_and_make_again,
    convert_to_capped,
    write_by_aggregation,
    move_unique_values,
)


#: Those that happen at any moment; the others at three, for the sake of time.
ANY_TIME = {rename, rename_across_databases, drop_and_make_again}


def _cases() -> Iterator[Any]:
    for change in CHANGES:
        for moment in MOMENTS:
            if change in ANY_TIME or moment not in {"plan", "index build"}:
                yield pytest.param(change, moment, id=f"{change.__name__}-{moment}")


@pytest.mark.parametrize(("change", "moment"), list(_cases()))
def test_schema_change(
    ends: Any, tmp_path: Path, change: Callable[[Client], None], moment: str
) -> None:
    """What happens to a collection at any time has happened on the target after the commit."""
    source = ends.source.client
    _fill(source, moment)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        _hold(running, moment, source)
        _change(source.shop.people)
        change(source)
        if moment != "plan":  # nothing is captured before that
            running.await_captured(source)
        if moment == "commit":
            running.commit()
        running.release()
        migration = running.committed() if moment != "commit" else running.end()

    assert migration.failure is None
    assert differences(source, ends.target.client) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_namespaces_are_left_and_entered(ends: Any, tmp_path: Path, moment: str) -> None:
    """A collection renamed out of what is included leaves the target; one renamed in joins it."""
    source = ends.source.client
    _fill(source, moment)
    source.attic.box.insert_many({"_id": i, "old": True} for i in range(200))
    source.attic.box.create_index("old")
    source.attic.create_collection("ghost")
    settings = Settings.of(include=["shop", "crm"])
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        _hold(running, moment, source)
        _change(source.shop.people)
        source.admin.command("renameCollection", "shop.people", to="attic.people")
        source.admin.command("renameCollection", "attic.box", to="shop.box")
        _change(source.shop.box)
        source.attic.ghost.insert_one({"_id": 1})
        if moment != "plan":
            running.await_captured(source)
        if moment == "commit":
            running.commit()
        running.release()
        migration = running.committed() if moment != "commit" else running.end()

    assert migration.failure is None
    included = lambda name: not name.startswith("attic.")  # noqa: E731 - used once
    assert differences(source, ends.target.client, included=included) == []
    assert "shop.box" in described(ends.target.client)


def _fill(source: Client, moment: str) -> None:
    people = source.shop.people
    people.insert_many(
        {"_id": i, "number": i, "email": f"{i}@example.org", "age": i % 90, "seen": SEEN}
        for i in range(PEOPLE.get(moment, FEW_PEOPLE))
    )
    people.create_index("number", unique=True)
    people.create_index("age")
    people.create_index("seen", expireAfterSeconds=TEN_YEARS)
    source.shop.orders.insert_many({"_id": i, "total": i, "seen": SEEN} for i in range(60))
    source.shop.orders.create_index("total")
    source.crm.old.insert_many({"_id": i, "old": i} for i in range(40))
    source.crm.old.create_index("old", unique=True)


def _hold(running: Running, moment: str, source: Client) -> None:
    if moment != "commit":
        running.hold_at(moment)
        running.start()
    else:
        running.start()
        running.await_ready()
        running.hold_at(moment)
        source.crm.old.insert_one({"_id": "waited for"})
    running.await_held()


def _change(collection: Any) -> None:
    """Insert, update and delete documents."""
    collection.delete_many({"_id": {"$in": list(range(7))}})
    collection.update_many({"_id": {"$mod": [97, 3]}}, {"$inc": {"age": 100}})
    collection.update_many({"_id": {"$gt": 20, "$lt": 30}}, {"$set": {"name": "changed"}})
    highest = collection.count_documents({}) + 10_000
    collection.insert_many(
        {"_id": highest + i, "number": highest + i, "email": f"{highest + i}@example.org"}
        for i in range(5)
    )
