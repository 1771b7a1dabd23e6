"""MongoDB replica sets, by the public driver API alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...connector import Connector, Finding
from ...model import CollectionSpec
from .deployment import Deployment, identity
from .source import MongoSource
from .target import MongoTarget


def _examine(uri: str, role: str, specs: Sequence[CollectionSpec]) -> Iterable[Finding]:
    from .examine import examine

    return examine(uri, role, specs)


CONNECTOR = Connector(
    kind="mongodb",
    schemes=("mongodb", "mongodb+srv"),
    open_source=lambda uri: MongoSource(Deployment(uri)),
    open_target=lambda uri: MongoTarget(Deployment(uri)),
    identity=identity,
    examine=_examine,
)
