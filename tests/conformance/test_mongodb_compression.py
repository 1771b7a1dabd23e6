"""Documents on a connection that compresses, whose messages the driver makes in another way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from limosa.connectors.mongodb.deployment import Deployment
from limosa.connectors.mongodb.target import MongoTarget
from limosa.model import Batch, Namespace

if TYPE_CHECKING:
    from tests.conftest import Ends

PEOPLE = Namespace("shop", "people")


@pytest.fixture
def target(ends: Ends) -> Iterator[MongoTarget]:
    uri = ends.target.uri
    options = "&compressors=zlib" if "?" in uri else "?compressors=zlib"
    with closing(MongoTarget(Deployment(uri + options))) as target:
        yield target


def test_compressed(target: MongoTarget) -> None:
    """What is written, some of it for a second time, is read back byte for byte and once."""
    first = Batch.of([{"_id": i, "text": "x" * (i % 300)} for i in range(1_200)])
    second = Batch.of([{"_id": i, "text": "x" * (i % 300)} for i in range(1_000, 2_000)])

    for batch in (first, second):
        target.write(PEOPLE, batch)
    (spec,) = target.collections()
    (partition,) = target.partitions(spec, documents=10_000)
    found = [raw for batch in target.read(partition) for raw in batch.raw]

    assert sorted(found) == sorted({*first.raw, *second.raw})
