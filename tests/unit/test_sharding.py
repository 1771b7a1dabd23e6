"""Sharded clusters: what is made of the documents that routers and their catalogue hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, MinKey, ObjectId, Timestamp
from pymongo.server_description import ServerDescription

from limosa.canonical import key_for
from limosa.connectors.mongodb import cluster, sharding, stream
from limosa.connectors.mongodb.clients import one_router
from limosa.connectors.mongodb.deployment import Cursor, is_router
from limosa.errors import ConfigError, PermanentError, WriteRefused
from limosa.model import Batch, Collection, CollectionSpec, Namespace, SchemaVerb
from limosa.plan import evolved, planned
from limosa.settings import Settings
from limosa.shard_keys import SHARDING, ShardKeys

PEOPLE = Namespace("shop", "people")
UUID = Binary(bytes(range(16)), 4)
COLLECTION = Collection(PEOPLE, bytes(UUID).hex())
#: As in ``config.collections`` of 6.0.
ENTRY: dict[str, Any] = {
    "_id": "shop.people",
    "lastmodEpoch": ObjectId("63f8a1f6d3c5e1a2b3c4d5e6"),
    "lastmod": {"$date": 0},
    "timestamp": Timestamp(1_677_238_774, 3),
    "uuid": UUID,
    "key": {"country": 1, "name": 1},
    "unique": False,
    "chunksAlreadySplitForDowngrade": False,
    "noBalance": False,
}
BY_COUNTRY: dict[str, Any] = {"key": {"country": 1, "name": 1}, "makesIndex": True}
ON_BOTH = {"v": 2, "key": {"country": 1, "name": 1, "age": -1}, "name": "both"}
TOKEN = {"_data": "8263F8A1F60000000329295A1004"}


def bounds(*values: Any) -> list[dict[str, Any]]:
    return [{"country": value, "name": MinKey()} for value in values]


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        ({"isWritablePrimary": True, "msg": "isdbgrid", "maxWireVersion": 17, "ok": 1.0}, True),
        ({"isWritablePrimary": True, "setName": "rs0", "hosts": ["a:1"], "ok": 1.0}, False),
        ({"isWritablePrimary": True, "ok": 1.0}, False),
    ],
)
def test_router(hello: Mapping[str, Any], expected: bool) -> None:
    """A router is told from a member of a replica set by what it says of itself."""
    assert is_router(hello) is expected


def described(port: int, *, router: bool = True) -> ServerDescription:
    from pymongo.hello import Hello

    answer: dict[str, Any] = {"ok": 1, "isWritablePrimary": True, "maxWireVersion": 17}
    answer |= {"msg": "isdbgrid"} if router else {"setName": "rs0", "hosts": [f"h:{port}"]}
    return ServerDescription(("h", port), Hello(answer), 0.01)


def test_one_router() -> None:
    """Of several routers always the same is asked, for cursors are known to one alone."""
    routers = [described(port) for port in (27019, 27017, 27018)]
    members = [described(port, router=False) for port in (1, 2)]

    assert [s.address for s in one_router(routers)] == [("h", 27017)]
    assert one_router(members) == members
    assert one_router([]) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, True), ({"unsplittable": True}, False), ({"dropped": True}, False)],
)
def test_spread(more: Mapping[str, Any], expected: bool) -> None:
    """Whole collections, which 8.0 lists too, and dropped ones are not sharded."""
    assert sharding.is_spread({**ENTRY, **more}) is expected


def test_sharded_as_the_source() -> None:
    """The key comes from the catalogue, and the chunks' bounds but the first are where to cut."""
    found = sharding.sharding_of(ENTRY, bounds(MinKey(), "DE", "FR", "US"))

    assert found["key"] == {"country": 1, "name": 1}
    assert list(found["key"]) == ["country", "name"]
    assert found["cuts"] == bounds("DE", "FR", "US")


def test_cuts_are_bounded() -> None:
    """Of very many chunks ninety bounds are taken, evenly, in order and none twice."""
    found = sharding.sharding_of(ENTRY, bounds(MinKey(), *range(10_000)))["cuts"]

    numbers = [cut["country"] for cut in found]
    assert len(numbers) == 90
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > 9_800


def test_commands() -> None:
    """A ranged collection is sharded while it is empty, cut, and put on the shards in turn."""
    wanted = {**BY_COUNTRY, "cuts": bounds("DE", "FR")}
    options = {SHARDING: wanted, "collation": {"locale": "de"}}

    found = sharding.commands_for(PEOPLE, options, [ON_BOTH], ["a", "b"])

    assert [database for database, _ in found] == ["admin", "shop", *["admin"] * 5]
    enable, index, shard, *parts = (command for _, command in found)
    assert enable == {"enableSharding": "shop"}
    assert index["createIndexes"] == "people"
    assert [i["name"] for i in index["indexes"]] == ["both"]
    assert shard == {
        "shardCollection": "shop.people",
        "key": {"country": 1, "name": 1},
        "unique": False,
        "collation": {"locale": "simple"},
    }
    assert [next(iter(p)) for p in parts] == ["split", "moveChunk", "split", "moveChunk"]
    assert [p.get("to") for p in parts] == [None, "b", None, "a"]
    assert parts[0]["middle"] == parts[1]["find"] == bounds("DE")[0]


def test_hashed_commands() -> None:
    """A hashed key has its own index made, and the server cuts by itself."""
    options = {SHARDING: {"key": {"_id": "hashed"}, "makesIndex": True}}

    found = [command for _, command in sharding.commands_for(PEOPLE, options, [], ["a", "b"])]

    assert [next(iter(c)) for c in found] == ["enableSharding", "createIndexes", "shardCollection"]
    assert found[1]["indexes"][0]["key"] == {"_id": "hashed"}
    assert found[1]["indexes"][0]["name"] == "_id_hashed"


def test_supporting_index() -> None:
    """The index that a shard key needs is the source's if it has one, and never a stray."""
    key = {"country": 1, "name": 1}
    partial = {**ON_BOTH, "name": "partial", "partialFilterExpression": {"age": {"$gt": 1}}}
    sparse = {**ON_BOTH, "name": "sparse", "sparse": True}
    german = {**ON_BOTH, "name": "german", "collation": {"locale": "de"}}
    turned = {"v": 2, "key": {"name": 1, "country": 1}, "name": "turned"}
    unfit = [partial, sparse, german, turned]

    assert sharding.supporting([*unfit, ON_BOTH], key) == ON_BOTH
    made = sharding.supporting(unfit, key)
    assert made is not None
    assert made["name"] == "country_1_name_1"
    assert sharding.with_supporting(unfit, key) == [*unfit, made]
    assert sharding.with_supporting([ON_BOTH], key) == [ON_BOTH]
    assert sharding.with_supporting(unfit, {}) == unfit
    assert sharding.supporting([], {"_id": 1}) is None


@pytest.mark.parametrize(
    ("options", "indexes", "named"),
    [
        ({"capped": True}, [], "capped"),
        ({"timeseries": {"timeField": "at"}}, [], "time-series"),
        ({}, [{"name": "mail", "key": {"mail": 1}, "unique": True}], "mail"),
        ({SHARDING: {**BY_COUNTRY, "makesIndex": False}}, [], "no index"),
    ],
)
def test_unsuitable(options: dict[str, Any], indexes: list[dict[str, Any]], named: str) -> None:
    """What a cluster would refuse at the commit is refused before the copy."""
    with pytest.raises(WriteRefused, match=named) as raised:
        sharding.refuse_unsuitable(PEOPLE, {SHARDING: BY_COUNTRY, **options}, indexes)

    assert raised.value.hint


def test_suitable() -> None:
    """A unique index that begins with the shard key may stay."""
    unique = {**ON_BOTH, "unique": True}

    sharding.refuse_unsuitable(PEOPLE, {SHARDING: BY_COUNTRY}, [unique])


@pytest.mark.parametrize(
    ("key", "expected"),
    [({}, True), ({"_id": 1}, True), ({"_id": "hashed"}, True), ({"_id": 1, "a": 1}, False)],
)
def test_by_id(key: Mapping[str, Any], expected: bool) -> None:
    """Only where the key is the _id alone does an _id lead to one shard."""
    assert sharding.is_by_id(key) is expected


def test_sizes() -> None:
    """Sizes are those of all shards together."""
    parts = [{"count": 3, "size": 30}, {"count": 4, "size": 50}, {"count": 0, "size": 0}]

    assert sharding.summed(parts) == {"count": 7, "size": 80}
    assert sharding.summed([]) == {}


def batches(*groups: list[Any]) -> list[Batch]:
    return [Batch.of([{"_id": i, "n": n} for n, i in enumerate(ids)]) for ids in groups]


@pytest.mark.parametrize("ids", [(7, 7), (7, 7.0), (Int64(7), Decimal128("7")), ("a", "a")])
@pytest.mark.parametrize("is_split", [False, True])
def test_twins(ids: tuple[Any, Any], is_split: bool) -> None:
    """Two documents of one _id, on different shards, are found as they are read."""
    one, other = ids
    found = batches([0, one], [other, 9]) if is_split else batches([0, one, other, 9])

    with pytest.raises(PermanentError, match=r"shop\.people.*_id") as raised:
        list(sharding.without_twins(COLLECTION, found))

    assert raised.value.hint


def test_no_twins() -> None:
    """Documents of different _ids pass, those whose hashes are the same among them."""
    found = batches([-2, -1, 0], [1, 2.5, "a", "b", ObjectId()])

    assert list(sharding.without_twins(COLLECTION, found)) == found


def answer(*events: dict[str, Any]) -> Cursor:
    array = bson.encode({str(number): event for number, event in enumerate(events)})
    return Cursor(Int64(1), "", array, bson.encode(TOKEN))


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """Return an event as the stream's projection leaves it."""
    first = {"_id": TOKEN}
    if "k" in fields:
        first["k"] = fields.pop("k")
    place = {"db": "shop", "coll": "people"}
    return {**first, "u": UUID, "n": place, "t": Timestamp(1_677_238_774, 3), "o": kind, **fields}


def test_document_keys() -> None:
    """Keys of changes are those of the _id alone, wherever it stands among the shard key."""
    keys = [
        {"country": "DE", "name": "Ada", "_id": 1},
        {"_id": 1, "country": "FR"},
        {"_id": {"a": 1, "b": 2}},
        {"nested": {"_id": 5}, "_id": Int64(3)},
    ]

    (found,) = stream._decoded(answer(*(event("update", k=k) for k in keys)), has_shard_keys=True)

    expected = [key_for(1), key_for({"a": 1, "b": 2}), key_for(Int64(3))]
    assert list(found.changes[COLLECTION]) == expected
    assert found.events == 4


def test_sharded_meanwhile() -> None:
    """A collection that is sharded while it is migrated will be so on the target."""
    told = {
        "shardKey": {"country": 1, "name": 1},
        "unique": False,
        "numInitialChunks": Int64(1),
        "presplitHashedZones": False,
    }

    (found,) = stream._decoded(answer(event("shardCollection", d=told)), has_shard_keys=True)

    assert found.schema is not None
    assert found.schema.verb is SchemaVerb.MODIFY
    assert found.schema.detail == {SHARDING: BY_COUNTRY}
    assert evolved(CollectionSpec(COLLECTION), found.schema).options == {SHARDING: BY_COUNTRY}


def test_resharded_meanwhile() -> None:
    """A collection that gets another identity fails the migration, and says what to do."""
    resharded = event("reshardCollection", d={"shardKey": {"a": 1}})

    with pytest.raises(PermanentError, match=r"shop\.people") as raised:
        list(stream._decoded(answer(resharded), has_shard_keys=True))

    assert "start anew" in raised.value.hint


#: As 6.0 answers ``listShards`` and ``balancerStatus``.
SHARDS = [
    {"_id": "rs-a", "host": "rs-a/a1:27018,a2:27018", "state": 1},
    {"_id": "rs-b", "host": "rs-b/b1:27018", "state": 1, "draining": True},
]
ON = {"mode": "full", "inBalancerRound": False, "numBalancerRounds": Int64(12), "ok": 1.0}


def found(role: str, *, mode: str = "full", zones: Any = ()) -> dict[str, str]:
    findings = cluster.findings_of(role, SHARDS, {**ON, "mode": mode}, zones)
    return {f.check: f.level for f in findings}


def test_examined_source() -> None:
    """Of a source one is told of shards, balancer, zones, and that its oplogs are not seen."""
    assert found("source", zones=[{"ns": "shop.people", "tag": "EU"}]) == {
        "shards": "ok",
        "draining_shards": "warning",
        "balancer": "warning",
        "zones": "warning",
        "oplog_window": "warning",
    }


def test_examined_target() -> None:
    """A balancer that is off is fine."""
    assert found("target", mode="off") == {
        "shards": "ok",
        "draining_shards": "warning",
        "balancer": "ok",
    }


def test_examined_keys() -> None:
    """Collections in which an _id might be there twice are named, and no others."""
    spec = CollectionSpec(COLLECTION, options={SHARDING: BY_COUNTRY})
    by_id = replace(spec, options={SHARDING: {"key": {"_id": "hashed"}}})

    (finding,) = cluster.keys_of([spec, by_id, CollectionSpec(COLLECTION)])

    assert finding.check == "unique_ids"
    assert "shop.people" in finding.message


def test_keys_as_typed() -> None:
    """Keys are read as a person types them, in order, and stored as they are."""
    settings = Settings.of(shards=["shop.people=country,name:-1", "shop.log=_id:hashed"])

    keys = settings.sharding
    assert keys is not None
    assert list(keys.keys[PEOPLE].items()) == [("country", 1), ("name", -1)]
    assert keys.keys[Namespace("shop", "log")] == {"_id": "hashed"}
    restored = Settings.restored(settings.stored()).sharding
    assert restored == keys
    assert restored is not None
    assert list(restored.keys[PEOPLE]) == ["country", "name"]
    assert keys.unmatched([PEOPLE]) == ["shop.log"]


def test_keys_as_mongosync_has_them() -> None:
    """Keys are read from a start's body; without a wish of its own no index is made."""
    entries = [
        {
            "database": "shop",
            "collection": "people",
            "shardCollection": {"key": [{"country": 1}, {"name": "hashed"}]},
        }
    ]

    found = ShardKeys.of_entries(entries)

    assert list(found.keys[PEOPLE].items()) == [("country", 1), ("name", "hashed")]
    assert not found.makes_indexes


@pytest.mark.parametrize(
    "rule", ["people=a", "shop.people", "shop.people=", "shop.people=a:2", "shop.people=:1"]
)
def test_bad_keys(rule: str) -> None:
    """A rule that is not understood is refused."""
    with pytest.raises(ConfigError):
        Settings.of(shards=[rule])


@pytest.mark.parametrize("key", [[], [{"a": 2}], [{"a": True}], [{"a": "text"}]])
def test_bad_entries(key: list[dict[str, Any]]) -> None:
    """An entry that is not understood is refused, and named."""
    entry = {"database": "shop", "collection": "people", "shardCollection": {"key": key}}

    with pytest.raises(ConfigError, match=r"shardingEntries\[0\]"):
        ShardKeys.of_entries([entry])


def test_told_before_the_source() -> None:
    """What is asked for stands before what the source has; other collections stay as they are."""
    settings = Settings.of(shards=["shop.people=_id:hashed"])
    spec = CollectionSpec(COLLECTION, options={SHARDING: BY_COUNTRY, "validator": {}})
    other = replace(spec, collection=Collection(Namespace("shop", "log"), "1"))

    assert planned(spec, settings).spec.options[SHARDING]["key"] == {"_id": "hashed"}
    assert planned(spec, settings).spec.options["validator"] == {}
    assert planned(other, settings).spec == other


def test_two_keys() -> None:
    """Two keys for one collection are refused."""
    with pytest.raises(ConfigError, match=r"two shard keys.*shop\.people"):
        Settings.of(shards=["shop.people=a", "shop.people=b"])
