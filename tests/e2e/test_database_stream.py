"""Migrations by users who may do no more than `limosa doctor` demands, most of one database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from pymongo import MongoClient
from waiting import PATIENCE, until

from limosa.canonical import key_for
from limosa.connectors.mongodb import CONNECTOR
from limosa.embedded import Options, ReplicaSet
from limosa.errors import TransientError
from limosa.migrations import examine
from limosa.settings import Settings
from limosa.state import Migration, State

Client = MongoClient[dict[str, Any]]

PASSWORD = "s3cret"
#: Documents; more than one batch of the copy.
PEOPLE = 5_500
READING = ["find", "changeStream", "collStats", "listIndexes", "listCollections"]
WRITING = [
    *("find", "insert", "update", "remove", "bypassDocumentValidation", "createCollection"),
    *("dropCollection", "renameCollectionSameDB", "collMod", "createIndex", "dropIndex"),
    *("listIndexes", "collStats", "listCollections"),
]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A replica set with access control, seen by its administrator."""

    servers: ReplicaSet
    admin: Client

    def user(self, name: str, actions: Sequence[str], databases: Sequence[str], *roles: Any) -> str:
        """Make a user anew who may do *actions* in *databases*; return a URI for him."""
        admin = self.admin.admin
        if admin.command("usersInfo", name)["users"]:
            admin.command("dropUser", name)
            admin.command("dropRole", f"role of {name}")
        granted = [{"resource": {"db": d, "collection": ""}, "actions": actions} for d in databases]
        admin.command("createRole", f"role of {name}", privileges=granted, roles=[])
        admin.command("createUser", name, pwd=PASSWORD, roles=[f"role of {name}", *roles])
        seeds = ",".join(m.address for m in self.servers.members)
        return f"mongodb://{name}:{PASSWORD}@{seeds}/?replicaSet={self.servers.name}"


@pytest.fixture(scope="module")
def servers(mongod_options: Options) -> Iterator[tuple[Guarded, Guarded]]:
    """Two replica sets with access control."""
    options = replace(mongod_options, user="admin", password=PASSWORD)
    with (
        ReplicaSet(options) as source,
        ReplicaSet(options) as target,
        MongoClient[dict[str, Any]](source.uri) as at_source,
        MongoClient[dict[str, Any]](target.uri) as at_target,
    ):
        yield Guarded(source, at_source), Guarded(target, at_target)


@pytest.fixture
def source(servers: tuple[Guarded, Guarded]) -> Guarded:
    """A source with people in two databases."""
    _clear(servers[0].admin)
    for database in ("shop", "blog"):
        servers[0].admin[database].people.insert_many(
            {"_id": i, "n": i, "text": "x" * 50} for i in range(PEOPLE)
        )
        servers[0].admin[database].people.create_index("n")
    return servers[0]


@pytest.fixture
def target(servers: tuple[Guarded, Guarded]) -> Guarded:
    """A target whose other database is of no concern to the migration."""
    _clear(servers[1].admin)
    servers[1].admin.other.things.insert_one({})
    return servers[1]


class Application:
    """Writes to the people of some databases all the time, wherever they are moved."""

    def __init__(self, client: Client, databases: Sequence[str]) -> None:
        self._client = client
        self._databases = databases
        self._name = "people"
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.rounds = 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write in a thread for the length of a block."""
        thread = threading.Thread(target=self._write, name="application", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(PATIENCE)

    def rename(self, name: str) -> None:
        """Rename the people in every database, then write on, a few times at least."""
        with self._lock:
            for database in self._databases:
                self._client[database][self._name].rename(name)
            self._name = name
        enough = self.rounds + 5
        until(lambda: self.rounds > enough, "write")

    def _write(self) -> None:
        while not self._stopping.wait(0.002):
            with self._lock:
                for database in self._databases:
                    self._write_to(self._client[database][self._name])
            self.rounds += 1

    def _write_to(self, people: Any) -> None:
        n = self.rounds
        people.insert_one({"_id": f"new {n}"})
        people.update_one({"_id": n % PEOPLE}, {"$set": {"n": -n}})
        people.update_one({"_id": 4_900}, {"$set": {"hot": n}})
        people.delete_one({"_id": PEOPLE - n})


@pytest.mark.parametrize("moment", ["plan", "copy", "index build", "application"])
@pytest.mark.parametrize(
    ("databases", "read", "included"),
    [
        (["shop"], ["shop"], ["shop"]),
        (["shop", "blog"], [""], ["shop", "blog"]),
    ],
    ids=["one", "all"],
)
def test_just_enough(
    source: Guarded,
    target: Guarded,
    tmp_path: Path,
    databases: Sequence[str],
    read: Sequence[str],
    included: Sequence[str],
    moment: str,
) -> None:
    """With no more than what doctor demands, collections renamed under writes arrive."""
    ends = (
        source.user("reader", READING, read),
        target.user("writer", WRITING, databases),
    )
    application = Application(source.admin, databases)

    findings = examine(*ends, settings=Settings.of(include=included))
    with Running(*ends, tmp_path, Settings.of(include=included)) as running:
        with application.writing():
            with running.held_at(moment):
                application.rename("persons")
            running.await_ready()
            application.rename("humans")
        committed = running.committed()

    assert [f for _, f in findings if f.level == "error"] == []
    assert committed.changes_applied > 0
    assert _differences(source, target, *databases) == []


@pytest.mark.parametrize("rename", ["moved", "moved and made again"])
@pytest.mark.parametrize("act", ["read", "look up"])
def test_renamed_under_a_read(source: Guarded, act: str, rename: str) -> None:
    """Who may read by name only is never given what another collection of that name holds."""
    uri = source.user("reader", READING, ["shop"])
    with closing(CONNECTOR.open_source(uri, database="shop")) as reader:
        (spec,) = reader.collections()
        (partition,) = reader.partitions(spec, documents=PEOPLE)
        keys = [key_for(1)]
        assert len(reader.lookup(spec.collection, keys)) == 1  # and asked for its rights
        ask: dict[str, Callable[[], Any]] = {
            "read": lambda: list(reader.read(partition)),
            "look up": lambda: reader.lookup(spec.collection, keys),
        }

        with ThreadPoolExecutor(1) as thread:
            with _next_find_held(source.admin) as await_held:
                asked = thread.submit(ask[act])
                await_held()
                source.admin.shop.people.rename("persons")
                if rename == "moved and made again":
                    source.admin.shop.people.insert_one({"_id": 1, "other": True})
            error = asked.exception(PATIENCE)

        assert isinstance(error, TransientError)
        assert "was renamed while it was read" in str(error)
        assert list(reader.lookup(spec.collection, keys)) == keys


@pytest.mark.parametrize("roles", [[], ["clusterMonitor"]], ids=["", "and clusterMonitor"])
def test_built_in_roles(
    source: Guarded, target: Guarded, tmp_path: Path, roles: Sequence[str]
) -> None:
    """The built-in roles of one database suffice for it, whatever else may be looked at."""
    ends = (
        source.user("reader", [], [], {"role": "read", "db": "shop"}, *roles),
        target.user(
            "writer", [], [], *({"role": r, "db": "shop"} for r in ("readWrite", "dbAdmin"))
        ),
    )

    findings = {
        (end, f.check): f for end, f in examine(*ends, settings=Settings.of(include=["shop.*"]))
    }
    with Running(*ends, tmp_path, Settings.of(include=["shop.*"])) as running:
        running.start()
        running.committed()

    assert [f for f in findings.values() if f.level == "error"] == []
    assert "shop alone" in findings["source", "change_stream"].message
    assert _differences(source, target, "shop") == []


@pytest.mark.parametrize("anew", [True, False])
def test_dropped_database(source: Guarded, target: Guarded, tmp_path: Path, *, anew: bool) -> None:
    """A database dropped while its own stream is followed is followed on, and made again."""
    ends = (source.user("reader", READING, ["shop"]), target.user("writer", WRITING, ["shop"]))
    source.admin.shop.orders.insert_one({"_id": 1})

    with Running(*ends, tmp_path, Settings.of(include=["shop"])) as running:
        running.start()
        running.await_ready()
        _drop(source.admin, anew=True)
        _drop(source.admin, anew=anew)
        if anew:
            running.await_captured(source.admin)
        running.committed()
        ended = [r for r in running.retries() if "the change stream was closed" in r]

    assert len(ended) == len(running.retries()) == 2
    assert _differences(source, target, "shop") == []


def test_dropped_meanwhile(source: Guarded, target: Guarded, tmp_path: Path) -> None:
    """A database dropped and made again while the migration stands still is followed on."""
    ends = (source.user("reader", READING, ["shop"]), target.user("writer", WRITING, ["shop"]))

    with Running(*ends, tmp_path, Settings.of(include=["shop"])) as running:
        running.start()
        running.await_ready()
        for _ in range(2):
            running.stop()
            _drop(source.admin, anew=True)
            running.start()
            running.await_captured(source.admin)
        committed = _committed(running)

    assert committed.state is State.COMMITTED
    assert _differences(source, target, "shop") == []


@pytest.mark.parametrize(("before", "after"), [("shop", ""), ("", "shop")])
def test_changed_rights(
    source: Guarded, target: Guarded, tmp_path: Path, before: str, after: str
) -> None:
    """Rights extended to the whole deployment, or reduced to the database, lose nothing."""
    ends = (source.user("reader", READING, [before]), target.user("writer", WRITING, ["shop"]))

    with Running(*ends, tmp_path, Settings.of(include=["shop"])) as running:
        running.start()
        running.await_ready()
        source.admin.shop.people.update_many({}, {"$inc": {"n": 1}})
        running.await_captured(source.admin)
        running.stop()
        source.admin.shop.people.delete_many({"_id": {"$lt": 100}})
        source.user("reader", READING, [after])
        running.start()
        running.await_captured(source.admin)
        committed = _committed(running)

    assert committed.state is State.COMMITTED
    assert _differences(source, target, "shop") == []


def test_not_confined(source: Guarded, target: Guarded) -> None:
    """Rights on one database are not enough for a migration that is not confined to it."""
    source.admin.drop_database("blog")
    ends = (source.user("reader", READING, ["shop"]), target.user("writer", WRITING, ["shop"]))

    errors = [f for end, f in examine(*ends) if f.level == "error" and end == "source"]

    assert [f.check for f in errors] == ["privileges"]
    assert "changeStream on *.*" in errors[0].message
    assert "--include" in errors[0].advice


@contextmanager
def _next_find_held(client: Client) -> Iterator[Callable[[], None]]:
    """Hold the next ``find`` at the server for two seconds; lend a wait until it is held."""
    point = {"configureFailPoint": "failCommand"}
    data = {"failCommands": ["find"], "appName": "limosa", "blockConnection": True}
    before = client.admin.command(
        {**point, "mode": {"times": 1}, "data": {**data, "blockTimeMS": 2_000}}
    )
    wait = {"waitForFailPoint": "failCommand", "timesEntered": before["count"] + 1}
    try:
        yield lambda: client.admin.command({**wait, "maxTimeMS": 20_000})
    finally:
        client.admin.command({**point, "mode": "off"})


def _drop(client: Client, *, anew: bool) -> None:
    client.drop_database("shop")
    if anew:
        client.shop.create_collection("people", validator={"n": {"$exists": True}})
        client.shop.people.insert_many({"_id": i, "n": i} for i in range(50))
        client.shop.people.create_index("n", unique=True)
        client.shop.more.insert_one({"_id": 1})


def _committed(running: Running) -> Migration:
    """Commit a migration that was ready before it was started again."""
    until(lambda: _has(running, "can_commit"), "readiness")
    running.update(Migration.committing)
    return running.end()


def _has(running: Running, quality: str) -> bool:
    with running.store() as store:
        return bool(getattr(store.migration(), quality))


def _differences(source: Guarded, target: Guarded, *databases: str) -> list[str]:
    _drop_databases(target.admin, "other")

    def included(namespace: str) -> bool:
        return namespace.partition(".")[0] in databases

    return differences(source.admin, target.admin, included=included)


def _clear(client: Client) -> None:
    _drop_databases(client, *{*client.list_database_names()} - {"admin", "config", "local"})


def _drop_databases(client: Client, *databases: str) -> None:
    for database in databases:
        client.drop_database(database)
