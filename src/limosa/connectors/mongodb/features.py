"""What there is on the source that is migrated differently, or not yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...connector import Finding
from ...errors import AccessDenied
from ...model import CollectionSpec
from .deployment import is_migrated
from .indexes import identity
from .probe import Probe

_NAMED = 10


def check_features(probe: Probe, specs: Sequence[CollectionSpec]) -> Iterator[Finding]:
    """Name what is left out or has its peculiarities; nothing is said of what is plain."""
    found = [*_left_out(probe, specs), *_peculiar(specs)]
    yield from found
    if not found:
        yield Finding("features", "ok", "no collection needs special care")


def _left_out(probe: Probe, specs: Sequence[CollectionSpec]) -> Iterator[Finding]:
    views, series, scripts = [], [], []
    for database in _databases(probe, specs):
        for entry in _entries(probe, database):
            name = f"{database}.{entry['name']}"
            if entry["type"] == "view":
                views.append(name)
            elif entry["type"] == "timeseries":
                series.append(name)
            elif entry["name"] == "system.js":
                scripts.append(name)
    yield from _finding(
        "views",
        views,
        "views are created at commit, as they are then: {}",
        "they cannot be used on the target before",
        level="ok",
    )
    yield from _finding(
        "time_series",
        series,
        "time-series collections are copied bucket by bucket: {}",
        "both users need rights on the buckets: readAnyDatabase and readWriteAnyDatabase have them",
        level="ok",
    )
    yield from _finding(
        "system_collections",
        scripts,
        "stored functions are not migrated: {}",
        "save them on the target yourself",
    )


def _peculiar(specs: Sequence[CollectionSpec]) -> Iterator[Finding]:
    def having(option: str) -> list[str]:
        return [str(s.collection) for s in specs if s.options.get(option)]

    yield from _finding(
        "queryable_encryption",
        having("encryptedFields"),
        "collections with queryable encryption cannot be migrated yet: {}",
        "leave them out with --exclude",
        level="error",
    )
    yield from _finding(
        "capped_collections",
        having("capped"),
        "capped collections are copied by one worker, to keep their order: {}",
        "the target may drop old documents somewhat earlier or later than the source",
        level="ok",
    )
    yield from _finding(
        "rival_indexes",
        [str(s.collection) for s in specs if _has_rivals(s.indexes)],
        "a unique index and another one have the same key: {}",
        "the unique one is built at commit, which takes longer for it; drop the other one on "
        "the source if it is not needed",
    )


def _finding(
    check: str, names: Sequence[str], text: str, advice: str, *, level: str = "warning"
) -> Iterator[Finding]:
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield Finding(check, level, text.format(", ".join(names[:_NAMED]) + more), advice)


def _has_rivals(indexes: Iterable[Mapping[str, Any]]) -> bool:
    identities = [identity(i) for i in indexes]
    return len(set(identities)) < len(identities)


def _databases(probe: Probe, specs: Sequence[CollectionSpec]) -> list[str]:
    known = {s.collection.namespace.database for s in specs}
    if not known:
        command = {"listDatabases": 1, "nameOnly": True}
        answer = probe.ask("admin", command, doing="list the databases")
        known = {d["name"] for d in answer["databases"] if is_migrated(d["name"])}
    return sorted(known)


def _entries(probe: Probe, database: str) -> list[dict[str, Any]]:
    command = {"listCollections": 1, "nameOnly": True, "cursor": {"batchSize": 10_000}}
    try:
        return probe.first_batch(database, command, doing=f"list the collections of {database}")
    except AccessDenied:
        return []  # the missing privilege is a finding of its own
