"""The primary of either end steps down in each phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from failing import FailPoint
from in_process import Running
from judge import differences
from pymongo import MongoClient

from limosa.connectors.mongodb import blocking
from limosa.connectors.mongodb.deployment import Deployment
from limosa.embedded import Mongod, Options, ReplicaSet
from limosa.errors import ConnectionLost, TransientError
from limosa.events import (
    BatchCopied,
    ChangesApplied,
    CommitStarted,
    IndexesBuilt,
    PartitionVerified,
)
from limosa.workload import Traffic, fill

Client = MongoClient[dict[str, Any]]

MEMBERS = 3
#: Slows every phase down enough for an election to fall into it.
SLOWED = ("insert", "createIndexes", "update", "find", "collMod")


@pytest.fixture(scope="module")
def sets(mongod_options: Options) -> Iterator[tuple[ReplicaSet, ReplicaSet]]:
    """Two replica sets of three members."""
    with (
        ReplicaSet(mongod_options, members=MEMBERS, name="source") as source,
        ReplicaSet(mongod_options, members=MEMBERS, name="target") as target,
    ):
        yield source, target


def test_connection_of_a_member_between_roles(ends: Any) -> None:
    """One that was made while a server had no role is not used again, though the pool has it."""
    with closing(Deployment(ends.target.uri)) as there, there.start_session() as session:
        there.run("admin", {"ping": 1}, doing="ping", session=session)
        pools = [s.pool for s in there._client._topology._servers.values()]
        connections = [connection for pool in pools for connection in pool.conns]
        for connection in connections:
            connection.supports_sessions = False  # as the driver notes it then
        with pytest.raises(ConnectionLost, match="Sessions are not supported"):
            there.run("admin", {"ping": 1}, doing="ping", session=session)

        there.run("admin", {"ping": 1}, doing="ping", session=session)
    assert connections


def test_blocking_after_an_election(mongod_options: Options) -> None:
    """What changes nothing about the blocking of writes is done, whatever was written before."""
    with (
        ReplicaSet(mongod_options) as servers,
        closing(Deployment(f"{servers.uri}&heartbeatFrequencyMS=500")) as there,
    ):
        there.run("shop", {"insert": "people", "documents": [{}]}, doing="insert")
        blocking.block(there, is_blocked=False)
        servers.step_down()
        with pytest.raises(TransientError, match="Term changed"):
            blocking.block(there, is_blocked=False)

        blocking.block(there, is_blocked=False)


def test_time_that_is_not_known(mongod_options: Options) -> None:
    """A server that tells no operation time, as one that has just started, is asked again."""
    with Mongod(mongod_options) as alone, closing(Deployment(alone.uri)) as there:
        with pytest.raises(TransientError, match="does not know it yet"):
            there.now()
        with pytest.raises(TransientError, match="does not know it yet"):
            there.majority()


@pytest.mark.parametrize("end", [0, 1], ids=["source", "target"])
def test_elections(sets: tuple[ReplicaSet, ReplicaSet], tmp_path: Path, end: int) -> None:
    """A primary that steps down in each phase costs some time, and nothing else."""
    with ExitStack() as stack:
        source: Client = stack.enter_context(MongoClient(sets[0].uri))
        target: Client = stack.enter_context(MongoClient(sets[1].uri))
        for client in (source, target):
            _clear(client)
        fill(source, documents=3_000)
        _slow_down(sets[1], milliseconds=100)
        traffic = Traffic(sets[0].uri, rate=100, workers=2, lasting=timedelta(minutes=3))
        stack.enter_context(traffic)
        running = Running(sets[0].uri, sets[1].uri, tmp_path / "state")
        stack.enter_context(running)
        running.start()
        for event in (BatchCopied, IndexesBuilt, ChangesApplied, PartitionVerified):
            running.await_event(event)
            _step_down(sets[end])
        running.await_ready()
        traffic.hold()
        running.commit()
        running.await_event(CommitStarted)
        _step_down(sets[end])
        migration = running.end()

        assert migration.failure is None
        assert differences(source, target) == []


def _step_down(servers: ReplicaSet) -> None:
    before = servers.primary()
    servers.step_down()
    # It may stand again, or there would soon be nobody left to be elected.
    before.client.admin.command("replSetFreeze", 0)


def _slow_down(servers: ReplicaSet, *, milliseconds: int) -> None:
    for member in servers.members:
        FailPoint(member.client).slow_down(SLOWED, milliseconds=milliseconds)


def _clear(client: Client) -> None:
    for database in set(client.list_database_names()) - {"admin", "local", "config"}:
        client.drop_database(database)
