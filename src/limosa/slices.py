"""
Cutting BSON documents out of bytes that hold several, without decoding.

Everything follows the public BSON specification. Malformed bytes raise `InvalidBSON`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from bson.errors import InvalidBSON

_DOCUMENT = 0x03
_INT32 = struct.Struct("<i")
#: Bytes of an empty document.
_SHORTEST = 5
#: Bytes before a document whose name has one digit: its type, the digit and a zero.
_NARROWEST = 3


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
    # The walk of `starts_of` written out once more: every document that is copied passes here.
    found: list[bytes] = []
    append = found.append
    at, limit, width = 4, len(array) - 1, _NARROWEST
    try:
        while at < limit:
            names, header = _headers(width)
            for _ in range(names):
                kind, size = header(array, at)
                if kind != _DOCUMENT:
                    raise malformed(at)
                begin = at + width
                at = begin + size
                append(array[begin:at])
                if at >= limit:
                    break
            width += 1
    except struct.error as error:
        raise malformed(at) from error
    # Looked at together: what is done for each by itself is most of what a document costs.
    if at != limit or min(map(len, found), default=_SHORTEST) < _SHORTEST:
        raise malformed(at)
    return found


def starts_of(array: bytes) -> list[int]:
    """Return where each document of a BSON array of documents begins."""
    found: list[int] = []
    append = found.append
    at, limit, width = 4, len(array) - 1, _NARROWEST
    try:
        while at < limit:
            names, header = _headers(width)
            for _ in range(names):
                kind, size = header(array, at)
                if kind != _DOCUMENT:
                    raise malformed(at)
                begin = at + width
                at = begin + size
                append(begin)
                if at >= limit:
                    break
            width += 1
    except struct.error as error:
        raise malformed(at) from error
    if at != limit:
        raise malformed(at)
    return found


def _headers(width: int) -> tuple[int, Callable[[bytes, int], tuple[int, int]]]:
    """
    Return how many documents of an array have a header of *width* bytes, and what reads one.

    The names are the numbers from 0 on: their width is known, so none is searched. The length has
    no sign: what is not one leads out of the array, never back.
    """
    digits = width - _NARROWEST + 1
    header = struct.Struct(f"<B{width - 1}xI")
    return 9 * 10 ** (digits - 1) + (digits == 1), header.unpack_from


def malformed(at: int) -> InvalidBSON:
    return InvalidBSON(f"expected BSON, got something else at byte {at}")
