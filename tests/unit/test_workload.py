from __future__ import annotations

import bson
import pytest

from limosa.workload.filling import documents_of
from limosa.workload.ids import SPECIMENS, every_kind
from limosa.workload.shapes import RECORDS, SHAPES, Shape

EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: str(s.namespace))


@EACH_SHAPE
def test_deterministic(shape: Shape) -> None:
    """The same seed makes the same documents to the byte; another one does not."""
    first = documents_of(shape, range(50), seed=1)

    assert [d.raw for d in documents_of(shape, range(50), seed=1)] == [d.raw for d in first]
    assert [d.raw for d in documents_of(shape, range(50), seed=2)] != [d.raw for d in first]


@EACH_SHAPE
def test_realistic_size(shape: Shape) -> None:
    """Documents are a few hundred bytes long."""
    documents = documents_of(shape, range(200), seed=1)

    assert 250 <= sum(len(d.raw) for d in documents) / len(documents) <= 1_000


@EACH_SHAPE
@pytest.mark.parametrize("start", [0, 2**51 - 500])
def test_distinct_keys(shape: Shape, start: int) -> None:
    """No two numbers make the same key."""
    documents = documents_of(shape, range(start, start + 500), seed=1)

    assert len({bson.encode({"_id": d["_id"]}) for d in documents}) == 500


def test_shares() -> None:
    """The shares of all collections make one whole."""
    assert sum(s.share for s in SHAPES) == pytest.approx(1)


def test_every_kind_of_key() -> None:
    """There is a key of every BSON type that MongoDB takes for one."""
    kinds = {bson.encode({"_id": every_kind(n)})[4] for n in range(len(SPECIMENS))}

    refused_by_mongodb = {0x04, 0x0B}  # array and regular expression
    deprecated = {0x06, 0x0C, 0x0E}  # undefined, pointer, symbol
    assert kinds == {*range(0x01, 0x14), 0x7F, 0xFF} - refused_by_mongodb - deprecated


def test_records_have_every_kind() -> None:
    """The first records carry the odd keys."""
    keys = [d["_id"] for d in documents_of(RECORDS, range(len(SPECIMENS)), seed=1)]

    assert len(keys) == len(SPECIMENS)
    assert None in keys
