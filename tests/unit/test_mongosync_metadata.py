"""The documents of mongosync's metadata collections, from values alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Binary, Int64, MaxKey, MinKey, Timestamp

from limosa.model import Collection, CollectionSpec, Namespace, Partition
from limosa.settings import Settings
from limosa.state import (
    CollectionProgress,
    Migration,
    PartitionProgress,
    PartitionStatus,
    State,
)
from limosa.views import mongosync_metadata as views
from limosa.views.mongosync_metadata import Parts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0123456789abcdef0123456789abcdef"
UUID = Binary(bytes.fromhex(ID), 4)
PEOPLE = Collection(Namespace("shop", "people"), ID)
SPEC = CollectionSpec(PEOPLE, indexes=[{"name": "a_1", "key": {"a": 1}}], documents=10, size=1_000)
MOVED = CollectionProgress(SPEC, Namespace("store", "folk"))
NAMES = ("cluster0", "cluster1")


def part(number: int = 0, **fields: Any) -> PartitionProgress:
    return PartitionProgress(Partition(f"{ID}/{number}", PEOPLE, b"", 5), **fields)


def migration(**fields: Any) -> Migration:
    ends = {"source": "mongodb://a:1,b:1", "target": "mongodb://c:1"}
    return Migration("m", State.RUNNING, **{**ends, "started_at": NOW, **fields})


def everything(_partition: Partition) -> tuple[Any, Any]:
    return MinKey(), MaxKey()


def test_resume_data() -> None:
    """Times are cluster times with the source's count, and what is not known is left out."""
    applied = NOW + timedelta(microseconds=7)
    (fresh,) = views.resume_data(migration(), "RUNNING", NAMES)
    (later,) = views.resume_data(
        migration(planned_at=NOW, copied_at=NOW, applied_to=applied), "PAUSED", NAMES
    )

    assert fresh["syncPhase"] == "initializing collections and indexes"
    assert fresh["crudChangeStreamResumeInfo"] == fresh["ddlChangeStreamResumeInfo"] == {}
    assert fresh["directionMapping"] == {
        "source": "cluster0: a:1,b:1",
        "destination": "cluster1: c:1",
    }
    at = Timestamp(int(NOW.timestamp()), 7)
    assert later["crudChangeStreamResumeInfo"] == {"lastEventTs": at}
    assert (later["state"], later["syncPhase"]) == ("PAUSED", "change event application")
    assert [p["phase"] for p in later["phaseTransitions"]] == [
        *("initializing collections and indexes", "collection copy", "change event application")
    ]


def test_global_state() -> None:
    """Settings are in mongosync's words, filters as the entries that they came from."""
    include = ["shop.people", "/^a\\/b/i./x/", "log*", "odd[*]"]
    settings = Settings.of(include=include, verify=False).stored()

    (found,) = views.global_state(migration(settings={**settings, "writeBlocking": "both"}))

    assert found["writeBlockingMode"] == "sourceAndDestination"
    assert found["verificationMode"] == "disabled"
    entries = found["namespaceFilter"]["inclusionFilter"]
    assert {"database": "shop", "collections": ["people"]} in entries
    assert {"database": "odd*"} in entries
    assert any(e.get("databaseRegex", {}).get("pattern", "").startswith("(?s:log") for e in entries)
    assert {
        "databaseRegex": {"pattern": "^a\\/b", "options": "i"},
        "collectionsRegex": {"pattern": "x", "options": ""},
    } in entries


def test_partitions() -> None:
    """A partition's total is an estimate until it is copied, and then what was copied."""
    done = part(1, status=PartitionStatus.COPIED, documents=6, bytes=640)

    waiting, copied = views.partitions(Parts([MOVED], [part(), done]), everything)

    assert waiting["_id"] == {"srcUUID": UUID, "id": "coordinator", "lowerBound": MinKey()}
    assert (waiting["partitionPhase"], copied["partitionPhase"]) == ("not started", "done")
    assert waiting["namespace"] == {"db": "shop", "coll": "people"}
    assert (waiting["copiedByteCount"], waiting["totalByteCount"]) == (0, 500)
    assert (copied["copiedByteCount"], copied["totalByteCount"]) == (640, 640)
    assert type(copied["totalByteCount"]) is Int64


def test_collections() -> None:
    """Names are those of the target, and an index is corrected once it is built."""
    parts = Parts([MOVED, replace(MOVED, is_dropped=True)], [])
    names = list(views.uuid_map(parts))
    waiting = list(views.index_correction(migration(), parts))
    built = list(views.index_correction(migration(), Parts([replace(MOVED, is_indexed=True)], [])))
    never = views.index_correction(migration(settings={"indexes": "never"}), parts)

    assert names == [
        {"_id": UUID, "dbName": "store", "srcCollName": "people", "dstCollName": "folk"}
    ]
    assert [i["_id"] for i in waiting] == [{"collUUID": UUID, "indexName": "a_1"}]
    assert [i["lastCorrectedCounter"] for i in (*waiting, *built)] == [0, 1]
    assert list(never) == []


@pytest.mark.parametrize(
    ("statuses", "phase"),
    [
        ([PartitionStatus.PENDING, PartitionStatus.COPIED], "not started"),
        ([PartitionStatus.COPIED, PartitionStatus.VERIFIED], "initial hashing"),
        ([PartitionStatus.VERIFIED, PartitionStatus.VERIFIED], "stream hashing"),
    ],
)
def test_verification(statuses: list[PartitionStatus], phase: str) -> None:
    """A collection is compared to the end when each of its partitions is."""
    parts = Parts([MOVED], [part(n, status=s) for n, s in enumerate(statuses)])

    assert list(views.collection_verification(parts)) == [{"_id": UUID, "phase": phase}]


def test_checksums() -> None:
    """Documents are counted as they are compared, and none of a collection that is gone."""
    parts = Parts([MOVED], [part(0, compared=3), part(1, compared=4)])

    assert list(views.collection_checksum(parts)) == [{"_id": UUID, "docCount": 7}]
    assert list(views.collection_checksum(Parts([replace(MOVED, is_dropped=True)], []))) == []
