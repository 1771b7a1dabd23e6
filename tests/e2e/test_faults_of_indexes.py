"""Builds of indexes on the target that are killed, or undone by somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from faults import fill, some
from in_process import Running
from judge import differences
from pymongo import MongoClient
from waiting import until

from limosa.connectors.mongodb import deployment
from limosa.testing.proxy import Fate, Proxy, Way

Client = MongoClient[dict[str, Any]]

#: Where a build is held; the server has begun it by then.
HOLDING = "hangAfterStartingIndexBuild"


@pytest.fixture
def held(ends: Any) -> Iterator[Any]:
    """Both ends, the source filled; the target holds every build until `_let_go`."""
    fill(ends.source.client)
    _hold(ends.target.client)
    yield ends
    _let_go(ends.target.client)


def _kill(target: Client) -> None:
    for operation in _builds(target):
        target.admin.command("killOp", op=operation["opid"])


def _drop(target: Client) -> None:
    for name in ("people", "orders"):
        # Not found, where the build has not begun.
        target.shop.command("dropIndexes", name, index="*", check=False)


@pytest.mark.parametrize("act", [_kill, _drop], ids=["killed", "dropped"])
def test_build_ends_early(held: Any, tmp_path: Path, act: Callable[[Client], None]) -> None:
    """A build that is killed, or dropped, before it is done is begun again."""
    target = held.target.client
    entered = _hold(target)
    with Running(held.source.uri, held.target.uri, tmp_path / "state") as running:
        running.start()
        target.admin.command(
            "waitForFailPoint", HOLDING, timesEntered=entered + 1, maxTimeMS=60_000
        )
        seen = len(running.events)
        act_and_let_go(target, act)
        running.committed()

        assert running.retries(), running.events[seen : seen + 10]
    assert differences(held.source.client, target) == []


@pytest.mark.parametrize("patience", [20, 1], ids=["waited for", "asked for again"])
def test_long_build(
    held: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    """A build may take longer than any answer, and than one waits for it: it is not begun again."""
    monkeypatch.setattr(deployment, "_BUILD_PATIENCE", patience)
    target, hurried = held.target.client, f"{held.target.uri}&socketTimeoutMS=1000"
    with Running(held.source.uri, hurried, tmp_path / "state") as running:
        running.start()
        until(
            lambda: any(b["microsecs_running"] > 2_500_000 for b in _builds(target)), "long build"
        )
        _let_go(target)
        running.committed()

        assert not [text for text in running.retries() if "build" in text]
    assert differences(held.source.client, target) == []


def test_forgotten_connection(ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build whose connection leads nowhere, while the server is there, is asked for anew."""
    monkeypatch.setattr(deployment, "_BUILD_PATIENCE", 2)
    people = ends.target.client.shop.people
    people.insert_one({"_id": 1})
    index = {"key": {"number": 1}, "name": "n" * 3_000}  # larger than the driver's monitoring
    with Proxy(ends.target.replica_set.members[0].port) as proxy:
        uri = f"mongodb://{proxy.address}/?directConnection=true&socketTimeoutMS=500"
        with closing(deployment.Deployment(uri)) as there:
            proxy.strike(Fate.MUTE, Way.TO_SERVER, larger_than=2_000)
            there.run("shop", {"createIndexes": "people", "indexes": [index]}, doing="build")

    assert proxy.struck == 1
    assert set(people.index_information()) == {"_id_", index["name"]}


@pytest.mark.parametrize("phase", some("commit", "application", "verification"))
def test_index_dropped_later(held: Any, tmp_path: Path, phase: str) -> None:
    """An index of the target that somebody drops is built again by the commit."""
    target = held.target.client
    _let_go(target)
    with Running(held.source.uri, held.target.uri, tmp_path / "state") as running:
        if phase == "commit":
            running.start()
            running.await_ready()
            target.shop.command("dropIndexes", "people", index="*")
        else:
            with running.held_at(phase):
                target.shop.command("dropIndexes", "people", index="*")
        running.committed()

    assert differences(held.source.client, target) == []


def act_and_let_go(target: Client, act: Callable[[Client], None]) -> None:
    """Act on builds that are held; a drop waits for them to notice."""
    acting = Thread(target=act, args=(target,))
    acting.start()
    until(lambda: not acting.is_alive() or _drops(target), "drop that waits")
    _let_go(target)
    acting.join()


def _builds(target: Client) -> list[dict[str, Any]]:
    pipeline = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"command.createIndexes": {"$exists": True}, "appName": "limosa"}},
    ]
    return list(target.admin.aggregate(pipeline))


def _drops(target: Client) -> list[dict[str, Any]]:
    waits = {"command.dropIndexes": {"$exists": True}, "microsecs_running": {"$gt": 300_000}}
    return list(target.admin.aggregate([{"$currentOp": {"allUsers": True}}, {"$match": waits}]))


def _hold(target: Client) -> int:
    """Hold every build from now on; return how many have been held before."""
    held = target.admin.command("configureFailPoint", HOLDING, mode="alwaysOn")
    return int(held["count"])


def _let_go(target: Client) -> None:
    target.admin.command("configureFailPoint", HOLDING, mode="off")
