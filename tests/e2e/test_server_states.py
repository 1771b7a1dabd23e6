"""A server that is killed in each state, and the state that it comes back in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from failing import FailPoint
from faults import EVERYTHING
from serving import Serving

START = {
    "source": "cluster0",
    "destination": "cluster1",
    "reversible": True,
    "includeNamespaces": [{"database": "shop", "collectionsRegex": {"pattern": "^pe"}}],
    "namespaceRemap": [{"from": {"database": "shop"}, "to": {"database": "store"}}],
    "documentFilter": {"field": "kind", "matchValues": [1]},
}


def again(serving: Serving, state: str) -> dict[str, Any]:
    """Kill the server and start it; return its first answer that is not INITIALIZING."""
    serving.kill()
    serving.start()
    states = ("IDLE", "RUNNING", "PAUSED", "COMMITTING", "COMMITTED", "REVERSING", "FAILED")
    assert serving.caller.await_state(*states) == state
    if state != "IDLE":
        assert serving.caller.post("start", START)["error"] == "IllegalTransition"
    return serving.caller.progress()


pytestmark = pytest.mark.skipif(not EVERYTHING, reason="many servers are started and killed")


@pytest.fixture
def filled(ends: Any) -> Any:
    """A source of which a part is chosen by the start."""
    ends.source.client.shop.people.insert_many({"_id": i, "kind": i % 2} for i in range(100))
    ends.source.client.shop.other.insert_one({"_id": 1, "kind": 1})
    return ends


def test_way_there(filled: Any, tmp_path: Path) -> None:
    """A kill before the start, after a failure, in the middle and at the end changes nothing."""
    broken = FailPoint(filled.target.client)
    with Serving(filled.source.uri, filled.target.uri, tmp_path / "state") as serving:
        caller = serving.caller
        caller.await_state("IDLE")
        again(serving, "IDLE")
        broken.on(("insert",), errorCode=13)
        assert caller.post("start", START) == {"success": True}
        serving.await_progress(state="FAILED")
        failed = again(serving, "FAILED")
        assert (failed["success"], failed["error"]) == (False, "AccessDenied")
        broken.off()
        assert caller.post("resume") == {"success": True}
        serving.await_progress(state="RUNNING", canCommit=True)
        again(serving, "RUNNING")
        serving.await_progress(state="RUNNING", canCommit=True)
        assert caller.post("commit") == {"success": True}
        serving.await_progress(state="COMMITTED")
        done = again(serving, "COMMITTED")["progress"]

    assert (done["canWrite"], done["canCommit"]) == (True, False)
    assert filled.target.client.store.people.count_documents({}) == 50


def test_way_back(filled: Any, tmp_path: Path) -> None:
    """A filtered migration that is killed while it turns round flows back, and commits again."""
    people, folk = filled.source.client.shop.people, filled.target.client.store.people
    broken = FailPoint(filled.target.client)
    with Serving(filled.source.uri, filled.target.uri, tmp_path / "state") as serving:
        caller = serving.caller
        caller.await_state("IDLE")
        assert caller.post("start", START) == {"success": True}
        serving.await_progress(state="RUNNING", canCommit=True)
        assert caller.post("commit") == {"success": True}
        serving.await_progress(state="COMMITTED")
        folk.insert_many([{"_id": "one", "kind": 1}, {"_id": "two", "kind": 2}])
        broken.on(("listCollections",), errorCode=91)
        assert caller.post("reverse") == {"success": True}
        again(serving, "REVERSING")
        broken.off()
        serving.await_progress(state="RUNNING", canCommit=True)
        assert caller.post("commit") == {"success": True}
        serving.await_progress(state="COMMITTED")
        again(serving, "COMMITTED")

    assert people.count_documents({"_id": {"$in": ["one", "two"]}}) == 2
    assert people.count_documents({"kind": 0}) == 50
    assert people.count_documents({}) == 102
    assert filled.source.client.shop.other.count_documents({}) == 1
