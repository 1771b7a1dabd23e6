"""What both ends promise when they are read."""

from __future__ import annotations

from dataclasses import replace

import bson
import pytest
from bson import Int64
from bson.raw_bson import RawBSONDocument

from ..canonical import key_for, key_of
from ..errors import CollectionGone, PermanentError
from ..model import Batch, Collection, Document, Key, Query
from ..slices import documents_of
from .subject import (
    Subject,
    all_documents,
    by_name,
    documents_in,
    documents_of_every_kind,
    raw,
    spec_of,
)

#: Enough that no connector reads it in one go, in few documents, so that it is quick.
_LARGE = 40
_LARGE_BYTES = 1_000_000


class ReadingConformance:
    """Tests of partitions, reads and lookups."""

    def test_ping(self, subject: Subject) -> None:
        """Both ends answer a ping, with nothing in them yet."""
        subject.source.ping()
        subject.target.ping()

    @pytest.mark.parametrize("size", [1, 7, 1_000_000])
    def test_partitions_cover(self, subject: Subject, size: int) -> None:
        """Every document of every kind of key lies in exactly one partition."""
        documents = documents_of_every_kind()
        subject.application.put(subject.namespace, *documents)
        spec = subject.spec()

        # Cuts may be made at random, so one look is not enough.
        for _ in range(3):
            partitions = list(subject.source.partitions(spec, documents=size))

            found = documents_in(subject.source, partitions)
            assert sorted(found) == sorted(raw(d) for d in documents)

    @pytest.mark.parametrize("cut_at", [0, 1, 2, 3])
    def test_partitions_cover_what_comes_later(self, subject: Subject, cut_at: int) -> None:
        """Keys written after the collection was cut lie in exactly one partition, too."""
        documents = documents_of_every_kind()
        before, after = documents[cut_at::4], documents
        subject.application.put(subject.namespace, *before)
        partitions = list(subject.source.partitions(subject.spec(), documents=2))

        subject.application.put(subject.namespace, *after)

        found = documents_in(subject.source, partitions)
        assert sorted(found) == sorted(raw(d) for d in after)

    @pytest.mark.parametrize("count", [0, 1])
    def test_partitions_of_few(self, subject: Subject, count: int) -> None:
        """An empty collection, and one of a single document, are covered as well."""
        documents = [RawBSONDocument(bson.encode({"_id": i})) for i in range(count)]
        subject.application.create(subject.namespace)
        subject.application.put(subject.namespace, *documents)
        partitions = list(subject.source.partitions(subject.spec(), documents=10))

        assert documents_in(subject.source, partitions) == [d.raw for d in documents]

        subject.application.put(subject.namespace, {"_id": "later"}, {"_id": -1})
        assert len(documents_in(subject.source, partitions)) == count + 2

    def test_partitions_of_equal_prefixes(self, subject: Subject) -> None:
        """100,000 keys that begin alike are cut, and covered."""
        documents = [
            {"_id": "the same beginning of every key " * 2 + str(i)} for i in range(100_000)
        ]
        subject.application.put(subject.namespace, *documents)

        partitions = list(subject.source.partitions(subject.spec(), documents=10_000))

        found = documents_in(subject.source, partitions)
        assert len(partitions) > 1
        assert len({p.id for p in partitions}) == len(partitions)
        assert len(found) == 100_000
        assert len({key_of(d) for d in found}) == 100_000

    def test_partitions_are_the_same_on_the_target(self, subject: Subject) -> None:
        """A partition of the source holds the same documents when the target is asked for it."""
        documents = documents_of_every_kind()
        subject.application.put(subject.namespace, *documents)
        subject.target.write(subject.namespace, Batch.of(documents))
        partitions = list(subject.source.partitions(subject.spec(), documents=5))

        for partition in partitions:
            on_target = replace(partition, collection=Collection(subject.namespace))

            found = documents_in(subject.target, [on_target])
            assert sorted(found) == sorted(documents_in(subject.source, [partition]))

    def test_partition_of_nothing(self, subject: Subject) -> None:
        """A partition of a collection that the target does not have holds no documents."""
        subject.application.put(subject.namespace, {"_id": 1})
        (partition,) = subject.source.partitions(subject.spec(), documents=10)
        on_target = replace(partition, collection=Collection(subject.namespace))

        assert documents_in(subject.target, [on_target]) == []

    def test_specs(self, subject: Subject) -> None:
        """Collections are listed with identity, size and indexes other than that of _id."""
        subject.application.put(subject.namespace, *({"_id": i, "a": i} for i in range(10)))
        subject.application.create_index(subject.namespace, key={"a": 1}, name="a_1")

        spec = subject.spec()

        assert spec.collection.id
        assert spec.documents == 10
        assert spec.size > 0
        assert [i["name"] for i in spec.indexes] == ["a_1"]

    def test_identity(self, subject: Subject) -> None:
        """A collection keeps its identity when it is renamed; one made anew has another."""
        subject.application.put(subject.namespace, {"_id": 1})
        before = subject.spec().collection
        subject.application.rename(subject.namespace, subject.other("renamed"))
        subject.application.put(subject.namespace, {"_id": 2})

        assert subject.spec(subject.other("renamed")).collection.id == before.id
        assert subject.spec().collection.id != before.id

    def test_lookup(self, subject: Subject) -> None:
        """Documents of every kind of key are found by their keys, byte for byte."""
        documents = {key_of(d.raw): d for d in documents_of_every_kind()}
        subject.application.put(subject.namespace, *documents.values())
        subject.target.write(subject.namespace, Batch.of(documents.values()))
        missing = [key_for(v) for v in ("missing", 12345, {"a": "missing"}, 0.25)]

        at_source = subject.source.lookup(subject.spec().collection, [*documents, *missing])
        at_target = subject.target.lookup(Collection(subject.namespace), [*documents, *missing])

        wanted = {key: document.raw for key, document in documents.items()}
        assert {key: d.raw for key, d in at_source.items()} == wanted
        assert {key: d.raw for key, d in at_target.items()} == wanted

    def test_lookup_one_by_one(self, subject: Subject) -> None:
        """Each kind of key can be looked up alone."""
        documents = {key_of(d.raw): d for d in documents_of_every_kind()}
        subject.application.put(subject.namespace, *documents.values())
        collection = subject.spec().collection

        for key, document in documents.items():
            found = subject.source.lookup(collection, [key])

            assert {k: d.raw for k, d in found.items()} == {key: document.raw}

    def test_lookup_is_exact(self, subject: Subject) -> None:
        """A key finds only a document whose _id has the very same bytes."""
        subject.application.put(subject.namespace, {"_id": 1}, {"_id": 2.0}, {"_id": {"a": 1}})
        alike = [key_for(v) for v in (Int64(1), 1.0, 2, {"a": 1.0})]

        found = subject.source.lookup(subject.spec().collection, [*alike, key_for(1)])

        assert set(found) == {key_for(1)}

    def test_lookup_of_many(self, subject: Subject) -> None:
        """Thousands of keys are looked up at once, none of them without an answer."""
        subject.application.put(subject.namespace, *({"_id": f"key {i}"} for i in range(6_000)))
        keys = [key_for(f"key {i}") for i in range(0, 12_000, 2)]

        found = subject.source.lookup(subject.spec().collection, keys)

        assert set(found) == set(keys[:3_000])
        assert subject.source.lookup(subject.spec().collection, []) == {}

    def test_lookup_of_large(self, subject: Subject) -> None:
        """Documents that do not fit into one reply together are all found."""
        keys = _put_large(subject)

        found = subject.source.lookup(subject.spec().collection, keys)

        assert set(found) == set(keys)

    def test_narrowed(self, subject: Subject) -> None:
        """Of a collection narrowed by a query, what does not match is neither read nor found."""
        subject.application.put(subject.namespace, *({"_id": i, "a": i % 3} for i in range(300)))
        subject.target.write(
            subject.namespace, Batch.of({"_id": i, "a": i % 3} for i in range(300))
        )
        query = Query(bson.encode({"a": {"$in": [0, 1]}, "_id": {"$lt": 200}}))
        wanted = {key_for(i) for i in range(200) if i % 3 != 2}
        partitions = list(subject.source.partitions(subject.spec(), documents=50))

        for end, collection in (
            (subject.source, subject.spec().collection),
            (subject.target, Collection(subject.namespace)),
        ):
            narrowed = replace(collection, where=query)
            read = documents_in(end, [replace(p, collection=narrowed) for p in partitions])
            assert {key_of(d) for d in read} == wanted
            assert len(read) == len(wanted)
            assert set(end.lookup(narrowed, [key_for(i) for i in range(400)])) == wanted
            assert end.lookup(narrowed, [key_for(2), key_for(250)]) == {}

    def test_narrowed_by_every_kind_of_key(self, subject: Subject) -> None:
        """A query is applied in all partitions, whatever kind of key is in them."""
        documents = documents_of_every_kind()
        subject.application.put(subject.namespace, *documents)
        partitions = list(subject.source.partitions(subject.spec(), documents=2))
        narrowed = replace(subject.spec().collection, where=Query(bson.encode({"v": {"$gt": 3}})))

        read = documents_in(subject.source, [replace(p, collection=narrowed) for p in partitions])

        assert sorted(read) == sorted(raw(d) for d in documents[4:])

    def test_bad_query(self, subject: Subject) -> None:
        """A query that the database does not understand is refused for good."""
        subject.application.put(subject.namespace, {"_id": 1})
        query = Query(bson.encode({"a": {"$noSuchOperator": 1}}))

        with pytest.raises(PermanentError):
            subject.source.lookup(replace(subject.spec().collection, where=query), [key_for(1)])

    def test_renamed(self, subject: Subject) -> None:
        """Reads and lookups follow a collection that was renamed, not its name."""
        subject.application.put(subject.namespace, {"_id": 1, "from": "old"})
        spec = subject.spec()
        partitions = list(subject.source.partitions(spec, documents=10))
        subject.application.rename(subject.namespace, subject.other("renamed"))
        subject.application.put(subject.namespace, {"_id": 1, "from": "new"}, {"_id": 2})

        found = subject.source.lookup(spec.collection, [key_for(1), key_for(2)])
        read = documents_in(subject.source, partitions)

        assert {k: d["from"] for k, d in found.items()} == {key_for(1): "old"}
        assert [bson.decode(d)["from"] for d in read] == ["old"]

    @pytest.mark.parametrize("again", [False, True], ids=["dropped", "made again"])
    def test_dropped(self, subject: Subject, again: bool) -> None:
        """Reads and lookups of a collection that was dropped say so, even if there is a new one."""
        subject.application.put(subject.namespace, {"_id": 1})
        spec = subject.spec()
        partitions = list(subject.source.partitions(spec, documents=10))
        subject.application.drop(subject.namespace)
        if again:
            subject.application.put(subject.namespace, {"_id": 1})

        with pytest.raises(CollectionGone):
            subject.source.lookup(spec.collection, [key_for(1)])
        with pytest.raises(CollectionGone):
            documents_in(subject.source, partitions)

    def test_replaced(self, subject: Subject) -> None:
        """A collection that another one was renamed onto is gone."""
        subject.application.put(subject.namespace, {"_id": 1})
        spec = subject.spec()
        subject.application.put(subject.other("new"), {"_id": 1})
        subject.application.rename(subject.other("new"), subject.namespace, replace=True)

        with pytest.raises(CollectionGone):
            subject.source.lookup(spec.collection, [key_for(1)])

    def test_renamed_while_read(self, subject: Subject) -> None:
        """A read under way goes on when its collection is renamed."""
        keys = _put_large(subject)
        (partition,) = subject.source.partitions(subject.spec(), documents=1_000_000)
        batches = subject.source.read(partition)
        first = next(batches)

        subject.application.rename(subject.namespace, subject.other("renamed"))
        subject.application.put(subject.namespace, {"_id": "new"})

        read = [key_of(d) for batch in (first, *batches) for d in documents_of(batch.array)]
        assert sorted(read) == sorted(keys)

    def test_dropped_while_read(self, subject: Subject) -> None:
        """A read under way does not end as if it were complete when its collection is dropped."""
        _put_large(subject)
        (partition,) = subject.source.partitions(subject.spec(), documents=1_000_000)
        batches = subject.source.read(partition)
        next(batches)

        subject.application.drop(subject.namespace)

        with pytest.raises(CollectionGone):
            list(batches)

    def test_written_while_read(self, subject: Subject) -> None:
        """What is there all the time is read once, whatever is written beside it."""
        keys = _put_large(subject)
        (partition,) = subject.source.partitions(subject.spec(), documents=1_000_000)
        read = []

        for number, batch in enumerate(subject.source.read(partition)):
            read += [key_of(d) for d in documents_of(batch.array)]
            subject.application.put(subject.namespace, {"_id": f"other {number}"})
            subject.application.delete(subject.namespace, f"other {number - 1}")

        assert sorted(k for k in read if k in set(keys)) == sorted(keys)

    def test_large_document(self, subject: Subject) -> None:
        """A document of 15 MB passes through every call."""
        document = _document("large", 15_000_000)
        subject.application.put(subject.namespace, document)
        (read,) = all_documents(subject.source, subject.namespace)
        key = key_of(document.raw)

        subject.target.write(subject.namespace, Batch(_array(read)))
        subject.target.apply(subject.namespace, {key: document})

        at_source = subject.source.lookup(subject.spec().collection, [key])
        on_target = by_name(spec_of(subject.target, subject.namespace)).collection
        at_target = subject.target.lookup(on_target, [key])
        assert read == at_source[key].raw == at_target[key].raw == document.raw


def _document(identity: object, size: int) -> Document:
    return RawBSONDocument(bson.encode({"_id": identity, "fill": bytes(size)}))


def _array(document: bytes) -> bytes:
    return Batch.of([RawBSONDocument(document)]).array


def _put_large(subject: Subject) -> list[Key]:
    documents = [_document(f"large {i:03}", _LARGE_BYTES) for i in range(_LARGE)]
    for document in documents:
        subject.application.put(subject.namespace, document)
    return [key_of(d.raw) for d in documents]
