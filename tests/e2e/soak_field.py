"""Two servers with access control behind networks that fail, for the rounds of `tests/soak.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from failing import FailPoint
from faults import SIDES, Site
from judge import SYSTEM_DATABASES
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure
from waiting import until

from limosa.connectors.mongodb.clients import forget_connections
from limosa.embedded import Options, ReplicaSet
from limosa.testing.proxy import Proxy

Client = MongoClient[dict[str, Any]]

SECRET = "not-to-be-seen"
USERS = {
    "mover": ["backup", "restore", "clusterMonitor", "readWriteAnyDatabase", "dbAdminAnyDatabase"],
    "application": ["readWriteAnyDatabase", "dbAdminAnyDatabase"],
}
BLOCKED = 371  # UserWritesBlocked


class Field:
    """Two servers behind networks, for as many rounds as one likes."""

    def __init__(self, sets: dict[str, ReplicaSet], sites: dict[str, Site]) -> None:
        self.sets = sets
        self.sites = sites

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Field]:
        """Start servers and networks for a block."""
        parameters = {"enableTestCommands": 1}
        options = Options(user="admin", password=SECRET, parameters=parameters, oplog_mb=64)
        with ExitStack() as stack:
            sets, sites = {}, {}
            for side in SIDES:
                servers = sets[side] = stack.enter_context(ReplicaSet(options, name=side))
                client: Client = stack.enter_context(MongoClient(servers.uri))
                for user, roles in USERS.items():
                    client.admin.command("createUser", user, pwd=SECRET, roles=roles)
                proxy = stack.enter_context(Proxy(servers.members[0].port))
                sites[side] = Site(side, _Served(servers, client), proxy)
            yield cls(sets, sites)

    def clear(self) -> None:
        """Empty both servers, and let everything work."""
        self.calm()
        for site in self.sites.values():
            until(lambda site=site: _cleared(site.client), "empty server")  # type: ignore[misc]

    def deliver(self) -> None:
        """Have arrive what is late."""
        for site in self.sites.values():
            site.network.deliver()

    def calm(self) -> None:
        """Let everything work."""
        self.deliver()
        for site in self.sites.values():
            site.network.heal()
            FailPoint(site.client).off()


@dataclass(frozen=True, slots=True)
class _Served:
    replica_set: ReplicaSet
    client: Client


def _cleared(client: Client) -> bool:
    """Empty the server; False if an election that the round before has begun comes between."""
    try:
        client.admin.command("setUserWriteBlockMode", 1, **{"global": False})
        for database in set(client.list_database_names()) - SYSTEM_DATABASES:
            client.drop_database(database)
    except AutoReconnect:
        forget_connections(client)  # on one of before it may fail for ever
        return False
    return True


def uri_of_application(site: Site) -> str:
    """Return how the application gets there, which may be kept out: around the network."""
    (address,) = site.client.nodes
    return f"mongodb://application:{SECRET}@{address[0]}:{address[1]}/?authSource=admin"


def is_blocked(client: Client) -> bool:
    """Whether writes of this user are refused."""
    try:
        client.probe.probe.insert_one({})
        client.drop_database("probe")
    except OperationFailure as error:
        if error.code != BLOCKED:
            raise
        return True
    return False
