"""A migration takes no more of both servers than it is allowed to, and says why it is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from program import limosa
from pymongo import MongoClient
from waiting import until

from limosa.embedded import Options, ReplicaSet
from limosa.events import CopyCompleted, PaceChanged
from limosa.limits import LimitChange

Client = MongoClient[dict[str, Any]]

#: Two batches of the copy.
DOCUMENTS = 10_000


def fill(client: Client) -> None:
    client.shop.people.insert_many({"_id": i, "name": f"n{i}"} for i in range(DOCUMENTS))


def pace(running: Running) -> list[str]:
    """Return why it was slow, in order."""
    return [e.throttled for e in running.events if isinstance(e, PaceChanged)]


@contextmanager
def written(client: Client) -> Iterator[None]:
    """Have one document after the other written for a block."""
    stop = threading.Event()

    def write() -> None:
        for i in range(10_000):
            client.shop.notes.insert_one({"_id": i})
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_rate_of_the_copy(ends: Any, tmp_path: Path) -> None:
    """The copy keeps to its rate, and ends equal."""
    fill(ends.source.client)
    limits = LimitChange(documents_per_second=5_000)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "s", limits=limits) as running:
        running.start()
        completed = running.await_event(CopyCompleted)
        running.committed()

    assert completed.took > timedelta(seconds=0.9)
    assert pace(running)[0] == "5,000 documents/s"
    assert differences(ends.source.client, ends.target.client) == []


def test_changed_while_it_runs(ends: Any, tmp_path: Path) -> None:
    """`limosa throttle` changes the pace at once; `limosa status` says why it is slow."""
    fill(ends.source.client)
    state = tmp_path / "s"
    limits = LimitChange(documents_per_second=10)
    with Running(ends.source.uri, ends.target.uri, state, limits=limits) as running:
        running.start()
        running.await_event(PaceChanged)

        status = limosa("status", "--state", state, "--json").json
        assert status["throttled"] == "10 documents/s"
        assert status["limits"]["documentsPerSecond"] == 10
        assert "throttled:" in limosa("status", "--state", state).out

        shown = limosa("throttle", "--state", state, "--load-level", "2", "--json").json
        assert (shown["limits"]["loadLevel"], shown["limits"]["documentsPerSecond"]) == (2, 10)
        until(lambda: "load level 2, 10 documents/s" in pace(running), "other reason")

        assert limosa("throttle", "--state", state, "--off").code == 0
        running.await_event(CopyCompleted)
        running.committed()

    assert pace(running)[-1] == ""
    assert differences(ends.source.client, ends.target.client) == []


def test_kept(ends: Any, tmp_path: Path) -> None:
    """Limits outlive the process, and what a new start names replaces them."""
    state = tmp_path / "s"
    with Running(
        ends.source.uri, ends.target.uri, state, limits=LimitChange(max_queue=7, load_level=2)
    ) as running:
        running.start()
        running.await_ready()
        running.stop()
        refused = limosa("throttle", "--state", state, "--load-level", "9")
        changed = limosa("throttle", "--state", state, "--window", "22:00-06:00", "--json").json

    assert refused.code == 2
    assert "expected 1, 2, 3 or 4" in refused.err
    assert changed["limits"]["maxQueue"] == 7
    assert changed["limits"]["windows"] == ["22:00-06:00"]
    with Running(
        ends.source.uri, ends.target.uri, state, limits=LimitChange(load_level=3, windows=())
    ) as running:
        running.start()
        migration = running.committed()

    assert (migration.limits.max_queue, migration.limits.load_level) == (7, 3)


def test_commit_is_not_limited(ends: Any, tmp_path: Path) -> None:
    """Once a commit is asked for nothing is held back: the application waits for it."""
    source = ends.source.client
    fill(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "s") as running:
        running.start()
        running.await_ready()
        running.update(lambda m: replace(m, limits=replace(m.limits, documents_per_second=1)))
        until(lambda: "1 documents/s" in pace(running), "limit")
        source.shop.people.update_many({}, {"$set": {"changed": True}})
        running.await_captured(source)
        began = time.monotonic()
        running.committed()

    assert time.monotonic() - began < DOCUMENTS / 10
    assert differences(source, ends.target.client) == []


@pytest.fixture(scope="module")
def three(mongod_options: Options) -> Iterator[ReplicaSet]:
    """A target of three members."""
    with ReplicaSet(mongod_options, members=3) as servers:
        yield servers


def test_replication_lag(ends: Any, three: ReplicaSet, tmp_path: Path) -> None:
    """While a member of the target falls behind the migration is slow, and says so."""
    source = ends.source.client
    fill(source)
    secondary = next(m for m in three.members if m is not three.primary())
    limits = LimitChange(max_lag=timedelta(seconds=2))
    with (
        Running(ends.source.uri, three.uri, tmp_path / "s", limits=limits) as running,
        MongoClient[dict[str, Any]](three.uri) as target,
    ):
        running.start()
        running.await_ready()
        with written(source):
            stall = {"configureFailPoint": "rsSyncApplyStop"}
            secondary.client.admin.command(stall | {"mode": "alwaysOn"})
            try:
                until(lambda: pace(running), "slow-down")
            finally:
                secondary.client.admin.command(stall | {"mode": "off"})
            until(lambda: pace(running)[-1] == "", "recovery")
        running.committed()

        assert pace(running)[0].startswith("target replication lag ")
        assert differences(source, target) == []
