"""Commands that follow each other faster than the engine looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from in_process import Running
from judge import differences

from limosa.events import StateChanged
from limosa.state import State


def test_resumed_and_committed_at_once(ends: Any, tmp_path: Path) -> None:
    """A pause that ends in the same moment in which a commit is asked for holds nothing up."""
    people = ends.source.client.shop.people
    people.insert_many({"_id": i} for i in range(100))
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        running.update(lambda m: m.moved_to(State.PAUSED))
        running.await_event(StateChanged)
        people.insert_one({"_id": "while paused"})
        running.update(lambda m: m.moved_to(State.RUNNING).committing())

        assert running.end().state is State.COMMITTED
    assert differences(ends.source.client, ends.target.client) == []
