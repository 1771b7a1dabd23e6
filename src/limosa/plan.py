"""The plan: position first, then collections, then their partitions."""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .canonical import key_for
from .connector import Finding, Readable, Source, finds_collections, holds_definitions
from .errors import (
    AccessDenied,
    BadFilter,
    CollectionGone,
    ConfigError,
    NamespaceNotFound,
    PermanentError,
    RenameConflict,
    TargetNotEmpty,
)
from .model import (
    Collection,
    CollectionSpec,
    Definition,
    DefinitionKind,
    Namespace,
    Partition,
    Query,
    SchemaChange,
    SchemaVerb,
)
from .pacing import Pace
from .settings import Existing, Settings
from .shard_keys import ShardKeys
from .state import CollectionProgress
from .work import Work

#: What is lost at most when a copy of a partition has to begin again, per worker.
_PARTITION_BYTES = 128 * 1024 * 1024
#: Below this a partition costs more to keep account of than to copy again.
_PARTITION_DOCUMENTS = 20_000
#: Keys looked up, written or compared in one go by one worker, and the bytes they may come to.
MOST_KEYS = 2_000
_UNIT_BYTES = 8 * 1024 * 1024
#: So many partitions per worker that no one waits long for the last.
_PARTITIONS_PER_WORKER = 4


#: Namespaces that an error names.
_NAMED = 10


def chosen(source: Source, settings: Settings) -> list[CollectionSpec]:
    """Describe the source's collections that are to be migrated."""
    return [s for s in source.collections() if settings.includes(s.collection.namespace)]


def named(specs: Iterable[CollectionSpec], settings: Settings) -> list[CollectionSpec]:
    """Return *specs* under their names on the target."""
    return [
        replace(s, collection=Collection(settings.target_of(s.collection.namespace))) for s in specs
    ]


def held(end: Readable) -> frozenset[Namespace]:
    """Return the namespaces of all collections and views of *end*."""
    if finds_collections(end):
        collections = set(end.namespaces())
    else:
        collections = {s.collection.namespace for s in end.collections()}
    return frozenset(collections | {_place(view) for view in _views(end)})


def present(source: Source, collection: Collection) -> CollectionSpec | None:
    """Return the collection of *source* that has this id, as it is now; None if it is gone."""
    if finds_collections(source):
        return source.described(collection)
    return next((s for s in source.collections() if s.collection.id == collection.id), None)


def still_occupied(work: Work) -> frozenset[Namespace]:
    """
    Return what the target held before anything was written and holds yet.

    What is gone by now is forgotten, for the next one there is the migration's.
    """
    occupied = work.store.occupied()
    left = occupied & work.pace.retrying("look at the target", lambda: held(work.target))
    if left != occupied:
        work.store.save_occupied(left)
    return left


def views_chosen(source: Source, settings: Settings) -> list[Namespace]:
    """Return the source's views that are to be migrated."""
    return [place for view in _views(source) if settings.includes(place := _place(view))]


def refuse_unmatched(
    specs: Iterable[CollectionSpec], views: Iterable[Namespace], settings: Settings
) -> None:
    """
    Refuse a pattern or a rule that neither *specs* nor *views*, all that is chosen, has to do with.

    Raises:
        NamespaceNotFound: it names what the source does not have.
    """
    collections = [s.collection.namespace for s in specs]
    names = [*collections, *views]
    for parts, known in (
        (settings.namespaces, names),
        (settings.renames, names),
        (settings.documents, collections),
        (settings.sharding or ShardKeys({}), collections),
    ):
        if missing := parts.unmatched(known):
            msg = f"the source has nothing that matches {', '.join(map(repr, missing))}"
            raise NamespaceNotFound(msg)


def refuse_bad_queries(source: Source, specs: Iterable[CollectionSpec], settings: Settings) -> None:
    """
    Have the source look for one document by each query.

    Raises:
        BadFilter: it does not understand the query, or cannot apply it.
    """
    tried: set[Query] = set()
    for spec in specs:
        narrowed = settings.read_of(spec.collection)
        if narrowed.where is None:
            continue
        if refusal := refusal_to_filter(spec, settings):
            msg = f"filter {spec.collection}: {refusal}"
            raise BadFilter(msg, hint="migrate it whole, or leave it out with --exclude")
        if narrowed.where in tried:
            continue
        tried.add(narrowed.where)
        try:
            source.lookup(narrowed, [key_for(None)])
        except CollectionGone:
            tried.discard(narrowed.where)
        except AccessDenied:
            raise
        except PermanentError as error:
            msg = f"filter {spec.collection}: {error}"
            raise BadFilter(msg) from error


def refusal_to_filter(spec: CollectionSpec, settings: Settings) -> str:
    """Return why a filter stands for *spec* that cannot be applied to it; "" if there is none."""
    if "timeseries" in spec.options and settings.read_of(spec.collection).where is not None:
        return "a time-series collection is kept in buckets, not in documents, and not filtered"
    return ""


def examined(
    source: Source, specs: Sequence[CollectionSpec], settings: Settings
) -> Iterator[Finding]:
    """Yield what is wrong with filters and renames, for somebody who looks before beginning."""
    try:
        views = views_chosen(source, settings)
        refuse_unmatched(specs, views, settings)
        refuse_bad_queries(source, specs, settings)
        laid_out(specs, settings, views=views)
    except ConfigError as error:
        yield Finding("selection", "error", str(error), error.hint)


def laid_out(
    specs: Iterable[CollectionSpec],
    settings: Settings,
    occupied: Some[Namespace] = (),
    *,
    views: Iterable[Namespace] = (),
) -> list[CollectionProgress]:
    """
    Return where each collection will stand, beside *views*, on a target that holds *occupied*.

    Raises:
        RenameConflict: two would be one there.
        TargetNotEmpty: the target has a namespace already, or anything if it may not.
    """
    collections = [planned(spec, settings) for spec in specs]
    taken: dict[Namespace, Namespace] = {}
    for name in [*(c.spec.collection.namespace for c in collections), *views]:
        target = settings.target_of(name)
        other = taken.setdefault(target, name)
        if other != name:
            msg = f"{other} and {name} would both be {target}"
            raise RenameConflict(msg)
    conflicts = sorted(taken.keys() & set(occupied))
    if conflicts:
        msg = f"the target already has {len(conflicts)} of the namespaces: {_listed(conflicts)}"
        raise TargetNotEmpty(msg)
    if occupied and settings.existing is Existing.REFUSE:
        msg = f"expected an empty target, it has {len(occupied)} namespaces: {_listed(occupied)}"
        raise TargetNotEmpty(msg, hint="drop them, or keep them with --existing keep")
    return collections


def _views(end: Readable) -> Iterable[Definition]:
    return end.definitions(DefinitionKind.VIEW) if holds_definitions(end) else ()


def _place(view: Definition) -> Namespace:
    return Namespace(view.database, view.name)


def _listed(namespaces: Iterable[Namespace]) -> str:
    return ", ".join(str(n) for n in sorted(namespaces)[:_NAMED])


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
    return max(1, min(MOST_KEYS, _UNIT_BYTES // spec.document_size))


def planned(spec: CollectionSpec, settings: Settings = Settings()) -> CollectionProgress:
    """Return the collection as it stands at the start: under its name on the target."""
    target = settings.target_of(spec.collection.namespace)
    spec = spec.without_hashed if settings.indexes.leaves_hashed else spec
    return CollectionProgress(settings.sharding.told(spec) if settings.sharding else spec, target)


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
        _index_modified(i, change)
        if i["name"] == change.get("name") or i["key"] == change.get("keyPattern")
        else i
        for i in spec.indexes
    ]
    return replace(spec, options=options, indexes=indexes)


def _index_modified(index: Mapping[str, Any], change: Mapping[str, Any]) -> Mapping[str, Any]:
    after = {**index, **{k: v for k, v in change.items() if k != "keyPattern"}}
    if change.get("unique"):  # what prepared it is over
        after.pop("prepareUnique", None)
    if after.pop("forceNonUnique", False):
        after.pop("unique", None)
    return after
