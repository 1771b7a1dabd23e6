"""What is particular to MongoDB as a target, on a real server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bson
import pytest
from bson import DBRef, Int64, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection as Coll
from pymongo.errors import DuplicateKeyError

from limosa.canonical import key_for, key_of
from limosa.connector import Readiness
from limosa.connectors.mongodb.deployment import RAW, Deployment
from limosa.connectors.mongodb.target import MongoTarget
from limosa.errors import WriteRefused
from limosa.model import (
    Batch,
    Collection,
    CollectionSpec,
    Document,
    Key,
    Namespace,
    SchemaChange,
    SchemaVerb,
    Slice,
)

if TYPE_CHECKING:
    from tests.conftest import Ends

PEOPLE = Namespace("shop", "people")
CLUSTERED = {"v": 2, "key": {"_id": 1}, "name": "_id_", "unique": True}

INDEXES: list[dict[str, Any]] = [
    {"v": 2, "key": {"email": 1}, "name": "email_1", "unique": True},
    {"v": 2, "key": {"seen": 1}, "name": "seen_1", "expireAfterSeconds": 3600},
    {"v": 2, "key": {"age": -1, "name": 1}, "name": "age", "hidden": True},
    {"v": 2, "key": {"$**": 1}, "name": "all", "wildcardProjection": {"x": 0}},
    {"v": 2, "key": {"h": "hashed"}, "name": "h_hashed"},
    {"v": 2, "key": {"place": "2dsphere"}, "name": "place", "2dsphereIndexVersion": 3},
    {"v": 2, "key": {"n": 1}, "name": "n_1", "partialFilterExpression": {"n": {"$gt": 5}}},
    {"v": 2, "key": {"s": 1}, "name": "s_1", "sparse": True, "unique": True},
    {
        "v": 2,
        "key": {"_fts": "text", "_ftsx": 1},
        "name": "words",
        "weights": {"bio": 5, "name": 1},
        "default_language": "german",
        "language_override": "language",
        "textIndexVersion": 3,
    },
]


@pytest.fixture
def target(ends: Ends) -> Iterator[MongoTarget]:
    target = MongoTarget(Deployment(ends.target.uri))
    yield target
    target.close()


@pytest.fixture
def people(ends: Ends) -> Coll[dict[str, Any]]:
    """The same collection, as an application sees it."""
    return ends.target.client[PEOPLE.database][PEOPLE.collection]


def spec(*indexes: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> CollectionSpec:
    return CollectionSpec(Collection(PEOPLE), options or {}, indexes)


def put(target: MongoTarget, *documents: Mapping[str, Any]) -> None:
    states: dict[Key, Document | None] = {}
    for document in documents:
        raw = RawBSONDocument(bson.encode(document))
        states[key_of(raw.raw)] = raw
    target.apply(PEOPLE, states)


def indexes_of(collection: Coll[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {i["name"]: i.to_dict() for i in collection.list_indexes() if i["name"] != "_id_"}


def evolve(target: MongoTarget, verb: SchemaVerb, detail: Mapping[str, Any] | None = None) -> None:
    target.evolve(SchemaChange(verb, Collection(PEOPLE, "source"), detail or {}))


@pytest.mark.parametrize("size", [10, 900])
def test_all_there_already(target: MongoTarget, people: Coll[dict[str, Any]], size: int) -> None:
    """A batch of which everything is there already is accepted, however long its keys are."""
    batch = Batch.of([{"_id": f"{i}".rjust(size)} for i in range(16_000)])

    for _ in range(2):
        target.write(PEOPLE, batch)

    assert people.estimated_document_count() == 16_000


def test_mostly_there_already(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """After a batch that was there already, what is missing of the next ones is written."""
    for begin in (0, 0, 2, 10, 12, 30):
        target.write(PEOPLE, Batch.of([{"_id": i} for i in range(begin, begin + 10)]))

    assert [d["_id"] for d in people.find().sort("_id", 1)] == [*range(22), *range(30, 40)]


@pytest.mark.parametrize("by", ["write", "apply"])
def test_timestamp_of_zero(target: MongoTarget, people: Coll[dict[str, Any]], by: str) -> None:
    """A timestamp of zero is written as it is, not as the present time."""
    documents = [
        {"_id": 1, "t": Timestamp(0, 0), "n": {"t": Timestamp(0, 0)}},
        {"_id": 2, "n": 0, "f": 0.0},
        {"_id": Timestamp(0, 0), "": Timestamp(0, 0)},
    ]

    for _ in range(2):
        target.write(PEOPLE, Batch.of(documents)) if by == "write" else put(target, *documents)

        assert list(people.find().sort("_id", 1)) == documents


def test_timestamp_of_zero_there_already(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """A document with a timestamp of zero does not replace what is there."""
    people.insert_one({"_id": 1, "newer": True})

    target.write(PEOPLE, Batch.of([{"_id": 1, "t": Timestamp(0, 0)}]))

    assert people.find_one() == {"_id": 1, "newer": True}


def test_timestamp_of_zero_and_repeated_names(
    target: MongoTarget, people: Coll[dict[str, Any]]
) -> None:
    """A document that kills the server when it replaces another one is put all the same."""
    start = bson.encode({"_id": 1, "t": Timestamp(0, 0)})[4:-1]
    repeated = b"\x08v\0\x01\x08v\0\0"
    for content in (start, start + repeated, start + repeated + b"\x0an\0", start):
        document = Slice((len(content) + 5).to_bytes(4, "little") + content + b"\0")
        for _ in range(2):
            target.apply(PEOPLE, {key_for(1): document})

        (found,) = people.with_options(codec_options=RAW).find()  # type: ignore[arg-type] # raw
        assert bytes(found.raw) == document.raw  # type: ignore[attr-defined] # it is


def test_awkward_documents(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """Names with dollars and dots, keys that are references: all are put and deleted."""
    reference = DBRef("other", 1)
    documents = [
        {"_id": reference, "a": 1},
        {"_id": 2, "$set": {"a": 1}},
        {"_id": 3, "a.b": 1, "": 2},
        {"_id": {"a": 1, "b": [1]}, "$ref": 1},
    ]

    for _ in range(2):
        put(target, *documents)
        assert list(people.find()) == documents

    target.apply(PEOPLE, {key_for(d["_id"]): None for d in documents})
    assert people.find_one() is None


def test_equal_under_collation(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """A key that equals another one under the collection's collation takes its place."""
    options = {"collation": {"locale": "en", "strength": 2}}
    target.prepare(spec(options=options))
    put(target, {"_id": "a", "v": 1})

    put(target, {"_id": "A", "v": 2})

    assert list(people.find()) == [{"_id": "A", "v": 2}]


@pytest.mark.parametrize("by", ["write", "apply"])
def test_foreign_unique_index(target: MongoTarget, people: Coll[dict[str, Any]], by: str) -> None:
    """A duplicate of another unique index than that of the key is refused, and named."""
    people.create_index("email", unique=True)
    documents = [{"_id": 1, "email": "x"}, {"_id": 2, "email": "x"}]

    with pytest.raises(
        WriteRefused, match=r"shop\.people: document .*2.* email_1 .*email"
    ) as refused:
        target.write(PEOPLE, Batch.of(documents)) if by == "write" else put(target, *documents)

    assert "index" in refused.value.hint
    assert people.count_documents({}) == 1


@pytest.mark.parametrize("size", [16 * 1024 * 1024, 16 * 1024 * 1024 + 9_000, 17_000_000])
def test_too_large(target: MongoTarget, size: int) -> None:
    """A document above 16 MB is refused, and its key named."""
    with pytest.raises(WriteRefused, match=r"shop\.people: document .*7"):
        put(target, {"_id": 7, "v": bytes(size)})
    with pytest.raises(WriteRefused, match=r"shop\.people: document .*7"):
        target.write(PEOPLE, Batch.of([{"_id": 7, "v": bytes(size)}]))


@pytest.mark.parametrize("key", [1, "k" * 12_000])
def test_largest(target: MongoTarget, people: Coll[dict[str, Any]], key: object) -> None:
    """A document of just 16 MB is put and replaced, its key left out of the count."""
    spare = 16 * 1024 * 1024 - len(bson.encode({"_id": key, "v": b""}))
    if isinstance(key, str):
        spare -= 12_000  # the server's own record of the write has to hold the key, too

    for fill in (b"a", b"b"):
        put(target, {"_id": key, "v": fill * spare})

    assert people.find_one({"_id": key}, {"v": 1})["v"][:1] == b"b"  # type: ignore[index] # found


def test_capped(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """A capped collection keeps its limits and the order of its documents."""
    target.prepare(spec(options={"capped": True, "size": 100_000, "max": 4}))

    target.write(PEOPLE, Batch.of([{"_id": i} for i in (3, 1, 2)]))
    put(target, {"_id": 1, "longer": "than before"}, {"_id": 9}, {"_id": 4})
    target.apply(PEOPLE, {key_for(2): None})

    assert [d["_id"] for d in people.find()] == [1, 9, 4]


@pytest.mark.parametrize(
    "options",
    [
        {"validator": {"a": {"$type": "int"}}, "validationLevel": "moderate"},
        {"collation": {"locale": "fr", "strength": 2, "version": "57.1"}},
        {"capped": True, "size": 4096, "max": 7},
        {"clusteredIndex": CLUSTERED, "expireAfterSeconds": 100},
        {"changeStreamPreAndPostImages": {"enabled": True}},
        {"storageEngine": {"wiredTiger": {"configString": "block_compressor=zlib"}}},
        {"temp": True, "uuid": "x", "autoIndexId": True, "idIndex": {}},
    ],
    ids=lambda o: next(iter(o)),
)
def test_options(ends: Ends, target: MongoTarget, options: Mapping[str, Any]) -> None:
    """Each option is there after the commit, and creating the same again is fine."""
    wanted = spec(options=options)

    for _ in range(2):
        target.prepare(wanted)
        evolve(target, SchemaVerb.CREATE, options)
    assert target.finish(wanted, Readiness.INDEXED) == []
    before = listed(ends)
    for _ in range(2):
        assert target.finish(wanted, Readiness.COMPLETE) == []

    assert "expireAfterSeconds" not in before
    for name in options.keys() - {"temp", "uuid", "autoIndexId", "idIndex"}:
        present = listed(ends)[name]
        expected = options[name]
        assert present == expected or present.items() >= expected.items()


def listed(ends: Ends) -> dict[str, Any]:
    (entry,) = ends.target.client[PEOPLE.database].list_collections(
        filter={"name": PEOPLE.collection}
    )
    found: dict[str, Any] = entry["options"]
    return found


@pytest.mark.parametrize(
    ("present", "wanted", "named"),
    [
        ({}, {"capped": True, "size": 4096}, "capped, size"),
        ({"capped": True, "size": 4096}, {"capped": True, "size": 8192}, "size"),
        ({"validator": {"a": 1}}, {}, "validator"),
        ({}, {"collation": {"locale": "fr"}}, "collation"),
    ],
)
def test_other_options(
    target: MongoTarget, present: Mapping[str, Any], wanted: Mapping[str, Any], named: str
) -> None:
    """A collection that exists with other options is refused, and the options named."""
    target.prepare(spec(options=present))

    with pytest.raises(WriteRefused, match=rf"other options \({named}\)"):
        target.prepare(spec(options=wanted))


def test_unsupported(target: MongoTarget) -> None:
    """What cannot be migrated yet is refused by name, with what to do."""
    option = "encryptedFields"
    with pytest.raises(WriteRefused, match=r"shop\.people.*yet") as refused:
        target.prepare(spec(options={option: {}}))

    assert "--exclude shop.people" in refused.value.hint


def test_name_of_a_view(ends: Ends, target: MongoTarget) -> None:
    """A view of the collection's name is not written to."""
    ends.target.client.shop.create_collection("people", viewOn="others")

    with pytest.raises(WriteRefused, match="has a view of that name"):
        target.prepare(spec())


def test_changed_options(ends: Ends, target: MongoTarget) -> None:
    """At commit, options that have changed since are brought to those of the source."""
    target.prepare(spec(options={"validator": {"a": 1}}))
    wanted = {"validator": {"b": 2}, "changeStreamPreAndPostImages": {"enabled": True}}

    assert target.finish(spec(options=wanted), Readiness.COMPLETE) == []

    assert listed(ends).items() >= wanted.items()
    assert target.finish(spec(), Readiness.COMPLETE) == []
    assert "validator" not in listed(ends)


def test_options_that_stay(target: MongoTarget) -> None:
    """An option that cannot be changed any more is named as unfinished."""
    target.prepare(spec())

    (unfinished,) = target.finish(spec(options={"collation": {"locale": "fr"}}), Readiness.COMPLETE)

    assert unfinished.what == "option collation"


@pytest.mark.parametrize("collation", [None, {"locale": "fr"}])
def test_indexes(
    target: MongoTarget,
    people: Coll[dict[str, Any]],
    collation: Mapping[str, Any] | None,
) -> None:
    """Indexes of every sort are built inert, in one go, and end as they are on the source."""
    wanted = spec(*INDEXES, options={"collation": collation} if collation else {})
    target.prepare(wanted)
    target.write(PEOPLE, Batch.of([{"_id": i, "email": i, "s": i} for i in range(100)]))

    for _ in range(2):
        assert target.finish(wanted, Readiness.INDEXED) == []
        found = indexes_of(people)
        assert set(found) == {i["name"] for i in INDEXES}
        assert not any(i.keys() & {"unique", "hidden", "prepareUnique"} for i in found.values())
        assert found["seen_1"]["expireAfterSeconds"] == 2**31 - 1
    for _ in range(2):
        assert target.finish(wanted, Readiness.WRITABLE) == []
        assert set(indexes_of(people)) == set(found)
        with pytest.raises(DuplicateKeyError):
            people.insert_one({"_id": 1000, "email": 1})
    for _ in range(2):
        assert target.finish(wanted, Readiness.COMPLETE) == []
        assert indexes_of(people) == {i["name"]: i for i in INDEXES}


def test_complete_at_once(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """Each readiness includes those before it."""
    target.prepare(spec())

    assert target.finish(spec(*INDEXES), Readiness.COMPLETE) == []

    assert indexes_of(people) == {i["name"]: i for i in INDEXES}


def test_conflicting_documents(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """An index that cannot be made unique is named with a few keys, and does not stay half-way."""
    target.prepare(spec())
    target.write(PEOPLE, Batch.of([{"_id": i, "email": i // 4} for i in range(40)]))
    wanted = spec(*INDEXES)

    for readiness in (Readiness.WRITABLE, Readiness.COMPLETE) * 2:
        (unfinished,) = target.finish(wanted, readiness)

        assert unfinished.what == "index email_1"
        assert "0" in unfinished.reason
        assert unfinished.reason.endswith("and more")
    found = indexes_of(people)
    assert found["email_1"].keys() == {"v", "key", "name"}
    assert found["s_1"]["unique"]
    assert found["seen_1"]["expireAfterSeconds"] == 3600

    people.delete_many({"_id": {"$mod": [4, 1]}})
    people.delete_many({"_id": {"$mod": [2, 0]}})
    assert target.finish(wanted, Readiness.COMPLETE) == []
    assert indexes_of(people)["email_1"]["unique"]


def test_old_target(ends: Ends, target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """A target that cannot turn an index into a unique one builds it anew."""
    ends.target.client.admin.command("setFeatureCompatibilityVersion", "5.0")
    try:
        target.prepare(spec())
        target.write(PEOPLE, Batch.of([{"_id": i, "email": i // 2, "s": i} for i in range(4)]))

        for readiness in (Readiness.WRITABLE, Readiness.COMPLETE):
            (unfinished,) = target.finish(spec(*INDEXES), readiness)
            assert unfinished.what == "index email_1"
            assert "dup key: { email: 0 }" in unfinished.reason
            assert "unique" not in indexes_of(people)["email_1"]
            assert indexes_of(people)["s_1"]["unique"]
        people.delete_many({"_id": {"$mod": [2, 0]}})
        assert target.finish(spec(*INDEXES), Readiness.COMPLETE) == []
    finally:
        ends.target.client.admin.command("setFeatureCompatibilityVersion", "6.0")

    assert indexes_of(people) == {i["name"]: i for i in INDEXES}


def test_unique_and_not(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """Two indexes on one key, of which one is unique, are both there in the end."""
    pair = [
        {"v": 2, "key": {"a": 1}, "name": "one", "unique": True},
        {"v": 2, "key": {"a": 1}, "name": "two"},
    ]
    target.prepare(spec())
    target.write(PEOPLE, Batch.of([{"_id": i, "a": i} for i in range(3)]))
    evolve(target, SchemaVerb.CREATE_INDEXES, {"indexes": pair[:1]})
    evolve(target, SchemaVerb.CREATE_INDEXES, {"indexes": pair[1:]})

    for readiness in Readiness:
        for _ in range(2):
            assert target.finish(spec(*pair), readiness) == []

    assert indexes_of(people) == {i["name"]: i for i in pair}


def test_changed_indexes(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """At commit, indexes that have changed since are brought to those of the source."""
    target.prepare(spec())
    assert target.finish(spec(*INDEXES), Readiness.COMPLETE) == []
    changed: list[dict[str, Any]] = [
        {"v": 2, "key": {"email": 1}, "name": "email_1"},
        {"v": 2, "key": {"seen": 1}, "name": "seen_1"},
        {"v": 2, "key": {"age": 1}, "name": "age", "expireAfterSeconds": 5},
        {"v": 2, "key": {"n": 1}, "name": "n_1", "prepareUnique": True},
        {"v": 2, "key": {"h": "hashed"}, "name": "renamed"},
    ]

    assert target.finish(spec(*changed), Readiness.INDEXED) == []
    for _ in range(2):
        assert target.finish(spec(*changed), Readiness.COMPLETE) == []

        assert indexes_of(people) == {i["name"]: i for i in changed}


def test_index_that_cannot_be_built(target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """An index that the documents do not allow is refused by name."""
    target.prepare(spec())
    people.insert_one({"a": [1], "b": [2]})
    index = {"v": 2, "key": {"a": 1, "b": 1}, "name": "both"}

    with pytest.raises(WriteRefused, match=r"shop\.people \(both\).*parallel arrays") as refused:
        target.finish(spec(index), Readiness.INDEXED)

    assert "source" in refused.value.hint


@pytest.mark.parametrize("verb", [SchemaVerb.CREATE_INDEXES, SchemaVerb.DROP_INDEXES])
def test_index_changes(target: MongoTarget, people: Coll[dict[str, Any]], verb: SchemaVerb) -> None:
    """Indexes made during the migration are inert; one of the same name is replaced."""
    target.prepare(spec())
    people.create_index("other", name="email_1")

    for _ in range(2):
        evolve(target, SchemaVerb.CREATE_INDEXES, {"indexes": INDEXES})
        found = indexes_of(people)
        assert set(found) == {i["name"] for i in INDEXES}
        assert dict(found["email_1"]["key"]) == {"email": 1}
        assert "unique" not in found["email_1"]

    if verb is SchemaVerb.DROP_INDEXES:
        for _ in range(2):
            evolve(target, verb, {"indexes": INDEXES[:4]})
            assert set(indexes_of(people)) == {i["name"] for i in INDEXES[4:]}


def test_modify(ends: Ends, target: MongoTarget, people: Coll[dict[str, Any]]) -> None:
    """A validator changes at once; what would make an index or a collection active waits."""
    target.prepare(spec(options={"clusteredIndex": CLUSTERED}))
    evolve(target, SchemaVerb.CREATE_INDEXES, {"indexes": INDEXES[:3]})
    before = indexes_of(people)
    details: Sequence[Mapping[str, Any]] = [
        {"index": {"name": "seen_1", "expireAfterSeconds": Int64(1)}},
        {"index": {"name": "email_1", "prepareUnique": True}},
        {"index": {"name": "missing", "hidden": True}},
        {"expireAfterSeconds": 3},
        {"validator": {"a": 1}, "validationAction": "warn", "expireAfterSeconds": 3},
    ]

    for _ in range(2):
        for detail in details:
            evolve(target, SchemaVerb.MODIFY, detail)

    assert indexes_of(people) == before
    assert "expireAfterSeconds" not in listed(ends)
    assert listed(ends)["validator"] == {"a": 1}
    assert listed(ends)["validationAction"] == "warn"


def test_finish_of_nothing(target: MongoTarget) -> None:
    """A collection that the target lacks is named as unfinished."""
    for readiness in Readiness:
        (unfinished,) = target.finish(spec(*INDEXES), readiness)

        assert unfinished.what == "collection"
