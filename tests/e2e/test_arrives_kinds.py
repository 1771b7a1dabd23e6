"""Every kind of collection arrives, whenever it was made or changed, and views with them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import SON
from in_process import Running
from judge import described, differences
from pymongo import MongoClient

from limosa.events import DefinitionsCarried
from limosa.settings import Settings
from limosa.state import State

Client = MongoClient[dict[str, Any]]

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
#: Expires nothing that the tests write.
TEN_YEARS = 315_360_000
#: Documents; the copy is held within a collection of more than one batch.
MANY = 5_500
FEW = 100
#: What is as long as a namespace may be: 255 bytes, the dot included.
LONGEST = "l" * (255 - len("shop."))
#: All of ASCII that a name may hold, those included that nobody can type.
EVERY_CHARACTER = "".join(chr(c) for c in range(1, 128) if chr(c) != "$")
NAMES = (
    *("a.b.c", "ümläut", "spa ce", 'quo"te', "semi;colon", "{}", "Case", "case", "-", "0", "鳥"),
    *(EVERY_CHARACTER, "*", "/a/", "a=b", "a?", "[a]"),
)
#: As long as can be, and of all characters but the five that separate, end or quote.
DATABASES = ("d-" + "x" * 61, "d!#%&'()*+,-:;<=>?@[]^_`{|}~é", "a=b")


def plain(source: Client) -> None:
    for name in (*NAMES, LONGEST):
        source.shop[name].insert_many({"_id": i, "name": name} for i in range(3))
    source.shop.create_collection("empty")
    source.hollow.create_collection("only")
    for name in DATABASES:
        source[name].c.insert_one({"_id": 1})
    source.media["fs.files"].create_index([("filename", 1), ("uploadDate", 1)])
    source.media["fs.chunks"].create_index([("files_id", 1), ("n", 1)], unique=True)
    source.media["fs.files"].insert_one({"_id": 1, "length": 600_000, "chunkSize": 261_120})
    source.media["fs.chunks"].insert_many(
        {"_id": n, "files_id": 1, "n": n, "data": bytes([n]) * 200_000} for n in range(3)
    )


def with_options(source: Client) -> None:
    shop = source.shop
    rules = {"$jsonSchema": {"required": ["name"]}}
    shop.create_collection(
        "ruled", validator=rules, validationLevel="moderate", validationAction="warn"
    )
    shop.ruled.insert_many({"_id": i} for i in range(5))
    shop.create_collection("french", collation={"locale": "fr", "backwards": True, "strength": 2})
    shop.french.insert_many({"_id": i, "name": n} for i, n in enumerate(("côte", "coté", "Cote")))
    shop.french.create_index("name")
    shop.create_collection("ring", capped=True, size=8_192, max=20)
    shop.ring.insert_many({"_id": i, "line": "x" * (i % 7)} for i in range(33, 0, -1))
    shop.create_collection("images", changeStreamPreAndPostImages={"enabled": True})
    shop.images.insert_many({"_id": i} for i in range(5))
    shop.images.update_many({}, {"$set": {"seen": True}})
    storage = {"wiredTiger": {"configString": "block_compressor=zlib"}}
    shop.create_collection("packed", storageEngine=storage)
    shop.packed.insert_one({"_id": 1, "v": "x" * 10_000})
    key = SON([("key", {"_id": 1}), ("unique", True), ("name", "by id")])
    shop.create_collection("clustered", clusteredIndex=key, expireAfterSeconds=TEN_YEARS)
    shop.clustered.insert_many({"_id": NOON + timedelta(days=d), "d": d} for d in range(30))
    shop.clustered.create_index("d")


def time_series(source: Client) -> None:
    shop = source.shop
    shop.create_collection(
        "heat",
        timeseries={"timeField": "at", "metaField": "where", "granularity": "minutes"},
        expireAfterSeconds=TEN_YEARS,
    )
    shop.create_collection("bare", timeseries={"timeField": "at"})
    _measure(shop.heat, 0, 400)
    shop.bare.insert_many({"at": NOON + timedelta(hours=h), "v": h} for h in range(20))
    shop.heat.create_index([("where.room", 1), ("at", -1)])
    shop.heat.create_index([("where.place", "2dsphere")])
    shop.heat.create_index("v", hidden=True, collation={"locale": "en"})


def views(source: Client) -> None:
    shop = source.shop
    people = [{"$match": {"age": {"$gte": 18}}}]
    # Made of what comes later, in the alphabet and in time.
    shop.create_collection("a_names", viewOn="b_adults", pipeline=[{"$project": {"name": 1}}])
    shop.create_collection("b_adults", viewOn="people", pipeline=people)
    shop.create_collection(
        "c_joined",
        viewOn="a_names",
        pipeline=[
            {"$lookup": {"from": "d_all", "localField": "name", "foreignField": "_id", "as": "x"}},
            {"$unionWith": {"coll": "b_adults", "pipeline": []}},
        ],
    )
    english = {"locale": "en", "strength": 1}
    shop.create_collection("d_all", viewOn="people", pipeline=[])
    shop.create_collection("f_english", viewOn="people", pipeline=[], collation=english)
    shop.create_collection("e_again", viewOn="f_english", pipeline=[], collation=english)
    shop.create_collection("of nothing", viewOn="nothing", pipeline=[])


def change_kinds(source: Client) -> None:
    """Change all that can be, of what the functions above have made."""
    shop = source.shop
    _measure(shop.heat, 400, 500)
    shop.heat.delete_many({"where": {"room": 1}})
    shop.command("collMod", "heat", timeseries={"granularity": "hours"})
    shop.command("collMod", "heat", expireAfterSeconds=TEN_YEARS + 1)
    shop.command("collMod", "heat", index={"name": "v_1", "hidden": False})
    _measure(shop.heat, 500, 600)
    shop.heat.drop_index("where.place_2dsphere")
    shop.bare.drop()
    shop.create_collection("bare", timeseries={"timeField": "t", "granularity": "hours"})
    shop.bare.insert_many({"t": NOON + timedelta(days=d), "v": d} for d in range(20))
    shop.command("collMod", "clustered", expireAfterSeconds="off")
    shop.command("collMod", "images", changeStreamPreAndPostImages={"enabled": False})
    shop.command("collMod", "ring", cappedSize=16_384, cappedMax=15)
    shop.ring.insert_many({"_id": 100 + i} for i in range(30))
    shop.command("convertToCapped", "ruled", size=100_000)
    shop.ruled.insert_one({"_id": "later", "name": 1})
    shop.command("collMod", "b_adults", viewOn="people", pipeline=[{"$match": {"age": 7}}])
    shop.e_again.drop()
    shop.create_collection("e_again", viewOn="people", pipeline=[])
    shop["of nothing"].drop()
    shop["of nothing"].insert_one({"_id": "a collection now"})
    shop.empty.drop()
    shop.create_collection("empty", viewOn="people", pipeline=[])


def _measure(series: Any, first: int, last: int) -> None:
    series.insert_many(
        {
            "at": NOON + timedelta(seconds=31 * i),
            "where": {"room": i % 3},
            "v": i,
            "more": {"deep": [i, str(i)]},
        }
        for i in range(first, last)
    )


#: Of `MOMENTS` those that differ most, for the sake of time.
THREE = ("copy", "application", "commit")
MAKERS: tuple[Callable[[Client], None], ...] = (plain, with_options, time_series, views)


@pytest.mark.parametrize("moment", [None, *THREE])
def test_kinds(ends: Any, tmp_path: Path, moment: str | None) -> None:
    """Collections of all kinds and views arrive as they are, made before or at any moment."""
    source = ends.source.client
    _fill(source, moment)
    if moment is None:
        for make in MAKERS:
            make(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        _run(running, moment, source, MAKERS if moment else [])

    assert differences(source, ends.target.client) == []
    assert described(ends.target.client)["shop.c_joined"]["type"] == "view"
    assert described(ends.target.client)["shop.heat"]["type"] == "timeseries"


@pytest.mark.parametrize("moment", THREE)
def test_changed_kinds(ends: Any, tmp_path: Path, moment: str) -> None:
    """What is changed at any moment, of collections of all kinds and of views, has changed."""
    source = ends.source.client
    _fill(source, moment)
    for make in MAKERS:
        make(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        _run(running, moment, source, [change_kinds])

    assert differences(source, ends.target.client) == []


def test_views_follow_the_filter(ends: Any, tmp_path: Path) -> None:
    """Views are included and excluded by name, and stand under the names that the rules give."""
    source = ends.source.client
    _fill(source)
    views(source)
    settings = Settings.of(
        include=["shop"], exclude=["shop.e_again"], renames=["shop=store", "shop.people=store.folk"]
    )
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start()
        running.committed()
        carried = [e for e in running.events if isinstance(e, DefinitionsCarried)]

    store = ends.target.client.store
    assert [e.count for e in carried] == [6]
    assert "e_again" not in store.list_collection_names()
    assert store.b_adults.count_documents({}) == source.shop.b_adults.count_documents({}) > 0
    assert store.c_joined.count_documents({}) == source.shop.c_joined.count_documents({})


def test_view_that_cannot_be_made(ends: Any, tmp_path: Path) -> None:
    """A view that cannot stand on the target is named; with that mended, a commit goes through."""
    source, target = ends.source.client, ends.target.client
    _fill(source)
    source.shop.create_collection("mine", viewOn="people", pipeline=[])
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        target.shop.mine.insert_one({"_id": "in the way"})
        running.commit()
        refused = running.end()
        source.shop.people.insert_one({"_id": "after the refusal", "number": -1})
        target.shop.mine.drop()
        running.start()
        running.committed()

    assert refused.state is State.FAILED
    assert refused.failure is not None
    assert "shop.mine" in refused.failure.message
    assert not refused.can_write
    assert differences(source, target) == []


def _fill(source: Client, moment: str | None = None) -> None:
    source.shop.people.insert_many(
        {"_id": i, "number": i, "name": f"n{i}", "age": i % 90}
        for i in range(MANY if moment == "copy" else FEW)
    )
    source.shop.people.create_index("number", unique=True)


def _run(running: Running, moment: str | None, source: Client, changes: Any) -> None:
    """Run a migration to its commit, with *changes* at *moment*."""
    if moment is None:
        running.start()
        running.committed()
        return
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
    source.shop.people.update_one({"_id": 3}, {"$set": {"last": True}})
    if moment != "plan":
        running.await_captured(source)
    if moment == "commit":
        running.commit()
    running.release()
    migration = running.committed() if moment != "commit" else running.end()
    assert migration.failure is None
