"""mongosync's metadata collections, as monitors read them on the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Int64, MaxKey, MinKey, Timestamp
from failing import FailPoint
from judge import differences
from serving import Serving
from waiting import until

START = {"source": "cluster0", "destination": "cluster1"}
MAIN = "__mdb_internal_mongosync"
VERIFIERS = (f"{MAIN}_verifier_src", f"{MAIN}_verifier_dst")
OPTIONS = ("--mongosync-metadata",)


@pytest.fixture
def filled(ends: Any) -> Any:
    """A source with two collections, one of them capped."""
    shop = ends.source.client.shop
    shop.people.insert_many({"_id": i, "text": "x" * 100} for i in range(500))
    shop.people.create_index("text")
    shop.people.create_index([("text", 1), ("_id", 1)], unique=True)
    shop.create_collection("log", capped=True, size=100_000)
    shop.log.insert_many({"_id": i} for i in range(10))
    return ends


def resume_data(client: Any, **wanted: Any) -> dict[str, Any]:
    """Return ``resumeData`` as soon as it has the fields that are wanted."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] | None = client[MAIN].resumeData.find_one({"_id": "coordinator"})
        return found if found and all(found[k] == v for k, v in wanted.items()) else None

    return until(look, f"resumeData with {wanted}") or {}


def all_of(client: Any, name: str, database: str = MAIN) -> list[dict[str, Any]]:
    return list(client[database][name].find())


def uuids(client: Any) -> dict[str, Binary]:
    return {e["name"]: e["info"]["uuid"] for e in client.shop.list_collections()}


def test_whole_migration(filled: Any, tmp_path: Path) -> None:
    """Each collection says at copy, application and commit what the migration is at."""
    broken = FailPoint(filled.target.client)
    target, known = filled.target.client, uuids(filled.source.client)
    with Serving(filled.source.uri, filled.target.uri, tmp_path / "state", OPTIONS) as serving:
        caller = serving.caller
        caller.await_state("IDLE")
        broken.on(("insert",), errorCode=91)  # tried again all the while
        included = [{"database": "shop", "collectionsRegex": {"pattern": "^(people|log)$"}}]
        started = caller.post("start", {**START, "includeNamespaces": included, "reversible": True})
        assert started == {"success": True}
        copying = resume_data(target, state="RUNNING", syncPhase="collection copy")
        until(lambda: len(all_of(target, "partitions")) == 2, "partitions")

        state = all_of(target, "globalState")[0]
        parts = {p["namespace"]["coll"]: p for p in all_of(target, "partitions")}
        assert {p["partitionPhase"] for p in parts.values()} == {"not started"}
        assert parts["people"]["_id"] == {
            "srcUUID": known["people"],
            "id": "coordinator",
            "lowerBound": MinKey(),
        }
        assert parts["people"]["upperBound"] == MaxKey()
        assert [parts[n]["isCapped"] for n in ("people", "log")] == [False, True]
        assert type(parts["people"]["totalByteCount"]) is Int64
        assert parts["people"]["totalByteCount"] > parts["people"]["copiedByteCount"] == 0
        assert [p["phase"] for p in copying["phaseTransitions"]] == [
            "initializing collections and indexes",
            "collection copy",
        ]
        assert all(type(p["ts"]) is Timestamp for p in copying["phaseTransitions"])
        assert copying["directionMapping"]["source"].startswith("cluster0: 127.0.0.1:")
        assert state["reversible"] is True
        assert state["buildIndexes"] == "afterDataCopy"
        assert state["verificationMode"] == "startAtCEA"
        assert state["namespaceFilter"]["inclusionFilter"] == [
            {"database": "shop", "collectionsRegex": {"pattern": "^(people|log)$", "options": ""}}
        ]
        pending = all_of(target, "indexCorrection")
        assert {i["_id"]["indexName"] for i in pending} == {"text_1", "text_1__id_1"}
        assert all(i["lastCorrectedCounter"] != i["shouldCorrectCounter"] for i in pending)

        broken.off()
        serving.await_progress(canCommit=True)
        resume_data(target, syncPhase="change event application")
        applied = until(lambda: last_event(target), "time of the last event")
        assert type(applied) is Timestamp
        until(lambda: not differing_indexes(target), "indexes that are built")
        until(lambda: phases(target) == {"stream hashing"}, "comparison")
        parts = {p["namespace"]["coll"]: p for p in all_of(target, "partitions")}
        assert {p["partitionPhase"] for p in parts.values()} == {"done"}
        assert all(p["copiedByteCount"] == p["totalByteCount"] > 0 for p in parts.values())
        assert {m["dstCollName"]: m["_id"] for m in all_of(target, "uuidMap")} == known
        for database in VERIFIERS:
            counts = all_of(target, "collection_checksum", database)
            assert sum(c["docCount"] for c in counts) == 510

        assert caller.post("commit") == {"success": True}
        done = resume_data(target, state="COMMITTED", syncPhase="commit completed")
        assert done["phaseTransitions"][-1]["phase"] == "commit completed"
        found = differences(filled.source.client, target)
        assert all(each.startswith(MAIN) for each in found)
        assert caller.post("reverse") == {"success": True}
        back = resume_data(filled.source.client, resumeDataReversalCount=1)
        assert back["directionMapping"]["source"].startswith("cluster1: ")
        until(lambda: MAIN not in target.list_database_names(), "removal")
        serving.await_progress(state="RUNNING", canCommit=True)


def last_event(client: Any) -> Any:
    return resume_data(client)["crudChangeStreamResumeInfo"].get("lastEventTs")


def differing_indexes(client: Any) -> list[Any]:
    query = {"$expr": {"$ne": ["$shouldCorrectCounter", "$lastCorrectedCounter"]}}
    return list(client[MAIN].indexCorrection.find(query))


def phases(client: Any) -> set[str]:
    return {
        each["phase"]
        for database in VERIFIERS
        for each in all_of(client, "collection_verification", database)
    }


def test_others_metadata(filled: Any, tmp_path: Path) -> None:
    """What mongosync has left on either end is neither copied, counted nor touched."""
    left = {"_id": "coordinator", "state": "COMMITTED"}
    for client in (filled.source.client, filled.target.client):
        client[MAIN].resumeData.insert_one(dict(left))
    filled.source.client["mongosync_reserved_for_internal_use"].things.insert_one({"_id": 1})
    with Serving(filled.source.uri, filled.target.uri, tmp_path / "state", OPTIONS) as serving:
        serving.caller.await_state("IDLE")
        assert serving.caller.post("start", START) == {"success": True}
        filled.source.client[MAIN].create_collection("later").insert_one({"_id": 1})
        filled.source.client.shop.people.insert_one({"_id": "after"})
        until(lambda: filled.target.client.shop.people.find_one({"_id": "after"}), "change")
        serving.await_progress(canCommit=True)
        until(lambda: "mongosync's own" in serving.log.read_text(), "warning")
        assert serving.caller.post("commit") == {"success": True}
        serving.await_progress(state="COMMITTED")

    assert serving.log.read_text().count("mongosync's own") == 1
    assert set(filled.target.client.list_database_names()) == {
        *("admin", "config", "local", "shop", MAIN)
    }
    assert all_of(filled.target.client, "resumeData") == [left]
    assert filled.target.client[MAIN].list_collection_names() == ["resumeData"]


def test_refused_writes(filled: Any, tmp_path: Path) -> None:
    """A target that does not take the collections is told about once, and the migration goes on."""
    refusing = FailPoint(filled.target.client)
    with Serving(filled.source.uri, filled.target.uri, tmp_path / "state", OPTIONS) as serving:
        serving.caller.await_state("IDLE")
        refusing.on(("update",), errorCode=371, namespace=f"{MAIN}.limosa")
        assert serving.caller.post("start", START) == {"success": True}
        serving.await_progress(canCommit=True)
        assert serving.caller.post("commit") == {"success": True}
        serving.await_progress(state="COMMITTED")
        until(lambda: "is not shown on the target" in serving.log.read_text(), "warning")

    assert serving.log.read_text().count("is not shown on the target") == 1
    assert MAIN not in filled.target.client.list_database_names()
