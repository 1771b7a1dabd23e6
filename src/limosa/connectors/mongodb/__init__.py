"""MongoDB replica sets, by the public driver API alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...connector import Connector, Finding, Source, Target
from ...model import CollectionSpec
from .deployment import Deployment, identity
from .reader import MongoReader
from .secondaries import reading_from
from .source import MongoSource
from .target import MongoTarget


def _examine(uri: str, role: str, specs: Sequence[CollectionSpec]) -> Iterable[Finding]:
    from .examine import examine

    return examine(uri, role, specs)


def _examine_blocking(uri: str, role: str) -> Iterable[Finding]:
    from .blocking import examine_blocking

    return examine_blocking(uri, role)


def _open_source(uri: str, *, database: str | None = None) -> MongoSource:
    return MongoSource(Deployment(uri), database=database)


def _are_same(source: Source, target: Target) -> bool:
    assert isinstance(source, MongoReader)
    assert isinstance(target, MongoReader)
    return source.process_id() is not None and source.process_id() == target.process_id()


def _examine_accounts(uri: str, role: str) -> Iterable[Finding]:
    from .privileges import examine_accounts

    return examine_accounts(uri, role)


CONNECTOR = Connector(
    kind="mongodb",
    schemes=("mongodb", "mongodb+srv"),
    open_source=_open_source,
    open_target=lambda uri: MongoTarget(Deployment(uri)),
    identity=identity,
    examine=_examine,
    are_same=_are_same,
    read_from=reading_from,
    reverses=True,
    blocks_writes=True,
    examine_blocking=_examine_blocking,
    examine_accounts=_examine_accounts,
)
