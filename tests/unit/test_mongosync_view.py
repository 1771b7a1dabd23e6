"""The progress document, state by state."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from limosa.history import Sample
from limosa.model import Collection, CollectionSpec, Namespace
from limosa.state import CollectionProgress, Failure, Migration, State, Totals
from limosa.views.mongosync import (
    FIELDS,
    Figures,
    Indexing,
    description,
    error_name,
    oplog_text,
    progress_body,
)
from limosa.views.status import Status

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(seconds=60)

COPYING = Migration(
    "m",
    State.RUNNING,
    source="mongodb://h1:27017,h2:27017",
    target="mongodb://h3:27017",
    started_at=EARLIER,
    planned_at=EARLIER,
)
DRAINING = replace(COPYING, copied_at=NOW - timedelta(seconds=20))
APPLYING = replace(
    DRAINING,
    indexed_at=NOW - timedelta(seconds=15),
    captured_to=NOW,
    applied_to=NOW - timedelta(seconds=3),
    verified_at=NOW - timedelta(seconds=5),
    changes_applied=2**40,
)
COMMITTING = replace(APPLYING, state=State.COMMITTING)
COMMITTED = replace(APPLYING, state=State.COMMITTED, writable_at=NOW, committed_at=NOW)

TOTALS = Totals(
    collections=3,
    collections_verified=2,
    partitions=10,
    partitions_copied=5,
    documents=1_000,
    bytes=10_000,
    documents_copied=500,
    bytes_copied=5_000,
    documents_compared=400,
)


def answer(migration: Migration | None, **given: Any) -> dict[str, Any]:
    totals = given.pop("totals", TOTALS)
    status = migration and Status(migration, totals, NOW, is_driven=True)
    return progress_body(Figures(status=status, **given))


def progress(migration: Migration | None, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer(migration, **given)["progress"]
    return found


@pytest.mark.parametrize("migration", [None, Migration("m")])
def test_idle(migration: Migration | None) -> None:
    """Before the start every field is there, and all but state and canCommit are null."""
    found = progress(migration)

    assert list(found) == list(FIELDS)
    assert found["state"] == "IDLE"
    assert found["canCommit"] is False
    assert all(found[name] is None for name in FIELDS if name not in ("state", "canCommit"))


def test_initializing() -> None:
    """A server that has just begun shows nothing of what was before."""
    found = progress(APPLYING, is_initializing=True)

    assert found["state"] == "INITIALIZING"
    assert found["canCommit"] is False
    assert found["info"] is None


@pytest.mark.parametrize(
    ("migration", "info", "stage"),
    [
        (replace(COPYING, planned_at=None), "collection copy", None),
        (COPYING, "collection copy", None),
        (DRAINING, "change event application", "collection copy drain"),
        (APPLYING, "change event application", "steady state"),
        (replace(COPYING, state=State.PAUSED), "collection copy", None),
        (replace(APPLYING, state=State.PAUSED), "change event application", "steady state"),
        (COMMITTING, "waiting for commit to complete", None),
        (COMMITTED, "commit completed", None),
        (replace(COMMITTED, state=State.REVERSING), None, None),
    ],
)
def test_info(migration: Migration, info: str | None, stage: str | None) -> None:
    """The phase is told in mongosync's words, and kept while paused."""
    found = progress(migration)

    assert found["info"] == info
    assert found.get("ceaStage") == stage


@pytest.mark.parametrize(
    ("migration", "lag"),
    [
        (COPYING, None),
        (DRAINING, 60),  # nothing was applied since the plan
        (APPLYING, 3),
        (replace(APPLYING, state=State.PAUSED), None),
        (COMMITTING, 3),
        (COMMITTED, 0),
    ],
)
def test_lag(migration: Migration, lag: int | None) -> None:
    """The lag is a whole number once changes are applied, and null before and while paused."""
    found = progress(migration)

    assert found["lagTimeSeconds"] == lag
    assert lag is None or type(found["lagTimeSeconds"]) is int
    if migration.state is State.PAUSED:
        assert found["lag"] is None
    else:
        assert found["lag"] == {
            "overallLagSeconds": lag,
            "crudLagSeconds": lag,
            "ddlLagSeconds": None,
        }


def test_lag_of_schema_changes() -> None:
    """Their lag is told once there was one."""
    assert progress(APPLYING, counters={"schema_changes": 1})["lag"]["ddlLagSeconds"] == 3


@pytest.mark.parametrize(
    ("migration", "can_commit", "can_write"),
    [
        (COPYING, False, False),
        (DRAINING, False, False),
        (APPLYING, True, False),
        (replace(APPLYING, verified_at=None), False, False),
        (
            replace(APPLYING, applied_to=NOW - timedelta(seconds=31), copied_at=EARLIER),
            False,
            False,
        ),
        (replace(APPLYING, state=State.PAUSED), False, False),
        (COMMITTING, False, False),
        (replace(COMMITTING, writable_at=NOW), False, True),
        (COMMITTED, False, True),
    ],
)
def test_can(migration: Migration, can_commit: bool, can_write: bool) -> None:
    """A commit is offered only where it is accepted, and writing only where it is allowed."""
    found = progress(migration)

    assert (found["canCommit"], found["canWrite"]) == (can_commit, can_write)


@pytest.mark.parametrize(
    ("migration", "totals", "sampled", "expected"),
    [
        (replace(COPYING, planned_at=None), Totals(), 0, (1, 0)),
        (COPYING, TOTALS, 0, (10_000, 5_000)),
        (COPYING, TOTALS, 7_000, (10_000, 7_000)),  # partitions under way
        (COPYING, TOTALS, 12_000, (12_000, 12_000)),  # larger than estimated
        (APPLYING, TOTALS, 0, (10_000, 10_000)),
        (APPLYING, Totals(), 0, (1, 1)),  # nothing to copy
    ],
)
def test_copy(
    migration: Migration, totals: Totals, sampled: int, expected: tuple[int, int]
) -> None:
    """Copied bytes never pass the total, and are equal to it at the end."""
    sample = Sample(NOW, "collection copy", bytes_copied=sampled)

    found = progress(migration, totals=totals, sample=sample)["collectionCopy"]

    assert (found["estimatedTotalBytes"], found["estimatedCopiedBytes"]) == expected


def test_copy_with_a_document_filter() -> None:
    """Nobody knows how many bytes match a filter."""
    filtered = replace(COPYING, settings={"filters": ["*={}"]})

    assert progress(filtered)["collectionCopy"]["estimatedTotalBytes"] is None


def test_direction() -> None:
    """All hosts are named after the cluster's own name, without a scheme."""
    found = progress(APPLYING, names=("cluster1", "cluster0"))

    assert found["directionMapping"] == {
        "Source": "cluster1: h1:27017,h2:27017",
        "Destination": "cluster0: h3:27017",
    }


def test_pings() -> None:
    """A latency is told of the end that was asked, -1 where it did not answer."""
    found = progress(APPLYING, pings={"source": 7, "target": -1})

    assert found["source"] == {"pingLatencyMs": 7}
    assert found["destination"] == {"pingLatencyMs": -1}
    assert progress(APPLYING)["source"] == {}


def test_verification() -> None:
    """Both sides show what was compared, and none if nothing is."""
    found = progress(APPLYING)["verification"]

    assert found["source"] == found["destination"]
    assert found["source"] == {
        "estimatedDocumentCount": 1_000,
        "hashedDocumentCount": 400,
        "lagTimeSeconds": 3,
        "totalCollectionCount": 3,
        "scannedCollectionCount": 2,
        "phase": "stream hashing",
    }
    assert progress(replace(APPLYING, settings={"verify": False}))["verification"] is None


def test_index_building() -> None:
    """Collections that have indexes are counted, and only while changes are applied."""
    people = Collection(Namespace("shop", "people"), "1")
    spec = CollectionSpec(people, indexes=({"name": "a"}, {"name": "b"}))
    done = CollectionProgress(spec, people.namespace, is_indexed=True)
    others = [
        replace(done, is_indexed=False),
        replace(done, is_dropped=True),
        CollectionProgress(CollectionSpec(people), people.namespace),
    ]
    indexing = Indexing.of([done, *others])

    found = progress(DRAINING, indexing=indexing)["indexBuilding"]

    assert found == {
        "indexesBuilt": 2,
        "totalIndexesToBuild": 4,
        "collectionsFinished": 1,
        "collectionsTotal": 2,
    }
    assert "indexBuilding" not in progress(COMMITTED, indexing=indexing)


@pytest.mark.parametrize(
    ("before", "now", "seconds"), [(30.0, 20.0, 20), (20.0, 20.0, None), (20.0, 30.0, None)]
)
def test_catchup(before: float, now: float, seconds: int | None) -> None:
    """When the target will have caught up is told only while the lag falls."""
    recent = [
        Sample(NOW - timedelta(seconds=10), "", lag_seconds=before),
        Sample(NOW, "", lag_seconds=now),
    ]

    found = progress(APPLYING, recent=recent)

    assert found.get("estimatedSecondsToCEACatchup") == seconds
    assert "estimatedSecondsToCEACatchup" not in progress(COMMITTED, recent=recent)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (None, "not checked yet"),
        (timedelta(minutes=14), "less than 15 minutes"),
        (timedelta(minutes=45), "45 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(hours=12, minutes=59), "12 hours"),
        (timedelta(hours=73), "more than 72 hours"),
    ],
)
def test_oplog(left: timedelta | None, text: str) -> None:
    """How long the oplog still reaches is told in words, as long as it matters."""
    assert oplog_text(left) == text
    assert progress(APPLYING, oplog_left=left)["estimatedOplogTimeRemaining"] == text
    assert "estimatedOplogTimeRemaining" not in progress(COMMITTED, oplog_left=left)


def test_failed() -> None:
    """A failure is told beside the last figures."""
    failure = Failure("write_refused", "write batch: no", "correct it")
    failed = replace(APPLYING, state=State.FAILED, failure=failure)

    found = answer(failed, failure=failure)

    assert list(found) == ["progress", "success", "error", "errorDescription"]
    assert found["success"] is False
    assert found["error"] == "WriteRefused"
    assert found["errorDescription"] == "write batch: no; correct it"
    assert found["progress"]["state"] == "FAILED"
    assert found["progress"]["totalEventsApplied"] == 2**40


def test_order_and_types() -> None:
    """The fields come in the order of the sample, warnings only if there are any."""
    found = progress(APPLYING, warnings=["look"])

    assert [name for name in FIELDS if name in found] == list(found)
    assert found["warnings"] == ["look"]
    assert "warnings" not in progress(APPLYING)
    assert json.loads(json.dumps(found)) == found


def test_description() -> None:
    """A cure speaks of fields and calls, not of options and commands."""
    hint = "leave out --block-writes; then run the same command again"

    assert description("no", hint) == (
        "no; leave out `enableUserWriteBlocking`; then send the call again"
    )
    assert description("no", hint, again="`resume`").endswith("then `resume`")
    assert description("no", "") == "no"


@pytest.mark.parametrize("mode", ["beforeDataCopy", "excludeHashed", "never"])
def test_index_building_is_shown_after_the_copy_only(mode: str) -> None:
    """Where no index is built after the copy there is nothing to show of it."""
    migration = replace(APPLYING, settings={"indexes": mode})

    assert "indexBuilding" not in progress(migration, indexing=Indexing(1, 2, 1, 2))


def test_error_names_are_documented() -> None:
    """Every error code has a name under which answers speak of it, and its line in the docs."""
    docs = Path(__file__).parents[2] / "docs"
    codes = re.findall(r"^\| `(\w+)` \| \d+ \|", (docs / "errors.md").read_text(), re.MULTILINE)
    page = (docs / "mongosync.md").read_text()

    missing = [c for c in codes if c != "usage" and f"| `{error_name(c)}` | `{c}` |" not in page]

    assert missing == []
