"""The collection copy: partitions in parallel, in any order, each recorded when durable."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import groupby

from .attempts import Attempts
from .connector import Readiness
from .errors import CollectionGone
from .events import BatchCopied, CopyCompleted, PartitionCopied
from .model import Namespace, Partition
from .registry import Registry
from .state import CollectionProgress, PartitionStatus
from .steps import OTHER, step_of
from .work import Work


class CollectionCopy:
    """Copies what the plan names and the state does not yet call copied."""

    def __init__(self, work: Work, registry: Registry) -> None:
        self._work = work
        self._registry = registry

    def run(self, attempts: Attempts) -> None:
        """Copy everything that is pending, step by step, then note the source's time."""
        if self._work.store.migration().copied_at is not None:
            return
        started = time.monotonic()
        named = self._work.settings.steps
        for step in (*(s.name for s in named), OTHER) if named else ("",):
            if step == OTHER and next(self._pending(OTHER), None) is None:
                continue
            if step:
                attempts.turn_to(step)
            collections = (self._known(next(p)) for _, p in groupby(self._pending(step), _id_of))
            self.copy(collections, self._pending(step))
            attempts.end(step)
        end = self._work.pace.retrying("read the source's clock", self._work.source.clock)
        self._work.store.update(lambda m: replace(m, copied_at=end))
        totals = self._work.store.totals()
        took = timedelta(seconds=time.monotonic() - started)
        self._work.bus.emit(CopyCompleted(totals.documents_copied, totals.bytes_copied, took))

    def copy(
        self, collections: Iterable[CollectionProgress], partitions: Iterable[Partition]
    ) -> None:
        """Create *collections* on the target and copy *partitions* of them."""
        for _ in self._work.workers.map_unordered(self._prepare, collections):
            pass
        for _ in self._work.workers.map_unordered(self._copy, partitions):
            pass

    def _pending(self, step: str) -> Iterator[Partition]:
        """Yield what is not copied yet: of *step*, or everything where that is ""."""
        for progress in self._work.store.partitions(PartitionStatus.PENDING):
            partition = progress.partition
            # By the name that it had when the plan was made: that decided what is begun first.
            name = partition.collection.namespace
            if not step or step_of(self._work.settings.steps, name) == step:
                yield partition

    def _known(self, partition: Partition) -> CollectionProgress:
        known = self._registry.get(partition.collection.id)
        assert known is not None, "a partition is of a collection that is planned"
        return known

    def _prepare(self, collection: CollectionProgress) -> None:
        spec = replace(
            collection.spec,
            collection=replace(collection.spec.collection, namespace=collection.target),
        )
        self._work.pace.check()
        self._work.pace.retrying(
            f"create {collection.target}", lambda: self._work.target.prepare(spec)
        )
        if self._work.settings.indexes.builds_before and spec.indexes:
            self._work.pace.retrying(
                f"build the indexes of {collection.target}",
                lambda: self._work.target.finish(spec, Readiness.INDEXED),
            )

    def _copy(self, partition: Partition) -> None:
        """Copy one partition from its beginning; safe to run again."""
        collection = self._known(partition)
        namespace = collection.target
        self._work.pace.check()
        started = time.monotonic()
        try:
            with self._work.pace.room_for(document_size=collection.spec.document_size):
                documents, size = self._work.pace.retrying(
                    f"copy {namespace}/{partition.id.rpartition('/')[2]}",
                    lambda: self._attempt(partition, namespace),
                )
        except CollectionGone:
            documents, size = 0, 0  # its drop is in the change stream
        self._work.store.partition_copied(partition.id, documents=documents, size=size)
        took = timedelta(seconds=time.monotonic() - started)
        self._work.bus.emit(PartitionCopied(namespace, partition.id, documents, size, took))

    def _attempt(self, partition: Partition, namespace: Namespace) -> tuple[int, int]:
        documents = size = 0
        wanted = replace(partition, collection=self._work.settings.read_of(partition.collection))
        since = time.monotonic()
        for batch in self._work.source.read(wanted):
            self._work.pace.check()
            self._work.target.write(namespace, batch)
            documents += batch.count
            size += batch.size
            self._work.bus.emit(BatchCopied(namespace, batch.count, batch.size))
            since = self._work.pace.spend(batch.count, batch.size, since=since)
        return documents, size


def _id_of(partition: Partition) -> str:
    return partition.collection.id
