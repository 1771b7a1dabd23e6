"""Change application: from the buffer to the target, in parallel, schema changes in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from .canonical import distinct_in_index_order, index_place
from .change_capture import ChangeCapture
from .errors import CollectionGone
from .events import BecameConsistent, ChangesApplied
from .model import ChangeBatch, Collection, Document, Key, KeyStates
from .plan import MOST_KEYS, unit_keys
from .portions import Portions
from .schema_changes import SchemaChanges
from .sizing import Size
from .state import CollectionProgress, Migration, State
from .work import Work

T = TypeVar("T")

#: So many changes are coalesced and applied as one: the more, the fewer writes for hot
#: documents and the less waiting for the slowest worker. A process begins with few, so that it
#: soon shows that it works, and doubles them.
_CHANGES_AT_FIRST = 10_000
_CHANGES_AT_ONCE = 80_000
#: How long an empty buffer is left alone.
_IDLE_SECONDS = 0.01
#: How often "nothing happened" is written down.
_MARK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Unit:
    """Changes of one collection that one worker applies."""

    collection: CollectionProgress
    states: KeyStates


class ChangeApplication:
    """Applies what was captured, in batches; what is applied is recorded after it is durable."""

    def __init__(self, work: Work, capture: ChangeCapture, schema: SchemaChanges) -> None:
        self._work = work
        self._capture = capture
        self._schema = schema
        self._marked = 0.0
        self._trimmed = 0
        self._at_once = _CHANGES_AT_FIRST
        self._asked = Portions(work.pace, Size(MOST_KEYS))
        self._applied = Portions(work.pace, Size(MOST_KEYS))

    def run_until(self, is_done: Callable[[Migration], bool]) -> Migration:
        """Apply until ``is_done(migration)`` holds, and return that migration."""
        migration = self._work.store.migration()
        while not is_done(migration):
            self._work.pace.check()
            self._schema.restore()
            # Read before the buffer is: what is captured after it may be missing there.
            reached = self._capture.reached
            found = self._work.buffer.read(after=migration.applied_seq, limit=self._at_once)
            if found is not None:
                self._at_once = min(_CHANGES_AT_ONCE, 2 * self._at_once)
                migration = self._apply(*found)
            elif reached.seq <= migration.applied_seq and self._is_news(migration, reached.time):
                migration = self._advance(migration.applied_seq, reached.time, 0)
            else:
                self._trim(migration)  # what was kept for the verification
                self._work.pace.wait(_IDLE_SECONDS)
                migration = self._work.store.migration()
        return migration

    def _is_news(self, migration: Migration, to: datetime | None) -> bool:
        if to is None or (migration.applied_to is not None and to <= migration.applied_to):
            return False
        # Somebody waits for these two; otherwise twice a second is enough to look at.
        is_awaited = migration.state is State.COMMITTING or not migration.is_consistent
        return is_awaited or time.monotonic() - self._marked > _MARK_SECONDS

    def _apply(self, seq: int, batch: ChangeBatch) -> Migration:
        changed = 0
        if batch.schema is not None:
            self._schema.carry_over(batch.schema)
        else:
            for count in self._work.workers.map_unordered(self._apply_unit, self._units(batch)):
                changed += count
        migration = self._advance(seq, batch.source_time, changed)
        self._trim(migration)
        return migration

    def _trim(self, migration: Migration) -> None:
        through = kept_for(migration)
        if through > self._trimmed:
            self._work.buffer.trim(through=through)
            self._trimmed = through

    def _advance(self, seq: int, to: datetime | None, changed: int) -> Migration:
        before = self._work.store.migration()
        self._marked = time.monotonic()
        after = self._work.store.update(
            lambda m: replace(
                m,
                applied_seq=seq,
                # A schema change is stamped just before its time: never step back for it.
                applied_to=max(filter(None, (m.applied_to, to)), default=None),
                changes_applied=m.changes_applied + changed,
                events_captured=max(m.events_captured, self._capture.events),
            )
        )
        if after.is_consistent and not before.is_consistent and after.applied_to:
            self._work.bus.emit(BecameConsistent(after.applied_to))
        if changed and after.applied_to:
            captured = self._capture.reached.time or after.applied_to
            lag = max(timedelta(0), captured - after.applied_to)
            self._work.bus.emit(ChangesApplied(changed, after.applied_to, lag))
        return after

    def _units(self, batch: ChangeBatch) -> Iterator[Unit]:
        for collection, states in batch.changes.items():
            progress = self._schema.known(collection.id)
            if progress is None or progress.is_dropped:
                continue  # filtered, or dropped before the plan was made
            parts = in_lanes(units_of(progress, states), self._work.workers.width)
            yield from (Unit(progress, part) for part in parts)

    def _apply_unit(self, unit: Unit) -> int:
        parts = list(_parts(unit))
        try:
            if len(parts) == 1:
                return self._apply_part(unit.collection, parts[0])
            # What the database holds equal may lie in different parts: deletes come first.
            deleted = [
                self._apply_part(unit.collection, part, lambda d: d is None) for part in parts
            ]
            written = [
                self._apply_part(unit.collection, part, lambda d: d is not None) for part in parts
            ]
        except CollectionGone:
            return 0  # what removed it is further on in the change stream
        return sum(deleted) + sum(written)

    def _apply_part(
        self,
        progress: CollectionProgress,
        part: KeyStates,
        is_wanted: Callable[[Document | None], bool] | None = None,
    ) -> int:
        """Look up *part* and apply what is wanted of it, or all; return how much that was."""
        self._work.pace.check()
        collection, since = progress.spec.collection, time.monotonic()
        states = self._looked_up(collection, part)
        if is_wanted is not None:
            states = {key: document for key, document in states.items() if is_wanted(document)}
        self._applied.each(
            f"apply changes to {progress.target}",
            sorted(states.items(), key=_is_written),  # also if it is done in several portions
            lambda some: self._work.target.apply(progress.target, dict(some)),
        )
        self._work.pace.spend(len(states), len(states) * progress.spec.document_size, since=since)
        return len(states)

    def _looked_up(self, collection: Collection, states: KeyStates) -> KeyStates:
        narrowed = self._work.settings.read_of(collection)
        if narrowed.where is not None:
            states = dict.fromkeys(states)  # the source says which of them are meant
        unknown = [key for key, document in states.items() if document is None]
        parts = self._asked.each(
            f"look up changes of {collection}",
            unknown,
            lambda some: self._work.source.lookup(narrowed, some),
        )
        found = {key: document for part in parts for key, document in part.items()}
        return {k: found.get(k) if document is None else document for k, document in states.items()}


def _is_written(state: tuple[Key, Document | None]) -> bool:
    return state[1] is not None


def kept_for(migration: Migration) -> int:
    """Return up to which number the buffer is no longer needed by anyone."""
    if migration.verifies and migration.is_consistent:
        return min(migration.applied_seq, migration.verified_seq)
    return migration.applied_seq


def units_of(progress: CollectionProgress, states: KeyStates) -> list[KeyStates]:
    """
    Split the changes of one collection so that workers do not get into each other's way.

    Neighbours in the index stay together: a page of the target is then read, changed and
    written once instead of by every worker. So do keys that the database may hold equal, like
    1 and 1.0: one of them was deleted before the other came, and only within a unit do deletes
    come first. Where order of insertion matters (capped) or equality follows a collation, all
    stay together as they are.
    """
    options = progress.spec.options
    collation = options.get("collation", {}).get("locale", "simple")
    if options.get("capped") or collation != "simple":
        return [states]
    size = unit_keys(progress.spec)
    ordered = distinct_in_index_order(states)
    if ordered is not None:
        parts = (ordered[at : at + size] for at in range(0, len(ordered), size))
        return [{key: states[key] for key in part} for part in parts]
    units: list[KeyStates] = []
    unit: dict[Key, Document | None] = {}
    last: object = None
    for place, key in sorted((index_place(key), key) for key in states):
        if len(unit) >= size and place != last:
            units.append(unit)
            unit = {}
        unit[key] = states[key]
        last = place
    return [*units, unit]


def in_lanes(units: Sequence[T], lanes: int) -> list[T]:
    """
    Return *units*, which are in order, such that *lanes* workers are far apart from each other.

    Each then goes through a part of the index by itself. A target has to look past all that is
    written but not committed next to a key, which costs the more the closer workers are.
    """
    length = max(1, -(-len(units) // lanes))
    return [unit for first in range(length) for unit in units[first::length]]


def _parts(unit: Unit) -> Iterator[KeyStates]:
    """Cut a unit, in order, into parts that may be held in memory with their documents."""
    items = iter(unit.states.items())
    while part := dict(islice(items, unit_keys(unit.collection.spec))):
        yield part
