"""
Verification for the whole life of a migration.

Each partition is compared once the target is consistent; every key that changes from then on
is compared again, by following the buffer behind the application. A difference is a *suspect*
at first: the source may have been read later than the target was written. It *counts* once
the target has applied everything up to the time of that reading and the source's document is
still the one that was read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .canonical import readable
from .comparison import Difference, differing
from .errors import CollectionGone, VerificationFailed
from .events import (
    KeysVerified,
    MismatchFound,
    PartitionVerified,
    VerificationCompleted,
)
from .model import Collection, Key, Mismatch, MismatchKind
from .other_writers import OtherWriters
from .plan import MOST_KEYS, partitions, unit_keys
from .portions import Portions
from .schema_changes import SchemaChanges
from .sizing import Size
from .state import (
    CollectionProgress,
    Migration,
    PartitionProgress,
    PartitionStatus,
    Suspect,
)
from .work import Work

#: Keys compared in one step: few enough that a commit never waits long for a step to end.
_KEYS_AT_ONCE = 20_000
_IDLE_SECONDS = 0.05
#: A mismatch that was reported is looked at again, in case somebody mended it.
_REVISIT_SECONDS = 5.0
#: More are no single documents any more, and each is held and looked at again.
_MOST_MISMATCHES = 100_000
_TOO_MANY = (
    "find out what has happened to the target; then drop there what differs and run the same "
    "command again, which copies it anew"
)


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one collection that are compared at once."""

    collection: CollectionProgress
    keys: tuple[Key, ...]


class Verification:
    """Compares source and target for as long as it runs, and says when it has caught up."""

    def __init__(self, work: Work, schema: SchemaChanges, others: OtherWriters) -> None:
        self._work = work
        self._schema = schema
        self._others = others
        self._portions = Portions(work.pace, Size(MOST_KEYS))
        self._revisited = 0.0
        self._passes = 0

    def run(self) -> None:
        """Compare until stopped."""
        while not self._work.store.migration().is_consistent:
            self._work.pace.wait(_IDLE_SECONDS)
        self._others.begin()
        migration = self._work.store.migration()
        if migration.verified_at is None and not self._work.store.totals().partitions_verified:
            # From here on: what was applied before is seen by the partitions' comparison.
            self._work.store.update(lambda m: replace(m, verified_seq=m.applied_seq))
            self._cover()
        while True:
            self._work.pace.check()
            busy = self._keys() + self._partitions()
            self._passes += 1
            if not busy:
                self._work.pace.wait(_IDLE_SECONDS)

    def _cover(self) -> None:
        """Have what joined before anything was compared, and was never cut, compared as a whole."""
        cut = {p.partition.collection.id for p in self._work.store.partitions()}
        for known in self._work.store.collections():
            if known.is_indexed and not known.is_dropped and known.spec.collection.id not in cut:
                self._cut(known, is_copied=False)

    def _cut(self, known: CollectionProgress, *, is_copied: bool) -> None:
        """Have all documents of a collection compared, of which figures say if it was copied."""
        parts = list(
            partitions(
                self._work.source,
                [known.spec],
                workers=self._work.verifiers.width,
                pace=self._work.pace,
            )
        )
        self._work.store.cut(known.spec.collection.id, parts)
        for part in parts:
            count = part.documents if is_copied else 0
            size = count * known.spec.document_size
            self._work.store.partition_copied(part.id, documents=count, size=size)

    def is_complete(self, migration: Migration) -> bool:
        """Whether every key is compared as of *migration*, and no difference is in doubt."""
        if migration.verified_at is None or not self._others.is_complete(migration):
            return False
        # Read after that: what it has found may have had a collection compared anew meanwhile.
        now = self._work.store.migration()
        if now.verified_at is None or now.verified_seq < migration.applied_seq:
            return False
        return not self._work.store.suspects(counts=False, limit=1)

    def revisit(self) -> None:
        """Compare again what is held for a mismatch; return when that is done."""
        self._revisited = 0.0
        wanted = self._passes + 2  # the one under way may have begun before
        while self._passes < wanted:
            self._work.pace.wait(_IDLE_SECONDS)

    # Partitions.

    def _partitions(self) -> int:
        """Compare partitions that were not yet; between two of them, changed keys."""
        epoch = self._schema.epoch
        waiting = self._work.store.partitions(PartitionStatus.COPIED)
        done, compared, looked = 0, 0, time.monotonic()
        for recorded in self._work.verifiers.map_unordered(self._compare, waiting):
            compared += 1
            done += recorded
            if time.monotonic() - looked > _IDLE_SECONDS:  # of small ones there may be thousands
                self._keys()
                looked = time.monotonic()
        if done == compared:
            self._note_completion(epoch)
        return done

    def _note_completion(self, epoch: int) -> None:
        migration = self._work.store.migration()
        if migration.verified_at is not None or epoch % 2:
            return
        at = self._work.pace.retrying("read the source's clock", self._work.source.clock)

        def verified(migration: Migration) -> Migration:
            # Looked at within the transaction: what is copied anew from now on comes after it.
            return replace(migration, verified_at=at) if self._schema.epoch == epoch else migration

        if self._work.store.update(verified).verified_at is None:
            return
        totals = self._work.store.totals()
        self._work.bus.emit(VerificationCompleted(totals.documents_compared, totals.mismatches))

    def _compare(self, progress: PartitionProgress) -> int:
        """Compare one partition; 1 if that is recorded, 0 if it has to be done again."""
        self._work.pace.check()
        partition, started, epoch = progress.partition, time.monotonic(), self._schema.epoch
        known = self._schema.known(partition.collection.id)
        if known is None or known.is_dropped or epoch % 2:
            return 0
        try:
            with self._work.pace.room_for(document_size=known.spec.document_size):
                compared, suspects = self._work.pace.retrying(
                    f"verify {known.target}/{partition.id.rpartition('/')[2]}",
                    lambda: self._read_both(progress, known),
                )
        except CollectionGone:
            return 0  # its drop is further on in the change stream
        if self._schema.epoch != epoch:
            return 0
        store = self._work.store
        if not store.partition_verified(partition.id, compared=compared, suspects=suspects):
            return 0
        took = timedelta(seconds=time.monotonic() - started)
        self._work.bus.emit(
            PartitionVerified(known.target, partition.id, compared, len(suspects), took)
        )
        return 1

    def _read_both(
        self, progress: PartitionProgress, known: CollectionProgress
    ) -> tuple[int, list[Suspect]]:
        difference = Difference()
        settings = self._work.settings
        # By its present name: the filter may be another one than when the partition was cut.
        here = replace(progress.partition, collection=settings.read_of(known.spec.collection))
        there = replace(progress.partition, collection=settings.compared_with(known.target))
        since, compared = time.monotonic(), 0
        for _ in difference.read(self._work.source.read(here), self._work.target.read(there)):
            self._work.pace.check()
            count, compared = difference.compared - compared, difference.compared
            size = count * known.spec.document_size
            since = self._work.pace.spend(count, size, since=since)
        found = list(difference.found())
        if not found:  # then nobody asks when it was read: one question less for each partition
            return difference.compared, []
        return difference.compared, self._suspects(known, found, self._work.source.clock())

    # Keys.

    def _keys(self) -> int:
        """Compare what changed since, on either side, or is in doubt; return how much there was."""
        migration = self._work.store.migration()
        epoch = self._schema.epoch
        if epoch % 2:
            return 0
        seq, changed = self._changed(migration)
        seen = self._others.look(migration)
        if seen.lost:
            if self._schema.epoch == epoch:  # else perhaps it was copied again meanwhile
                self._schema.copy_again(seen.lost)
            return 0
        for known in seen.replaced:
            self._cut(known, is_copied=True)
        theirs = [Keys(known, keys) for known, keys in seen.keys]
        due = self._due(migration)
        if seq == migration.verified_seq and not (due or theirs):
            self._others.looked()
            return len(seen.replaced)
        doubted = {(s.collection_id, s.mismatch.key): s for s in due}
        units = [*_units([*changed, *theirs]), *_units(self._grouped(due))]
        compared = 0
        found: list[Suspect] = []
        settled = dict(doubted)
        for count, suspects in self._work.verifiers.map_unordered(self._compare_keys, units):
            compared += count
            for suspect in suspects:
                before = settled.pop((suspect.collection_id, suspect.mismatch.key), None)
                found.append(_judged(suspect, before))
        if self._schema.epoch != epoch:
            return 0
        self._work.store.save_suspects(
            found=found, settled=list(settled.values()), verified_seq=seq
        )
        self._others.looked()
        self._report(compared, found, doubted)
        return max(1, compared)

    def _changed(self, migration: Migration) -> tuple[int, list[Keys]]:
        found = self._work.buffer.read(
            after=migration.verified_seq, limit=_KEYS_AT_ONCE, through=migration.applied_seq
        )
        if found is None:
            return migration.verified_seq, []
        seq, batch = found
        known = ((self._schema.known(c.id), keys) for c, keys in batch.changes.items())
        return seq, [Keys(c, tuple(k)) for c, k in known if c is not None and not c.is_dropped]

    def _due(self, migration: Migration) -> list[Suspect]:
        """Return suspects whose time has been applied; now and then those that count too."""
        suspects = self._work.store.suspects(counts=False, limit=_KEYS_AT_ONCE)
        revisit = time.monotonic() - self._revisited > _REVISIT_SECONDS
        if revisit:
            self._revisited = time.monotonic()
            suspects += self._work.store.suspects(counts=True)
        applied_to = migration.applied_to
        return [s for s in suspects if applied_to is not None and applied_to >= s.since]

    def _grouped(self, suspects: Iterable[Suspect]) -> Iterator[Keys]:
        grouped: dict[str, list[Key]] = {}
        for suspect in suspects:
            grouped.setdefault(suspect.collection_id, []).append(suspect.mismatch.key)
        for collection_id, keys in grouped.items():
            known = self._schema.known(collection_id)
            if known is not None and not known.is_dropped:
                yield Keys(known, tuple(keys))

    def _compare_keys(self, unit: Keys) -> tuple[int, list[Suspect]]:
        self._work.pace.check()
        known, since = unit.collection, time.monotonic()

        def differences(keys: Sequence[Key]) -> list[Suspect]:
            # The target first: were it the source, a change between the two would make a
            # difference of what is about to be equal.
            there = self._work.target.lookup(Collection(known.target), keys)
            narrowed = self._work.settings.read_of(known.spec.collection)
            here = self._work.source.lookup(narrowed, keys)
            found = list(differing(keys, here, there))
            return self._suspects(known, found, self._work.source.clock()) if found else []

        try:
            parts = self._portions.each(f"verify keys of {known.target}", unit.keys, differences)
        except CollectionGone:
            return 0, []
        size = len(unit.keys) * known.spec.document_size
        self._work.pace.spend(len(unit.keys), size, since=since)
        return len(unit.keys), [suspect for part in parts for suspect in part]

    def _suspects(
        self,
        known: CollectionProgress,
        differences: Iterable[tuple[MismatchKind, Key, bytes]],
        since: datetime,
    ) -> list[Suspect]:
        return [
            Suspect(Mismatch(kind, known.target, key), known.spec.collection.id, since, value)
            for kind, key, value in differences
        ]

    def _report(
        self, compared: int, found: list[Suspect], doubted: dict[tuple[str, Key], Suspect]
    ) -> None:
        self._work.store.update(
            lambda m: replace(m, documents_rechecked=m.documents_rechecked + compared)
        )
        for suspect in found:
            before = doubted.get((suspect.collection_id, suspect.mismatch.key))
            if suspect.counts and not (before and before.counts):
                self._work.bus.emit(MismatchFound(suspect.mismatch))
        self._work.bus.emit(KeysVerified(compared, len(found)))
        if any(suspect.counts for suspect in found):
            self._refuse_too_many()

    def _refuse_too_many(self) -> None:
        """Go no further where whole collections differ: to hold all of that is of no use."""
        count = self._work.store.totals().mismatches
        if count > _MOST_MISMATCHES:
            examples = ", ".join(
                f"{m.kind} {m.namespace} {readable(m.key)}"
                for m in self._work.store.mismatches(limit=3)
            )
            msg = f"{count:,} documents differ between source and target, as {examples}"
            raise VerificationFailed(msg, hint=_TOO_MANY)


def _judged(suspect: Suspect, before: Suspect | None) -> Suspect:
    """
    Return *suspect* as one that counts, if the source has not changed since *before*.

    The target then had everything up to that time and still differs.
    """
    return replace(suspect, counts=before is not None and before.digest == suspect.digest)


def _units(groups: Iterable[Keys]) -> Iterator[Keys]:
    for group in groups:
        step = unit_keys(group.collection.spec)
        for at in range(0, len(group.keys), step):
            yield Keys(group.collection, group.keys[at : at + step])
