"""The plan: position first, then collections, then their partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .connector import Source
from .errors import CollectionGone
from .model import CollectionSpec, Partition, SchemaChange, SchemaVerb
from .namespaces import NamespaceFilter
from .pacing import Pace
from .state import CollectionProgress

#: What is lost at most when a copy of a partition has to begin again, per worker.
_PARTITION_BYTES = 128 * 1024 * 1024
#: Below this a partition costs more to keep account of than to copy again.
_PARTITION_DOCUMENTS = 20_000
#: Keys looked up, written or compared in one go by one worker, and the bytes they may come to.
_UNIT_KEYS = 1_000
_UNIT_BYTES = 8 * 1024 * 1024
#: So many partitions per worker that no one waits long for the last.
_PARTITIONS_PER_WORKER = 4


def chosen(source: Source, namespaces: NamespaceFilter) -> list[CollectionSpec]:
    """Describe the source's collections that are to be migrated."""
    return [s for s in source.collections() if namespaces.includes(s.collection.namespace)]


def partitions(
    source: Source, specs: Iterable[CollectionSpec], *, workers: int, pace: Pace
) -> Iterator[Partition]:
    """Cut all collections into parts of about equal size."""
    specs = list(specs)
    total = sum(s.documents for s in specs)
    for spec in specs:
        pace.check()
        documents = partition_documents(spec, total=total, workers=workers)
        try:
            yield from pace.retrying(
                f"cut {spec.collection}",
                lambda spec=spec, documents=documents: list(  # type: ignore[misc]
                    source.partitions(spec, documents=documents)
                ),
            )
        except CollectionGone:
            continue  # its drop is in the change stream


def partition_documents(spec: CollectionSpec, *, total: int, workers: int) -> int:
    """Return how many documents of *spec* make a partition, of *total* in the migration."""
    share = max(_PARTITION_DOCUMENTS, total // (workers * _PARTITIONS_PER_WORKER))
    return max(1, min(share, _PARTITION_BYTES // spec.document_size))


def unit_keys(spec: CollectionSpec) -> int:
    """Return how many documents of *spec* one worker handles by key in one go."""
    return max(1, min(_UNIT_KEYS, _UNIT_BYTES // spec.document_size))


def planned(spec: CollectionSpec) -> CollectionProgress:
    """Return the collection as it stands at the start: under its own name."""
    return CollectionProgress(spec, spec.collection.namespace)


def evolved(spec: CollectionSpec, change: SchemaChange) -> CollectionSpec:
    """Return *spec* as *change* leaves it, so that it need not be asked for at commit."""
    detail = change.detail
    match change.verb:
        case SchemaVerb.RENAME:
            assert change.to is not None
            return replace(spec, collection=replace(spec.collection, namespace=change.to))
        case SchemaVerb.CREATE_INDEXES:
            new = {i["name"]: i for i in detail["indexes"]}
            return replace(spec, indexes=[*_without(spec, set(new)), *new.values()])
        case SchemaVerb.DROP_INDEXES:
            return replace(spec, indexes=_without(spec, {i["name"] for i in detail["indexes"]}))
        case SchemaVerb.MODIFY:
            return _modified(spec, detail)
        case SchemaVerb.CREATE | SchemaVerb.DROP:
            return spec


def _without(spec: CollectionSpec, names: set[str]) -> list[Mapping[str, Any]]:
    return [i for i in spec.indexes if i["name"] not in names]


def _modified(spec: CollectionSpec, detail: Mapping[str, Any]) -> CollectionSpec:
    options = {**spec.options, **{k: v for k, v in detail.items() if k != "index"}}
    change = detail.get("index", {})
    indexes = [
        {**i, **change}
        if i["name"] == change.get("name") or i["key"] == change.get("keyPattern")
        else i
        for i in spec.indexes
    ]
    return replace(spec, options=options, indexes=indexes)
