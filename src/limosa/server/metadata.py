"""mongosync's metadata collections on the target, for monitors that read them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import bson
from bson import MaxKey, MinKey

from ..canonical import key_for, key_of
from ..connector import Target, shows_ranges
from ..errors import CollectionGone, ConfigError, LimosaError
from ..model import (
    Collection,
    CollectionSpec,
    Document,
    Key,
    Namespace,
    Partition,
    SchemaChange,
    SchemaVerb,
    Slice,
)
from ..state import Migration, State
from ..views import mongosync_metadata as views
from ..views.mongosync import INSTANCE
from ..views.mongosync_metadata import DATABASE, VERIFIER_DATABASES, Documents, Parts
from .service import Service
from .snapshot import Snapshot

#: Seconds between two writes while nothing but figures changes, and before another try.
_EVERY = 2.0
_AFTER_FAILURE = 30.0
#: Seconds between two looks at what is known, so a change of the state is shown soon.
_LOOK_EVERY = 0.5
#: Reading and writing may take a twentieth of the time: there may be 100,000 partitions.
_SHARE = 20
#: Documents of one write.
_TOGETHER = 1_000
#: Seconds in which the last write has to be done when the server ends.
_END_SECONDS = 5.0

#: Says whose the collections are: mongosync has none of that name.
_MARK = Namespace(DATABASE, "limosa")
_MARK_KEY = key_for("mirror")
_RESUME_DATA = Namespace(DATABASE, "resumeData")
_NAMES = ("globalState", "partitions", "uuidMap", "indexCorrection")
_VERIFIER_NAMES = ("collection_verification", "collection_checksum")


class Mirror:
    """
    Shows the durable state of a migration in the collections that mongosync has on its target.

    Nothing reads them here, and what keeps them from being written is told once and does no
    harm. Those of mongosync itself, or of another migration, are left alone.
    """

    def __init__(
        self,
        service: Service,
        opened: Mapping[str, Callable[[], Target]],
        say: Callable[[str], None],
        *,
        every: float = _EVERY,
    ) -> None:
        """Begin to write; *opened* opens each end by its name, as a target."""
        self._service = service
        self._opened = opened
        self._say = say
        self._every = every
        self._ends: dict[str, Target] = {}
        self._copy: Copy | None = None
        self._left = 0  # the reversal before which the former target was left
        self._told = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metadata", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write once more, and no longer; a target that does not answer is not waited for."""
        self._closing.set()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        due, before = 0.0, _occasion(self._service.snapshot())
        while not self._closing.wait(_LOOK_EVERY):
            seen = self._service.snapshot()
            mark = _occasion(seen)
            if mark != before or time.monotonic() >= due:
                before, due = mark, time.monotonic() + self._attempt(seen)
        self._attempt(self._service.snapshot())
        for end in self._ends.values():
            end.close()

    def _attempt(self, seen: Snapshot) -> float:
        """Write what has changed; return the seconds until the next time."""
        migration, began = seen.migration, time.monotonic()
        if migration is None or seen.is_initializing or migration.state is State.IDLE:
            return self._every
        try:
            self._write(seen, migration)
        except LimosaError as error:
            self._copy = None  # what it says of the target may be wrong now
            self._tell(error)
            return _AFTER_FAILURE
        self._told = ""
        return max(self._every, (time.monotonic() - began) * _SHARE)

    def _write(self, seen: Snapshot, migration: Migration) -> None:
        source, target = self._service.names(seen)
        if migration.reversals != self._left:
            _remove_own(self._end(source), migration)
            self._copy, self._left = None, migration.reversals
        if self._copy is None:
            _claim(self._end(target), migration)
            self._copy = Copy(self._end(target))
        names = (source, target)
        copy = self._copy
        copy.replace(_RESUME_DATA, views.resume_data(migration, seen.state.value, names))
        copy.replace(Namespace(DATABASE, "globalState"), views.global_state(migration))
        totals = seen.status.totals if seen.status else None
        copy.once((totals, migration.indexed_at, migration.reversals), partial(self._parts, copy))

    def _parts(self, copy: Copy) -> None:
        """Write what is of single collections and partitions."""
        with self._service.store() as store:
            migration = store.migration()
            parts = Parts(list(store.collections()), list(store.partitions()))
        found: dict[Namespace, Documents] = {
            Namespace(DATABASE, "partitions"): views.partitions(parts, copy.range_of),
            Namespace(DATABASE, "uuidMap"): views.uuid_map(parts),
            Namespace(DATABASE, "indexCorrection"): views.index_correction(migration, parts),
        }
        for database in VERIFIER_DATABASES if migration.verifies else ():
            # Both ends are compared with each other, not apart.
            phases, counts = views.collection_verification(parts), views.collection_checksum(parts)
            found[Namespace(database, _VERIFIER_NAMES[0])] = phases
            found[Namespace(database, _VERIFIER_NAMES[1])] = counts
        for namespace, documents in found.items():
            copy.replace(namespace, documents)

    def _end(self, name: str) -> Target:
        if name not in self._ends:
            self._ends[name] = self._opened[name]()
        return self._ends[name]

    def _tell(self, error: LimosaError) -> None:
        if error.code == self._told:
            return
        self._told = error.code
        # What would have to be done for a migration need not be done for this.
        cure = error.hint if isinstance(error, ConfigError) else "it is tried again"
        text = f"mongosync's metadata is not shown on the target: {error}; {cure}"
        self._say(text)
        self._service.warn(text)


class Copy:
    """What the target holds of the collections; only what has changed is written."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._held: dict[Namespace, dict[Key, bytes]] = {}
        self._sign: object = None

    def once(self, sign: object, write: Callable[[], None]) -> None:
        """Call *write*, unless it was with the same *sign* the last time."""
        if sign != self._sign:
            write()
            self._sign = sign

    def replace(self, namespace: Namespace, documents: Iterable[Mapping[str, Any]]) -> None:
        """Have *namespace* hold these *documents* and no others."""
        held = self._held.get(namespace)
        if held is None:
            held = self._held[namespace] = self._read(namespace)
        gone = dict.fromkeys(held)
        changed: dict[Key, Document | None] = {}
        for each in documents:
            raw = bson.encode(each)
            key, digest = key_of(raw), _digest(raw)
            gone.pop(key, None)
            if held.get(key) != digest:
                changed[key], held[key] = Slice(raw), digest
            if len(changed) == _TOGETHER:
                self._target.apply(namespace, changed)
                changed = {}
        changed |= gone
        if changed:
            self._target.apply(namespace, changed)
        for key in gone:
            del held[key]

    def range_of(self, partition: Partition) -> tuple[Any, Any]:
        """Return the bounds of *partition*; of one that the target cannot read, everything."""
        target = self._target
        return target.range_of(partition) if shows_ranges(target) else (MinKey(), MaxKey())

    def _read(self, namespace: Namespace) -> dict[Key, bytes]:
        spec = CollectionSpec(Collection(namespace))
        with suppress(CollectionGone):
            return {
                key_of(document.raw): _digest(bytes(document.raw))
                for part in self._target.partitions(spec, documents=1)
                for batch in self._target.read(part)
                for document in batch.documents
            }
        return {}


def _occasion(seen: Snapshot) -> object:
    """Return what, when it changes, is shown at once."""
    migration = seen.migration
    return migration and (
        *(seen.state, migration.phase, migration.can_commit, migration.can_write),
        *(migration.is_consistent, migration.reversals),
    )


def _claim(target: Target, migration: Migration) -> None:
    """
    Have the collections on *target* be those of *migration*.

    Raises:
        ConfigError: they are somebody else's.
    """
    mark = _mark(target)
    if mark == _own(migration):
        return
    hint = f"drop the databases {DATABASE} and {DATABASE}_verifier_… there if nobody needs them"
    if mark is None:
        if target.lookup(Collection(_RESUME_DATA), [key_for(INSTANCE)]):
            msg = f"{DATABASE} on the target is mongosync's own"
            raise ConfigError(msg, hint=hint)
    elif mark["migration"] != migration.name:
        msg = f"{DATABASE} on the target is that of the migration {mark['migration']!r}"
        raise ConfigError(msg, hint=hint)
    else:
        _remove(target)
    target.apply(_MARK, {_MARK_KEY: Slice(bson.encode({"_id": "mirror", **_own(migration)}))})


def _own(migration: Migration) -> dict[str, Any]:
    started = "" if migration.started_at is None else migration.started_at.isoformat()
    return {"migration": migration.name, "startedAt": started}


def _mark(target: Target) -> dict[str, Any] | None:
    found = target.lookup(Collection(_MARK), [_MARK_KEY]).get(_MARK_KEY)
    if found is None:
        return None
    return {name: value for name, value in bson.decode(found.raw).items() if name != "_id"}


def _remove_own(former: Target, migration: Migration) -> None:
    """Remove what was shown on the end that is the source now: it would be out of date."""
    if _mark(former) == _own(migration):
        _remove(former)


def _remove(target: Target) -> None:
    """Remove the collections; the mark goes last, so that what is left stays known as ours."""
    names = [Namespace(DATABASE, name) for name in ("resumeData", *_NAMES)]
    names += [Namespace(d, name) for d in VERIFIER_DATABASES for name in _VERIFIER_NAMES]
    for namespace in [*names, _MARK]:
        target.evolve(SchemaChange(SchemaVerb.DROP, Collection(namespace)))


def _digest(raw: bytes) -> bytes:
    """Return what tells one document from another of the same key; 100,000 are held."""
    return hashlib.blake2b(raw, digest_size=8).digest()
