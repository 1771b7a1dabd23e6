"""Users and roles arrive on request: everybody logs in as before, and nobody sees how."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from limosa.embedded import Options, ReplicaSet
from limosa.events import DefinitionsCarried
from limosa.model import DefinitionKind
from limosa.settings import Settings
from limosa.state import State

Client = MongoClient[dict[str, Any]]

ROOT = {"user": "root", "password": "rootpw"}
READER = ["readAnyDatabase", "clusterMonitor", "backup"]
WRITER = ["readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor", "restore"]


@pytest.fixture(scope="module")
def servers(mongod_options: Options) -> Iterator[tuple[ReplicaSet, ReplicaSet]]:
    """Two servers with access control, and limosa's own user on each."""
    with ReplicaSet(Options(**ROOT)) as source, ReplicaSet(Options(**ROOT)) as target:
        for server, roles in ((source, READER), (target, WRITER)):
            with MongoClient(server.uri) as client:
                client.admin.command("createUser", "mover", pwd="moverpw", roles=roles)
        yield source, target


@pytest.fixture
def clients(servers: tuple[ReplicaSet, ReplicaSet]) -> Iterator[tuple[Client, Client]]:
    """Administrators of both ends, who find users to be migrated and nothing on the target."""
    with MongoClient(servers[0].uri) as source, MongoClient(servers[1].uri) as target:
        for client in (source, target):
            client.drop_database("shop")
            for database in ("shop", "crm", "admin"):
                client[database].command("dropAllRolesFromDatabase", 1)
            for database in ("shop", "crm"):
                client[database].command("dropAllUsersFromDatabase", 1)
            _drop_user(client, "ops")
        _fill(source)
        yield source, target


def test_users_log_in(
    servers: tuple[ReplicaSet, ReplicaSet], clients: tuple[Client, Client], tmp_path: Path
) -> None:
    """Users log in with their old passwords and may do what they might; roles are inherited."""
    with _running(servers, tmp_path, Settings(accounts=True)) as running:
        running.start()
        running.committed()
        carried = {e.kind: e.count for e in running.events if isinstance(e, DefinitionsCarried)}

    with _login(servers[1], "ann", "ann's", "shop") as ann:
        assert ann.shop.people.find_one() == {"_id": 1}
        with pytest.raises(OperationFailure, match="not authorized"):
            ann.shop.people.insert_one({"_id": 2})
    with _login(servers[1], "ops", "op's", "admin") as ops:
        ops.shop.people.insert_one({"_id": 3})
    with _login(servers[1], "bob", "old", "crm", mechanism="SCRAM-SHA-1") as bob:
        bob.admin.command("ping")
    with pytest.raises(OperationFailure), _login(servers[1], "ann", "guess", "shop") as stranger:
        stranger.shop.people.find_one()
    # The administrator, who is on both ends, is one of the users.
    assert carried == {DefinitionKind.ROLE: 3, DefinitionKind.USER: 4}


def test_those_of_the_target_stay(
    servers: tuple[ReplicaSet, ReplicaSet], clients: tuple[Client, Client], tmp_path: Path
) -> None:
    """A user or role that the target has stays as it is, and limosa's own is not carried over."""
    _, target = clients
    target.shop.command("createUser", "ann", pwd="another", roles=["readWrite"])
    target.shop.command("createRole", "reader", privileges=[], roles=[])
    before = target.admin["system.users"].find_one({"_id": "admin.mover"})
    with _running(servers, tmp_path, Settings(accounts=True)) as running:
        running.start()
        running.committed()

    assert target.admin["system.users"].find_one({"_id": "admin.mover"}) == before
    assert target.admin["system.roles"].find_one({"_id": "shop.reader"}, {"privileges": 1}) == {
        "_id": "shop.reader",
        "privileges": [],
    }
    with _login(servers[1], "ann", "another", "shop") as ann:
        ann.shop.people.insert_one({"_id": 2})


def test_only_on_request(
    servers: tuple[ReplicaSet, ReplicaSet], clients: tuple[Client, Client], tmp_path: Path
) -> None:
    """Without being asked to, no user is carried over; with a filter, none of other databases."""
    _, target = clients
    with _running(servers, tmp_path / "one", Settings()) as running:
        running.start()
        running.committed()
    none = _names(target)
    target.drop_database("shop")
    settings = Settings.of(include=["shop"], accounts=True)
    with _running(servers, tmp_path / "two", settings) as running:
        running.start()
        running.committed()

    assert none == {"admin.root", "admin.mover"}
    assert _names(target) == {"admin.root", "admin.mover", "admin.ops", "shop.ann"}


def test_without_the_right(
    servers: tuple[ReplicaSet, ReplicaSet], clients: tuple[Client, Client], tmp_path: Path
) -> None:
    """Whoever may not read users is told what is missing, and nothing of them is ever told."""
    source, target = clients
    target.admin.command("revokeRolesFromUser", "mover", roles=["restore"])
    try:
        with _running(servers, tmp_path, Settings(accounts=True)) as running:
            running.start()
            running.commit()
            refused = running.end()
    finally:
        target.admin.command("grantRolesToUser", "mover", roles=["restore"])
    secrets = [
        str(value)
        for user in source.admin["system.users"].find()
        for credentials in user["credentials"].values()
        for value in credentials.values()
        if isinstance(value, str)
    ]
    told = f"{running.events} {refused}"
    stored = b"".join(f.read_bytes() for f in (tmp_path / "state").rglob("*") if f.is_file())

    assert refused.state is State.FAILED
    assert refused.failure is not None
    assert (refused.failure.code, refused.can_write) == ("access_denied", False)
    assert "restore" in refused.failure.hint
    assert len(secrets) > 10
    assert not [s for s in secrets if s in told or s.encode() in stored]


def _fill(source: Client) -> None:
    source.shop.people.insert_one({"_id": 1})
    may_find = {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}
    # In the order of their names an inherited role comes last.
    source.shop.command("createRole", "reader", privileges=[may_find], roles=[])
    source.shop.command("createRole", "a_guest", privileges=[], roles=["reader"])
    source.admin.command(
        "createRole", "a_worker", privileges=[], roles=[{"role": "readWrite", "db": "shop"}]
    )
    source.shop.command("createUser", "ann", pwd="ann's", roles=["a_guest"])
    source.crm.command(
        "createUser", "bob", pwd="old", roles=[], mechanisms=["SCRAM-SHA-1"], customData={"x": 1}
    )
    source.admin.command("createUser", "ops", pwd="op's", roles=["a_worker"])


def _running(servers: tuple[ReplicaSet, ReplicaSet], folder: Path, settings: Settings) -> Running:
    source, target = (s.uri.replace("root:rootpw", "mover:moverpw") for s in servers)
    return Running(source, target, folder / "state", settings)


def _login(
    server: ReplicaSet, user: str, password: str, database: str, *, mechanism: str = "SCRAM-SHA-256"
) -> Client:
    return MongoClient(
        server.uri.replace("root:rootpw@", ""),
        username=user,
        password=password,
        authSource=database,
        authMechanism=mechanism,
    )


def _names(client: Client) -> set[str]:
    return {user["_id"] for user in client.admin["system.users"].find()}


def _drop_user(client: Client, name: str) -> None:
    if client.admin.command("usersInfo", name)["users"]:
        client.admin.command("dropUser", name)
