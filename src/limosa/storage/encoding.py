"""
Change batches as bytes, at well under a microsecond for a change that is only a key.

A body is one BSON document. The keys of a collection are one blob in it, end to end: a key is
a BSON document, which begins with its length. States, if any is known, are another blob. A body
of many keys is packed into another document, with its size beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from struct import Struct, iter_unpack
from typing import Any, cast

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from ..model import (
    Collection,
    Document,
    Key,
    KeyStates,
    Namespace,
    SchemaChange,
    SchemaVerb,
)
from ..slices import split

# A date beyond the year 9999 is legal in BSON; Python has no datetime for it.
EXACT: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

#: Bytes from which on a body of keys is packed. 22 bytes of a random ObjectId's key become 5, for
#: 0.2 µs of CPU; with as much less for the disk to do, capture gets faster, not slower.
_PACKED_FROM = 512
#: Of zlib. The usual level makes a quarter less of it, and takes three times as long.
_PACKING_LEVEL = 1

# No document is without ``_id``, so the empty one is free to stand for an unknown state.
_UNKNOWN = bson.encode({})

#: How a packed body goes on after its length: an int32 of that name.
_SIZE = b"\x10size\0"
_INT32 = Struct("<i")


def encoded_changes(changes: Mapping[Collection, KeyStates]) -> bytes:
    """Return the body of a batch of document changes."""
    entries = [_entry(*item) for item in changes.items()]
    body = bson.encode({"changes": entries})
    # Documents are large, seldom stored, and would be packed at 10 µs each.
    if len(body) < _PACKED_FROM or any("states" in entry for entry in entries):
        return body
    return bson.encode({"size": len(body), "packed": zlib.compress(body, _PACKING_LEVEL)})


def decoded_changes(body: bytes) -> dict[Collection, dict[Key, Document | None]]:
    """Return what `encoded_changes` was given; the documents are not decoded."""
    found = bson.decode(body)
    if "packed" in found:
        found = bson.decode(zlib.decompress(found["packed"]))
    return {_collection(entry): _states(entry) for entry in found["changes"]}


def size_of(body: bytes) -> int:
    """Return the bytes of a body that is not packed, or was not."""
    # The size is the first field, and of a fixed place: bodies are not copied to learn it.
    if body[4:10] != _SIZE:
        return len(body)
    size: int = _INT32.unpack_from(body, 10)[0]
    return size


def encoded_schema_change(change: SchemaChange) -> bytes:
    """Return the body of a batch that holds *change*."""
    document = {
        **_name(change.collection),
        "verb": change.verb.value,
        "detail": change.detail,
        "to": [change.to.database, change.to.collection] if change.to else None,
    }
    return bson.encode({"schema": document})


def decoded_schema_change(body: bytes) -> SchemaChange:
    """Return what `encoded_schema_change` was given, every BSON type of the detail kept."""
    document = bson.decode(body, EXACT)["schema"]
    to = document["to"]
    return SchemaChange(
        verb=SchemaVerb(document["verb"]),
        collection=_collection(document),
        detail=document["detail"],
        to=Namespace(*to) if to else None,
    )


def _entry(collection: Collection, states: KeyStates) -> dict[str, Any]:
    widths = set(map(len, states))
    width = widths.pop() if len(widths) == 1 else 0
    entry: dict[str, Any] = {**_name(collection), "keys": b"".join(states), "width": width}
    documents = states.values()
    if any(document is not None for document in documents):
        entry["states"] = b"".join(_UNKNOWN if d is None else d.raw for d in documents)
    return entry


def _states(entry: Mapping[str, Any]) -> dict[Key, Document | None]:
    keys = _keys(entry["keys"], entry["width"])
    if "states" not in entry:
        return dict.fromkeys(keys)
    pieces = split(entry["states"])
    states = (RawBSONDocument(piece) if piece != _UNKNOWN else None for piece in pieces)
    return dict(zip(keys, states, strict=True))


def _keys(blob: bytes, width: int) -> list[Key]:
    # Most collections have keys of one length, and those are cut four times as fast.
    pieces = [piece for (piece,) in iter_unpack(f"{width}s", blob)] if width else split(blob)
    return cast("list[Key]", pieces)


def _name(collection: Collection) -> dict[str, Any]:
    namespace = collection.namespace
    return {"db": namespace.database, "collection": namespace.collection, "id": collection.id}


def _collection(document: Mapping[str, Any]) -> Collection:
    return Collection(Namespace(document["db"], document["collection"]), document["id"])


def joined(
    bodies: Iterable[Mapping[Collection, KeyStates]],
) -> dict[Collection, dict[Key, Document | None]]:
    """
    Return the changes of several batches as those of one.

    The later state of a key replaces the earlier; a key keeps the place of its first touch.
    """
    changes: dict[Collection, dict[Key, Document | None]] = {}
    for body in bodies:
        for collection, states in body.items():
            changes.setdefault(collection, {}).update(states)
    return changes
