"""Arrays that came encoded, and are sent on as they are."""

from __future__ import annotations

import bson
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

from ...model import Batch, Slice
from .commands import DURABLE

_DURABLE = bson.encode(DURABLE)
_DOCUMENTS = b"\x04documents\0"


class DurableWith(Slice):
    """
    What stands in a command as ``writeConcern``, and after it the ``documents`` of a batch.

    The driver encodes an array one document after the other, though an answer's array is what a
    command has to contain, byte for byte. Of a raw document, however, it writes the bytes that it
    is given; and after the last of a document the next field begins.
    """

    __slots__ = ()

    def __init__(self, batch: Batch) -> None:
        super().__init__(b"".join((_DURABLE, _DOCUMENTS, batch.array)))

    def _decoded(self) -> RawBSONDocument:
        return RawBSONDocument(_DURABLE, DEFAULT_RAW_BSON_OPTIONS)
