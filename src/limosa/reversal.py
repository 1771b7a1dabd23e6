"""The reversal: source and target change places, and what was written since flows back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from . import plan
from .errors import PositionLost
from .events import PhaseChanged, Reversed
from .model import Collection, CollectionSpec, Partition
from .state import CollectionProgress, Migration, Phase
from .work import Work

_TOO_LATE = (
    "it is too late to reverse: the changes since the commit are gone from the oplog; the commit "
    "stands, and nothing was touched: `limosa cleanup --force`, then migrate the other way anew"
)


class Reversal:
    """
    Turns a committed migration round; the ends of its work stand the new way already.

    Both ends were equal when the new source became writable, and its position of that moment
    is stored. So nothing is copied: what has changed since is applied, and all is compared.
    The last step, one transaction, makes the turn; what comes before it is done again if it
    was not reached.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    def run(self) -> Migration:
        """Prepare the old source as a target, then turn; return the migration, running."""
        self._work.bus.emit(PhaseChanged(Phase.REVERSAL))
        self._check_position()
        known = self._work.store.collections()
        # Without an identity it was not on the target when that became writable.
        collections = [self._turned(c) for c in known if c.target_id and not c.is_dropped]
        for _ in self._work.workers.map_unordered(self._relax, collections):
            pass
        held, pending = self._cut(collections)
        at = self._work.pace.retrying("read the source's clock", self._work.source.clock)
        # What was captured in the other direction is all applied; what is captured from here
        # on begins at another position, and with the numbers that follow.
        self._work.buffer.clear()
        last = self._work.buffer.last_seq()
        migration = self._work.store.turn(
            collections,
            held=held,
            pending=pending,
            change=lambda m: m.turned(planned_at=at, applied_seq=last),
        )
        self._work.bus.emit(Reversed(migration.source, migration.target, len(collections)))
        return migration

    def _check_position(self) -> None:
        """
        Return if the changes that are to flow back are still there; nothing was touched yet.

        Raises:
            PositionLost: they are not.
        """
        position = self._work.store.migration().return_position
        assert position is not None, "a reversal is refused without"
        try:
            self._work.pace.retrying(
                "look for the changes since the commit",
                lambda: next(iter(self._work.source.changes(position))),
            )
        except PositionLost as error:
            raise PositionLost(str(error), hint=_TOO_LATE) from error

    def _turned(self, known: CollectionProgress) -> CollectionProgress:
        """Return the collection as the new source knows it, and as it stands on the new target."""
        here = self._work.settings.read_of(Collection(known.target, known.target_id))
        return CollectionProgress(
            replace(known.spec, collection=here),
            target=known.spec.collection.namespace,
            is_indexed=True,
        )

    def _relax(self, collection: CollectionProgress) -> None:
        self._work.pace.check()
        self._work.pace.retrying(
            f"relax {collection.target}",
            lambda: self._work.target.relax(_at_target(collection)),
        )

    def _cut(
        self, collections: Iterable[CollectionProgress]
    ) -> tuple[list[Partition], list[Partition]]:
        """Cut what is to be compared, and what has to be copied before that."""
        found = {
            s.collection.id: s
            for s in self._work.pace.retrying(
                "list the collections", lambda: list(self._work.source.collections())
            )
        }
        held: list[CollectionSpec] = []
        pending: list[CollectionSpec] = []
        for collection in collections:
            now = found.get(collection.spec.collection.id)
            if now is None:
                continue  # dropped since, as the change stream will say
            spec = replace(collection.spec, documents=now.documents, size=now.size)
            (pending if _expires(collection.spec) else held).append(spec)
        return list(self._partitions(held)), list(self._partitions(pending))

    def _partitions(self, specs: list[CollectionSpec]) -> Iterator[Partition]:
        workers = self._work.workers.width
        return plan.partitions(self._work.source, specs, workers=workers, pace=self._work.pace)


def _at_target(collection: CollectionProgress) -> CollectionSpec:
    return replace(collection.spec, collection=Collection(collection.target))


def _expires(spec: CollectionSpec) -> bool:
    """
    Whether documents may have expired on the old source alone.

    One that lives on because the new source's expiry was changed after the commit is in no
    change, so it has to be copied.
    """
    indexes: Iterable[Mapping[str, Any]] = spec.indexes
    return "expireAfterSeconds" in spec.options or any("expireAfterSeconds" in i for i in indexes)
