"""Values of the state as rows of its tables, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import Any

import bson
from bson import json_util

from ..canonical import readable
from ..limits import Limits
from ..model import (
    Collection,
    CollectionSpec,
    Key,
    Mismatch,
    MismatchKind,
    Namespace,
    Partition,
    ResumeToken,
)
from ..state import (
    CollectionProgress,
    Failure,
    Migration,
    PartitionProgress,
    PartitionStatus,
    State,
    Suspect,
)
from ..steps import StepProgress
from .encoding import EXACT

_TIMES = tuple(f.name for f in fields(Migration) if f.name.endswith(("_at", "_to")))
_TOKENS = ("position", "return_position", "target_mark")
_PLAIN = tuple(
    f.name
    for f in fields(Migration)
    if f.name not in {*_TIMES, "state", "settings", "limits", "failure", *_TOKENS}
)


def time_text(time: datetime) -> str:
    """Return *time* as text that sorts as the time does."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def migration_row(migration: Migration) -> dict[str, Any]:
    """Return the columns of *migration*."""
    failure = migration.failure
    times = {name: getattr(migration, name) for name in _TIMES}
    return {
        **{name: getattr(migration, name) for name in _PLAIN},
        **{name: time and time_text(time) for name, time in times.items()},
        "state": migration.state.value,
        "settings": json.dumps(dict(migration.settings), ensure_ascii=False),
        "limits": json.dumps(migration.limits.stored()),
        **{name: getattr(migration, name) for name in _TOKENS},
        "failure_code": failure and failure.code,
        "failure_message": failure and failure.message,
        "failure_hint": failure and failure.hint,
    }


def migration_of(row: sqlite3.Row) -> Migration:
    """Return the migration that *row* holds."""
    values: dict[str, Any] = {name: row[name] for name in _PLAIN}
    for name in _TIMES:
        values[name] = row[name] and datetime.fromisoformat(row[name])
    values["state"] = State(row["state"])
    values["settings"] = json.loads(row["settings"])
    values["limits"] = _limits_of(row["limits"])
    for name in _TOKENS:
        values[name] = None if row[name] is None else ResumeToken(row[name])
    if row["failure_code"] is not None:
        values["failure"] = Failure(
            row["failure_code"], row["failure_message"], row["failure_hint"]
        )
    return Migration(**values)


@lru_cache(maxsize=2)  # read with every look at the migration, and hardly ever another one
def _limits_of(text: str) -> Limits:
    return Limits.restored(json.loads(text))


def collection_row(progress: CollectionProgress) -> dict[str, Any]:
    """Return the columns of *progress*, without the sums over its partitions."""
    spec = progress.spec
    indexes = [dict(index) for index in spec.indexes]
    return {
        "id": spec.collection.id,
        "source_database": spec.collection.namespace.database,
        "source_collection": spec.collection.namespace.collection,
        "target_database": progress.target.database,
        "target_collection": progress.target.collection,
        "target_id": progress.target_id,
        "is_dropped": progress.is_dropped,
        "is_indexed": progress.is_indexed,
        "documents": spec.documents,
        "bytes": spec.size,
        "options": json_util.dumps(spec.options, json_options=json_util.RELAXED_JSON_OPTIONS),
        "indexes": json_util.dumps(indexes, json_options=json_util.RELAXED_JSON_OPTIONS),
        # Extended JSON cannot tell the operator {"$regex": …} of a validator from a value.
        "definition": bson.encode({"options": spec.options, "indexes": indexes}),
    }


def collection_of(row: sqlite3.Row) -> CollectionProgress:
    """Return the collection that *row* holds."""
    options, indexes = _definition_of(row["definition"])
    source = Namespace(intern(row["source_database"]), row["source_collection"])
    target = Namespace(intern(row["target_database"]), row["target_collection"])
    return CollectionProgress(
        spec=CollectionSpec(
            collection=Collection(source, row["id"]),
            options=options,
            indexes=indexes,
            documents=row["documents"],
            size=row["bytes"],
        ),
        target=source if target == source else target,
        is_dropped=bool(row["is_dropped"]),
        is_indexed=bool(row["is_indexed"]),
        target_id=row["target_id"],
    )


@lru_cache(maxsize=1_000)  # of 100,000 collections most are alike, and share it
def _definition_of(raw: bytes) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    definition = bson.decode(raw, EXACT)
    return definition["options"], tuple(definition["indexes"])


def partition_row(partition: Partition) -> tuple[Any, ...]:
    """Return collection id, id, estimated documents and bounds."""
    return partition.collection.id, partition.id, partition.documents, partition.bounds


def partitions_of(rows: Iterable[sqlite3.Row]) -> list[PartitionProgress]:
    """
    Return the partitions that *rows* hold: collection id, database, collection, then id,
    status, estimate, documents, bytes, compared, bounds.
    """
    collections: dict[str, Collection] = {}  # made once, not once for each partition
    partitions = []
    for (
        collection_id,
        database,
        name,
        id_,
        status,
        estimate,
        copied,
        size,
        compared,
        bounds,
    ) in rows:
        collection = collections.get(collection_id)
        if collection is None:
            collection = Collection(Namespace(database, name), collection_id)
            collections[collection_id] = collection
        partition = Partition(id_, collection, bounds, estimate)
        partitions.append(
            PartitionProgress(partition, PartitionStatus(status), copied, size, compared)
        )
    return partitions


def step_row(step: StepProgress) -> dict[str, Any]:
    """Return the columns of *step*."""
    times = {"began_at": step.began_at, "ended_at": step.ended_at}
    plain = {f.name: getattr(step, f.name) for f in fields(step) if f.name not in times}
    return {**plain, **{name: time and time_text(time) for name, time in times.items()}}


def step_of(row: sqlite3.Row) -> StepProgress:
    """Return the step that *row* holds."""
    return StepProgress(
        name=row["name"],
        position=row["position"],
        attempts=row["attempts"],
        last_error=row["last_error"],
        gave_up=bool(row["gave_up"]),
        awaits_tasks=bool(row["awaits_tasks"]),
        tasks_done=row["tasks_done"],
        began_at=row["began_at"] and datetime.fromisoformat(row["began_at"]),
        ended_at=row["ended_at"] and datetime.fromisoformat(row["ended_at"]),
    )


def suspect_row(suspect: Suspect) -> tuple[Any, ...]:
    """Return all columns of *suspect*, in the order of the table."""
    mismatch = suspect.mismatch
    return (
        suspect.collection_id,
        mismatch.key,
        readable(mismatch.key),
        mismatch.kind.value,
        mismatch.namespace.database,
        mismatch.namespace.collection,
        time_text(suspect.since),
        suspect.digest,
        suspect.counts,
    )


def suspect_of(row: sqlite3.Row) -> Suspect:
    """Return the suspect that *row* holds."""
    return Suspect(
        mismatch=mismatch_of(row),
        collection_id=row["collection_id"],
        since=datetime.fromisoformat(row["since"]),
        digest=row["digest"],
        counts=bool(row["counts"]),
    )


def mismatch_of(row: sqlite3.Row) -> Mismatch:
    """Return the mismatch that *row* holds."""
    namespace = Namespace(row["database"], row["collection"])
    return Mismatch(MismatchKind(row["kind"]), namespace, Key(row["key"]))
