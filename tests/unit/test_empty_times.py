"""Timestamps of zero are found wherever they are, and quickly where they are not."""

from __future__ import annotations

import random
import re
import time

import bson
import pytest
from bson import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from limosa.connectors.mongodb.empty_times import has_empty_time, may_have_empty_time

#: A type's byte, a name, which may not be cut in two by another such byte, and nine zeros.
PATTERN = re.compile(rb"\x11[^\x00\x11]*\x00{9}")
#: Bytes that make what is looked for likely: of random ones hardly any would.
PIECES = st.sampled_from([b"\x11", b"\0", bytes(8), bytes(9), bytes(70), b"name", b"\x12", b"\x01"])


@given(st.lists(PIECES, max_size=30), st.integers(0, 3))
def test_as_the_pattern(pieces: list[bytes], times: int) -> None:
    """What is found is what the pattern finds, with few and with many bytes around it."""
    raw = b"".join(pieces) + b"x" * (3_000 * times)

    assert may_have_empty_time(raw) == bool(PATTERN.search(raw))
    assert may_have_empty_time(raw[::-1]) == bool(PATTERN.search(raw[::-1]))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"_id": 1, "at": Timestamp(0, 0)}, True),
        ({"_id": 1, "": Timestamp(0, 0)}, True),
        ({"_id": 1, "\x11\x11": Timestamp(0, 0)}, True),
        ({"_id": Timestamp(0, 0)}, False),
        ({"_id": 1, "in": {"at": Timestamp(0, 0)}}, False),
        ({"_id": 1, "at": Timestamp(0, 1)}, False),
        ({"_id": 1, "zeros": bytes(100_000), "at": Timestamp(0, 0)}, True),
        ({"_id": 1, "ones": b"\x11" * 100_000, "at": Timestamp(0, 0)}, True),
        ({"_id": 1, "ones": b"\x11" * 100_000, "zeros": bytes(1_000)}, False),
        ({"_id": 1, "none": 0.0, "number": 17}, False),
    ],
)
def test_documents(document: dict[str, object], expected: bool) -> None:
    """Only a field of the document itself counts, and never its key."""
    assert has_empty_time(bson.encode(document)) is expected


def test_many_documents_at_once() -> None:
    """One among thousands is found in the bytes of all of them."""
    documents = [{"_id": n, "text": "a" * 500} for n in range(1_000)]
    without = bson.encode({str(n): d for n, d in enumerate(documents)})
    documents[700]["at"] = Timestamp(0, 0)

    assert not may_have_empty_time(without)
    assert may_have_empty_time(bson.encode({str(n): d for n, d in enumerate(documents)}))


@pytest.mark.parametrize("kind", ["noise", "zeros", "type", "both"])
def test_large(kind: str) -> None:
    """No bytes take more than a few of the times that it takes to look at each of them."""
    size = 8_000_000
    raw = {
        "noise": random.Random(1).randbytes(size),
        "zeros": bytes(size),
        "type": b"\x11" * size,
        "both": b"\x12\0" * (size // 4) + b"\x11\x12" * (size // 4),
    }[kind]
    started = time.process_time()
    for _ in range(3):
        sum(raw[:: 1 << 3])  # a million bytes, looked at by the interpreter
    scale = time.process_time() - started

    started = time.process_time()
    assert not may_have_empty_time(raw)
    assert time.process_time() - started < 20 * scale
