"""The state of a migration as the documents that mongosync keeps on its destination."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from typing import Any

from bson import Binary, Int64, Timestamp
from bson.binary import UUID_SUBTYPE

from ..model import Partition
from ..namespaces import parts_of
from ..settings import IndexMode
from ..state import CollectionProgress, Migration, PartitionProgress, PartitionStatus, Phase
from .mongosync import INSTANCE, hosts

Documents = Iterator[dict[str, Any]]

#: mongosync's databases on its destination, and where its verifier keeps account of each end.
DATABASE = "__mdb_internal_mongosync"
VERIFIER_DATABASES = (f"{DATABASE}_verifier_src", f"{DATABASE}_verifier_dst")

_SYNC_PHASES = {
    Phase.PLANNING: "initializing collections and indexes",
    Phase.COLLECTION_COPY: "collection copy",
    Phase.INDEX_BUILD: "change event application",
    Phase.CHANGE_EVENT_APPLICATION: "change event application",
    Phase.WAITING_FOR_COMMIT: "waiting for commit to complete",
    Phase.COMMIT_COMPLETED: "commit completed",
    Phase.REVERSAL: "commit completed",  # of the way there
}
#: What a migration notes of its way, and the phase that began with it.
_BEGINNINGS = (
    ("started_at", Phase.PLANNING),
    ("planned_at", Phase.COLLECTION_COPY),
    ("copied_at", Phase.CHANGE_EVENT_APPLICATION),
    ("commit_at", Phase.WAITING_FOR_COMMIT),
    ("committed_at", Phase.COMMIT_COMPLETED),
)
_BLOCKING = {"none": "none", "target": "destinationOnly", "both": "sourceAndDestination"}


@dataclass(frozen=True, slots=True)
class Parts:
    """The collections and partitions of a migration at one moment."""

    collections: Sequence[CollectionProgress]
    partitions: Sequence[PartitionProgress]


def resume_data(migration: Migration, state: str, names: tuple[str, str]) -> Documents:
    """Yield where the migration stands: *state* as it is shown, *names* of source and target."""
    applied = {} if migration.applied_to is None else {"lastEventTs": _time(migration.applied_to)}
    yield {
        "_id": INSTANCE,
        "state": state,
        "syncPhase": _SYNC_PHASES[migration.phase],
        "phaseTransitions": list(_transitions(migration)),
        # Collections change in order with their documents, so both streams are one.
        "crudChangeStreamResumeInfo": applied,
        "ddlChangeStreamResumeInfo": dict(applied),
        "directionMapping": {
            "source": f"{names[0]}: {hosts(migration.source)}",
            "destination": f"{names[1]}: {hosts(migration.target)}",
        },
        "resumeDataReversalCount": migration.reversals,
    }


def global_state(migration: Migration) -> Documents:
    """Yield what the migration was started with."""
    settings = migration.settings
    yield {
        "_id": "globalState",
        "reversible": bool(settings.get("reversible", False)),
        "writeBlockingMode": _BLOCKING[settings.get("writeBlocking", "none")],
        "buildIndexes": settings.get("indexes", "afterDataCopy"),
        "verificationMode": "startAtCEA" if migration.verifies else "disabled",
        "copyInNaturalOrderFilter": {"selectAll": False, "dbsAndColls": {}},
        "namespaceFilter": {
            "inclusionFilter": [_entry(p) for p in settings.get("include", ())],
            "exclusionFilter": [_entry(p) for p in settings.get("exclude", ())],
        },
    }


def partitions(parts: Parts, range_of: Callable[[Partition], tuple[Any, Any]]) -> Documents:
    """Yield one document for each partition; *range_of* returns its lower and upper bound."""
    specs = {c.spec.collection.id: c.spec for c in parts.collections}
    for each in parts.partitions:
        partition = each.partition
        spec = specs[partition.collection.id]
        lower, upper = range_of(partition)
        is_done = each.status is not PartitionStatus.PENDING
        namespace = partition.collection.namespace
        yield {
            "_id": {"srcUUID": _uuid(spec.collection.id), "id": INSTANCE, "lowerBound": lower},
            "namespace": {"db": namespace.database, "coll": namespace.collection},
            "partitionPhase": "done" if is_done else "not started",
            "upperBound": upper,
            "isCapped": bool(spec.options.get("capped", False)),
            "copiedByteCount": Int64(each.bytes),
            # An estimate until it is known: so the sums are equal at the end, as in the progress.
            "totalByteCount": Int64(
                each.bytes if is_done else partition.documents * spec.document_size
            ),
        }


def uuid_map(parts: Parts) -> Documents:
    """Yield under which name each of the source's collections stands on the target."""
    for each in _present(parts):
        yield {
            "_id": _uuid(each.spec.collection.id),
            "dbName": each.target.database,
            "srcCollName": each.spec.collection.namespace.collection,
            "dstCollName": each.target.collection,
        }


def index_correction(migration: Migration, parts: Parts) -> Documents:
    """Yield each index that the target is to have; its counters agree once it is built."""
    if migration.settings.get("indexes") == IndexMode.NEVER:
        return
    for each in _present(parts):
        for index in each.spec.indexes:
            yield {
                "_id": {
                    "collUUID": _uuid(each.spec.collection.id),
                    "indexName": str(index["name"]),
                },
                "shouldCorrectCounter": 1,
                "lastCorrectedCounter": int(each.is_indexed),
            }


def collection_verification(parts: Parts) -> Documents:
    """Yield how far each collection is compared."""
    statuses = defaultdict(set)
    begun = set()
    for part in parts.partitions:
        collection_id = part.partition.collection.id
        statuses[collection_id].add(part.status)
        if part.compared or part.status is PartitionStatus.VERIFIED:
            begun.add(collection_id)
    for each in parts.collections:
        collection_id = each.spec.collection.id
        if each.is_dropped:
            phase = "dropped"
        elif statuses[collection_id] == {PartitionStatus.VERIFIED}:
            phase = "stream hashing"
        else:
            phase = "initial hashing" if collection_id in begun else "not started"
        yield {"_id": _uuid(collection_id), "phase": phase}


def collection_checksum(parts: Parts) -> Documents:
    """Yield how many documents of each collection were compared."""
    counts = {c.spec.collection.id: 0 for c in _present(parts)}
    for each in parts.partitions:
        counts[each.partition.collection.id] += each.compared
    for collection_id, count in counts.items():
        yield {"_id": _uuid(collection_id), "docCount": Int64(count)}


def _transitions(migration: Migration) -> Iterator[dict[str, Any]]:
    """Yield the phases in order; the clock of an idle source may be behind that of the start."""
    last = Timestamp(0, 0)
    for name, phase in _BEGINNINGS:
        at = getattr(migration, name)
        if at is not None:
            last = max(last, _time(at))
            yield {"phase": _SYNC_PHASES[phase], "ts": last}


def _present(parts: Parts) -> Iterable[CollectionProgress]:
    return (c for c in parts.collections if not c.is_dropped)


def _uuid(collection_id: str) -> Binary | str:
    """Return the source's own id as what it is; other kinds of databases have other ids."""
    if re.fullmatch(r"[0-9a-f]{32}", collection_id):
        return Binary(bytes.fromhex(collection_id), UUID_SUBTYPE)
    return collection_id


def _time(at: datetime) -> Timestamp:
    """Return *at* as a cluster time: of the source's clock the microseconds are its count."""
    return Timestamp(int(at.timestamp()), at.microsecond)


def _entry(pattern: str) -> Mapping[str, Any]:
    """Return *pattern* as an entry of mongosync's filters."""
    database, collection = parts_of(pattern)
    found = _named("database", database)
    if collection is not None:
        several = _named("collections", collection)
        found |= {k: v if k.endswith("Regex") else [v] for k, v in several.items()}
    return found


def _named(field: str, text: str) -> dict[str, Any]:
    if text.startswith("/"):
        pattern, _, options = text[1:].rpartition("/")
        return {f"{field}Regex": {"pattern": pattern, "options": options}}
    plain = re.sub(r"\[(.)\]", "", text, flags=re.DOTALL)  # one character in brackets is itself
    if set(plain) & set("*?["):
        return {f"{field}Regex": {"pattern": translate(text), "options": ""}}
    return {field: re.sub(r"\[(.)\]", r"\1", text, flags=re.DOTALL)}
