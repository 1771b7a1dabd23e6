"""What a source promises of its change stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from threading import Thread

import pytest

from ..canonical import key_for
from ..errors import CollectionGone
from ..model import ChangeBatch, Key, Namespace, SchemaVerb
from .subject import DEADLINE_SECONDS, Subject, keys_in, story_of

#: The contract says one second; the rest is for a machine that is busy.
_IDLE_SECONDS = 2.0


class StreamingConformance:
    """Tests of position, clock and changes."""

    def test_idle(self, subject: Subject) -> None:
        """An idle stream yields empty batches in time, and their time reaches the clock."""
        stream = subject.source.changes(subject.source.position())
        now = subject.source.clock()

        batches = [*_in_time(stream, 4)]
        while batches[-1].source_time < now:
            batches += _in_time(stream, 1)
            assert len(batches) < 1_000

        assert all(batch.is_empty for batch in batches)
        times = [batch.source_time for batch in batches]
        assert times == sorted(times)

    def test_position_is_before_what_follows(self, subject: Subject) -> None:
        """A write acknowledged after the position was taken is in the stream."""
        subject.application.put(subject.namespace, {"_id": "before"})
        position = subject.source.position()
        subject.application.put(subject.namespace, {"_id": "after"})

        keys = keys_in(subject.changes_to_now(position))

        assert key_for("after") in keys

    def test_position_is_stable(self, subject: Subject) -> None:
        """A position taken while nothing happens lets nothing older through."""
        subject.application.put(subject.namespace, {"_id": "before"})
        subject.changes_to_now(subject.source.position())

        position = subject.source.position()

        assert keys_in(subject.changes_to_now(position)) == set()

    def test_clock(self, subject: Subject) -> None:
        """Once the stream has reached a clock, it has shown all that was written before."""
        position = subject.source.position()
        written: list[tuple[Key, datetime]] = []

        def write() -> None:
            for number in range(200):
                subject.application.put(subject.namespace, {"_id": number})
                written.append((key_for(number), subject.source.clock()))

        writer = Thread(target=write)
        writer.start()
        seen: set[Key] = set()
        deadline = time.monotonic() + DEADLINE_SECONDS
        for batch in subject.source.changes(position):
            seen |= keys_in([batch])
            late = [key for key, at in tuple(written) if at <= batch.source_time]
            assert seen.issuperset(late)
            if len(late) == 200:
                break
            assert time.monotonic() < deadline
        writer.join()

        assert len(seen) == 200

    def test_changes_are_not_ahead_of_the_clock(self, subject: Subject) -> None:
        """A batch is never stamped later than a clock read after it."""
        position = subject.source.position()
        subject.application.put(subject.namespace, {"_id": 1})

        for batch in subject.changes_to_now(position):
            assert batch.source_time <= subject.source.clock()

    def test_all_kinds_of_changes(self, subject: Subject) -> None:
        """Inserted, replaced and deleted documents are in the stream, under their collection."""
        subject.application.put(subject.namespace, {"_id": 1}, {"_id": 2}, {"_id": 3})
        collection = subject.spec().collection
        position = subject.source.position()
        subject.application.put(subject.namespace, {"_id": 1, "v": 2}, {"_id": 4})
        subject.application.delete(subject.namespace, 2)

        batches = [b for b in subject.changes_to_now(position) if b.changes]

        assert {c for b in batches for c in b.changes} == {collection}
        assert keys_in(batches) == {key_for(1), key_for(2), key_for(4)}
        assert sum(b.events for b in batches) == 3

    def test_states(self, subject: Subject) -> None:
        """A state in the stream is the latest one; any other can be looked up at once."""
        position = subject.source.position()
        for version in range(50):
            subject.application.put(subject.namespace, {"_id": "hot", "v": version})
        subject.application.put(subject.namespace, {"_id": "deleted"})
        subject.application.delete(subject.namespace, "deleted")

        for batch in subject.changes_to_now(position):
            for collection, states in batch.changes.items():
                unknown = [key for key, state in states.items() if state is None]
                found = subject.source.lookup(collection, unknown)
                assert key_for("deleted") not in found
                if key_for("hot") in found:
                    assert found[key_for("hot")]["v"] == 49

    def test_schema_changes(self, subject: Subject) -> None:
        """Changes of collections stand alone, in order, between the documents around them."""
        a, b = subject.namespace, subject.other("b")
        position = subject.source.position()
        _schema_story(subject)

        batches = subject.changes_to_now(position)

        assert all(batch.schema is None or not batch.changes for batch in batches)
        assert story_of(batches) == [
            (SchemaVerb.CREATE, a),
            {key_for(1), key_for(2)},
            (SchemaVerb.CREATE_INDEXES, a),
            {key_for(3)},
            (SchemaVerb.RENAME, a),
            {key_for(4)},
            (SchemaVerb.CREATE, a),
            {key_for(5)},
            (SchemaVerb.DROP_INDEXES, b),
            (SchemaVerb.DROP, b),
            (SchemaVerb.RENAME, a),
            {key_for(6)},
        ]

    def test_details_of_schema_changes(self, subject: Subject) -> None:
        """Changes of collections say what a target needs to know."""
        b = subject.other("b")
        position = subject.source.position()
        _schema_story(subject)

        changes = [c.schema for c in subject.changes_to_now(position) if c.schema is not None]

        renames = [c.to for c in changes if c.verb is SchemaVerb.RENAME]
        created = [c.detail["indexes"] for c in changes if c.verb is SchemaVerb.CREATE_INDEXES]
        dropped = [c.detail["indexes"] for c in changes if c.verb is SchemaVerb.DROP_INDEXES]
        assert renames == [b, b]
        assert [[(i["name"], dict(i["key"])) for i in indexes] for indexes in created] == [
            [("x_1", {"x": 1})]
        ]
        assert [[i["name"] for i in indexes] for indexes in dropped] == [["x_1"]]
        assert len({c.collection.id for c in changes}) == 2

    def test_resume(self, subject: Subject) -> None:
        """From the token of any batch the stream goes on with all that follows, and no less."""
        position = subject.source.position()
        _schema_story(subject)
        batches = subject.changes_to_now(position)

        for number, batch in enumerate(batches):
            following = story_of(batches[number + 1 :])

            resumed = subject.changes_to_now(batch.resume_token)
            assert story_of(resumed) == following

    def test_resume_while_written(self, subject: Subject) -> None:
        """A reader that is replaced after each batch misses nothing that is written meanwhile."""
        token = subject.source.position()
        wanted = {key_for(number) for number in range(300)}

        def write() -> None:
            for number in range(300):
                subject.application.put(subject.namespace, {"_id": number})

        writer = Thread(target=write)
        writer.start()
        seen: set[Key] = set()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not wanted <= seen:
            batch = next(subject.source.changes(token))
            seen |= keys_in([batch])
            token = batch.resume_token
            assert time.monotonic() < deadline
        writer.join()

        assert seen == wanted

    def test_many_changes(self, subject: Subject) -> None:
        """Thousands of changes arrive in batches of more than one, and all of them."""
        position = subject.source.position()
        subject.application.put(subject.namespace, *({"_id": number} for number in range(12_000)))

        batches = subject.changes_to_now(position)

        assert len(keys_in(batches)) == 12_000
        assert sum(b.events for b in batches if b.changes) == 12_000
        assert len(batches) < 6_000

    def test_captured_before_a_rename(self, subject: Subject) -> None:
        """A key captured under the old name finds its document under the new one."""
        position = subject.source.position()
        subject.application.put(subject.namespace, {"_id": 1, "v": "kept"})
        (batch,) = [b for b in subject.changes_to_now(position) if b.changes]
        ((collection, states),) = batch.changes.items()

        subject.application.rename(subject.namespace, subject.other("renamed"))

        found = subject.source.lookup(collection, list(states))
        assert {key: document["v"] for key, document in found.items()} == {key_for(1): "kept"}

    def test_captured_before_a_drop(self, subject: Subject) -> None:
        """A key captured before a drop does not find what was written under the name later."""
        position = subject.source.position()
        subject.application.put(subject.namespace, {"_id": 1})
        (batch,) = [b for b in subject.changes_to_now(position) if b.changes]
        ((collection, states),) = batch.changes.items()

        subject.application.drop(subject.namespace)
        subject.application.put(subject.namespace, {"_id": 1})

        with pytest.raises(CollectionGone):
            subject.source.lookup(collection, list(states))


def _in_time(stream: Iterator[ChangeBatch], count: int) -> Iterator[ChangeBatch]:
    for _ in range(count):
        asked = time.monotonic()
        batch = next(stream)
        assert time.monotonic() - asked < _IDLE_SECONDS
        yield batch


def _schema_story(subject: Subject) -> None:
    application, a, b = subject.application, subject.namespace, subject.other("b")
    application.create(a)
    application.put(a, {"_id": 1, "x": 1}, {"_id": 2})
    application.create_index(a, key={"x": 1}, name="x_1")
    application.put(a, {"_id": 3})
    application.rename(a, b)
    application.put(b, {"_id": 4})
    application.create(a)
    application.put(a, {"_id": 5})
    application.drop_index(b, "x_1")
    application.drop(b)
    application.rename(a, Namespace(b.database, b.collection))
    application.put(b, {"_id": 6})
