"""Documents of every kind arrive byte for byte, whenever they were written."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import (
    Binary,
    Code,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    encode,
)
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from in_process import MOMENTS, Running
from judge import differences
from pymongo import MongoClient

from limosa.canonical import key_of
from limosa.testing.subject import documents_of_every_kind

Client = MongoClient[dict[str, Any]]

#: The server's ``maxBsonObjectSize``.
LARGEST = 16 * 1024 * 1024
#: What the server nests at most, the document itself included; its own depth when it stores
#: documents is 180 by default, that of what is asked of it 200.
DEEPEST = 100
#: Documents; the copy is held within a collection of more than one batch.
MANY = 5_500
#: Of documents that are written in one command.
BATCH_BYTES = 30_000_000


def values() -> Iterator[bytes]:
    """Yield elements with the name ``v`` of every type and of values that are easily lost."""
    for value in (
        1.5, -0.0, 0.0, math.inf, -math.inf, 5e-324, "", "text", "nul\0inside", "\U0001f426",
        {}, {"": {"": {}}}, [], [[], [None, []]], Binary(b"", 0), Binary(b"\1", 128), ObjectId(),
        True, False, datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None,
        Regex("^a/b\\.", "imsx"), Code("f()"), Code("f()", {"x": 1}), 2**31 - 1, -(2**31), Int64(0),
        Int64(-(2**63)), Timestamp(0, 0), Timestamp(0, 1), Timestamp(2**32 - 1, 2**32 - 1),
        Decimal128("-0E+6111"), Decimal128("NaN"), Decimal128("1.000"), MinKey(), MaxKey(),
        DBRef("c", 1, "d"), {"$ref": "c", "$id": 1}, {"$set": {"a.b": 1}}, {"$oid": "x"},
    ):  # fmt: skip
        yield encode({"v": value})[4:-1]
    yield b"\x06v\0"  # undefined
    yield b"\x0ev\0\x07\0\0\0symbol\0"
    yield b"\x0cv\0\x03\0\0\0ab\0" + bytes(range(12))  # DBPointer
    yield b"\x05v\0\x08\0\0\0\x02\x04\0\0\0abcd"  # the old kind of binary
    for nan in (
        b"\x01\0\0\0\0\0\xf8\x7f",
        b"\0\0\0\0\0\0\xf8\xff",
        b"\xde\xad\xbe\xef\xfe\xca\xf7\x7f",
    ):
        yield b"\x01v\0" + nan
    yield b"\x09v\0" + b"\xff" * 7 + b"\x7f"  # a date that no calendar knows
    yield b"\x04v\0\x13\0\0\0\x107\0\x01\0\0\0\x103\0\x02\0\0\0\0"  # an array that counts oddly
    yield b"\x08v\0\x01\x08v\0\0\x08v\0\x01"  # one name three times
    yield b"\x10\0\x01\0\0\0\x10\0\x02\0\0\0"  # and that name is empty
    yield encode({"a.b": 1, ".": 2, "..": 3, "$a": 4, "a$": 5, "a.$[].b": 6, "$": 7})[4:-1]
    yield encode({"z": 1, "a": 2, "m": {"z": 1, "a": 2}, "10": 1, "9": 2})[4:-1]
    yield encode({"v": _nested(DEEPEST - 2)})[4:-1]


def documents(first: int) -> Iterator[RawBSONDocument]:
    """Yield documents with each of `values`, with the key first, and one without any."""
    for number, element in enumerate(values(), first):
        yield _document(encode({"_id": number})[4:-1] + element)
    yield _document(encode({"_id": f"bare {first}"})[4:-1])


def large(key: Any, *, spare: int = 0) -> RawBSONDocument:
    """Return a document of 16 MB, less *spare* bytes."""
    size = LARGEST - len(encode({"_id": key, "fill": b"", "n": 0})) - spare
    return RawBSONDocument(encode({"_id": key, "fill": b"f" * size, "n": 0}))


@pytest.mark.parametrize("moment", [None, *MOMENTS])
def test_documents(ends: Any, tmp_path: Path, moment: str | None) -> None:
    """Documents of every kind, inserted and changed at any moment, are the same to the byte."""
    source = ends.source.client
    source.shop.people.insert_many(
        {"_id": i} for i in range(10_000, 10_000 + (MANY if moment == "copy" else 10))
    )
    _insert(source.shop.before, [*documents(7_000), *documents_of_every_kind(), large("L1")])
    _insert(source.shop.changed, documents(7_000))
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        if moment is None:
            running.start()
            running.committed()
        else:
            _hold(running, moment, source)
            _change(source)
            if moment != "plan":
                running.await_captured(source)
            if moment == "commit":
                running.commit()
            running.release()
            assert (running.committed() if moment != "commit" else running.end()).failure is None

    assert source.shop.before.count_documents({}) > 90
    assert differences(source, ends.target.client) == []


def _change(source: Client) -> None:
    shop = source.shop
    kinds = list(documents(7_000))
    # Each becomes the next one, under its own key.
    for old, new in zip(kinds, [*kinds[1:], kinds[0]], strict=True):
        _replace(shop.changed, old, new)
    _insert(shop.later, [*documents(7_000), *documents_of_every_kind()])
    shop.before.update_many({"_id": {"$type": "number"}}, {"$set": {"z": -0.0}})
    shop.before.delete_many({"_id": {"$in": [1, 7_003, True, MinKey(), ""]}})
    # Near the limit in one update; an event with both states would not fit into 16 MB.
    shop.before.update_one({"_id": "L1"}, {"$inc": {"n": 1}})
    _insert(shop.before, [large("L2", spare=100)])
    shop.before.update_one({"_id": "L2"}, {"$set": {"more": "x" * 80}})
    shop.before.update_one({"_id": "L2"}, {"$set": {"fill": "y" * (LARGEST - 200)}})
    _insert(shop.people, [_document(encode({"_id": "last"})[4:-1])])


def _hold(running: Running, moment: str, source: Client) -> None:
    if moment == "commit":
        running.start()
        running.await_ready()
        running.hold_at(moment)
        source.shop.people.insert_one({"_id": "waited for"})
    else:
        running.hold_at(moment)
        running.start()
    running.await_held()


def _insert(collection: Any, found: Iterable[RawBSONDocument]) -> None:
    batch: list[RawBSONDocument] = []
    for document in [*found, None]:
        size = sum(len(d.raw) for d in batch) + (
            BATCH_BYTES if document is None else len(document.raw)
        )
        if batch and size > BATCH_BYTES:
            # By command: the driver would put a key into what has none that it can see.
            command = {"insert": collection.name, "documents": batch, "ordered": False}
            reply = collection.database.command(command, codec_options=DEFAULT_RAW_BSON_OPTIONS)
            assert "writeErrors" not in reply, [bytes(e.raw)[:300] for e in reply["writeErrors"]]
            batch = []
        if document is not None:
            batch.append(document)


def _replace(collection: Any, old: RawBSONDocument, new: RawBSONDocument) -> None:
    key = key_of(old.raw)
    document = _document(key[4:-1] + bytes(new.raw)[len(key_of(new.raw)) - 1 : -1])
    updates = [{"q": RawBSONDocument(key), "u": document}]
    reply = collection.database.command(
        {"update": collection.name, "updates": updates}, codec_options=DEFAULT_RAW_BSON_OPTIONS
    )
    if "writeErrors" in reply:  # what begins with a dollar is taken for an operator
        collection.delete_one(RawBSONDocument(key))
        _insert(collection, [document])


def _nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"": found}
    return found


def _document(content: bytes) -> RawBSONDocument:
    return RawBSONDocument(struct.pack("<i", len(content) + 5) + content + b"\0")
