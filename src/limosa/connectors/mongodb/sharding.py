"""
Sharded clusters, read and written through a router (``mongos``).

What a router answers is turned into values here, and values into commands for it. An `_id` is
unique on one shard alone, so what the rest of Limosa relies on is checked as it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import bson

from ...canonical import key_of, readable
from ...errors import AccessDenied, PermanentError, WriteRefused
from ...model import Batch, Collection, CollectionSpec, Key, Namespace
from ...shard_keys import SHARDING
from ...slices import documents_of
from .deployment import PLAIN, Deployment
from .indexes import inert

#: So many parts, at most, a ranged collection has before anything is in it: as mongosync does.
_MOST_CUTS = 90
_AT_ONCE = 10_000
_NUMBERS = frozenset({0x01, 0x10, 0x12, 0x13})  # double, int, long, decimal
_HINT = "grant the role clusterMonitor on admin, which lets it read the database config"


def with_keys(deployment: Deployment, specs: Iterable[CollectionSpec]) -> Iterator[CollectionSpec]:
    """
    Yield *specs*; those that are sharded have key and some bounds of chunks in their options.

    Raises:
        AccessDenied: the user may not read ``config``.
    """
    entries = {e["_id"]: e for e in _config(deployment, "collections", {})}
    for spec in specs:
        entry = entries.get(str(spec.collection.namespace))
        if entry is None or not is_spread(entry):
            yield spec
            continue
        bounds: list[Mapping[str, Any]] = []
        if "hashed" not in entry["key"].values():
            of_collection = {"uuid": entry.get("uuid")} if "uuid" in entry else {"ns": entry["_id"]}
            bounds = [c["min"] for c in _config(deployment, "chunks", of_collection)]
        yield replace(spec, options={**spec.options, SHARDING: sharding_of(entry, bounds)})


def is_spread(entry: Mapping[str, Any]) -> bool:
    """Whether a document of ``config.collections`` is of a collection that is sharded."""
    # From 8.0 on whole collections are listed, too; before 5.0 dropped ones were.
    return not (entry.get("unsplittable") or entry.get("dropped"))


def sharding_of(entry: Mapping[str, Any], bounds: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how a collection is sharded, with some lower *bounds* of its chunks to cut at."""
    key: Mapping[str, Any] = entry["key"]
    cuts = [dict(b) for b in bounds if not all(isinstance(v, bson.MinKey) for v in b.values())]
    step = max(1.0, len(cuts) / _MOST_CUTS)
    chosen = [cuts[int(n * step)] for n in range(int(len(cuts) / step))]
    return {"key": dict(key), "makesIndex": True, "cuts": chosen}


def told_by(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a collection is sharded that a ``shardCollection`` event tells of, as options."""
    return {SHARDING: {"key": dict(event["shardKey"]), "makesIndex": True}}


def summed(stats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sizes of a collection, of which each shard has told its part."""
    names = {name for one in stats for name in one}
    return {name: sum(one.get(name, 0) for one in stats) for name in names}


def cluster_id(deployment: Deployment) -> object:
    """Return what all routers of a cluster have in common, None if this user may not know."""
    try:
        found = _config(deployment, "version", {})
    except AccessDenied:
        return None
    return next((f.get("clusterId") for f in found), None)


def without_twins(collection: Collection, batches: Iterable[Batch]) -> Iterator[Batch]:
    """
    Yield *batches* of documents in order of ``_id``.

    Raises:
        PermanentError: two documents, on different shards, have the same ``_id``.
    """
    last: Key | None = None
    for batch in batches:
        for document in documents_of(batch.array):
            key = key_of(document)
            if last is not None and _are_equal(last, key):
                raise twins(collection, key)
            last = key
        yield batch


def twins(collection: Collection, key: Key) -> PermanentError:
    """Return the error for two documents with one ``_id``."""
    msg = (
        f"read {collection}: two shards have a document with _id {readable(key)}: "
        "expected an _id to be unique in its collection"
    )
    return PermanentError(
        msg, hint="give one of them another _id, or leave the collection out with --exclude"
    )


def shard(
    deployment: Deployment,
    namespace: Namespace,
    options: Mapping[str, Any],
    indexes: Sequence[Mapping[str, Any]] = (),
) -> None:
    """
    Shard a collection as its *options* say; nothing is done if it is, or towards no cluster.

    Raises:
        WriteRefused: it cannot be sharded so.
    """
    if SHARDING not in options or not deployment.is_router or key_at(deployment, namespace):
        return
    refuse_unsuitable(namespace, options, indexes)
    shards = deployment.decoded("admin", {"listShards": 1}, doing="list the shards")["shards"]
    names = [s["_id"] for s in shards if not s.get("draining")]
    for database, command in commands_for(namespace, options, indexes, names):
        deployment.run(database, command, doing=f"shard {namespace}")


def key_at(deployment: Deployment, namespace: Namespace) -> dict[str, Any]:
    """Return the shard key of a collection of the target, empty if it is not sharded."""
    for entry in _config(deployment, "collections", {"_id": str(namespace)}):
        if is_spread(entry):
            return dict(entry["key"])
    return {}


def is_by_id(key: Mapping[str, Any]) -> bool:
    """Whether the ``_id`` alone tells the shard, as it does in a collection that is not sharded."""
    return not key or list(key) == ["_id"]


def commands_for(
    namespace: Namespace,
    options: Mapping[str, Any],
    indexes: Sequence[Mapping[str, Any]],
    shards: Sequence[str],
) -> list[tuple[str, dict[str, Any]]]:
    """
    Return the commands, each with its database, that shard an empty collection.

    A ranged one is cut where the source's is, its parts put on the *shards* in turn; a hashed
    one the server cuts by itself. Uniqueness waits for the commit, as that of all indexes.
    """
    wanted = options[SHARDING]
    key = dict(wanted["key"])
    commands: list[tuple[str, dict[str, Any]]] = [("admin", {"enableSharding": namespace.database})]
    index = supporting(indexes, key)
    if index is not None:
        create = {"createIndexes": namespace.collection, "indexes": [inert(index)]}
        commands.append((namespace.database, create))
    command = {"shardCollection": str(namespace), "key": key, "unique": False}
    if options.get("collation"):
        command["collation"] = {"locale": "simple"}
    commands.append(("admin", command))
    for number, cut in enumerate(wanted.get("cuts", ()), start=1):
        commands.append(("admin", {"split": str(namespace), "middle": cut}))
        if len(shards) > 1:
            to = shards[number % len(shards)]
            commands.append(("admin", {"moveChunk": str(namespace), "find": cut, "to": to}))
    return commands


def supporting(
    indexes: Iterable[Mapping[str, Any]], key: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return the index that *key* needs, of *indexes* if one does; None if that of ``_id`` does."""
    if list(key.items()) == [("_id", 1)]:
        return None
    found = next((i for i in indexes if _supports(i, key)), None)
    return found or {"v": 2, "key": dict(key), "name": _name(key)}


def with_supporting(
    indexes: Sequence[Mapping[str, Any]], key: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    """Return *indexes* of the source and the one that the target needs besides, if any."""
    index = supporting(indexes, key) if key else None
    return indexes if index is None or index in indexes else [*indexes, index]


def refuse_unsuitable(
    namespace: Namespace, options: Mapping[str, Any], indexes: Sequence[Mapping[str, Any]]
) -> None:
    """
    Refuse before the copy what the server would refuse at the commit.

    Raises:
        WriteRefused: it cannot be sharded by that key.
    """
    key = options[SHARDING]["key"]
    doing = f"shard {namespace} by {', '.join(key)}"
    for option, what in (("capped", "a capped"), ("timeseries", "a time-series")):
        if options.get(option):
            msg = f"{doing}: {what} collection cannot be sharded"
            raise WriteRefused(msg, hint="give no shard key for it, or leave it out with --exclude")
    for index in indexes:
        if index.get("unique") and not _begins_with(index, key):
            msg = f"{doing}: the unique index {index['name']} does not begin with the shard key"
            raise WriteRefused(msg, hint="choose another key, or drop that index on the source")
    needed = supporting(indexes, key)
    if not options[SHARDING]["makesIndex"] and needed is not None and needed not in indexes:
        msg = f"{doing}: the source has no index that begins with it"
        raise WriteRefused(msg, hint="create one there, or set createSupportingIndexes")


def _supports(index: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    is_whole = not (index.get("partialFilterExpression") or index.get("sparse"))
    is_simple = (index.get("collation") or {}).get("locale", "simple") == "simple"
    return is_whole and is_simple and _begins_with(index, key)


def _begins_with(index: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    return list(index["key"].items())[: len(key)] == list(key.items())


def _name(key: Mapping[str, Any]) -> str:
    return "_".join(f"{field}_{direction}" for field, direction in key.items())


def _are_equal(one: Key, other: Key) -> bool:
    if one == other:
        return True
    if one[4] == other[4] or not {one[4], other[4]} <= _NUMBERS:
        return False
    return bool(_number(one) == _number(other))  # 1 and 1.0 are one to the database


def _number(key: Key) -> Any:
    value = bson.decode(key)["_id"]
    return value.to_decimal() if isinstance(value, bson.Decimal128) else value


def _config(
    deployment: Deployment, collection: str, query: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """
    Yield documents of the cluster's own catalogue.

    Raises:
        AccessDenied: this user may not.
    """
    command = {"find": collection, "filter": query, "sort": _ORDER[collection]}
    doing = f"read config.{collection}"
    try:
        for batch in deployment.batches("config", command, doing=doing, batch_size=_AT_ONCE):
            for document in batch.documents:
                yield bson.decode(document.raw, PLAIN)
    except AccessDenied as exc:
        raise AccessDenied(str(exc), hint=_HINT) from exc


_ORDER = {"collections": {"_id": 1}, "chunks": {"min": 1}, "version": {"_id": 1}}
