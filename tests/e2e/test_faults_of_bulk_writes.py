"""Writes of many documents of which some are done and some are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults import change, fill
from in_process import Running
from judge import differences
from pymongo import MongoClient

from limosa.state import State

Client = MongoClient[dict[str, Any]]

#: Has single writes conflict with nothing.
CONFLICT = "WTWriteConflictException"


@pytest.fixture
def filled(ends: Any) -> Any:
    """Both ends, the source filled."""
    fill(ends.source.client)
    return ends


def test_some_conflict(filled: Any, tmp_path: Path) -> None:
    """Of each command some documents conflict with others and some are written: all arrive."""
    source, target = filled.source.client, filled.target.client
    before = _conflicts(target)
    with Running(filled.source.uri, filled.target.uri, tmp_path / "state") as running:
        with (
            _failing(target, "skipWriteConflictRetries", "alwaysOn"),
            _failing(target, CONFLICT, {"activationProbability": 0.003}),
        ):
            running.start()
            running.await_ready()
            for number in range(5):
                change(source, mark=f"again {number}")
            running.await_captured(source)
        running.committed()

    assert _conflicts(target) > before + 10
    assert differences(source, target) == []


def test_some_refused(filled: Any, tmp_path: Path) -> None:
    """Documents that are refused among others that are written fail the migration, then arrive."""
    source, target = filled.source.client, filled.target.client
    with Running(filled.source.uri, filled.target.uri, tmp_path / "state") as running:
        mode, data = {"activationProbability": 0.6}, {"collectionNS": "shop.people"}
        with _failing(target, "failCollectionInserts", mode, data=data):
            failed = running.start().end()

        assert failed.state is State.FAILED
        assert failed.failure is not None
        assert failed.failure.code == "write_refused"
        assert "shop.people: document" in failed.failure.message
        assert failed.failure.hint
        assert 0 < target.shop.people.count_documents({}) < source.shop.people.count_documents({})

        running.start()
        running.committed()
    assert differences(source, target) == []


@contextmanager
def _failing(client: Client, point: str, mode: Any, **given: Any) -> Iterator[None]:
    client.admin.command("configureFailPoint", point, mode=mode, **given)
    try:
        yield
    finally:
        client.admin.command("configureFailPoint", point, mode="off")


def _conflicts(client: Client) -> int:
    """Return how many there were."""
    reply = client.admin.command({"getParameter": 1, f"failpoint.{CONFLICT}": 1})
    entered: int = reply[f"failpoint.{CONFLICT}"]["timesEntered"]
    return entered
