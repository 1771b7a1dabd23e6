from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from waiting import PATIENCE

from limosa.model import Namespace
from limosa.workload import Traffic, TrafficFailed, compare, fill
from limosa.workload.shapes import SHAPES


def _count(client: MongoClient[dict[str, Any]]) -> int:
    namespaces = (s.namespace for s in SHAPES)
    return sum(client[n.database][n.collection].count_documents({}) for n in namespaces)


@pytest.mark.parametrize("documents", [1, 1_000])
def test_fill(ends: Any, documents: int) -> None:
    """What was filled is what was said, with every kind of collection and index."""
    filled = fill(ends.source.uri, documents=documents)

    assert filled.documents == _count(ends.source.client) >= documents
    assert filled.documents == documents or documents < 100
    assert filled.indexes == _indexes(ends.source.client)
    assert filled.collections == len(SHAPES)


def test_fill_is_deterministic(ends: Any) -> None:
    """Two servers filled with the same seed are equal to the byte."""
    first = fill(ends.source.uri, documents=2_500, seed=7)
    second = fill(ends.target.uri, documents=2_500, seed=7)

    assert first.bytes == second.bytes
    assert compare(ends.source.uri, ends.target.uri).differences == ()


def test_compare(ends: Any) -> None:
    """A comparison names what is missing, extra and different, and changed options."""
    for end in ends:
        fill(end.uri, documents=500)
    ends.target.client.shop.counters.delete_one({"_id": "counter-0"})
    ends.target.client.shop.counters.update_one({"_id": "counter-1"}, {"$set": {"count": 2.0}})
    ends.target.client.shop.counters.insert_one({"_id": "counter-99"})
    ends.target.client.shop.orders.drop_index("currency_1")
    ends.target.client.chat.users.drop()
    ends.target.client.chat.guests.insert_one({})

    comparison = compare(ends.source.uri, ends.target.uri)

    expected = [
        "chat.guests: collection is extra",
        "chat.users: collection is missing",
        "counter-0\\x00\\x00' is missing",
        "counter-1\\x00\\x00' is different",
        "counter-99\\x00\\x00' is extra",
        "shop.counters: 3 in all",
        "shop.orders: indexes",
    ]
    assert len(comparison.differences) == len(expected)
    assert all(any(e in d for d in comparison.differences) for e in expected)


def test_hold(ends: Any) -> None:
    """A held application writes no more, and goes on once it is released."""
    fill(ends.source.uri, documents=500)
    began = datetime.now(UTC)
    with _traffic(ends.source.uri) as traffic:
        _await(lambda: traffic.counters.writes > 300)
        last_write = traffic.hold()
        after = datetime.now(UTC)
        held = traffic.counters
        with ends.source.client.watch(max_await_time_ms=300) as later_changes:
            assert later_changes.try_next() is None
        assert traffic.counters == held
        assert began < last_write <= after

        traffic.release()
        _await(lambda: traffic.counters.writes > held.writes)


def test_counters(ends: Any) -> None:
    """The counters agree with what the server holds after the application was stopped."""
    filled = fill(ends.source.uri, documents=500)
    with _traffic(ends.source.uri) as traffic:
        _await(lambda: all(asdict(replace(traffic.counters, failed=1)).values()))
        done = traffic.stop()
    hot = sum(d["count"] for d in ends.source.client.shop.counters.find())

    assert done.failed == 0
    assert hot == done.hot
    assert _count(ends.source.client) == filled.documents + done.inserted - done.deleted


def test_switch(ends: Any) -> None:
    """An application can go on at another server, with the keys that it knows."""
    for end in ends:
        fill(end.uri, documents=500)
    with _traffic(ends.source.uri) as traffic:
        _await(lambda: traffic.counters.writes > 0)
        traffic.hold()
        before = traffic.counters
        traffic.switch(ends.target.uri)
        traffic.release()
        _await(lambda: traffic.counters.hot > before.hot)
        done = traffic.stop()
    hot = [sum(d["count"] for d in end.client.shop.counters.find()) for end in ends]

    assert hot == [before.hot, done.hot - before.hot]


def test_namespaces(ends: Any) -> None:
    """An application can be told which collections to write to."""
    only = Namespace("chat", "messages")
    with _traffic(ends.source.uri, namespaces=[only]) as traffic:
        _await(lambda: traffic.counters.inserted > 0)

    assert ends.source.client.chat.list_collection_names() == ["messages"]
    assert ends.source.client.shop.list_collection_names() in ([], ["counters"])


def test_ends_by_itself(ends: Any) -> None:
    """An application that nobody stops ends when its time is up, and still tells its figures."""
    with _traffic(ends.source.uri, lasting=timedelta(seconds=3)) as traffic:
        _await(lambda: traffic._process.poll() is not None)

        assert traffic.counters.writes > 0


def test_fails(ends: Any) -> None:
    """An error that no waiting cures reaches the owner."""
    fault = {"failCommands": ["insert", "update"], "errorCode": 13}
    with pytest.raises(TrafficFailed, match="OperationFailure"):
        _write_until_it_fails(ends.source, fault)


def test_survives_an_election(ends: Any) -> None:
    """An application goes on after a step-down."""
    with _traffic(ends.source.uri) as traffic:
        _await(lambda: traffic.counters.writes > 0)
        ends.source.replica_set.step_down()
        before = traffic.counters
        _await(lambda: traffic.counters.writes > before.writes)


def _write_until_it_fails(server: Any, fault: dict[str, Any]) -> None:
    with _traffic(server.uri) as traffic:
        admin = server.client.admin
        admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fault)
        _await(lambda: traffic.counters is None)


@contextmanager
def _traffic(uri: str, **settings: Any) -> Iterator[Traffic]:
    settings = {"lasting": timedelta(minutes=5), **settings}
    with Traffic(uri, rate=500, **settings) as traffic:
        yield traffic


def _indexes(client: MongoClient[dict[str, Any]]) -> int:
    names = (
        name
        for shape in SHAPES
        for name in client[shape.namespace.database][shape.namespace.collection].index_information()
    )
    return sum(name not in ("_id_", "by id") for name in names)


def _await(condition: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
