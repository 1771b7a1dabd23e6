"""The collection copy: partitions in parallel, in any order, each recorded when durable."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from .attempts import Attempts
from .connector import Readiness
from .errors import CollectionGone
from .events import BatchCopied, CopyCompleted, PartitionCopied
from .model import Namespace, Partition
from .state import CollectionProgress, PartitionStatus
from .steps import in_steps
from .work import Work


class CollectionCopy:
    """Copies what the plan names and the state does not yet call copied."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def run(self, attempts: Attempts) -> None:
        """Copy everything that is pending, step by step, then note the source's time."""
        if self._work.store.migration().copied_at is not None:
            return
        started = time.monotonic()
        collections = {c.spec.collection.id: c for c in self._work.store.collections()}
        pending = [p.partition for p in self._work.store.partitions(PartitionStatus.PENDING)]
        for step, partitions in self._in_order(collections, pending):
            if step:
                attempts.turn_to(step)
            ids = dict.fromkeys(p.collection.id for p in partitions)
            self.copy([collections[i] for i in ids], partitions)
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
        known = {c.spec.collection.id: c for c in collections}
        for _ in self._work.workers.map_unordered(self._prepare, list(collections)):
            pass
        units = ((p, known[p.collection.id]) for p in partitions)
        for _ in self._work.workers.map_unordered(self._copy, units):
            pass

    def _in_order(
        self, collections: Mapping[str, CollectionProgress], pending: list[Partition]
    ) -> list[tuple[str, list[Partition]]]:
        """Return what is pending by step; all under "" where the plan names no steps."""
        if not self._work.settings.steps:
            return [("", pending)]
        # By the name that they had when the plan was made: it decided what is begun first.
        names = {i: c.spec.collection.namespace for i, c in collections.items()}
        units = ((names[p.collection.id], p) for p in pending)
        return in_steps(self._work.settings.steps, units)

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

    def _copy(self, unit: tuple[Partition, CollectionProgress]) -> None:
        """Copy one partition from its beginning; safe to run again."""
        partition, collection = unit
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
            count = len(batch.raw)
            documents += count
            size += batch.size
            self._work.bus.emit(BatchCopied(namespace, count, batch.size))
            since = self._work.pace.spend(count, batch.size, since=since)
        return documents, size
