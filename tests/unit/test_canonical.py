"""Bytes say the same as what the driver decodes from them."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import (
    Binary,
    Code,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from limosa.canonical import (
    MAX_READABLE,
    elements,
    equality_hash,
    id_in,
    in_array,
    index_place,
    key_for,
    key_of,
    readable,
)
from limosa.model import Key
from limosa.slices import documents_of, split, starts_of

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
DECIMALS = st.builds(
    lambda high, low: Decimal128.from_bid(struct.pack("<QQ", low, high)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.builds(Binary, st.binary(max_size=20), st.integers(0, 255)),
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(Regex, NAMES, st.sampled_from(["", "i", "imsx"])),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9).map(Code),
    st.builds(lambda c, n: Code(c, {"n": n}), NAMES, st.integers(0, 9)),
    DECIMALS,
    st.just(MinKey()),
    st.just(MaxKey()),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=6)
STRING = struct.pack("<i", 4) + b"abc\0"

#: Elements that the driver reads but does not write: type and value.
LEGACY = {
    "undefined": (0x06, b""),
    "symbol": (0x0E, STRING),
    "dbpointer": (0x0C, STRING + bytes(range(12))),
}


def enclosed(content: bytes) -> bytes:
    return struct.pack("<i", len(content) + 5) + content + b"\0"


def legacy_key(name: str) -> Key:
    kind, value = LEGACY[name]
    return Key(enclosed(bytes([kind]) + b"_id\0" + value))


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Compares by bytes, as NaN is not equal to itself."""
    return bson.encode(one) == bson.encode(other)


@given(DOCUMENTS)
def test_elements(document: dict[str, Any]) -> None:
    """Every element comes with the name and the value that the driver decodes."""
    data = bson.encode(document)

    found = {
        name.decode(): bson.decode(enclosed(bytes([kind]) + b"v\0" + data[start:end]))["v"]
        for kind, name, start, end in elements(data)
    }

    assert same(found, bson.decode(data))


@given(DOCUMENTS, st.binary(max_size=20))
def test_elements_within_other_bytes(document: dict[str, Any], before: bytes) -> None:
    """A document is read at any place."""
    data = bson.encode(document)

    found = list(elements(before + data + b"more", start=len(before)))

    shift = len(before)
    assert found == [(k, n, s + shift, e + shift) for k, n, s, e in elements(data)]


@pytest.mark.parametrize("name", LEGACY)
def test_elements_of_legacy_types(name: str) -> None:
    """Types that are no longer written are still read."""
    kind, value = LEGACY[name]
    content = bytes([kind]) + b"old\0" + value + b"\x10new\0\1\0\0\0"

    found = list(elements(enclosed(content)))

    assert [(k, n) for k, n, _, _ in found] == [(kind, b"old"), (0x10, b"new")]
    assert found[0][3] - found[0][2] == len(value)


@given(DOCUMENTS, VALUES)
def test_key_of(document: dict[str, Any], value: Any) -> None:
    """The key is the _id alone, wherever it stands in the document."""
    document.pop("_id", None)

    first = key_of(bson.encode({"_id": value, **document}))
    last = key_of(bson.encode({**document, "_id": value}))

    # The driver encodes the _id first, so the second document is put together by hand.
    content = bson.encode(document)[4:-1] + bson.encode({"_id": value})[4:-1]
    assert first == last == key_of(enclosed(content)) == bson.encode({"_id": value})
    assert first == key_for(value)


@pytest.mark.parametrize("name", LEGACY)
def test_key_of_legacy_types(name: str) -> None:
    """A key of a type that is no longer written is kept byte for byte."""
    key = legacy_key(name)

    assert key_of(enclosed(key[4:-1] + b"\x0ax\0")) == key
    assert key_of(enclosed(b"\x0ax\0" + key[4:-1])) == key


def test_key_of_nothing() -> None:
    """A document without _id is refused."""
    with pytest.raises(InvalidBSON, match="_id"):
        key_of(bson.encode({"id": 1}))


@given(st.lists(DOCUMENTS, max_size=6))
def test_split(documents: list[dict[str, Any]]) -> None:
    """Documents in a row come apart again."""
    encoded = [bson.encode(d) for d in documents]

    assert split(b"".join(encoded)) == encoded


@given(st.lists(DOCUMENTS, max_size=12))
def test_documents_of(documents: list[dict[str, Any]]) -> None:
    """The documents of an array come out as they went in."""
    encoded = [bson.encode(d) for d in documents]

    array = bson.encode({str(i): RawBSONDocument(d) for i, d in enumerate(encoded)})

    assert documents_of(array) == encoded
    assert [array[at : at + len(d)] for at, d in zip(starts_of(array), encoded, strict=True)] == (
        encoded
    )


@pytest.mark.parametrize("length", [-1, -8, -(2**31), 0, 4, 6, 2**31 - 1])
def test_documents_of_wrong_length(length: int) -> None:
    """A document whose length is not its own is refused, also one that would lead backwards."""
    array = bytearray(bson.encode({str(i): {} for i in range(12)}))
    second = array.index(b"\x031\0") + 3
    array[second : second + 4] = (length % 2**32).to_bytes(4, "little")

    with pytest.raises(InvalidBSON):
        documents_of(bytes(array))


@given(st.lists(VALUES, max_size=12))
def test_in_array(values: list[Any]) -> None:
    """The array holds the very values."""
    array = in_array([key_for(v) for v in values])

    assert array == bson.encode({str(i): v for i, v in enumerate(values)})


@given(st.lists(VALUES, max_size=12))
def test_id_in(values: list[Any]) -> None:
    """The filter is what the driver would make of the decoded keys."""
    wanted = {"_id": {"$in": values}}

    assert id_in([key_for(v) for v in values]).raw == bson.encode(wanted)
    assert bson.encode({"q": id_in([key_for(v) for v in values])}) == bson.encode({"q": wanted})


@pytest.mark.parametrize("name", LEGACY)
def test_in_array_of_legacy_types(name: str) -> None:
    """A value of a type that is no longer written is looked up as what it is."""
    kind, value = LEGACY[name]

    assert in_array([legacy_key(name)]) == enclosed(bytes([kind]) + b"0\0" + value)


@given(DOCUMENTS, VALUES, st.data())
def test_malformed(document: dict[str, Any], value: Any, data: st.DataObject) -> None:
    """Bytes that are damaged anywhere are refused or read, and never anything else."""
    damaged = bytearray(bson.encode({**document, "_id": value}))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    whole = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])

    for function in (lambda b: list(elements(b)), key_of, split, documents_of, starts_of):
        with suppress(InvalidBSON):
            function(whole)


SAME = [
    [1, Int64(1), 1.0, Decimal128("1"), Decimal128("1.000"), Decimal128("10E-1")],
    [0, 0.0, -0.0, Int64(0), Decimal128("0"), Decimal128("-0"), Decimal128("0E+6000")],
    [math.nan, -math.nan, Decimal128("NaN"), Decimal128("-NaN"), Decimal128("sNaN")],
    [math.inf, Decimal128("Infinity")],
    [-math.inf, Decimal128("-Infinity")],
    [2.0**62, Int64(2**62), Decimal128(str(2**62))],
    [-(2.0**63), Int64(-(2**63)), Decimal128(str(-(2**63)))],
    [0.5, Decimal128("0.5"), Decimal128("5E-1")],
    [1e300, Decimal128("1E+300")],
    [0.1, Decimal128("0.1000000000000000055511151231257827")],
]


@pytest.mark.parametrize("values", SAME, ids=repr)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"a": v}, lambda v: {"a": [1, {"b": v}]}])
def test_equality_hash(values: list[Any], wrap: Any) -> None:
    """Values that MongoDB takes for equal share a hash, also inside of documents."""
    assert len({equality_hash(key_for(wrap(v))) for v in values}) == 1


@given(st.integers(-(2**63), 2**63 - 1), st.floats())
def test_equality_hash_of_numbers(integer: int, double: float) -> None:
    """A number hashes the same as long, double and decimal where these can hold it."""
    hashes = {equality_hash(key_for(Int64(integer))), equality_hash(key_for(decimal(integer)))}
    if int(float(integer)) == integer:
        hashes.add(equality_hash(key_for(float(integer))))
    assert len(hashes) == 1

    if math.isfinite(double):
        # The server rounds a double to 34 digits before it compares it with a decimal.
        hashes = {equality_hash(key_for(double)), equality_hash(key_for(decimal(double)))}
        assert len(hashes) == 1


def decimal(number: float) -> Decimal128:
    return Decimal128(f"{Decimal(number):.33E}")


@given(VALUES, VALUES)
def test_equality_hash_tells_apart(one: Any, other: Any) -> None:
    """It is stable, and the same for equal bytes."""
    assert equality_hash(key_for(one)) == equality_hash(key_for(one))
    if key_for(one) == key_for(other):
        assert equality_hash(key_for(one)) == equality_hash(key_for(other))


def test_equality_hash_of_symbol() -> None:
    """A symbol is equal to the string of its characters."""
    assert equality_hash(legacy_key("symbol")) == equality_hash(key_for("abc"))


def test_equality_hash_seldom_collides() -> None:
    """Large neighbouring longs, and embedded documents, have hashes of their own."""
    longs = {equality_hash(key_for(Int64(2**60 + i))) for i in range(1000)}
    embedded = {equality_hash(key_for({"a": i, "b": "x"})) for i in range(1000)}

    assert len(longs) == len(embedded) == 1000


@pytest.mark.parametrize("values", SAME, ids=repr)
def test_index_place(values: list[Any]) -> None:
    """Values that MongoDB takes for equal share a place."""
    assert len({index_place(key_for(v)) for v in values}) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda i: ObjectId(i.to_bytes(12, "big")),
        lambda i: i if i % 2 else Int64(i),
        lambda i: float(i),
        lambda i: f"customer {i:06}",
        lambda i: "x" * i,
        lambda i: datetime.fromtimestamp(i, UTC),
        lambda i: Binary(i.to_bytes(16, "big"), 4),
    ],
    ids=["ObjectId", "integers", "doubles", "strings", "lengths", "dates", "UUIDs"],
)
def test_index_place_follows_the_index(make: Any) -> None:
    """Keys sorted by their place stand in the order of the index on ``_id``."""
    keys = [key_for(make(i)) for i in range(1, 2_000)]

    assert sorted(keys, key=index_place) == keys


@given(st.lists(VALUES, max_size=20))
def test_index_places_compare(values: list[Any]) -> None:
    """Keys of any types can be sorted together."""
    keys = [key_for(v) for v in values]

    assert sorted(sorted(keys, key=index_place)) == sorted(keys)


def test_index_place_of_symbol() -> None:
    """A symbol has the place of the string of its characters."""
    assert index_place(legacy_key("symbol")) == index_place(key_for("abc"))


@given(VALUES)
def test_readable(value: Any) -> None:
    """A key can always be shown, and is never long."""
    text = readable(key_for(value))

    assert 0 < len(text) <= MAX_READABLE


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, '{"$numberInt": "1"}'),
        (Int64(1), '{"$numberLong": "1"}'),
        ("a", '"a"'),
        (-0.0, '{"$numberDouble": "-0.0"}'),
        (ObjectId("6b02ea87297c21b26969bcf0"), '{"$oid": "6b02ea87297c21b26969bcf0"}'),
        ("x" * 500, '"' + "x" * 118 + "…"),
    ],
    ids=str,
)
def test_readable_says(value: Any, text: str) -> None:
    """The text is canonical extended JSON."""
    assert readable(key_for(value)) == text


@pytest.mark.parametrize(
    "key",
    [
        *map(legacy_key, LEGACY),
        Key(b""),
        Key(b"\x05\0\0\0\0"),
        Key(enclosed(b"\x02_id\0\x03\0\0\0\xff\xfe\0")),
        Key(enclosed(b"\x09_id\0" + b"\xff" * 7 + b"\x7f")),
        Key(enclosed(b"\x99_id\0")),
    ],
    ids=bytes.hex,
)
def test_readable_never_fails(key: Key) -> None:
    """Also what cannot be decoded is shown."""
    assert readable(key)
