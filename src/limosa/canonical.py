"""
BSON as bytes: keys, slices and equality, without decoding.

Everything follows the public BSON specification. Malformed bytes raise `InvalidBSON`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from operator import itemgetter
from typing import Any

import bson
from bson.codec_options import DatetimeConversion
from bson.errors import InvalidBSON
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

from .model import Document, Key
from .slices import malformed

#: What `readable` shows at most; a key may be as large as a document.
MAX_READABLE = 120

_INT32 = struct.Struct("<i")
_INT64 = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_DECIMAL = struct.Struct("<QQ")

#: Where the value begins in a key: four bytes of length, one of type, ``_id`` and its zero.
_VALUE = 9

_DOUBLE_TYPE, _DOCUMENT, _ARRAY, _BINARY, _OBJECT_ID = 0x01, 0x03, 0x04, 0x05, 0x07
_REGEX, _DB_POINTER, _SYMBOL, _CODE_WITH_SCOPE = 0x0B, 0x0C, 0x0E, 0x0F
_INT32_TYPE, _INT64_TYPE, _DECIMAL_TYPE = 0x10, 0x12, 0x13

#: Bytes of a value, by type, where the type alone tells.
_FIXED = {
    _DOUBLE_TYPE: 8,
    0x06: 0,  # undefined
    _OBJECT_ID: 12,
    0x08: 1,  # boolean
    0x09: 8,  # date
    0x0A: 0,  # null
    _INT32_TYPE: 4,
    0x11: 8,  # timestamp
    _INT64_TYPE: 8,
    _DECIMAL_TYPE: 16,
    0x7F: 0,  # MaxKey
    0xFF: 0,  # MinKey
}

#: Bytes to add to the length that leads the value.
_AFTER_LENGTH = {
    0x02: 4,  # string
    _DOCUMENT: 0,
    _ARRAY: 0,
    _BINARY: 5,
    _DB_POINTER: 16,
    0x0D: 4,  # code
    _SYMBOL: 4,
    _CODE_WITH_SCOPE: 0,
}

#: Types of which some unequal bytes are equal to MongoDB.
_AMBIGUOUS = frozenset(
    {
        _DOUBLE_TYPE,
        _DOCUMENT,
        _ARRAY,
        _SYMBOL,
        _CODE_WITH_SCOPE,
        _INT32_TYPE,
        _INT64_TYPE,
        _DECIMAL_TYPE,
    }
)

_STRING, _DATE = 0x02, 0x09
_TEXTS = frozenset({_STRING, _SYMBOL})
_NUMBERS = frozenset({_DOUBLE_TYPE, _INT32_TYPE, _INT64_TYPE, _DECIMAL_TYPE})

#: What to sort keys of a type by.
_CONTENT = itemgetter(slice(_VALUE + 4, None))
_INTEGERS: dict[int, Callable[[Key], Any]] = {
    _INT32_TYPE: lambda key: _INT32.unpack_from(key, _VALUE),
    _INT64_TYPE: lambda key: _INT64.unpack_from(key, _VALUE),
    _DATE: lambda key: _INT64.unpack_from(key, _VALUE),
}

_NAN_HASH = hash("NaN")
_READABLE_OPTIONS = CANONICAL_JSON_OPTIONS.with_options(
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)


def elements(document: bytes, *, start: int = 0) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield type, name and the bounds of the value for each element of what begins at *start*."""
    try:
        limit = start + _INT32.unpack_from(document, start)[0] - 1
        if limit >= len(document) or document[limit]:
            raise malformed(start)
        at = start + 4
        while at < limit:
            kind = document[at]
            zero = document.index(0, at + 1)
            end = _end(document, kind, zero + 1)
            if not zero < end <= limit:
                raise malformed(at)
            yield kind, document[at + 1 : zero], zero + 1, end
            at = end
    except (struct.error, ValueError, IndexError) as error:
        raise malformed(start) from error
    if at != limit:
        raise malformed(at)


def key_of(document: bytes | memoryview) -> Key:
    """Return the key of *document*: BSON of its ``_id`` alone."""
    if not isinstance(document, bytes):  # the driver does not copy documents of 4 KB and more
        document = bytes(document)
    head = document[4:9]
    if head == b"\x07_id\0":  # an ObjectId, as most keys are
        return Key(b"\x16\0\0\0%b\0" % document[4:21])
    if head[1:] != b"_id\0":
        return _key_found(document)
    try:
        end = _end(document, document[4], _VALUE)
    except (struct.error, ValueError) as error:
        raise malformed(4) from error
    if not _VALUE <= end < len(document):
        raise malformed(4)
    return Key(_INT32.pack(end + 1) + document[4:end] + b"\0")


def key_for(value: object) -> Key:
    """Return the key of a document whose ``_id`` is *value*."""
    return Key(bson.encode({"_id": value}))


def in_array(keys: Iterable[Key]) -> bytes:
    """Return a BSON array of the keys' ``_id`` values, each byte for byte as it is."""
    parts = [b"%c%d\0%b" % (key[4], number, key[_VALUE:-1]) for number, key in enumerate(keys)]
    return _enclosed(b"".join(parts))


def id_in(keys: Iterable[Key]) -> Document:
    """Return the filter ``{"_id": {"$in": [...]}}``, each ``_id`` byte for byte as it is."""
    # A raw document within a filter is sent as a document, never as an array; so the whole
    # filter is made here.
    condition = _enclosed(b"\x04$in\0" + in_array(keys))
    return RawBSONDocument(_enclosed(b"\x03_id\0" + condition), DEFAULT_RAW_BSON_OPTIONS)


def equality_hash(key: Key) -> int:
    """
    Return a number that is the same for all keys that MongoDB takes for equal.

    That is by its simple comparison, as if without collation: 1 and 1.0, 0 and −0.0, NaN of any
    sort, a string and a symbol. Unequal keys seldom share it. It holds within this process.
    """
    kind = key[4]
    if kind not in _AMBIGUOUS:
        return hash(key)
    if kind == _SYMBOL:
        return hash(key[:4] + b"\x02" + key[5:])  # the string that MongoDB takes it for
    return _value_hash(key, kind, _VALUE, len(key) - 1)


def index_place(key: Key) -> tuple[int, int | bytes]:
    """
    Return what to sort keys by so that those near each other in an index come together.

    Keys that MongoDB takes for equal share their place, as they share `equality_hash`.
    """
    kind = key[4]
    if kind == _OBJECT_ID:  # as most keys are
        return kind, key
    if kind in _NUMBERS:
        return _DOUBLE_TYPE, equality_hash(key)  # the hash of a number of usual size is the number
    if kind in _TEXTS:
        return _STRING, key[_VALUE + 4 :]
    if kind in _AMBIGUOUS:
        return kind, equality_hash(key)
    if kind == _DATE:
        return kind, int(_INT64.unpack_from(key, _VALUE)[0])
    return kind, key


def distinct_in_index_order(keys: Iterable[Key]) -> list[Key] | None:
    """
    Return *keys* in the order of `index_place`; None if MongoDB may take some for equal.

    Where it can tell, which is for keys of one type in almost every collection, that is ten
    times as fast as to ask for the place of each.
    """
    found = list(keys)
    kinds = {key[4] for key in found}
    if len(kinds) > 1:
        return None
    kind = next(iter(kinds), _OBJECT_ID)
    if kind in {_OBJECT_ID, _BINARY}:
        found.sort()
    elif kind == _STRING:
        found.sort(key=_CONTENT)
    elif kind in _INTEGERS:
        found.sort(key=_INTEGERS[kind])
    else:
        return None
    return found


def readable(key: Key) -> str:
    """Return the ``_id`` as canonical extended JSON for display, cut if it is long; never fails."""
    try:
        text = dumps(bson.decode(key, _READABLE_OPTIONS)["_id"], json_options=_READABLE_OPTIONS)
    except (InvalidBSON, ArithmeticError, LookupError, TypeError, ValueError):
        text = f'{{"$bson": "{key.hex()}"}}'
    return text if len(text) <= MAX_READABLE else text[: MAX_READABLE - 1] + "…"


def _end(data: bytes, kind: int, at: int) -> int:
    size = _FIXED.get(kind)
    if size is not None:
        return at + size
    more = _AFTER_LENGTH.get(kind)
    if more is not None:
        length: int = _INT32.unpack_from(data, at)[0]
        return at + length + more
    if kind == _REGEX:
        return data.index(0, data.index(0, at) + 1) + 1
    msg = f"expected a BSON type, got 0x{kind:02x} before byte {at}"
    raise InvalidBSON(msg)


def _enclosed(content: bytes) -> bytes:
    return b"%b%b\0" % (_INT32.pack(len(content) + 5), content)


def _key_found(document: bytes) -> Key:
    for kind, name, start, end in elements(document):
        if name == b"_id":
            return Key(_enclosed(b"%c_id\0%b" % (kind, document[start:end])))
    msg = "expected a document with an _id"
    raise InvalidBSON(msg)


def _value_hash(data: bytes, kind: int, start: int, end: int) -> int:
    if kind == _INT32_TYPE:
        return hash(_INT32.unpack_from(data, start)[0])
    if kind == _INT64_TYPE:
        return hash(_INT64.unpack_from(data, start)[0])
    if kind == _DOUBLE_TYPE:
        double: float = _DOUBLE.unpack_from(data, start)[0]
        return hash(double) if double == double else _NAN_HASH
    if kind == _DECIMAL_TYPE:
        return _decimal_hash(data, start)
    if kind == _DOCUMENT:
        return hash(
            tuple(
                (name, _value_hash(data, k, s, e)) for k, name, s, e in elements(data, start=start)
            )
        )
    if kind == _ARRAY:
        return hash(tuple(_value_hash(data, k, s, e) for k, _, s, e in elements(data, start=start)))
    if kind == _CODE_WITH_SCOPE:
        # The scope may hold numbers of any type; the code alone is enough to tell most apart.
        start += 4
        end = start + 4 + _INT32.unpack_from(data, start)[0]
    return hash(data[start:end])


def _decimal_hash(data: bytes, start: int) -> int:
    low, high = _DECIMAL.unpack_from(data, start)
    sign, form = high >> 63, high >> 58 & 0x1F
    if form == 0x1F:
        return _NAN_HASH
    if form == 0x1E:
        return hash(float("-inf") if sign else float("inf"))
    significand = (high & 0x1FFFFFFFFFFFF) << 64 | low
    if form >= 0x18 or significand >= 10**34:
        return hash(0)  # not canonical: the decimal standard reads it as zero
    exponent = (high >> 49 & 0x3FFF) - 6176
    number = Decimal((sign, tuple(map(int, str(significand))), exponent))
    # Against doubles, MongoDB compares by 34 digits; these give back the double they came from.
    # Where integers of 64 bits live, all comparison is exact.
    is_exact = -(2**63) <= number < 2**63 and number == number.to_integral_value()
    return hash(number) if is_exact else hash(float(number))
