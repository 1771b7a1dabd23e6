"""What others write to the target is seen in its oplog, and compared; what Limosa writes is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp
from failing import FailPoint
from faults import fill
from in_process import Running
from judge import differences
from pymongo import MongoClient
from waiting import until

from limosa import verification
from limosa.canonical import key_for, key_of
from limosa.connector import Moved
from limosa.connectors.mongodb import others
from limosa.connectors.mongodb.deployment import Deployment
from limosa.connectors.mongodb.target import MongoTarget
from limosa.embedded import Options, ReplicaSet
from limosa.errors import PositionLost
from limosa.events import SchemaChanged, Warned
from limosa.model import Namespace, ResumeToken, SchemaVerb, Slice
from limosa.namespaces import NamespaceFilter
from limosa.settings import Settings
from limosa.state import Migration, State

Client = MongoClient[dict[str, Any]]

PEOPLE = Namespace("shop", "people")


@pytest.fixture
def target(ends: Any) -> Iterator[MongoTarget]:
    target = MongoTarget(Deployment(ends.target.uri))
    yield target
    target.close()


def raw(number: int) -> Slice:
    return Slice(bson.encode({"_id": number, "by": "limosa"}))


def seen(target: MongoTarget, mark: bytes) -> tuple[dict[Namespace, set[bytes]], bytes]:
    """Return all that others have written, asked for as often as it takes, and where that ends."""
    found: dict[Namespace, set[bytes]] = {}
    while True:
        written = target.written_by_others(mark)
        for namespace, keys in written.keys.items():
            found.setdefault(namespace, set()).update(keys)
        mark = written.until
        if written.is_all:
            return found, mark


@pytest.mark.parametrize("most", [2, 5_000])
def test_writes_of_others(
    ends: Any, target: MongoTarget, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Inserts, changes and deletes are told, single and in transactions, and nothing of ours."""
    monkeypatch.setattr(others, "_MOST", most)
    shop = ends.target.client.shop
    shop.people.insert_many({"_id": n} for n in range(20))
    mark = target.present()
    assert mark is not None
    ours = [raw(n) for n in range(100, 130)]
    target.apply(PEOPLE, {key_of(d.raw): d for d in ours})  # in a transaction
    target.apply(PEOPLE, {key_for(100): None, key_for(101): ours[1]})  # one by one
    assert seen(target, mark)[0] == {}

    shop.people.insert_one({"_id": "new"})
    shop.people.update_one({"_id": 1}, {"$set": {"v": 1}})
    shop.people.replace_one({"_id": 2}, {"v": 2})
    shop.people.delete_one({"_id": 3})
    target.apply(PEOPLE, {key_for(n): raw(n) for n in range(4, 16)})
    with ends.target.client.start_session() as session, session.start_transaction():
        shop.people.delete_many({"_id": {"$in": [17, 18]}}, session=session)
        shop.carts.insert_one({"_id": 1}, session=session)

    found, end = seen(target, mark)
    assert found == {
        PEOPLE: {key_for(k) for k in ("new", 1, 2, 3, 17, 18)},
        Namespace("shop", "carts"): {key_for(1)},
    }
    assert seen(target, end)[0] == {}


def test_moves(ends: Any, target: MongoTarget) -> None:
    """What has lost its name, or got another one, is told; by whom cannot be known."""
    client = ends.target.client
    for name in ("shop.a", "shop.b", "shop.c", "shop.d", "bank.e"):
        database, _, collection = name.partition(".")
        client[database][collection].insert_one({"_id": 1})
    client.shop.create_collection("heat", timeseries={"timeField": "at"})
    mark = target.present()
    assert mark is not None

    client.shop.a.drop()
    client.shop.b.rename("other")
    client.shop.c.rename("d", dropTarget=True)
    client.shop.heat.drop()
    client.drop_database("bank")

    moved = target.written_by_others(mark).moved
    assert {str(n): how for n, how in moved.items()} == {
        "shop.a": Moved.AWAY,
        "shop.b": Moved.AWAY,
        "shop.other": Moved.REPLACED,
        "shop.c": Moved.AWAY,
        "shop.d": Moved.REPLACED,
        "shop.heat": Moved.AWAY,
        "bank.e": Moved.AWAY,
    }


def test_too_long_ago(target: MongoTarget) -> None:
    """What the oplog no longer holds is not taken for nothing."""
    with pytest.raises(PositionLost, match="no longer tells"):
        target.written_by_others(bson.encode({"ts": Timestamp(1, 1)}))


def test_without_the_right(mongod_options: Options) -> None:
    """A user who may not read the oplog is told so, and migrates all the same."""
    guarded = Options(user="admin", password="not-to-be-seen")
    with ReplicaSet(guarded) as servers:
        with MongoClient[dict[str, Any]](servers.uri) as client:
            client.admin.command("createUser", "mover", pwd="m", roles=["readWriteAnyDatabase"])
        target = MongoTarget(Deployment(servers.uri.replace("admin:not-to-be-seen@", "mover:m@")))
        assert target.present() is None
        target.close()


@pytest.mark.parametrize("moment", ["away", "commit"])
def test_found(ends: Any, tmp_path: Path, moment: str) -> None:
    """Altered while no process runs, or when a commit is asked for, it stops the commit."""
    fill(ends.source.client)
    people = ends.target.client.shop.people
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        if moment == "away":
            running.stop()
            people.update_one({"_id": 7}, {"$set": {"number": "other"}})
            running.start()
            running.await_ready()
        else:
            people.update_one({"_id": 7}, {"$set": {"number": "other"}})
        running.update(Migration.committing)
        failed = running.end()

        assert failed.failure is not None
        assert failed.failure.code == "verification_failed"
        assert "different shop.people" in failed.failure.message
        people.update_one({"_id": 7}, {"$set": {"number": 7}})
        running.start()
        running.committed()
    assert differences(ends.source.client, ends.target.client) == []


def test_forgotten(ends: Any, tmp_path: Path) -> None:
    """An oplog that has forgotten what was written meanwhile is warned about."""
    fill(ends.source.client)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        running.stop()
        long_ago = ResumeToken(bson.encode({"ts": Timestamp(1, 1)}))
        with running.store() as store:
            store.update(lambda m: replace(m, target_mark=long_ago))
        running.start()
        warned = running.await_event(Warned)
        running.committed()

    assert "verify --again" in warned.message
    assert differences(ends.source.client, ends.target.client) == []


def test_right_taken_away(ends: Any, tmp_path: Path) -> None:
    """Who may not read the oplog any more is warned once, and the migration goes on."""
    fill(ends.source.client)
    point = FailPoint(ends.target.client)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        with point.while_on(["find"], errorCode=13, namespace="local.oplog.rs"):
            running.await_event(Warned)
            hits = point.hits
            running.committed()
            assert point.hits == hits
        warned = [e for e in running.events if isinstance(e, Warned)]

    assert len(warned) == 1
    assert differences(ends.source.client, ends.target.client) == []


def test_what_is_copied_again_is_ours(ends: Any, tmp_path: Path) -> None:
    """A collection that joins later is compared as a whole, not document by document."""
    fill(ends.source.client)
    ends.source.client.shop.aside.insert_many({"_id": n} for n in range(3_000))
    settings = Settings(namespaces=NamespaceFilter.parse(exclude=["shop.aside"]))
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start()
        running.await_ready()
        mark = running.migration().target_mark
        ends.source.client.shop.aside.rename("joined")
        running.await_event(SchemaChanged)
        ends.target.client.shop.people.update_one({"_id": 7}, {"$set": {"number": 7}})
        ends.target.client.shop.people.insert_one({"_id": "theirs"})
        until(lambda: running.migration().target_mark != mark, "look")
        ends.target.client.shop.people.delete_one({"_id": "theirs"})
        migration = running.committed()

    assert 0 < migration.documents_rechecked < 3_000
    assert differences(ends.source.client, ends.target.client) == []


def _take_away(how: str, target: Client) -> None:
    match how:
        case "dropped":
            target.shop.people.drop()
        case "renamed":
            target.shop.people.rename("theirs")
        case "database dropped":
            target.drop_database("shop")


@pytest.mark.parametrize("how", ["dropped", "renamed", "database dropped"])
@pytest.mark.parametrize("moment", ["following", "away", "commit"])
def test_taken_away(ends: Any, tmp_path: Path, how: str, moment: str) -> None:
    """A collection that somebody takes away on the target is copied again, with all it has."""
    source, target = ends.source.client, ends.target.client
    fill(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        if moment == "away":
            running.stop()
        _take_away(how, target)
        if moment == "commit":
            running.update(Migration.committing)
        else:
            # It then comes back by itself, with neither options nor indexes.
            source.shop.people.update_many({"_id": {"$lt": 50}}, {"$set": {"at": "after"}})
        if moment == "away":
            running.start()
        if moment == "commit":
            assert running.end().state is State.COMMITTED
        else:
            _await_copied_again(running)
            running.committed()
        warnings = [e.message for e in running.events if isinstance(e, Warned)]

    assert "somebody has dropped or renamed shop.people on the target" in " ".join(warnings)
    target.shop.theirs.drop()
    assert differences(source, target) == []


def _await_copied_again(running: Running) -> None:
    """Return once a collection was copied again and compared: a commit waits for that."""

    def is_there() -> bool:
        changes = (e for e in running.events if isinstance(e, SchemaChanged))
        return any(e.verb is SchemaVerb.CREATE for e in changes)

    until(is_there, "copy")
    until(lambda: running.migration().can_commit, "verification")


def test_taken_away_and_stopped(ends: Any, tmp_path: Path) -> None:
    """A process that ends while it copies a collection again is followed by one that does so."""
    source, target = ends.source.client, ends.target.client
    fill(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        running.hold_at("copy")
        target.shop.people.drop()
        running.await_held()
        running.stop()
        running.start()
        _await_copied_again(running)
        running.committed()

    assert differences(source, target) == []


def test_replaced(ends: Any, tmp_path: Path) -> None:
    """What somebody else puts in the place of a collection is compared, and stops the commit."""
    source, target = ends.source.client, ends.target.client
    fill(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        target.shop.theirs.insert_one({"_id": "theirs"})
        target.shop.theirs.rename("people", dropTarget=True)
        running.update(Migration.committing)
        failed = running.end()

        assert failed.failure is not None
        assert failed.failure.code == "verification_failed"
        assert "5101 documents differ" in failed.failure.message
        assert target.shop.people.count_documents({}) == 1
        target.shop.people.rename("theirs")
        running.start()
        _await_copied_again(running)
        running.committed()

    assert target.shop.theirs.count_documents({}) == 1
    target.shop.theirs.drop()
    assert differences(source, target) == []


def test_moves_of_a_process_before(ends: Any, tmp_path: Path) -> None:
    """What a process has renamed that ended before it looked is compared, and not refused."""
    source = ends.source.client
    fill(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        mark = running.migration().target_mark
        source.shop.orders.rename("bills")
        running.await_event(SchemaChanged)
        running.stop()
        running.update(lambda m: replace(m, target_mark=mark))  # as if it had been killed
        running.start()
        running.committed()
        with running.store() as store:
            totals = store.totals()

    assert totals.partitions_verified == totals.partitions
    assert totals.documents_copied == totals.documents_compared == 5_200
    assert differences(source, ends.target.client) == []


def test_own_moves(ends: Any, tmp_path: Path) -> None:
    """What Limosa itself drops and renames on the target is no reason to copy anything again."""
    source = ends.source.client
    fill(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        for number in range(20):
            source.shop.people.rename(f"people{number}")
            source.shop[f"people{number}"].rename("people")
            source.shop.orders.drop()
            source.shop.orders.insert_one({"_id": number})
            source.shop.other.insert_one({"_id": number})
            source.shop.other.rename("orders", dropTarget=True)
        running.await_captured(source)
        migration = running.committed()
        warnings = [e for e in running.events if isinstance(e, Warned)]

    assert warnings == []
    assert migration.verified_at
    assert differences(source, ends.target.client) == []


def test_joined_at_the_commit(ends: Any, tmp_path: Path) -> None:
    """A collection that joins last is compared as a whole before the target is writable."""
    source = ends.source.client
    fill(source)
    source.shop.aside.insert_many({"_id": n} for n in range(20_000))
    settings = Settings(namespaces=NamespaceFilter.parse(exclude=["shop.aside"]))
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start()
        running.await_ready()
        source.shop.aside.rename("joined")
        running.update(Migration.committing)
        assert running.end().state is State.COMMITTED
        names = [type(e).__name__ for e in running.events]
        with running.store() as store:
            totals = store.totals()

    assert totals.partitions_verified == totals.partitions
    compared = max(n for n, name in enumerate(names) if name == "PartitionVerified")
    assert compared < names.index("TargetWritable")
    assert differences(source, ends.target.client) == []


def test_taken_away_before_it_is_looked_for(
    ends: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where whole collections differ the migration fails; dropped there, they are copied again."""
    monkeypatch.setattr(verification, "_MOST_MISMATCHES", 1_000)
    source, target = ends.source.client, ends.target.client
    fill(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.hold_at("application")
        running.start()
        running.await_held()
        target.shop.people.drop()
        running.release()
        failed = running.end()

        assert failed.failure is not None
        assert failed.failure.code == "verification_failed"
        assert "missing shop.people" in failed.failure.message
        target.shop.people.insert_one({"_id": "anything"})
        target.shop.people.drop()
        running.start()
        _await_copied_again(running)
        running.committed()

    assert differences(source, target) == []
