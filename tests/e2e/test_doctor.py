"""What `limosa doctor` finds at real servers of many conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from limosa.canonical import key_of
from limosa.connector import Connector, Finding, Readiness, Source, Target, connector_for
from limosa.embedded import Mongod, Options, ReplicaSet
from limosa.model import (
    Batch,
    Collection,
    CollectionSpec,
    Namespace,
    SchemaChange,
    SchemaVerb,
)

if TYPE_CHECKING:
    from tests.conftest import Ends

PEOPLE = Namespace("shop", "people")
ORDERS = Namespace("shop", "orders")
NOTES = Namespace("blog", "notes")
SECRET = "s3cret-of-mine"  # must never be seen


@pytest.fixture(scope="module")
def connector() -> Connector:
    return connector_for("mongodb://")


@pytest.fixture(scope="module")
def guarded(mongod_options: Options) -> Iterator[ReplicaSet]:
    """A replica set with access control."""
    with ReplicaSet(replace(mongod_options, user="admin", password=SECRET)) as servers:
        yield servers


def specs(*namespaces: Namespace, size: int = 1_000, **options: object) -> list[CollectionSpec]:
    return [CollectionSpec(Collection(n, "id"), options, size=size) for n in namespaces]


def found(
    connector: Connector, uri: str, role: str, wanted: Sequence[CollectionSpec] = ()
) -> dict[str, Finding]:
    findings = list(connector.examine(uri, role, wanted))
    assert SECRET not in repr(findings)
    assert all(f.advice for f in findings if f.level == "error")
    by_check = {f.check: f for f in findings}
    assert len(by_check) == len(findings)
    return by_check


def errors(findings: dict[str, Finding]) -> set[str]:
    return {f.check for f in findings.values() if f.level == "error"}


def user(servers: ReplicaSet, name: str, *privileges: Any, roles: Sequence[Any] = ()) -> str:
    """Make a user anew; return a URI for it."""
    admin = servers.members[0].client.admin
    if admin.command("usersInfo", name)["users"]:
        admin.command("dropUser", name)
        admin.command("dropRole", f"role of {name}")
    resources = [{"resource": r, "actions": a} for r, a in privileges]
    admin.command("createRole", f"role of {name}", privileges=resources, roles=list(roles))
    admin.command("createUser", name, pwd=SECRET, roles=[f"role of {name}"])
    return f"mongodb://{name}:{SECRET}@{servers.members[0].address}/?replicaSet={servers.name}"


def on(database: str, collection: str = "") -> dict[str, str]:
    return {"db": database, "collection": collection}


@pytest.mark.parametrize("role", ["source", "target"])
def test_healthy(ends: Ends, connector: Connector, role: str) -> None:
    """A fitting deployment gives no error, and says so for each thing that was looked at."""
    findings = found(connector, ends.target.uri, role, specs(PEOPLE))

    assert errors(findings) == set()
    assert findings.keys() >= {"reachable", "authentication", "topology", "primary", "version"}
    more = ("oplog_window", "features") if role == "source" else ("other_writers", "disk")
    assert findings.keys() >= {*more, *(["target_empty"] if role == "target" else [])}


@pytest.mark.parametrize(
    ("uri", "check"),
    [
        ("mongodb://nowhere.invalid:1/?serverSelectionTimeoutMS=200", "reachable"),
        ("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200", "reachable"),
        ("mongodb://127.0.0.1:port/", "uri"),
        ("mongodb://", "uri"),
        ("mongodb://127.0.0.1/?tls=maybe", "uri"),
        ("mongodb://127.0.0.1/?tls=true&tlsCAFile=/not/there", "uri"),
        (f"mongodb://me:{SECRET}@x@127.0.0.1/", "uri"),
        (f"mongodb://me:un/{SECRET}@127.0.0.1/", "uri"),
        (f"mongodb://me:un:{SECRET}@127.0.0.1/", "uri"),
        (f"mongodb://me:{SECRET}@127.0.0.1:1/?serverSelectionTimeoutMS=200", "reachable"),
    ],
)
def test_unreachable(connector: Connector, uri: str, check: str) -> None:
    """A server that cannot be reached is a finding, and the only one."""
    findings = found(connector, uri, "source")

    assert errors(findings) == set(findings) == {check}


def test_wrong_password(connector: Connector, guarded: ReplicaSet) -> None:
    """A refused password and a missing login are told apart from an unreachable server."""
    address = guarded.members[0].address
    for uri in (f"mongodb://admin:wrong@{address}/", f"mongodb://{address}/"):
        findings = found(connector, uri, "target")

        assert findings["reachable"].level == "ok"
        assert errors(findings) == {"authentication"}


def test_standalone(connector: Connector, mongod_options: Options) -> None:
    """A standalone server is refused at either end, with what to do about it."""
    with Mongod(mongod_options) as server:
        for role in ("source", "target"):
            findings = found(connector, server.uri, role, specs(PEOPLE))

            assert errors(findings) == {"topology"}
            assert "--replSet" in findings["topology"].advice


def test_no_primary(connector: Connector, mongod_options: Options) -> None:
    """A replica set without a majority is reached, and its missing primary is named."""
    with ReplicaSet(mongod_options, members=2) as servers:
        servers.members[1].kill()
        client = MongoClient[dict[str, Any]](servers.members[0].uri)
        stepped_down = {"replSetStepDown": 60, "force": True}
        client.admin.command(stepped_down)
        client.close()

        findings = found(connector, servers.uri, "source", specs(PEOPLE))

        assert findings["reachable"].level == "ok"
        assert errors(findings) == {"primary"}


def test_missing_on_the_source(connector: Connector, guarded: ReplicaSet) -> None:
    """Exactly what the user of the source lacks is named."""
    uri = user(
        guarded,
        "reader",
        (on("shop"), ["find", "collStats", "listCollections"]),
        (on("blog", "notes"), ["find", "collStats", "listIndexes"]),
    )

    findings = found(connector, uri, "source", specs(PEOPLE, ORDERS, NOTES))

    assert errors(findings) == {"privileges"}
    assert findings["privileges"].message == (
        "reader@admin lacks find on *.*, changeStream on *.*, listCollections on blog.*, "
        "listIndexes on shop.*"
    )
    assert findings["use_uuid"].level == "warning"
    assert findings["oplog_window"].level == "warning"


@pytest.mark.parametrize("wanted", [specs(PEOPLE, ORDERS), specs(PEOPLE)])
def test_missing_in_one_database(
    connector: Connector, guarded: ReplicaSet, wanted: Sequence[CollectionSpec]
) -> None:
    """Where all is in one database, no more than rights on that one are demanded."""
    uri = user(guarded, "reader", (on("shop"), ["find", "listCollections"]))

    findings = found(connector, uri, "source", wanted)

    assert errors(findings) == {"privileges"}
    assert findings["privileges"].message == (
        "reader@admin lacks changeStream on shop.*, collStats on shop.*, listIndexes on shop.*"
    )
    assert findings["privileges"].advice == "grant these, or the role read on shop"


def test_rights_on_a_collection(connector: Connector, guarded: ReplicaSet) -> None:
    """Rights on the one collection that is migrated are not enough to follow a database."""
    actions = ["find", "changeStream", "collStats", "listIndexes"]
    uri = user(guarded, "reader", (on("shop", "people"), actions))

    findings = found(connector, uri, "source", specs(PEOPLE))

    assert findings["privileges"].message == (
        "reader@admin lacks find on shop.*, changeStream on shop.*, listCollections on shop.*"
    )


def test_missing_on_the_target(connector: Connector, guarded: ReplicaSet) -> None:
    """Exactly what the user of the target lacks is named."""
    uri = user(
        guarded,
        "writer",
        (on("shop", "people"), ["insert", "update"]),
        roles=["readAnyDatabase"],
    )

    findings = found(connector, uri, "target", specs(PEOPLE, ORDERS))

    assert errors(findings) == {"privileges"}
    assert findings["privileges"].message == (
        "writer@admin lacks insert on shop.orders, update on shop.orders, remove on shop.*, "
        "bypassDocumentValidation on shop.*, createCollection on shop.*, dropCollection on "
        "shop.*, renameCollectionSameDB on shop.*, collMod on shop.*, createIndex on shop.*, "
        "dropIndex on shop.*"
    )


@pytest.mark.parametrize(
    ("roles", "stream"),
    [
        ([{"role": "read", "db": "shop"}], "shop alone"),
        ([{"role": "read", "db": "shop"}, "clusterMonitor"], "shop alone"),
        (["readAnyDatabase"], "the whole deployment"),
    ],
)
def test_change_stream(
    connector: Connector, guarded: ReplicaSet, roles: Sequence[Any], stream: str
) -> None:
    """Which changes will be followed is said: all where that is allowed."""
    uri = user(guarded, "reader", roles=roles)

    findings = found(connector, uri, "source", specs(PEOPLE, ORDERS))

    assert errors(findings) == set()
    assert stream in findings["change_stream"].message


@pytest.mark.parametrize(
    ("role", "roles"),
    [
        ("source", ["readAnyDatabase", "clusterMonitor"]),
        ("target", ["readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"]),
        ("source", ["root"]),
        ("target", ["root"]),
    ],
)
def test_roles(connector: Connector, guarded: ReplicaSet, role: str, roles: Sequence[str]) -> None:
    """The roles that are advised suffice."""
    uri = user(guarded, "by role", roles=roles).replace("by role", "by%20role")

    findings = found(connector, uri, role, specs(PEOPLE, NOTES))

    assert {f.check: f for f in findings.values() if f.level != "ok"} == {}


def test_roles_on_the_target(connector: Connector, guarded: ReplicaSet) -> None:
    """The roles on one database that are advised suffice for its migration."""
    roles = [{"role": "readWrite", "db": "shop"}, {"role": "dbAdmin", "db": "shop"}]
    guarded.members[0].client.drop_database("shop")

    without = found(connector, user(guarded, "writer"), "target", specs(PEOPLE, ORDERS))
    granted = found(connector, user(guarded, "writer", roles=roles), "target", specs(PEOPLE))

    assert without["privileges"].advice == "grant these, or the roles readWrite and dbAdmin on shop"
    assert errors(granted) == set()


def test_source_with_just_enough(connector: Connector, guarded: ReplicaSet) -> None:
    """With no more than the privileges that are asked for, a source can be read."""
    admin = guarded.members[0].client
    admin.shop.people.insert_many([{"_id": i} for i in range(10)])
    uri = user(
        guarded,
        "exact reader",
        (on(""), ["find", "changeStream"]),
        (on("shop"), ["collStats", "listIndexes", "listCollections"]),
    ).replace("exact reader", "exact%20reader")

    findings = found(connector, uri, "source", specs(PEOPLE))
    source = connector.open_source(uri)

    assert errors(findings) == set()
    assert read(source) == 10
    assert next(source.changes(source.position())) is not None
    source.close()


def read(source: Source) -> int:
    (spec,) = (s for s in source.collections() if s.collection.namespace == PEOPLE)
    batches = [b for p in source.partitions(spec, documents=5) for b in source.read(p)]
    keys = [key_of(d.raw) for b in batches for d in b.documents]
    return len(source.lookup(spec.collection, keys))


def test_target_with_just_enough(connector: Connector, guarded: ReplicaSet) -> None:
    """With no more than the privileges that are asked for, a target can be written."""
    uri = user(
        guarded,
        "exact writer",
        (
            on("shop"),
            [
                *("find", "insert", "update", "remove", "bypassDocumentValidation"),
                *("createCollection", "dropCollection", "renameCollectionSameDB", "collMod"),
                *("createIndex", "dropIndex", "listIndexes", "collStats", "listCollections"),
            ],
        ),
    ).replace("exact writer", "exact%20writer")
    guarded.members[0].client.drop_database("shop")

    findings = found(connector, uri, "target", specs(PEOPLE))
    target = connector.open_target(uri)

    assert errors(findings) == set()
    migrate_a_little(target)
    target.close()


def migrate_a_little(target: Target) -> None:
    index = {"key": {"a": 1}, "name": "a_1", "unique": True}
    spec = CollectionSpec(Collection(PEOPLE), {"validator": {"a": {"$type": "int"}}}, [index])
    batch = Batch.of([{"_id": 1, "a": "not an int"}])
    target.prepare(spec)
    target.write(PEOPLE, batch)
    target.apply(PEOPLE, {key_of(batch.documents[0].raw): batch.documents[0]})
    target.apply(PEOPLE, {key_of(batch.documents[0].raw): None})
    for readiness in Readiness:
        assert target.finish(spec, readiness) == []
    collection = Collection(PEOPLE)
    for verb, detail in (
        (SchemaVerb.MODIFY, {"validator": {}}),
        (SchemaVerb.DROP_INDEXES, {"indexes": [index]}),
        (SchemaVerb.CREATE, {}),
    ):
        target.evolve(SchemaChange(verb, collection, detail))
    for _ in range(2):
        target.evolve(SchemaChange(SchemaVerb.RENAME, collection, to=ORDERS))
        target.evolve(SchemaChange(SchemaVerb.CREATE, collection))
    target.evolve(SchemaChange(SchemaVerb.DROP, Collection(ORDERS)))


def test_target_not_empty(ends: Ends, connector: Connector) -> None:
    """Collections that hold documents on the target are named; empty ones are fine."""
    ends.target.client.shop.people.insert_one({})
    ends.target.client.shop.create_collection("orders")
    ends.target.client.other.things.insert_one({})

    findings = found(connector, ends.target.uri, "target", specs(PEOPLE, ORDERS))

    assert errors(findings) == {"target_empty"}
    assert findings["target_empty"].message.endswith("in shop.people")


@pytest.mark.parametrize(("share", "level"), [(0.5, "ok"), (2.0, "warning"), (20.0, "error")])
def test_disk(ends: Ends, connector: Connector, share: float, level: str) -> None:
    """The free space of the target is compared with the size of the data."""
    stats = ends.target.client.admin.command("dbStats")
    size = int((stats["fsTotalSize"] - stats["fsUsedSize"]) * share)

    findings = found(connector, ends.target.uri, "target", specs(PEOPLE, size=size))

    assert findings["disk"].level == level


@pytest.mark.parametrize(("size", "level"), [(1_000, "ok"), (10**19, "warning")])
def test_oplog_window(ends: Ends, connector: Connector, size: int, level: str) -> None:
    """The reach of the oplog is compared with the time that the copy will take."""
    findings = found(connector, ends.source.uri, "source", specs(PEOPLE, size=size))

    if level == "warning":  # a busy server's may be short in any case
        assert findings["oplog_window"].level == level
        assert "replSetResizeOplog" in findings["oplog_window"].advice
    assert "reaches back" in findings["oplog_window"].message


def test_features(ends: Ends, connector: Connector) -> None:
    """What is not migrated, and what is in another way, is named."""
    database = ends.source.client.shop
    database.create_collection("view", viewOn="people")
    database.create_collection("metrics", timeseries={"timeField": "t"})
    database["system.js"].insert_one({"_id": "f"})
    rivals = [{"key": {"a": 1}, "name": "a"}, {"key": {"a": 1}, "name": "b", "unique": True}]
    wanted = [
        *specs(ORDERS, capped=True, size=4096),
        *specs(NOTES, encryptedFields={"fields": []}),
        replace(specs(PEOPLE)[0], indexes=rivals),
    ]

    findings = found(connector, ends.source.uri, "source", wanted)

    assert errors(findings) == {"queryable_encryption"}
    for check, name in {
        "views": "shop.view",
        "time_series": "shop.metrics",
        "system_collections": "shop.system.js",
        "capped_collections": "shop.orders",
        "rival_indexes": "shop.people",
        "queryable_encryption": "blog.notes",
    }.items():
        assert findings[check].message.endswith(f": {name}")
