"""Real servers for the tests: one source and one target for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from pymongo import MongoClient

from limosa.embedded import EmbeddedUnavailable, Options, ReplicaSet, mongod_binary

# How fast examples are made, and run, is the machine's affair.
settings.register_profile("limosa", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("limosa")

#: Lets tests use ``failCommand`` and the like.
TESTING = Options(parameters={"enableTestCommands": 1})

SYSTEM_DATABASES = {"admin", "local", "config"}


@dataclass(frozen=True, slots=True)
class Server:
    """A replica set of one member with an open client."""

    replica_set: ReplicaSet
    client: MongoClient[dict[str, Any]]

    @property
    def uri(self) -> str:
        return self.replica_set.uri

    def clear(self) -> None:
        """Drop all user databases, and let no command fail any more, nor come late."""
        self.client.admin.command("configureFailPoint", "failCommand", mode="off")
        self.interrupt()
        for database in set(self.client.list_database_names()) - SYSTEM_DATABASES:
            self.client.drop_database(database)

    def interrupt(self) -> None:
        """End what a migration has given up; done later, it would disturb the next test."""
        ours = {"appName": "limosa", "opid": {"$exists": True}, "command.hello": {"$exists": False}}
        for operation in self.client.admin.aggregate([{"$currentOp": {}}, {"$match": ours}]):
            self.client.admin.command("killOp", op=operation["opid"])
        left = {"type": "idleSession", "appName": "limosa"}
        for found in self.client.admin.aggregate([{"$currentOp": {}}, {"$match": left}]):
            self.client.admin.command("killSessions", [{"id": found["lsid"]["id"]}])


class Ends(NamedTuple):
    """Both ends of a migration."""

    source: Server
    target: Server


@pytest.fixture(scope="session")
def mongod_options() -> Options:
    """Options of servers for tests; skips the test if there is no ``mongod``."""
    try:
        mongod_binary()
    except EmbeddedUnavailable as error:
        if "mongod" in os.environ.get("LIMOSA_TEST_REQUIRE", "").split(","):
            raise
        pytest.skip(str(error))
    return TESTING


@pytest.fixture(scope="session")
def source_server(mongod_options: Options) -> Iterator[Server]:
    """A server that holds what earlier tests left; use `ends` for an empty one."""
    yield from _server(mongod_options)


@pytest.fixture(scope="session")
def target_server(mongod_options: Options) -> Iterator[Server]:
    """Another one."""
    yield from _server(mongod_options)


@pytest.fixture
def ends(source_server: Server, target_server: Server) -> Ends:
    """Two empty servers."""
    source_server.clear()
    target_server.clear()
    return Ends(source_server, target_server)


def _server(options: Options) -> Iterator[Server]:
    with ReplicaSet(options) as replica_set, MongoClient(replica_set.uri) as client:
        yield Server(replica_set, client)
