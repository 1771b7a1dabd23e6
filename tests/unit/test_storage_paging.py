"""Many collections and partitions: all of them come, in order, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from limosa.model import Collection, CollectionSpec, Namespace, Partition
from limosa.registry import Registry
from limosa.state import CollectionProgress, PartitionStatus
from limosa.storage import paging
from limosa.storage.sqlite import SqliteStore

NOW = datetime(2024, 5, 1, tzinfo=UTC)
#: Partitions of each collection, of which the pages below hold five.
PARTITIONS = (1, 2, 12, 0, 3, 5, 1, 1, 1, 6)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """A plan of ten collections, the later the larger, and pages of five rows."""
    monkeypatch.setattr(paging, "_PAGE", 5)
    collections = [planned(number) for number in range(len(PARTITIONS))]
    parts = [
        Partition(f"{c.spec.collection.id}/{i}", c.spec.collection, b"", documents=1)
        for c, count in zip(collections, PARTITIONS, strict=True)
        for i in range(count)
    ]
    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        store.save_plan(collections, parts, NOW)
        yield store


def planned(number: int) -> CollectionProgress:
    here = Collection(Namespace("shop", f"c{number}"), f"id{number}")
    return CollectionProgress(CollectionSpec(here, size=number), target=here.namespace)


def test_collections(store: SqliteStore) -> None:
    """All are there, in order of planning or the largest first."""
    ids = [f"id{n}" for n in range(len(PARTITIONS))]

    assert [c.spec.collection.id for c in store.collections()] == ids
    assert [c.spec.collection.id for c in store.collections(largest_first=True)] == ids[::-1]


def test_partitions(store: SqliteStore) -> None:
    """All are there, those of the largest collection first, more than a page of one as well."""
    found = [p.partition.collection.id for p in store.partitions()]

    assert found == [f"id{n}" for n in reversed(range(10)) for _ in range(PARTITIONS[n])]
    assert len({p.partition.id for p in store.partitions()}) == sum(PARTITIONS)
    assert [p.partition for p in store.partitions(PartitionStatus.PENDING)] == [
        p.partition for p in store.partitions()
    ]
    assert not list(store.partitions(PartitionStatus.COPIED))


def test_partitions_while_they_are_copied(store: SqliteStore) -> None:
    """What is done with each does not move the others."""
    seen = []
    for progress in store.partitions(PartitionStatus.PENDING):
        seen.append(progress.partition.id)
        store.partition_copied(progress.partition.id, documents=1, size=1)

    assert len(seen) == len(set(seen)) == sum(PARTITIONS)
    assert not list(store.partitions(PartitionStatus.PENDING))
    assert store.totals().partitions_copied == sum(PARTITIONS)


def test_drop_while_partitions_are_read(store: SqliteStore) -> None:
    """Those of a collection that is dropped meanwhile are left out as soon as that is seen."""
    partitions = store.partitions()
    first = next(partitions)
    store.save_collection(replace(planned(0), is_dropped=True))

    left = {p.partition.collection.id for p in partitions}

    assert first.partition.collection.id == "id9"
    assert "id0" not in left
    assert "id1" in left


def test_by_identity_and_name(store: SqliteStore) -> None:
    """A collection is found by its identity and by what it is called at present."""
    moved = replace(planned(3), target=Namespace("store", "c3"))
    store.save_collection(moved)
    store.save_collection(replace(planned(4), is_dropped=True))

    assert store.collection("id3") == moved
    assert store.collection("id10") is None
    assert store.collections_at(Namespace("shop", "c3")) == [moved]
    assert store.collections_at(Namespace("store", "c3"), at_target=True) == [moved]
    assert store.collections_at(Namespace("shop", "c3"), at_target=True) == []
    assert store.collections_at(Namespace("shop", "c4")) == []


def test_registry(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked up is at hand; what was saved since is seen; more than fits is no matter."""
    monkeypatch.setattr("limosa.registry._KEPT", 3)
    registry = Registry(store)

    for number in (0, 1, 2, 3, 4, 0, 10):
        expected = planned(number) if number < 10 else None
        assert registry.get(f"id{number}") == expected
    changed = replace(planned(0), is_indexed=True)
    registry.save(changed)
    store.save_collection(replace(planned(1), is_indexed=True))

    assert registry.get("id0") == store.collection("id0") == changed
    registry.forget()
    assert registry.get("id1") == replace(planned(1), is_indexed=True)


def test_registry_keeps_at_hand(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is asked once for each, also for what it does not have."""
    asked: list[str] = []
    look = store.collection
    monkeypatch.setattr(store, "collection", lambda id_: (asked.append(id_), look(id_))[1])
    registry = Registry(store)

    for _ in range(3):
        registry.get("id0")
        registry.get("none")

    assert asked == ["id0", "none"]
