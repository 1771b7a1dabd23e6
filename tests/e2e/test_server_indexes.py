"""Index modes of a start that leave something to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faults import EVERYTHING
from serving import Serving
from waiting import until

START = {"source": "cluster0", "destination": "cluster1", "reversible": True}


MODES = ["excludeHashedAfterCopy", *(["excludeHashed"] if EVERYTHING else [])]


@pytest.mark.parametrize("mode", MODES)
def test_without_hashed(ends: Any, tmp_path: Path, mode: str) -> None:
    """Indexes on a hash are not made, those on the target stay, and all others are as usual."""
    source, target = ends.source.client.shop.people, ends.target.client.shop.people
    source.insert_many({"_id": i, "a": i, "b": i} for i in range(50))
    source.create_index([("a", "hashed")])
    source.create_index("b", unique=True)
    with Serving(ends.source.uri, ends.target.uri, tmp_path / "state") as serving:
        serving.caller.await_state("IDLE")
        assert serving.caller.post("start", {**START, "buildIndexes": mode}) == {"success": True}
        serving.await_progress(info="change event application")
        target.create_index([("own", "hashed")])
        source.create_index([("b", "hashed")])
        ends.source.client.shop.command(
            "collMod", "people", index={"keyPattern": {"b": "hashed"}, "hidden": True}
        )
        source.drop_index("a_hashed")
        source.create_index("late")
        until(lambda: "late_1" in target.index_information(), "index")
        serving.await_progress(canCommit=True)
        assert serving.caller.post("commit") == {"success": True}
        serving.await_progress(state="COMMITTED")

        assert set(target.index_information()) == {"_id_", "b_1", "late_1", "own_hashed"}
        assert target.index_information()["b_1"]["unique"]
        assert serving.caller.post("reverse") == {"success": True}
        serving.await_progress(state="RUNNING", canCommit=True)
        assert serving.caller.post("commit") == {"success": True}
        serving.await_progress(state="COMMITTED")
        assert set(source.index_information()) == {"_id_", "b_1", "late_1", "b_hashed"}
