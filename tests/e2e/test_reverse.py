"""After the commit changes flow back to the source, until the next commit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp
from failing import FailPoint
from in_process import Running
from judge import differences
from program import Program, limosa
from pymongo import MongoClient, ReplaceOne
from waiting import until

from limosa.catalog import Folder, watch
from limosa.embedded import Mongod, Options
from limosa.errors import IllegalTransition
from limosa.model import ResumeToken
from limosa.settings import Settings
from limosa.state import Migration, State
from limosa.workload import Traffic, fill

REVERSIBLE = Settings(reversible=True)
Client = MongoClient[dict[str, Any]]


def prepared(client: Client) -> None:
    """Make collections whose constraints are in the way of a target."""
    client.own.people.create_index("email", unique=True, name="email")
    client.own.people.create_index("nick", unique=True, hidden=True, sparse=True, name="nick")
    client.own.people.insert_many({"_id": i, "email": f"{i}@example.org"} for i in range(300))
    client.own.sessions.create_index("at", expireAfterSeconds=86_400, name="at")
    client.own.sessions.insert_many({"_id": i, "at": datetime.now(UTC)} for i in range(100))
    client.own.old.insert_many({"_id": i} for i in range(50))
    client.own.gone.insert_one({"_id": 1})
    client.own.create_collection("log", capped=True, size=1 << 20)


def changed(client: Client) -> None:
    """Change data and collections as an application's new version would."""
    people = client.own.people
    # Unique values change places: no order of single writes is without a conflict.
    people.update_one({"_id": 1}, {"$set": {"email": "x"}})
    people.update_one({"_id": 2}, {"$set": {"email": "1@example.org"}})
    people.update_one({"_id": 1}, {"$set": {"email": "2@example.org"}})
    people.create_index([("email", 1), ("_id", -1)], name="both")
    people.delete_many({"_id": {"$gte": 280}})
    for change in ({"prepareUnique": True}, {"unique": True}):
        client.own.command("collMod", "people", index={"name": "both", **change})
    client.own.old.rename("renamed")
    client.own.renamed.insert_one({"_id": "after"})
    client.own.drop_collection("gone")
    client.own.command("collMod", "sessions", validator={"at": {"$type": "date"}})
    client.own.command("collMod", "sessions", index={"name": "at", "expireAfterSeconds": 90_000})
    client.own.log.insert_many({"n": i} for i in range(10))
    client.own.create_collection("born", collation={"locale": "en"})
    client.own.born.create_index("code", unique=True, name="code")
    client.own.born.bulk_write([ReplaceOne({"_id": i}, {"code": i}, True) for i in range(40)])
    client.own.short.insert_one({})
    client.own.drop_collection("short")


def test_there_and_back_under_traffic(
    source_server: Any, target_server: Any, tmp_path: Path
) -> None:
    """Killed again and again under traffic, each direction ends equal, and so does the next."""
    for server in (source_server, target_server):
        server.clear()
    fill(source_server.uri, documents=1_000)
    prepared(source_server.client)
    ends = [source_server, target_server]
    dice = random.Random(3)
    with (
        Program(*(e.uri for e in ends), tmp_path / "state", ("--reversible",)) as program,
        Traffic(source_server.uri, rate=150, lasting=timedelta(minutes=3)) as application,
    ):
        committed(program, application)
        assert differences(source_server.client, target_server.client) == []
        for kills in (2, 1):
            ends.reverse()
            application.switch(ends[0].uri)
            application.release()
            if ends[0] is target_server:
                changed(target_server.client)
            moved(program, Migration.reversing)
            for _ in range(kills):
                killed(program, dice)
            committed(program, application)

            assert differences(ends[0].client, ends[1].client) == []
        counters = application.stop()

    assert counters.writes > 300
    (row,) = program.rows("SELECT * FROM migration")
    assert (row["reversals"], row["source"]) == (2, f"mongodb://{_host(source_server)}")


def killed(program: Program, dice: random.Random) -> None:
    """Start the program and kill it a moment later, wherever it is then."""
    program.start()
    program.await_start()
    moment = time.monotonic() + dice.uniform(0, 0.4)
    until(lambda: time.monotonic() > moment, "moment")
    program.kill()


def committed(program: Program, application: Traffic) -> None:
    """Start the program and commit as soon as that is possible."""
    program.start()
    program.await_start()
    until(lambda: kept(program).can_commit, "readiness")
    application.hold()
    moved(program, Migration.committing)
    assert program.end() == 0, program.log()[-2000:]


def kept(program: Program) -> Migration:
    with closing(watch(Folder(program.folder))) as store:
        return store.migration()


def moved(program: Program, move: Callable[[Migration], Migration]) -> None:
    """Change the state as a command in another shell does."""
    with closing(watch(Folder(program.folder))) as store:
        store.update(move)


def _host(server: Any) -> str:
    return str(server.replica_set.members[0].address)


def test_constraints_are_inert_on_the_way(ends: Any, tmp_path: Path) -> None:
    """While it is a target the old source enforces nothing and lets nothing expire; then again."""
    prepared(ends.source.client)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", REVERSIBLE) as running:
        until_then = running.start().committed().return_lost_at
        assert until_then is not None
        assert until_then > datetime.now(UTC) + timedelta(minutes=1)
        shown = limosa("status", "--state", tmp_path / "state")
        assert "with `limosa reverse`, until about" in shown.out
        running.update(Migration.reversing)
        changed(ends.target.client)
        running.start().await_ready()

        indexes = {
            i["name"]: i
            for name in ("people", "sessions", "born")
            for i in ends.source.client.own[name].list_indexes()
        }
        assert not any(i.get("unique") for i in indexes.values())
        assert indexes["at"]["expireAfterSeconds"] > 10**9
        running.committed()

    assert differences(ends.target.client, ends.source.client) == []
    assert ends.source.client.own.people.index_information()["email"]["unique"]


def test_unique_index_that_cannot_be_relaxed_in_place(ends: Any, tmp_path: Path) -> None:
    """A server that does not make a unique index an ordinary one has it built anew."""
    ends.source.client.own.people.create_index("email", unique=True, name="email")
    ends.source.client.own.people.insert_many({"_id": i, "email": i} for i in range(10))
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", REVERSIBLE) as running:
        running.start().committed()
        running.update(Migration.reversing)
        FailPoint(ends.source.client).on(["collMod"], times=1, errorCode=72)  # InvalidOptions
        running.start().await_ready()
        relaxed = ends.source.client.own.people.index_information()["email"]
        running.committed()

    assert not relaxed.get("unique")
    assert differences(ends.target.client, ends.source.client) == []


def test_way_back_with_other_names_and_a_filter(ends: Any, tmp_path: Path) -> None:
    """Names are turned back, and what was never migrated stays as it is on the old source."""
    ends.source.client.shop.people.insert_many({"_id": i, "tenant": i % 2} for i in range(100))
    ends.source.client.shop.secret.insert_one({"_id": 1})
    ends.source.client.other.things.insert_one({"_id": 1})
    settings = Settings.of(
        include=["shop"],
        exclude=["shop.secret"],
        renames=["shop=store"],
        filters=['shop.people={"tenant": 1}'],
        reversible=True,
    )
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start().committed()
        people = ends.target.client.store.people
        people.update_many({"_id": {"$lt": 20}}, {"$set": {"moved": True}})
        people.delete_one({"_id": 99})
        people.insert_one({"_id": "new", "tenant": 1})
        ends.target.client.store.fresh.insert_one({"_id": 5})
        running.update(Migration.reversing)
        running.start().committed()

    shop = ends.source.client.shop
    assert shop.people.count_documents({"tenant": 0, "moved": {"$exists": False}}) == 50
    assert list(shop.people.find({"tenant": 1}, sort=[("_id", 1)])) == list(
        people.find(sort=[("_id", 1)])
    )
    assert list(shop.fresh.find()) == [{"_id": 5}]
    assert shop.secret.count_documents({}) == 1
    assert sorted(ends.source.client.list_database_names()) == sorted(
        {"admin", "config", "local", "shop", "other"}
    )


def test_refused(ends: Any, tmp_path: Path) -> None:
    """A reversal is refused before the commit, and where it was not prepared."""
    ends.source.client.shop.people.insert_one({"_id": 1})
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start().await_ready()
        with pytest.raises(IllegalTransition, match="from RUNNING to REVERSING"):
            running.update(Migration.reversing)
        running.committed()
    refused = limosa("reverse", "--state", tmp_path / "state")

    assert refused.code == 6
    assert "not begun as a reversible one" in refused.err
    assert "--reversible" in refused.err


def test_target_that_cannot_be_followed(
    source_server: Any, mongod_options: Options, tmp_path: Path
) -> None:
    """A target without change streams is refused before anything is written to it."""
    source_server.clear()
    source_server.client.shop.people.insert_one({"_id": 1})
    with Mongod(mongod_options) as target:
        ended = limosa(
            *("migrate", source_server.uri, target.uri),
            *("--state", tmp_path / "state", "--reversible"),
        )
        found = limosa("doctor", source_server.uri, target.uri, "--reversible", "--json")

        assert ended.code == 2
        assert "expected a replica set" in ended.err
        assert found.code == 7
        assert "shop" not in target.client.list_database_names()


def test_position_that_has_rolled_off(ends: Any, tmp_path: Path) -> None:
    """Who waits too long is told so, before anything is touched."""
    prepared(ends.source.client)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", REVERSIBLE) as running:
        running.start().committed()
        gone = lost(ends.source.client, ends.target.client)
        running.update(lambda m: replace(m, return_position=gone))
        running.update(Migration.reversing)
        failed = running.start().end()

    assert failed.state is State.FAILED
    assert failed.is_reversing
    assert failed.failure is not None
    assert failed.failure.code == "position_lost"
    assert "too late to reverse" in failed.failure.hint
    assert ends.source.client.own.people.index_information()["email"]["unique"]


def lost(client: Client, other: Client) -> ResumeToken:
    """Return the token of an event that the *other* server's oplog is past, and does not have."""
    with client.watch() as stream:
        client.own.old.insert_one({})
        event = stream.next()
    until(lambda: written(other) > event["clusterTime"], "later event")
    return ResumeToken(bson.encode(event["_id"]))


def written(client: Client) -> Timestamp:
    """Write something, and return when the server did."""
    with client.start_session(causal_consistency=False) as session:
        client.own.later.insert_one({}, session=session)
        assert session.operation_time is not None
        return session.operation_time
