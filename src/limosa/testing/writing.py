"""What a target promises when it is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bson
import pytest
from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument

from ..canonical import key_for, key_of
from ..connector import Readiness
from ..model import (
    Batch,
    Collection,
    CollectionSpec,
    Document,
    Key,
    Namespace,
    SchemaChange,
    SchemaVerb,
)
from .subject import Subject, all_documents, documents_of_every_kind, raw, spec_of

_INDEXES: Sequence[Mapping[str, Any]] = (
    {"v": 2, "key": {"a": 1}, "name": "a_1"},
    {"v": 2, "key": {"a": 1, "b": -1}, "name": "a_1_b_-1", "sparse": True},
    {"v": 2, "key": {"u": 1}, "name": "u_1", "unique": True},
    {"v": 2, "key": {"t": 1}, "name": "t_1", "expireAfterSeconds": 3600},
)
#: Names that a careless write takes for operators or paths.
_AWKWARD = (
    {"_id": 1, "a.b": 1, "a": {"b.c": 2}},
    {"_id": 2, "": {"": 1}},
    {"_id": 3, "nested": {"$set": {"x": 1}, "$": 1}, "list": [{"$inc": 1}]},
    {"_id": 4, "$set": {"x": 1}},
)


class WritingConformance:
    """Tests of prepare, write, apply, evolve and finish."""

    def test_write(self, subject: Subject) -> None:
        """Documents are read as they were written, byte for byte, also when written twice."""
        documents = documents_of_every_kind()

        for _ in range(2):
            subject.target.write(subject.namespace, Batch.of(documents))

            found = all_documents(subject.target, subject.namespace)
            assert sorted(found) == sorted(raw(d) for d in documents)

    def test_write_leaves_what_is_there(self, subject: Subject) -> None:
        """A write replaces nothing; the rest of its batch is written."""
        subject.target.write(subject.namespace, Batch.of([{"_id": 2, "v": "first"}]))

        later = [{"_id": i, "v": "later"} for i in range(5)]
        subject.target.write(subject.namespace, Batch.of(later))

        found = {d["_id"]: d["v"] for d in map(bson.decode, _all(subject))}
        assert found == {0: "later", 1: "later", 2: "first", 3: "later", 4: "later"}

    def test_write_of_nothing(self, subject: Subject) -> None:
        """An empty batch and an empty set of states are no error."""
        subject.target.prepare(_spec(subject))

        subject.target.write(subject.namespace, Batch.of([]))
        subject.target.apply(subject.namespace, {})

        assert _all(subject) == []

    def test_write_of_many(self, subject: Subject) -> None:
        """A batch of more documents than a server takes at once is written whole."""
        documents = [{"_id": i, "v": "x" * 20} for i in range(120_000)]

        subject.target.write(subject.namespace, Batch.of(documents))

        assert len(_all(subject)) == 120_000

    def test_write_of_much(self, subject: Subject) -> None:
        """A batch of more bytes than a server takes at once is written whole."""
        documents = [{"_id": i, "v": bytes(9_000_000)} for i in range(6)]

        subject.target.write(subject.namespace, Batch.of(documents))

        assert len(_all(subject)) == 6

    def test_apply(self, subject: Subject) -> None:
        """States of every kind of key are made so, also when applied twice."""
        documents = documents_of_every_kind()
        subject.target.write(subject.namespace, Batch.of(documents))
        states: dict[Key, Document | None] = {}
        for number, document in enumerate(documents):
            key = key_of(document.raw)
            states[key] = None if number % 3 == 0 else _with_field(document)
        states |= {key_for("missing"): None, key_for("new"): _document({"_id": "new"})}

        for _ in range(2):
            subject.target.apply(subject.namespace, states)

            wanted = [raw(d) for d in states.values() if d is not None]
            assert sorted(_all(subject)) == sorted(wanted)

    def test_apply_where_nothing_is(self, subject: Subject) -> None:
        """States are made so in a collection that does not exist yet."""
        document = _document({"_id": 1})
        states: dict[Key, Document | None] = {key_for(1): document, key_for(2): None}

        subject.target.apply(subject.namespace, states)

        assert _all(subject) == [document.raw]

    @pytest.mark.parametrize("order", [1, -1])
    def test_apply_of_equal_keys(self, subject: Subject, order: int) -> None:
        """Deleting 1 and writing 1.0 leaves 1.0, in whatever order they are given."""
        pairs: list[tuple[object, object]] = [(1, 1.0), (Int64(2), 2), ({"a": 3}, {"a": Int64(3)})]
        subject.target.write(subject.namespace, Batch.of([{"_id": old} for old, _ in pairs]))
        states: list[tuple[Key, Document | None]] = []
        for old, new in pairs:
            states += [(key_for(old), None), (key_for(new), _document({"_id": new, "v": 1}))]

        for _ in range(2):
            subject.target.apply(subject.namespace, dict(states[::order]))

            assert sorted(_all(subject)) == sorted(raw(d) for _, d in states if d is not None)

    @pytest.mark.parametrize("fields", _AWKWARD, ids=str)
    def test_apply_of_awkward_names(self, subject: Subject, fields: dict[str, Any]) -> None:
        """Names of fields are nothing but names, in documents new and old."""
        document, key = _document(fields), key_for(fields["_id"])
        subject.target.write(subject.namespace, Batch.of([document]))
        assert _all(subject) == [document.raw]

        changed = _with_field(document)
        subject.target.apply(subject.namespace, {key: changed})
        assert _all(subject) == [changed.raw]

        subject.target.apply(subject.namespace, {key: None})
        subject.target.apply(subject.namespace, {key: document})
        assert _all(subject) == [document.raw]

    def test_apply_keeps_timestamps(self, subject: Subject) -> None:
        """An empty timestamp within a document stays what it is."""
        document = _document({"_id": 1, "n": {"t": Timestamp(0, 0)}, "t": Timestamp(1, 0)})

        subject.target.apply(subject.namespace, {key_for(1): document})

        assert _all(subject) == [document.raw]

    def test_apply_of_many(self, subject: Subject) -> None:
        """Tens of thousands of states, large ones among them, are made so at once."""
        count = 30_000
        subject.target.write(subject.namespace, Batch.of({"_id": i} for i in range(count)))
        states: dict[Key, Document | None] = {
            key_for(i): None if i % 2 else _document({"_id": i, "v": 1}) for i in range(count)
        }
        for i in range(5):
            states[key_for(f"large {i}")] = _document({"_id": f"large {i}", "v": bytes(12_000_000)})

        subject.target.apply(subject.namespace, states)

        assert len(_all(subject)) == count / 2 + 5

    def test_prepare(self, subject: Subject) -> None:
        """A collection is made with its options, once; what is in it stays."""
        spec = _spec(subject)

        subject.target.prepare(spec)
        subject.target.write(subject.namespace, Batch.of([{"_id": 1}]))
        subject.target.prepare(spec)

        assert len(_all(subject)) == 1

    def test_finish(self, subject: Subject) -> None:
        """Indexes and options end as they are on the source, each step done twice."""
        spec = _spec(subject, _INDEXES)
        subject.target.prepare(spec)
        subject.target.write(subject.namespace, Batch.of({"_id": i, "u": i} for i in range(10)))

        for readiness in Readiness:
            for _ in range(2):
                assert list(subject.target.finish(spec, readiness)) == []

        found = spec_of(subject.target, subject.namespace)
        assert dict(found.options) == dict(subject.options)
        assert _indexes(found.indexes) == _indexes(_INDEXES)

    def test_indexes_are_inert(self, subject: Subject) -> None:
        """A unique index refuses nothing until the target is to be writable."""
        spec = _spec(subject, _INDEXES)
        subject.target.prepare(spec)
        subject.target.finish(spec, Readiness.INDEXED)

        subject.target.write(subject.namespace, Batch.of({"_id": i, "u": 1} for i in range(3)))
        subject.target.apply(subject.namespace, {key_for(3): _document({"_id": 3, "u": 1})})

        found = {i["name"]: i for i in spec_of(subject.target, subject.namespace).indexes}
        assert len(_all(subject)) == 4
        assert set(found) == {i["name"] for i in _INDEXES}
        assert found["t_1"].get("expireAfterSeconds") != 3600

    def test_relax(self, subject: Subject) -> None:
        """What holds at the end can be taken back, and brought back again."""
        spec = _spec(subject, _INDEXES)
        subject.target.relax(spec)  # there is none yet
        subject.target.prepare(spec)
        subject.target.finish(spec, Readiness.COMPLETE)

        for _ in range(2):
            subject.target.relax(spec)

        subject.target.apply(
            subject.namespace, {key_for(i): _document({"_id": i, "u": 1}) for i in range(2)}
        )
        found = {i["name"]: i for i in spec_of(subject.target, subject.namespace).indexes}
        assert found["t_1"].get("expireAfterSeconds") != 3600
        subject.target.apply(subject.namespace, {key_for(1): None})
        for readiness in (Readiness.WRITABLE, Readiness.COMPLETE):
            assert list(subject.target.finish(spec, readiness)) == []
        found_then = spec_of(subject.target, subject.namespace).indexes
        assert _indexes(found_then) == _indexes(_INDEXES)

    def test_unfinished(self, subject: Subject) -> None:
        """An index that cannot be made unique is named, and the others are made."""
        spec = _spec(subject, _INDEXES)
        subject.target.prepare(spec)
        subject.target.finish(spec, Readiness.INDEXED)
        subject.target.write(subject.namespace, Batch.of({"_id": i, "u": 1} for i in range(3)))

        for _ in range(2):
            subject.target.finish(spec, Readiness.WRITABLE)
            (unfinished,) = subject.target.finish(spec, Readiness.COMPLETE)

            assert unfinished.namespace == subject.namespace
            assert "u_1" in unfinished.what
            assert unfinished.reason
            found = spec_of(subject.target, subject.namespace).indexes
            assert _indexes(found)["t_1"]["expireAfterSeconds"] == 3600

    def test_evolve(self, subject: Subject) -> None:
        """Each change of a collection is carried over, and is no error when done already."""
        index = _INDEXES[0]
        name, other = subject.namespace, subject.other("renamed")

        self._evolve(subject, SchemaVerb.CREATE, name)
        assert _all(subject) == []

        subject.target.write(name, Batch.of([{"_id": 1}]))
        self._evolve(subject, SchemaVerb.CREATE, name)
        self._evolve(subject, SchemaVerb.CREATE_INDEXES, name, {"indexes": [index]})
        assert _indexes(spec_of(subject.target, name).indexes) == _indexes([index])

        self._evolve(subject, SchemaVerb.MODIFY, name, {"index": {"name": "a_1", "hidden": True}})
        self._evolve(subject, SchemaVerb.DROP_INDEXES, name, {"indexes": [index]})
        assert spec_of(subject.target, name).indexes in ([], ())

        self._evolve(subject, SchemaVerb.RENAME, name, to=other)
        assert _names(subject) == {other}
        assert len(all_documents(subject.target, other)) == 1

        self._evolve(subject, SchemaVerb.DROP, other)
        assert _names(subject) == set()

    def test_evolve_replaces(self, subject: Subject) -> None:
        """A rename replaces what was there under the new name."""
        name, other = subject.namespace, subject.other("renamed")
        subject.target.write(name, Batch.of([{"_id": "kept"}]))
        subject.target.write(other, Batch.of([{"_id": "replaced"}]))

        self._evolve(subject, SchemaVerb.RENAME, name, to=other)

        assert [bson.decode(d) for d in all_documents(subject.target, other)] == [{"_id": "kept"}]
        assert _names(subject) == {other}

    @pytest.mark.parametrize("verb", SchemaVerb)
    def test_evolve_what_is_not_there(self, subject: Subject, verb: SchemaVerb) -> None:
        """A change of a collection that the target does not have is no error."""
        details: dict[SchemaVerb, dict[str, Any]] = {
            SchemaVerb.CREATE_INDEXES: {"indexes": [_INDEXES[0]]},
            SchemaVerb.DROP_INDEXES: {"indexes": [_INDEXES[0]]},
            SchemaVerb.MODIFY: {"index": {"name": "a_1", "hidden": True}},
        }
        to = subject.other("renamed") if verb is SchemaVerb.RENAME else None

        self._evolve(subject, verb, subject.namespace, details.get(verb, {}), to=to)

    def _evolve(
        self,
        subject: Subject,
        verb: SchemaVerb,
        namespace: Namespace,
        detail: Mapping[str, Any] | None = None,
        *,
        to: Namespace | None = None,
    ) -> None:
        change = SchemaChange(verb, Collection(namespace, "of the source"), detail or {}, to)
        for _ in range(2):
            subject.target.evolve(change)


def _spec(subject: Subject, indexes: Sequence[Mapping[str, Any]] = ()) -> CollectionSpec:
    return CollectionSpec(Collection(subject.namespace), subject.options, indexes)


def _document(fields: Mapping[str, Any]) -> Document:
    return RawBSONDocument(bson.encode(fields))


def _with_field(document: Document) -> Document:
    content = raw(document)[4:-1] + b"\x10changed\0\1\0\0\0"
    return RawBSONDocument((len(content) + 5).to_bytes(4, "little") + content + b"\0")


def _all(subject: Subject) -> list[bytes]:
    return all_documents(subject.target, subject.namespace)


def _names(subject: Subject) -> set[Namespace]:
    names = {s.collection.namespace for s in subject.target.collections()}
    return {n for n in names if n.database == subject.namespace.database}


def _indexes(indexes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {i["name"]: {**i, "key": list(i["key"].items())} for i in indexes}
