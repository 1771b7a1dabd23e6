"""Reading a MongoDB deployment: what there is, in parts, and by key."""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import bson
from bson import Binary, MaxKey, MinKey
from bson.raw_bson import RawBSONDocument

from ...canonical import id_in, key_for, key_of
from ...errors import TransientError
from ...limits import Load
from ...model import (
    Batch,
    Collection,
    CollectionSpec,
    Definition,
    DefinitionKind,
    Document,
    Key,
    Namespace,
    Partition,
    Query,
    Slice,
)
from . import accounts, blocking, sharding, timeseries, views
from .deployment import Deployment
from .listing import Listing
from .load import LoadMeter
from .secondaries import Secondaries

#: A batch of the copy: large enough that a round trip costs little, small enough that a
#: few of them in flight stay far below the memory we promise.
_BATCH_BYTES = 3_900_000
_BATCH_DOCUMENTS = 5_000
_MIN_KEY, _MAX_KEY = key_for(MinKey()), key_for(MaxKey())
#: A batch that fails is asked for in halves, but never in more parts than these.
_SMALLEST_SHARE = 64
#: Sampled keys for each cut: the parts then differ in size by about a third.
_SAMPLES_PER_CUT = 8
#: ``$sample`` reads at random only below 5 % of a collection; above, it scans.
_SAMPLED_SHARE = 0.05


class MongoReader:
    """Both ends of a migration are read in the same way."""

    def __init__(self, deployment: Deployment, *, database: str | None = None) -> None:
        self._deployment = deployment
        self._database = database
        self._meter = LoadMeter(deployment)
        self._secondaries = Secondaries(deployment.uri, deployment)
        self._listing = Listing(deployment, database=database)
        self._narrowed: dict[str, int] = {}  # documents of a batch, where more did not come

    def ping(self) -> None:
        """Return once the primary has answered."""
        self._deployment.run("admin", {"hello": 1}, doing="ping")

    def is_sharded(self) -> bool:
        """Whether collections can be spread over shards here."""
        return self._deployment.is_router

    def load(self) -> Load:
        """Return how busy the primary is, and how far the slowest member is behind."""
        return self._meter.load()

    def close(self) -> None:
        """Close all connections."""
        self._secondaries.close()
        self._deployment.close()

    def process_id(self) -> object:
        """Return what tells the primary's process from all others, None if it does not say."""
        if self._deployment.is_router:
            return sharding.cluster_id(self._deployment)
        hello = self._deployment.decoded("admin", {"hello": 1}, doing="ask which process it is")
        return hello.get("topologyVersion", {}).get("processId")

    def identities(self) -> Mapping[Namespace, str]:
        """Return the UUID of each collection by its present name."""
        return self._listing.identities()

    def namespaces(self) -> list[Namespace]:
        """Return the names of the user collections, which asks nothing about each."""
        return self._listing.namespaces()

    def check_blocking(self, *, bypass: bool) -> None:
        """
        Return if this user may block writes, and with *bypass* would go on writing himself.

        Raises:
            AccessDenied: a privilege is missing.
            ConfigError: limosa would be kept out as well.
        """
        blocking.check(self._deployment, bypass=bypass)

    def writes_blocked(self) -> bool:
        """Whether writes are blocked now; False where this user may not ask."""
        return blocking.is_blocked(self._deployment)

    def block_writes(self) -> None:
        """Refuse the writes of all who may not bypass that."""
        blocking.block(self._deployment, is_blocked=True)

    def allow_writes(self) -> None:
        """Take the writes of all again."""
        blocking.block(self._deployment, is_blocked=False)

    def collections(self) -> Iterator[CollectionSpec]:
        """
        List the user collections of all databases, time-series ones among them.

        Views hold no documents, and the system's collections are its own affair.
        """
        return self._listing.all()

    def described(self, collection: Collection) -> CollectionSpec | None:
        """Describe the collection with that UUID under its present name; None if it is gone."""
        return self._listing.described(collection)

    def definitions(self, kind: DefinitionKind) -> Iterator[Definition]:
        """
        List the views, roles or users of all databases, but for limosa's own user.

        Raises:
            AccessDenied: the user may not see them.
        """
        if kind is not DefinitionKind.VIEW:
            return accounts.listed(self._deployment, kind)
        return views.listed(self._deployment, self._listing.databases())

    def partitions(self, spec: CollectionSpec, *, documents: int) -> Iterator[Partition]:
        """
        Cut by ``_id`` at sampled keys, or not at all where order or a missing index forbids it.

        Bounds are handed to the server as index bounds (``min``, ``max``), which know
        neither types nor their brackets: every key lies in exactly one part.
        """
        batch = max(1, min(_BATCH_DOCUMENTS, _BATCH_BYTES // spec.document_size))
        if spec.options.get("capped") or spec.options.get("autoIndexId") is False:
            yield _partition(spec, 0, Bounds(batch=batch, natural=True), spec.documents)
            return
        count = -(-spec.documents // documents)
        cuts = self._cuts(spec, count) if count > 1 else []
        low: Key | None = None
        for number, high in enumerate([*cuts, None]):
            bounds = Bounds(low=low, high=high, batch=batch)
            yield _partition(spec, number, bounds, spec.documents // (len(cuts) + 1))
            low = high

    def read(self, partition: Partition) -> Iterator[Batch]:
        """
        Yield the partition's documents in order of ``_id`` (capped: of insertion).

        A cursor that dies on the way is opened again where it stood, once between two
        batches; after that the error is the caller's. With each, batches are halved: on a slow
        network one may be too large to come within the driver's time-out, however often it is
        asked for.
        """
        bounds = Bounds.decode(partition.bounds)
        smallest = max(1, bounds.batch // _SMALLEST_SHARE)
        bounds = replace(bounds, batch=self._narrowed.get(partition.id, bounds.batch))
        last: Batch | None = None
        seen: Key | None = None
        while True:
            try:
                for batch in self._covered(partition, bounds):
                    last, seen = (batch if seen is None else _without(batch, seen)), None
                    yield last
            except TransientError:
                narrowed = max(smallest, bounds.batch // 2)
                self._narrowed[partition.id] = narrowed
                if bounds.natural or last is None or not last.raw:
                    raise
                seen = key_of(last.raw[-1])
                bounds, last = replace(bounds, low=seen, batch=narrowed), None
            else:
                self._narrowed.pop(partition.id, None)
                return

    def lookup(self, collection: Collection, keys: Some[Key]) -> Mapping[Key, Document]:
        """Find documents by ``_id``; a majority's answer, not older than any before it."""
        if not keys:
            return {}
        wanted = set(keys)
        found: dict[Key, Document] = {}
        command: dict[str, Any] = {
            "find": self._address(collection),
            "filter": _both(id_in(wanted), collection.where),
            "batchSize": len(wanted) + 1,  # one more, so that the server closes the cursor
            "readConcern": self._deployment.majority(),
        }
        if collection.where is not None:
            command["hint"] = {"_id": 1}  # an index that the query could use finds far more
        for batch in self._deployment.batches(
            collection.namespace.database,
            command,
            doing=f"look up {len(wanted)} documents of {collection}",
            batch_size=_BATCH_DOCUMENTS,
            collection=collection,
        ):
            for document in batch.raw:
                key = key_of(document)
                if key in found:
                    raise sharding.twins(collection, key)
                if key in wanted:
                    found[key] = Slice(document)
        self._check_there(collection, found)
        return found

    def _address(self, collection: Collection) -> str | Binary:
        return self._deployment.address(collection)

    def _check_there(self, collection: Collection, found: Mapping[Key, Document]) -> None:
        # By name, nothing found may mean that the name has gone: then the batch loop had
        # nothing to check.
        if collection.id and not found and not self._deployment.finds_by_uuid:
            self._deployment.name_of(collection)

    def _cuts(self, spec: CollectionSpec, count: int) -> list[Key]:
        namespace = timeseries.stored_as(spec.collection.namespace, spec.options)
        size = min(count * _SAMPLES_PER_CUT, max(1, int(spec.documents * _SAMPLED_SHARE)))
        command = {
            "aggregate": namespace.collection,
            "pipeline": [
                {"$sample": {"size": size}},
                {"$project": {"_id": 1}},
                {"$sort": {"_id": 1}},
            ],
            "cursor": {"batchSize": _BATCH_DOCUMENTS},
            "allowDiskUse": True,
        }
        sampled: dict[Key, None] = {}
        for batch in self._deployment.batches(
            namespace.database, command, doing=f"cut {namespace}", batch_size=_BATCH_DOCUMENTS
        ):
            sampled |= dict.fromkeys(map(key_of, batch.raw))
        # Nothing comes before the one or after the other, and no bound may be both ends.
        sampled.pop(_MIN_KEY, None)
        sampled.pop(_MAX_KEY, None)
        keys = list(sampled)
        step = len(keys) / count
        return list(dict.fromkeys(keys[int(i * step)] for i in range(1, count))) if keys else []

    def _covered(self, partition: Partition, bounds: Bounds) -> Iterator[Batch]:
        if bounds.low != _MAX_KEY:  # which no bound can come after
            yield from self._scan(partition, bounds)
        if bounds.low is not None and bounds.high is None:
            # With ``min`` alone the server ends before MaxKey, which a document may have.
            yield from self._scan(partition, bounds, filter=RawBSONDocument(_MAX_KEY))

    def _scan(
        self, partition: Partition, bounds: Bounds, *, filter: Document | None = None
    ) -> Iterator[Batch]:
        collection = partition.collection
        command: dict[str, Any] = {
            "find": self._address(collection),
            "hint": {"$natural": 1} if bounds.natural else {"_id": 1},
            "batchSize": bounds.batch,
            "readConcern": self._deployment.majority(),
        }
        if filter is None and bounds.low is not None:
            command["min"] = RawBSONDocument(bounds.low)
        if (query := _both(filter, collection.where)) is not None:
            command["filter"] = query
        if self._deployment.is_router and not bounds.natural:
            command["sort"] = {"_id": 1}  # or the shards' documents come as they are ready
        if bounds.high is not None:
            command["max"] = RawBSONDocument(bounds.high)
        return self._secondaries.read(
            lambda member: member.batches(
                collection.namespace.database,
                command,
                doing=f"read {partition.collection}/{partition.id.rpartition('/')[2]}",
                batch_size=bounds.batch,
                collection=collection,
            )
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """A part of a collection: from *low* up to, not including, *high*; None is the end."""

    low: Key | None = None
    high: Key | None = None
    batch: int = _BATCH_DOCUMENTS  # documents
    natural: bool = False  # the whole collection in order of insertion

    def encode(self) -> bytes:
        """Return the bounds as a partition carries them."""
        fields: dict[str, Any] = {"batch": self.batch, "natural": self.natural}
        if self.low is not None:
            fields["low"] = RawBSONDocument(self.low)
        if self.high is not None:
            fields["high"] = RawBSONDocument(self.high)
        return bson.encode(fields)

    @classmethod
    def decode(cls, data: bytes) -> Bounds:
        """Take the bounds from a partition."""
        fields = RawBSONDocument(data)
        low, high = fields.get("low"), fields.get("high")
        return cls(
            Key(low.raw) if low is not None else None,
            Key(high.raw) if high is not None else None,
            fields["batch"],
            fields["natural"],
        )


def _partition(spec: CollectionSpec, number: int, bounds: Bounds, documents: int) -> Partition:
    name = spec.collection.id or str(spec.collection)
    return Partition(f"{name}/{number}", spec.collection, bounds.encode(), documents)


def _both(query: Document | None, where: Query | None) -> Document | None:
    """Return a query for what both match; None stands for everything."""
    if where is None:
        return query
    narrowing = RawBSONDocument(where)
    if query is None:
        return narrowing
    return RawBSONDocument(bson.encode({"$and": [query, narrowing]}))


def _without(batch: Batch, key: Key) -> Batch:
    """Return *batch* less its first document, if that has *key*."""
    return Batch.of(batch.documents[1:]) if key_of(batch.raw[0]) == key else batch
