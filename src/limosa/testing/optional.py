"""What an end promises that offers more than it has to; what it does not offer is skipped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from ..canonical import key_for
from ..connector import (
    Readiness,
    constrains_ahead,
    finds_collections,
    holds_definitions,
    measures_memory,
    reports_builds,
    reports_load,
    takes_definitions,
)
from ..model import (
    Batch,
    Collection,
    CollectionSpec,
    Definition,
    DefinitionKind,
    Document,
    Key,
    Namespace,
    Unfinished,
)
from .subject import DEADLINE_SECONDS, Subject, all_documents, by_name, spec_of

T = TypeVar("T")

_UNIQUE = {"v": 2, "key": {"u": 1}, "name": "u_1", "unique": True}


class OptionalConformance:
    """Tests of what `limosa.capabilities` names."""

    def test_identities(self, subject: Subject) -> None:
        """Collections have the ids under which they are listed, and keep them when renamed."""
        identities = _offered(subject.source, "identities")
        subject.application.put(subject.namespace, {"_id": 1})
        before = identities()[subject.namespace]
        assert before == subject.spec().collection.id

        other = subject.other("renamed")
        subject.application.rename(subject.namespace, other)
        subject.application.put(subject.namespace, {"_id": 2})

        after = identities()
        assert after[other] == before
        assert after[subject.namespace] not in ("", before)
        subject.application.drop(other)
        assert other not in identities()

    def test_one_collection(self, subject: Subject) -> None:
        """A collection is found by its id under the name it has by then, until it is dropped."""
        source, other = subject.source, subject.other("renamed")
        if not finds_collections(source):
            pytest.skip("looks through all collections to find one")
        subject.application.put(subject.namespace, {"_id": 1}, {"_id": 2})
        asked = subject.spec().collection

        assert source.described(asked) == subject.spec()

        subject.application.rename(subject.namespace, other)
        subject.application.put(subject.namespace, {"_id": 1})

        assert source.described(asked) == subject.spec(other)

        subject.application.drop(other)
        assert source.described(asked) is None

    def test_names(self, subject: Subject) -> None:
        """The names alone are those under which the collections are listed, at both ends."""
        names = _offered(subject.source, "namespaces"), _offered(subject.target, "namespaces")
        subject.application.put(subject.namespace, {"_id": 1})
        subject.target.prepare(subject.spec())

        for end, listed in zip((subject.source, subject.target), names, strict=True):
            assert subject.namespace in listed()
            assert set(listed()) == {s.collection.namespace for s in end.collections()}

    def test_remembers(self, subject: Subject) -> None:
        """How long changes will be there is a span, or unknown; it is no error to ask."""
        source = subject.source
        if not measures_memory(source):
            pytest.skip("does not say how long it remembers")
        subject.application.put(subject.namespace, {"_id": 1})

        memory = source.remembers(subject.source.clock())

        assert memory is None or memory.left > timedelta()

    def test_load(self, subject: Subject) -> None:
        """How busy an end is can be asked of both, and is not negative."""
        for end in (subject.source, subject.target):
            if not reports_load(end):
                pytest.skip("does not say how busy it is")
            load = end.load()

            assert load.latency is None or load.latency >= timedelta()
            assert load.queue is None or load.queue >= 0
            assert load.replication_lag is None or load.replication_lag >= timedelta()

    def test_builds(self, subject: Subject) -> None:
        """What is being built is listed; when all is built there is nothing of it."""
        target = subject.target
        if not reports_builds(target):
            pytest.skip("does not say what it builds")
        subject.target.prepare(_spec(subject))
        subject.target.write(subject.namespace, Batch.of({"_id": i, "u": i} for i in range(1_000)))

        subject.target.finish(_spec(subject), Readiness.INDEXED)

        assert [b for b in target.builds() if b.namespace == subject.namespace] == []

    def test_define(self, subject: Subject) -> None:
        """A definition stands on the target under its other name, also when made anew, twice."""
        source, target, define = subject.source, subject.target, subject.define
        if not (holds_definitions(source) and takes_definitions(target)):
            pytest.skip("has nothing but collections")
        assert define is not None, "Subject.define: what has definitions must let them be made"
        view, new = subject.other("view"), subject.other("view, renamed")
        subject.application.put(subject.namespace, {"_id": 1})
        subject.target.write(subject.namespace, Batch.of([{"_id": 1}]))

        for reads in (subject.namespace, subject.other("another"), subject.other("another")):
            define(view, reads)
            wanted = [d for d in _listed(source) if _name(d) == view]
            assert len(wanted) == 1
            unfinished = target.define(wanted, target_of=lambda n: new if n == view else n)

            assert list(unfinished) == []
            found = [d for d in _listed(subject.target) if _name(d) == new]
            assert [d.content for d in found] == [d.content for d in wanted]
        assert view not in {s.collection.namespace for s in subject.source.collections()}
        assert new not in {s.collection.namespace for s in subject.target.collections()}

    def test_define_what_cannot_be(self, subject: Subject) -> None:
        """A view in whose place a collection stands is named, and the collection stays."""
        source, target, define = subject.source, subject.target, subject.define
        if not (holds_definitions(source) and takes_definitions(target)):
            pytest.skip("has nothing but collections")
        assert define is not None
        view = subject.other("view")
        define(view, subject.namespace)
        subject.target.write(view, Batch.of([{"_id": "mine"}]))
        wanted = [d for d in _listed(source) if _name(d) == view]

        (unfinished,) = target.define(wanted, target_of=lambda n: n)

        assert unfinished.namespace == view
        assert unfinished.reason
        assert len(all_documents(subject.target, view)) == 1

    def test_constrain(self, subject: Subject) -> None:
        """What holds ahead of the commit is in the way of no change, nor of the commit."""
        constrain = _constraining(subject)
        spec, name = _spec(subject), subject.namespace
        assert list(constrain(spec)) == []  # there is none yet
        subject.target.prepare(spec)
        subject.target.finish(spec, Readiness.INDEXED)
        subject.target.write(name, Batch.of({"_id": i, "u": i} for i in range(10)))
        for _ in range(2):
            assert list(constrain(spec)) == []

        for _ in range(2):  # values change hands
            subject.target.apply(name, _states({1: 2, 2: 1}))
            subject.target.write(name, Batch.of([{"_id": "copied", "u": 5}]))
            subject.target.apply(name, _states({"copied": 55, 3: 4, 4: 3}))
            assert list(constrain(spec)) == []

        values = {d["_id"]: d["u"] for d in map(bson.decode, all_documents(subject.target, name))}
        before: dict[Any, int] = {i: i for i in range(10)}
        assert values == before | {1: 2, 2: 1, 3: 4, 4: 3, "copied": 55}
        for readiness in (Readiness.WRITABLE, Readiness.COMPLETE):
            assert list(subject.target.finish(spec, readiness)) == []
        assert _index(subject).get("unique")

    def test_constrain_where_that_contradicts(self, subject: Subject) -> None:
        """What contradicts for good is named ahead of the commit, and at the commit again."""
        constrain = _constraining(subject)
        spec, name = _spec(subject), subject.namespace
        subject.target.prepare(spec)
        subject.target.finish(spec, Readiness.INDEXED)
        subject.target.write(name, Batch.of({"_id": i, "u": 7} for i in range(2)))

        (told,) = _until(lambda: constrain(spec))

        assert told.namespace == name
        assert "u_1" in told.what
        assert told.reason
        subject.target.apply(name, _states({2: 7}))  # not in the way
        (unfinished,) = subject.target.finish(spec, Readiness.WRITABLE)
        assert (unfinished.namespace, unfinished.what) == (told.namespace, told.what)
        subject.target.relax(spec)
        subject.target.apply(name, {key_for(0): None, key_for(1): None})
        for readiness in (Readiness.WRITABLE, Readiness.COMPLETE):
            assert list(subject.target.finish(spec, readiness)) == []

    def test_constrain_then_change(self, subject: Subject) -> None:
        """What was found to hold is not relied on when the collection has been made anew."""
        constrain = _constraining(subject)
        spec, name = _spec(subject), subject.namespace
        subject.target.prepare(spec)
        subject.target.finish(spec, Readiness.INDEXED)
        subject.target.write(name, Batch.of([{"_id": 1, "u": 7}]))
        assert list(constrain(spec)) == []

        subject.target.relax(spec)
        subject.target.write(name, Batch.of([{"_id": 2, "u": 7}]))

        assert len(subject.target.finish(spec, Readiness.WRITABLE)) == 1

    def test_relax_before_complete(self, subject: Subject) -> None:
        """What holds since the target was to be writable is taken back as well."""
        spec, name = _spec(subject), subject.namespace
        subject.target.prepare(spec)
        subject.target.write(name, Batch.of({"_id": i, "u": i} for i in range(3)))
        assert list(subject.target.finish(spec, Readiness.WRITABLE)) == []

        subject.target.relax(spec)

        subject.target.apply(name, _states({0: 1, 1: 1}))
        assert len(all_documents(subject.target, name)) == 3
        subject.target.apply(name, _states({0: 0}))
        for readiness in (Readiness.WRITABLE, Readiness.COMPLETE):
            assert list(subject.target.finish(spec, readiness)) == []
        found = by_name(spec_of(subject.target, name))
        assert [i["name"] for i in found.indexes] == ["u_1"]


def _offered(end: object, name: str) -> Callable[..., Any]:
    found = getattr(end, name, None)
    if not callable(found):
        pytest.skip(f"offers no {name}")
    offered: Callable[..., Any] = found
    return offered


def _constraining(subject: Subject) -> Callable[[CollectionSpec], Sequence[Unfinished]]:
    if not constrains_ahead(subject.target):
        pytest.skip("has no constraints hold ahead of the commit")
    return subject.target.constrain


def _until(look: Callable[[], Sequence[T]]) -> Sequence[T]:
    """Return what *look* finds, as soon as it is something."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "nothing was found"
        time.sleep(0.05)
    return found


def _spec(subject: Subject) -> CollectionSpec:
    return CollectionSpec(Collection(subject.namespace), subject.options, [_UNIQUE])


def _index(subject: Subject) -> dict[str, Any]:
    (found,) = spec_of(subject.target, subject.namespace).indexes
    return dict(found)


def _states(values: dict[Any, int]) -> dict[Key, Document | None]:
    return {key_for(i): RawBSONDocument(bson.encode({"_id": i, "u": u})) for i, u in values.items()}


def _listed(end: object) -> Sequence[Definition]:
    assert holds_definitions(end), "an end is a source or becomes one on the way back"
    return list(end.definitions(DefinitionKind.VIEW))


def _name(definition: Definition) -> Namespace:
    return Namespace(definition.database, definition.name)
