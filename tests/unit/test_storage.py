"""The state of a migration in SQLite: what is stored comes back, in atomic steps."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, Regex
from bson.datetime_ms import DatetimeMS

from limosa.canonical import key_for
from limosa.errors import IllegalTransition, StateError
from limosa.limits import Limits
from limosa.model import (
    Collection,
    CollectionSpec,
    Key,
    Mismatch,
    MismatchKind,
    Namespace,
    Partition,
    ResumeToken,
)
from limosa.state import (
    CollectionProgress,
    Failure,
    Migration,
    PartitionStatus,
    State,
    Suspect,
    Totals,
)
from limosa.storage import StateStore
from limosa.storage.sqlite import SqliteStore

NOW = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
SMALL = Collection(Namespace("shop", "carts"), "a1")
LARGE = Collection(Namespace("shop", "people"), "b2")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        yield store


def planned(collection: Collection, *, size: int = 0, **more: Any) -> CollectionProgress:
    spec = CollectionSpec(collection, documents=10, size=size, **more)
    return CollectionProgress(spec, target=collection.namespace)


def partition(collection: Collection, number: int) -> Partition:
    return Partition(f"{collection.id}/{number}", collection, b"\0bounds\xff", documents=5)


def suspect(value: object, *, counts: bool = False, collection: Collection = SMALL) -> Suspect:
    mismatch = Mismatch(MismatchKind.DIFFERENT, collection.namespace, key_for(value))
    return Suspect(mismatch, collection.id, since=NOW, digest=b"d", counts=counts)


def with_plan(store: StateStore) -> None:
    parts = [partition(SMALL, 0), partition(LARGE, 0), partition(LARGE, 1)]
    store.save_plan([planned(SMALL, size=1), planned(LARGE, size=9)], parts, NOW)


def test_migration_round_trip(store: SqliteStore) -> None:
    """Every field of a migration is stored and comes back as it was."""
    values: dict[str, Any] = {
        f.name: NOW for f in fields(Migration) if f.name.endswith(("_at", "_to"))
    }
    values |= {
        f.name: 2**40 + n
        for n, f in enumerate(fields(Migration))
        if f.type == "int" and f.name != "generation"
    }
    full = replace(
        store.migration(),
        **values,
        state=State.FAILED,
        source="mongodb://a:1",
        target="mongodb://b:2",
        settings={"include": ["shop"], "workers": 4, "verify": False, "größe": None},
        position=ResumeToken(b"\0\xff"),
        return_position=ResumeToken(b"\xff"),
        target_mark=ResumeToken(b"\1"),
        blocked="source,target",
        limits=Limits(load_level=1, megabytes_per_second=2.5),
        throttled="target: replication lag 12 s",
        failure=Failure("code", "message", "hint"),
    )

    store.update(lambda _: full)

    assert store.migration() == full
    untouched = [
        f.name for f in fields(Migration) if getattr(full, f.name) == getattr(Migration(""), f.name)
    ]
    assert untouched == []


def test_times_are_utc(store: SqliteStore) -> None:
    """A time in another zone is the same moment after it was stored."""
    store.update(
        lambda m: replace(m, copied_at=datetime.fromisoformat("2024-05-01T14:00:00+02:00"))
    )

    copied_at = store.migration().copied_at
    assert copied_at == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert copied_at.utcoffset() == timedelta(0)


def test_update_returns_new(store: SqliteStore) -> None:
    """An update returns the migration that it has stored."""
    after = store.update(lambda m: m.moved_to(State.RUNNING))

    assert after.state is State.RUNNING
    assert store.migration() == after


def test_refused_update(store: SqliteStore) -> None:
    """A change that is refused leaves the migration as it was, and the store usable."""
    before = store.migration()

    with pytest.raises(IllegalTransition):
        store.update(lambda m: m.moved_to(State.COMMITTED))

    assert store.migration() == before
    assert store.update(lambda m: m.moved_to(State.RUNNING)).state is State.RUNNING


def test_update_from_elsewhere(store: SqliteStore, tmp_path: Path) -> None:
    """What a watching store changes is seen by the driving one, and the other way round."""
    with closing(SqliteStore.watch(tmp_path)) as watching:
        watching.update(lambda m: m.moved_to(State.RUNNING))
        assert store.migration().state is State.RUNNING

        store.update(lambda m: m.moved_to(State.PAUSED))
        assert watching.migration().state is State.PAUSED


def test_concurrent_updates(store: SqliteStore, tmp_path: Path) -> None:
    """Updates from several threads and stores at once are all counted."""
    with closing(SqliteStore.watch(tmp_path)) as watching:

        def count(chosen: SqliteStore) -> None:
            for _ in range(20):
                chosen.update(lambda m: replace(m, applied_seq=m.applied_seq + 1))

        threads = [threading.Thread(target=count, args=(s,)) for s in (store, store, watching)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert store.migration().applied_seq == 60


def test_options_round_trip(store: SqliteStore) -> None:
    """Options and indexes keep order, number types and every BSON value."""
    options = {
        "z": 1,
        "a": Int64(1),
        "f": 1.0,
        "validator": {"name": {"$regex": "^a", "$options": "i"}, "re": Regex("^b", "x")},
        "far": DatetimeMS(2**60),
        "money": Decimal128("1.50"),
        "bytes": b"\0\1",
    }
    indexes = ({"key": {"b": 1, "a": -1}, "name": "b_a", "expireAfterSeconds": Int64(5)},)
    collection = planned(LARGE, options=options, indexes=indexes)

    store.save_plan([collection], [], NOW)

    (found,) = store.collections()
    assert found == collection
    assert bson.encode(found.spec.options) == bson.encode(options)
    assert bson.encode(found.spec.indexes[0]) == bson.encode(indexes[0])


def test_plan(store: SqliteStore) -> None:
    """A plan sets its time, keeps the order of collections and puts the largest first."""
    with_plan(store)

    assert store.migration().planned_at == NOW
    assert [c.spec.collection for c in store.collections()] == [SMALL, LARGE]
    assert [p.partition for p in store.partitions()] == [
        partition(LARGE, 0),
        partition(LARGE, 1),
        partition(SMALL, 0),
    ]


def test_plan_anew(store: SqliteStore) -> None:
    """A second plan replaces the first entirely."""
    with_plan(store)
    store.partition_verified("a1/0", compared=5, suspects=[suspect(1)])

    store.save_plan([planned(SMALL)], [partition(SMALL, 0)], NOW)

    assert store.totals() == Totals(collections=1, partitions=1, documents=10)
    assert store.suspects() == []


def test_plan_that_fails(store: SqliteStore) -> None:
    """A plan that cannot be cut to its end leaves nothing behind."""

    def parts() -> Iterator[Partition]:
        yield partition(SMALL, 0)
        msg = "unreachable"
        raise ConnectionError(msg)

    with pytest.raises(ConnectionError):
        store.save_plan([planned(SMALL)], parts(), NOW)

    assert not list(store.collections())
    assert store.migration().planned_at is None


def test_partition_of_unknown_collection(store: SqliteStore) -> None:
    """A partition of a collection that is not in the plan is refused, not lost."""
    with pytest.raises(StateError):
        store.cut("a1", [partition(SMALL, 0)])


def test_partition_progress(store: SqliteStore) -> None:
    """A partition goes from pending by copied to verified, with its figures."""
    with_plan(store)

    store.partition_copied("b2/1", documents=7, size=700)
    (copied,) = store.partitions(PartitionStatus.COPIED)
    store.partition_verified("b2/1", compared=8, suspects=[])
    (verified,) = store.partitions(PartitionStatus.VERIFIED)

    assert (copied.partition.id, copied.documents, copied.bytes) == ("b2/1", 7, 700)
    assert (verified.documents, verified.bytes, verified.compared) == (7, 700, 8)
    assert [p.partition.id for p in store.partitions(PartitionStatus.PENDING)] == ["b2/0", "a1/0"]


def test_unplanned_partition(store: SqliteStore) -> None:
    """Progress of a partition that is not in the plan is an error."""
    with pytest.raises(StateError, match="'b2/9' is not in the plan"):
        store.partition_copied("b2/9", documents=1, size=1)


def test_totals(store: SqliteStore) -> None:
    """Totals follow each step, also one recorded twice."""
    with_plan(store)
    store.partition_copied("b2/0", documents=6, size=600)
    store.partition_copied("b2/0", documents=7, size=700)
    store.partition_copied("a1/0", documents=3, size=30)
    store.partition_verified("a1/0", compared=4, suspects=[suspect(1), suspect(2, counts=True)])

    assert store.totals() == Totals(
        collections=2,
        partitions=3,
        partitions_copied=2,
        collections_verified=1,
        partitions_verified=1,
        documents=20,
        bytes=10,
        documents_copied=10,
        bytes_copied=730,
        documents_compared=4,
        suspects=1,
        mismatches=1,
    )
    assert store.copied_by_namespace() == {
        SMALL.namespace: (10, 3, 4, 30),
        LARGE.namespace: (10, 7, 0, 700),
    }


def test_totals_of_nothing(store: SqliteStore) -> None:
    """Before there is a plan all totals are zero."""
    assert store.totals() == Totals()
    assert store.copied_by_namespace() == {}


def test_dropped_collection(store: SqliteStore) -> None:
    """A dropped collection is still listed; its partitions and differences are not."""
    with_plan(store)
    store.partition_verified("a1/0", compared=1, suspects=[suspect(1), suspect(2, counts=True)])

    store.save_collection(replace(planned(SMALL, size=1), is_dropped=True))

    assert [c.is_dropped for c in store.collections()] == [True, False]
    assert {p.partition.collection for p in store.partitions()} == {LARGE}
    assert (store.suspects(), store.mismatches()) == ([], [])
    assert store.totals() == Totals(collections=1, partitions=2, documents=10, bytes=9)
    assert list(store.copied_by_namespace()) == [LARGE.namespace]


def test_collection_replaced(store: SqliteStore) -> None:
    """A collection saved again keeps its place and its progress."""
    with_plan(store)
    store.partition_copied("a1/0", documents=3, size=30)
    renamed = replace(planned(SMALL, size=1), target=Namespace("shop", "baskets"), is_indexed=True)

    store.save_collection(renamed)

    assert next(store.collections()) == renamed
    assert store.copied_by_namespace()[Namespace("shop", "baskets")] == (10, 3, 0, 30)


def test_collection_added(store: SqliteStore) -> None:
    """A collection that joins later comes last, and then not everything is verified."""
    with_plan(store)
    store.update(lambda m: replace(m, verified_at=NOW))
    late = Collection(Namespace("shop", "late"), "c3")

    store.save_collection(planned(late))
    store.cut("c3", [partition(late, 0)])
    store.partition_copied("c3/0", documents=1, size=1)

    assert [c.spec.collection for c in store.collections()] == [SMALL, LARGE, late]
    assert [p.partition.id for p in store.partitions(PartitionStatus.COPIED)] == ["c3/0"]
    assert store.totals().partitions == 4
    assert store.migration().verified_at is None


def test_collection_cut_anew(store: SqliteStore) -> None:
    """Of a collection that is cut anew nothing is left of how it was cut, copied and verified."""
    with_plan(store)
    before = store.totals()
    for part in list(store.partitions()):
        store.partition_copied(part.partition.id, documents=5, size=50)
        store.partition_verified(part.partition.id, compared=5, suspects=[])
    store.save_suspects(found=[suspect(1, counts=True)], settled=[], verified_seq=1)

    store.cut("b2", [partition(LARGE, 0)])
    store.cut("a1", [partition(SMALL, 0)])

    assert [p.partition.id for p in store.partitions(PartitionStatus.PENDING)] == ["b2/0", "a1/0"]
    assert list(store.partitions(PartitionStatus.VERIFIED)) == []
    assert store.suspects() == []
    totals = store.totals()
    assert (totals.partitions, totals.partitions_copied, totals.partitions_verified) == (2, 0, 0)
    assert (totals.documents_copied, totals.documents_compared, totals.bytes_copied) == (0, 0, 0)
    assert totals.documents == before.documents


def test_compared_before_it_was_cut_anew(store: SqliteStore) -> None:
    """What was compared before a collection was cut anew says nothing of how it is now."""
    with_plan(store)
    store.partition_copied("a1/0", documents=1, size=1)
    store.cut("a1", [partition(SMALL, 0)])

    assert not store.partition_verified("a1/0", compared=1, suspects=[suspect(1)])
    assert not store.partition_verified("a1/7", compared=1, suspects=[suspect(1)])
    assert store.suspects() == []
    assert list(store.partitions(PartitionStatus.VERIFIED)) == []


def test_suspects(store: SqliteStore) -> None:
    """Differences are added, replaced by key and dropped once settled."""
    with_plan(store)
    store.partition_copied("a1/0", documents=1, size=1)
    store.partition_verified("a1/0", compared=1, suspects=[suspect(1), suspect(2), suspect(1.0)])

    store.save_suspects(found=[suspect(2, counts=True)], settled=[suspect(1)], verified_seq=17)

    assert sorted(store.suspects(), key=repr) == sorted(
        [suspect(1.0), suspect(2, counts=True)], key=repr
    )
    assert store.mismatches() == [suspect(2).mismatch]
    assert store.migration().verified_seq == 17


def test_mismatch_limit(store: SqliteStore) -> None:
    """No more mismatches than asked for are returned."""
    found = [suspect(n, counts=True) for n in range(10)]

    store.save_suspects(found=found, settled=[], verified_seq=0)

    assert len(store.mismatches(limit=3)) == 3
    assert len(store.mismatches()) == 10


@pytest.mark.parametrize(
    "key", [Key(b"not bson"), key_for(float("nan")), key_for(DatetimeMS(2**60))]
)
def test_odd_keys(store: SqliteStore, key: Key) -> None:
    """A key that cannot be shown well is stored and comes back all the same."""
    odd = replace(suspect(1), mismatch=Mismatch(MismatchKind.EXTRA, SMALL.namespace, key))

    store.save_suspects(found=[odd], settled=[], verified_seq=0)

    assert store.suspects() == [odd]


def test_reset_verification(store: SqliteStore) -> None:
    """After a reset everything waits to be compared, and nothing differs yet."""
    with_plan(store)
    store.partition_copied("b2/0", documents=6, size=600)
    store.partition_copied("b2/1", documents=6, size=600)
    store.partition_verified("b2/0", compared=6, suspects=[suspect(1, counts=True)])
    store.update(lambda m: replace(m, verified_at=NOW))

    store.reset_verification()

    assert len(list(store.partitions(PartitionStatus.COPIED))) == 2
    assert store.suspects() == []
    assert store.migration().verified_at is None
    totals = store.totals()
    assert (totals.partitions_copied, totals.partitions_verified) == (2, 0)
    assert (totals.documents_copied, totals.documents_compared) == (12, 0)


def test_everything_survives(tmp_path: Path) -> None:
    """What was recorded is there for the next process."""
    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        with_plan(store)
        store.partition_copied("b2/0", documents=6, size=600)
        store.save_suspects(found=[suspect(1)], settled=[], verified_seq=3)
        totals, partitions = store.totals(), list(store.partitions())

    with closing(SqliteStore.drive(tmp_path, "other name")) as store:
        assert (store.totals(), list(store.partitions())) == (totals, partitions)
        assert store.suspects() == [suspect(1)]
        assert store.migration().name == "demo"


def test_readable_by_people(store: SqliteStore, tmp_path: Path) -> None:
    """While the store is open, any SQLite shell shows states, times and keys as text."""
    with_plan(store)
    store.save_suspects(found=[suspect("anna", counts=True)], settled=[], verified_seq=0)

    with closing(sqlite3.connect(tmp_path / "state.db")) as shell:
        migration = shell.execute("SELECT name, state, planned_at FROM migration").fetchall()
        mismatch = shell.execute("SELECT kind, collection, key_text FROM mismatches").fetchall()

    assert migration == [("demo", "IDLE", "2024-05-01T12:00:00.123456+00:00")]
    assert mismatch == [("different", "carts", '"anna"')]
