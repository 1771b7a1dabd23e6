"""Everything once more: each document of both ends, compared after the commit."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import timedelta

from ..canonical import readable
from ..comparison import Difference, differing
from ..connector import Source, Target
from ..errors import CollectionGone, Stopped
from ..events import EventBus, Subscriber
from ..executors import Executor
from ..model import Collection, Key, MismatchKind
from ..pacing import Pace
from ..settings import Settings
from ..state import CollectionProgress, PartitionProgress
from ..storage import StateStore
from .errors import IntegrityFailed

#: A difference is looked at again for so long: both ends are read at different times.
_RECHECK = 5.0
#: Where documents expire, each end removes them by itself, once a minute.
_RECHECK_EXPIRING = 90.0
_RECHECK_EVERY = 0.5
#: More differences than this are no matter of time.
_RECHECKED = 1_000
#: Differences that an error names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class _Found:
    kind: MismatchKind
    key: Key
    collection: CollectionProgress


class Integrity:
    """Compares a committed migration's ends while nobody writes to either."""

    def __init__(
        self,
        store: StateStore,
        source: Source,
        target: Target,
        *,
        settings: Settings,
        workers: Executor,
        retry_for: timedelta,
        stop: threading.Event,
        on_event: Subscriber,
    ) -> None:
        self._store = store
        self._source = source
        self._target = target
        self._settings = settings
        self._workers = workers
        self._stop = stop
        self._pace = Pace(EventBus(on_event), retry_for=retry_for)

    def check(self) -> int:
        """
        Return how many documents were compared, all of them equal.

        Raises:
            IntegrityFailed: some differ.
            Stopped: the run was asked to stop.
        """
        compared = 0
        found: list[_Found] = []
        for count, some in self._workers.map_unordered(self._compare, self._store.partitions()):
            compared += count
            found += some
        left = self._settled(found)
        if left:
            named = ", ".join(
                f"{f.kind} {f.collection.target} {readable(f.key)}" for f in left[:_NAMED]
            )
            more = ", …" if len(left) > _NAMED else ""
            msg = f"{len(left)} documents differ between source and target: {named}{more}"
            raise IntegrityFailed(msg)
        return compared

    def _compare(self, progress: PartitionProgress) -> tuple[int, list[_Found]]:
        known = self._store.collection(progress.partition.collection.id)
        assert known is not None, "a partition is of a collection that is planned"
        try:
            difference = self._pace.retrying(
                f"compare {known.target}", lambda: self._read_both(progress, known)
            )
        except CollectionGone:
            return 0, []
        return difference.compared, [_Found(k, key, known) for k, key, _ in difference.found()]

    def _read_both(self, progress: PartitionProgress, known: CollectionProgress) -> Difference:
        difference = Difference()
        settings = self._settings
        here = replace(progress.partition, collection=settings.read_of(known.spec.collection))
        there = replace(progress.partition, collection=settings.compared_with(known.target))
        for _ in difference.read(self._source.read(here), self._target.read(there)):
            self._check()
        return difference

    def _settled(self, found: list[_Found]) -> list[_Found]:
        """Return what still differs after a while."""
        if len(found) > _RECHECKED:
            return found
        expiring = any(_expires(f.collection) for f in found)
        deadline = time.monotonic() + (_RECHECK_EXPIRING if expiring else _RECHECK)
        while found and time.monotonic() < deadline:
            self._check()
            self._stop.wait(_RECHECK_EVERY)
            found = [f for f in found if self._differs(f)]
        return found

    def _differs(self, found: _Found) -> bool:
        known = found.collection
        keys = [found.key]

        def attempt() -> bool:
            there = self._target.lookup(Collection(known.target), keys)
            here = self._source.lookup(self._settings.read_of(known.spec.collection), keys)
            return any(differing(keys, here, there))

        return self._pace.retrying(f"compare {known.target}", attempt)

    def _check(self) -> None:
        if self._stop.is_set():
            self._pace.stop()
            msg = "the run was asked to stop"
            raise Stopped(msg)


def _expires(collection: CollectionProgress) -> bool:
    return any("expireAfterSeconds" in index for index in collection.spec.indexes)
