"""A user who loses the rights to go on, at either end and in any phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import PHASES, SIDES, change, fill, some
from in_process import Running
from judge import SYSTEM_DATABASES, differences
from pymongo import MongoClient

from limosa.embedded import Options, ReplicaSet
from limosa.state import State

Client = MongoClient[dict[str, Any]]

ROLES = {
    "source": ["readAnyDatabase", "clusterMonitor"],
    "target": ["readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"],
}


class Guarded(NamedTuple):
    """A replica set with access control, as its owner sees it and as the migration does."""

    client: Client
    uri: str


@pytest.fixture(scope="module")
def guarded(mongod_options: Options) -> Iterator[dict[str, Guarded]]:
    """Both ends with a user who has just the rights that are needed."""
    options = replace(mongod_options, user="owner", password="secret")
    with (
        ReplicaSet(options) as source,
        ReplicaSet(options) as target,
        MongoClient[dict[str, Any]](source.uri) as source_client,
        MongoClient[dict[str, Any]](target.uri) as target_client,
    ):
        ends = {}
        for side, servers, client in (
            ("source", source, source_client),
            ("target", target, target_client),
        ):
            client.admin.command("createUser", "mover", pwd="moves", roles=ROLES[side])
            hosts = servers.uri.partition("@")[2]
            ends[side] = Guarded(client, f"mongodb://mover:moves@{hosts}")
        yield ends


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("phase", some("copy", *(p for p in PHASES if p != "copy")))
def test_revoked(guarded: dict[str, Guarded], tmp_path: Path, side: str, phase: str) -> None:
    """Rights taken away fail the migration and are named; given back, it goes on."""
    source, target, robbed = guarded["source"], guarded["target"], guarded[side]
    for end in (source, target):
        for database in set(end.client.list_database_names()) - SYSTEM_DATABASES:
            end.client.drop_database(database)
    fill(source.client)
    with Running(source.uri, target.uri, tmp_path / "state") as running:
        _reach(running, phase, source.client)
        robbed.client.admin.command("revokeRolesFromUser", "mover", roles=ROLES[side])
        change(source.client, mark="meanwhile")
        running.release()
        failed = running.end()
        robbed.client.admin.command("grantRolesToUser", "mover", roles=ROLES[side])

        assert failed.state is State.FAILED
        assert failed.failure is not None
        assert failed.failure.code == "access_denied"
        assert "limosa doctor" in failed.failure.hint
        assert "moves" not in failed.failure.message

        running.start()
        running.committed()
    assert differences(source.client, target.client) == []


def _reach(running: Running, phase: str, source: Client) -> None:
    if phase == "commit":
        running.start()
        running.await_ready()
        running.hold_at(phase)
        change(source, mark="awaited")
    else:
        running.hold_at(phase)
        running.start()
    running.await_held()
