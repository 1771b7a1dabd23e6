"""A command with an encoded array is, byte for byte, one that the driver has encoded."""

from __future__ import annotations

from typing import Any

import bson
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from pymongo import message

from limosa.connectors.mongodb.arrays import DurableWith
from limosa.connectors.mongodb.commands import DURABLE
from limosa.model import Batch

DOCUMENTS = st.lists(st.dictionaries(st.text("ab\x11", max_size=3), st.binary(max_size=40)))
#: Of a message before its body: its header, flags, and the kind of what follows.
HEAD = 16 + 4 + 1


@given(DOCUMENTS)
def test_array(documents: list[dict[str, Any]]) -> None:
    """The array follows the write concern as it came; what the driver adds stands after it."""
    batch = Batch.of(documents)
    command = {"insert": "people", "ordered": False, "writeConcern": DurableWith(batch)}

    _, sent, *_ = message._op_msg(0, command, "shop", None, CodecOptions())

    expected = {
        "insert": "people",
        "ordered": False,
        "writeConcern": DURABLE,
        "documents": documents,
        "$db": "shop",
    }
    assert sent[HEAD:] == bson.encode(expected)


def test_write_concern() -> None:
    """Whoever looks into it, as a log does, sees the write concern."""
    assert dict(DurableWith(Batch.of([{"_id": 1}]))) == DURABLE
