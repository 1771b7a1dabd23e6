"""Planned failures happen when and as they are planned."""

from __future__ import annotations

from itertools import islice

import pytest

from limosa.canonical import key_for
from limosa.connectors.memory import MemoryDatabase
from limosa.errors import ConnectionLost
from limosa.model import Batch, Collection, Document, Key, Namespace
from limosa.testing.faults import Crash, Done, Fault, FaultySource, FaultyTarget, at, randomly

PEOPLE = Namespace("shop", "people")
FOUR = Batch.of({"_id": i} for i in range(4))


@pytest.mark.parametrize(("done", "written"), [(Done.NONE, 0), (Done.HALF, 2), (Done.ALL, 4)])
def test_write(done: Done, written: int) -> None:
    """A write dies after as much of its work as was planned, and works the next time."""
    database = MemoryDatabase()
    target = FaultyTarget(database, at({("write", 1): Fault(done=done)}))

    with pytest.raises(Crash):
        target.write(PEOPLE, FOUR)
    assert len(database.documents(PEOPLE)) == written

    target.write(PEOPLE, FOUR)
    assert len(database.documents(PEOPLE)) == 4
    assert target.calls("write") == 2


def test_half_of_apply_is_its_deletes() -> None:
    """Deletes are done first, as any target does them."""
    database = MemoryDatabase()
    database.put(PEOPLE, {"_id": 1})
    target = FaultyTarget(database, at({("apply", 1): Fault(done=Done.HALF)}))
    (document,) = Batch.of([{"_id": 1.0}]).documents
    states: dict[Key, Document | None] = {key_for(1.0): document, key_for(1): None}

    with pytest.raises(Crash):
        target.apply(PEOPLE, states)

    assert database.documents(PEOPLE) == {}


def test_stream() -> None:
    """Each batch of a stream is a call; an error of choice is raised."""
    database = MemoryDatabase()
    database.put(PEOPLE, {"_id": 1})
    source = FaultySource(database, at({("changes", 2): Fault(ConnectionLost)}))

    stream = source.changes(source.position())
    next(stream)
    with pytest.raises(ConnectionLost):
        next(stream)

    assert len(list(islice(source.changes(source.position()), 3))) == 3


def test_other_calls_pass() -> None:
    """What is not planned to fail gives what the real end gives."""
    database = MemoryDatabase()
    database.put(PEOPLE, {"_id": 1})
    source = FaultySource(database, at({}))

    (spec,) = source.collections()
    (partition,) = source.partitions(spec, documents=10)

    assert [len(batch.documents) for batch in source.read(partition)] == [1]
    assert list(source.lookup(Collection(PEOPLE), [key_for(1)])) == [key_for(1)]


def test_randomly() -> None:
    """Random failures are the same for the same seed, and end at their limit."""

    def failures(seed: int) -> list[int]:
        target = FaultyTarget(MemoryDatabase(), randomly(seed, probability=0.3, limit=5))
        failed = []
        for number in range(100):
            try:
                target.write(PEOPLE, FOUR)
            except Crash:
                failed.append(number)
        return failed

    assert failures(1) == failures(1) != failures(2)
    assert len(failures(1)) == 5
