"""
Cutting BSON documents out of bytes that hold several, without decoding.

Everything follows the public BSON specification. Malformed bytes raise `InvalidBSON`.
"""

from __future__ import annotations

import struct

from bson.errors import InvalidBSON

_DOCUMENT = 0x03
_INT32 = struct.Struct("<i")


def split(documents: bytes) -> list[bytes]:
    """Return the documents that stand one after the other in *documents*."""
    found = []
    at, end = 0, len(documents)
    try:
        while at < end:
            after = at + _INT32.unpack_from(documents, at)[0]
            if not at + 5 <= after <= end:
                raise malformed(at)
            found.append(documents[at:after])
            at = after
    except struct.error as error:
        raise malformed(at) from error
    return found


def documents_of(array: bytes) -> list[bytes]:
    """Return the documents of a BSON array of documents, in order."""
    starts = starts_of(array)
    unpack = _INT32.unpack_from
    return [array[at : at + unpack(array, at)[0]] for at in starts]


def starts_of(array: bytes) -> list[int]:
    """Return where each document of a BSON array of documents begins."""
    found: list[int] = []
    append, unpack = found.append, _INT32.unpack_from
    at, limit, digits = 4, len(array) - 1, 0
    try:
        while at < limit:
            # The names are the numbers from 0 on: their width is known, so none is searched.
            digits += 1
            for _ in range(9 * 10 ** (digits - 1) + (digits == 1)):
                begin = at + 2 + digits
                after = begin + unpack(array, begin)[0]
                if array[at] != _DOCUMENT or array[begin - 1] or not begin + 5 <= after <= limit:
                    raise malformed(at)
                append(begin)
                at = after
                if at >= limit:
                    break
    except (struct.error, IndexError) as error:
        raise malformed(at) from error
    if at != limit:
        raise malformed(at)
    return found


def malformed(at: int) -> InvalidBSON:
    return InvalidBSON(f"expected BSON, got something else at byte {at}")
