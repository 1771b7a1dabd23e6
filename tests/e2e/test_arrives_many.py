"""Very many collections take no longer each, and no more memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from in_process import Running
from judge import differences
from pymongo import MongoClient

from limosa.catalog import folder_for, watch
from limosa.events import PartitionCopied, Planned

Client = MongoClient[dict[str, Any]]

#: Collections; set it to 4,000 for what servers with 20,000 open files hold.
MANY = int(os.environ.get("LIMOSA_TEST_COLLECTIONS", "150"))


def test_many_collections(ends: Any, tmp_path: Path) -> None:
    """
    Hundreds of small collections arrive, also those that come later, the last as fast as the first.
    """
    source = ends.source.client
    for number in range(MANY):
        _make(source, number)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        started = time.monotonic()
        running.start()
        planned = running.await_event(Planned)
        plan_seconds = time.monotonic() - started
        running.await_ready()
        for number in range(MANY, MANY + 20):
            _make(source, number)
        source.many.c0.insert_one({"_id": "last"})
        asked = time.monotonic()
        store = watch(folder_for("any", tmp_path / "state"))
        store.collections()
        store.totals()
        store.close()
        status_seconds = time.monotonic() - asked
        migration = running.committed()
        copied = [e for e in running.events if isinstance(e, PartitionCopied)]

    assert planned.collections == MANY
    assert len(copied) == MANY
    assert migration.failure is None
    assert differences(source, ends.target.client) == []
    # Generous: a machine that is busy must not fail this, one whose time grows must.
    assert plan_seconds < 10 + MANY / 50
    assert status_seconds < 1 + MANY / 1_000
    first, last = (_seconds(copied[part]) for part in _ends(len(copied)))
    assert last < 10 * first


def _make(source: Client, number: int) -> None:
    collection = source.many[f"c{number}"]
    collection.insert_many({"_id": i, "v": i} for i in range(10))
    if number % 10 == 0:
        collection.create_index("v", unique=number % 20 == 0)


def _ends(count: int) -> tuple[slice, slice]:
    return slice(0, count // 5), slice(-(count // 5), None)


def _seconds(copied: list[PartitionCopied]) -> float:
    return sum(e.took.total_seconds() for e in copied) / len(copied)
