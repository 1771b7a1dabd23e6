"""The reference connector does what the contract says."""

from __future__ import annotations

from itertools import islice

import pytest

from limosa.canonical import key_for
from limosa.connectors.memory import MemoryDatabase, connector_to
from limosa.errors import ConfigError, PositionLost
from limosa.model import Namespace, ResumeToken
from limosa.testing.conformance import ConnectorConformance, Subject

PEOPLE = Namespace("shop", "people")


class TestMemory(ConnectorConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        source = MemoryDatabase(batch_documents=10)
        return Subject(source, MemoryDatabase(), source, PEOPLE, {"validator": {"a": 1}})


class TestMemoryWithDocuments(ConnectorConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        source = MemoryDatabase(batch_documents=10, documents_in_stream=True)
        return Subject(source, MemoryDatabase(), source, PEOPLE)


def test_documents_in_stream() -> None:
    """Changes carry the documents written if asked to, and never a deleted one."""
    database = MemoryDatabase(documents_in_stream=True)
    database.put(PEOPLE, {"_id": 1, "v": 1}, {"_id": 2}, {"_id": 1, "v": 2})
    database.delete(PEOPLE, 2)

    created, written = islice(database.changes(ResumeToken(b"0")), 2)
    (states,) = written.changes.values()

    assert {k: d and d["v"] for k, d in states.items()} == {key_for(1): 2, key_for(2): None}
    assert created.schema is not None


def test_history_limit() -> None:
    """A position older than the history is lost, also for a reader that falls behind."""
    database = MemoryDatabase(history_limit=10)
    position = database.position()
    stream = database.changes(position)
    next(stream)

    database.put(PEOPLE, *({"_id": i} for i in range(9)))
    kept = database.position()
    assert next(database.changes(position)).schema is not None

    database.put(PEOPLE, *({"_id": i} for i in range(100)))
    for lost in (database.changes(position), stream, database.changes(kept)):
        with pytest.raises(PositionLost):
            next(lost)


def test_connector() -> None:
    """Databases are found by name, and no other is."""
    database = MemoryDatabase()
    connector = connector_to({"one": database})

    assert connector.open_source("memory://one") is database
    with pytest.raises(ConfigError, match="memory://one"):
        connector.open_target("memory://two")
