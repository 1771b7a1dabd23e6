"""Values are what they are, wherever they go."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from limosa.canonical import key_for
from limosa.model import (
    Batch,
    ChangeBatch,
    Collection,
    CollectionSpec,
    Mismatch,
    MismatchKind,
    Namespace,
    Partition,
    ResumeToken,
    SchemaChange,
    SchemaVerb,
    Unfinished,
)
from limosa.slices import documents_of

PEOPLE = Namespace("shop", "people")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DOCUMENTS = st.lists(
    st.dictionaries(
        st.text("ab", min_size=1), st.one_of(st.integers(0, 9), st.text("xy"), st.none())
    ),
    max_size=15,
)


@given(st.text("ab_", min_size=1), st.text("ab.$", min_size=1))
def test_namespace(database: str, collection: str) -> None:
    """A namespace is read as it is written."""
    namespace = Namespace(database, collection)

    assert Namespace.parse(str(namespace)) == namespace


@pytest.mark.parametrize("text", ["", "shop", ".", "shop.", ".people"])
def test_namespace_malformed(text: str) -> None:
    """A namespace needs a name on both sides of the dot."""
    with pytest.raises(ValueError, match=r"database\.collection"):
        Namespace.parse(text)


def test_collection_by_identity() -> None:
    """Collections of one name and different identities are different."""
    assert Collection(PEOPLE, "1") != Collection(PEOPLE, "2")
    assert str(Collection(PEOPLE, "1")) == "shop.people"


@given(DOCUMENTS)
def test_batch(documents: list[dict[str, Any]]) -> None:
    """A batch holds the documents in order, and its bytes are a BSON array of them."""
    batch = Batch.of(documents)

    assert [dict(d) for d in batch.documents] == documents
    assert bson.encode({"a": documents}) == _in_field(batch.array)
    assert [bson.decode(d) for d in batch.raw] == documents
    assert batch.raw == documents_of(batch.array)
    assert batch.size == len(batch.array)


def _in_field(array: bytes) -> bytes:
    content = b"\x04a\0" + array
    return (len(content) + 5).to_bytes(4, "little") + content + b"\0"


def test_batch_keeps_bytes() -> None:
    """Documents are packed and unpacked without being decoded."""
    strange = RawBSONDocument(b"\x14\0\0\0\x0e_id\0\x06\0\0\0" + b"\xff" * 5 + b"\0\0")

    (found,) = Batch.of([strange]).documents

    assert found.raw == strange.raw


VALUES = [
    PEOPLE,
    Collection(PEOPLE, "1"),
    CollectionSpec(Collection(PEOPLE), {"capped": True}, [{"name": "a_1", "key": {"a": 1}}], 1, 2),
    Partition("1/0", Collection(PEOPLE), b"bounds", 3),
    Batch.of([{"_id": 1}]),
    SchemaChange(SchemaVerb.RENAME, Collection(PEOPLE), to=Namespace("shop", "persons")),
    ChangeBatch(ResumeToken(b"t"), NOON, {Collection(PEOPLE): {key_for(1): None}}, events=1),
    Mismatch(MismatchKind.MISSING, PEOPLE, key_for(1)),
    Unfinished(PEOPLE, "index a_1", "duplicate values"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_values(value: Any) -> None:
    """A value reaches another process unchanged, and nobody changes it."""
    name = next(iter(value.__dataclass_fields__))

    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)


def test_empty_change_batch() -> None:
    """A batch is empty if neither documents nor collections changed."""
    drop = SchemaChange(SchemaVerb.DROP, Collection(PEOPLE))

    assert ChangeBatch(ResumeToken(b""), NOON).is_empty
    assert not ChangeBatch(ResumeToken(b""), NOON, schema=drop).is_empty
    assert not ChangeBatch(ResumeToken(b""), NOON, {Collection(PEOPLE): {}}).is_empty
