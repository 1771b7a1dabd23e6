"""What a caller does with migrations: run one, plan one, examine both ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from . import catalog
from .allocation import return_large_blocks
from .connector import Connector, Finding, Source, Target, connector_for
from .engine import Engine
from .errors import (
    AccessDenied,
    ConfigError,
    LimosaError,
    NamespaceNotFound,
    SameEnds,
    SettingsChanged,
    TargetNotEmpty,
)
from .events import EventBus, Subscriber
from .executors.local import LocalExecutor
from .model import CollectionSpec, Namespace
from .namespaces import NamespaceFilter
from .pacing import Pace
from .plan import chosen, partition_documents
from .settings import Settings
from .state import Migration, State
from .storage import StateStore
from .storage.buffer import SqliteBuffer
from .storage.sqlite import SqliteStore
from .work import Work

#: What a copy has been seen to do at the least over a network of 1 Gbit/s; the plan's
#: estimate is a promise that is better kept than broken.
ESTIMATED_BYTES_PER_SECOND = 50 * 1024 * 1024

#: A server that cannot be reached at first is a wrong address more often than a passing fault.
PATIENCE = timedelta(seconds=5)

CommitMode = Literal["manual", "when-ready"]


def migrate(
    source: str,
    target: str,
    *,
    settings: Settings = Settings(),
    name: str | None = None,
    state: Path | None = None,
    commit: CommitMode = "manual",
    workers: int = 4,
    retry_for: timedelta = timedelta(minutes=10),
    on_event: Subscriber | None = None,
    stop: threading.Event | None = None,
) -> Migration:
    """
    Run a migration until it is committed, has failed or is asked to stop.

    The same call again goes on where the last one ended, however it ended. A migration that
    failed is returned with its `Failure`; one that was stopped is returned as it stands.

    Raises:
        ConfigError: the request is wrong; nothing was begun.
        StateError: the local state cannot be used.
        TransientError, AccessDenied: an end could not be reached before anything was begun.
    """
    return_large_blocks()
    ends = Ends.of(source, target)
    folder = catalog.folder_for(name or catalog.name_for(ends.source_id, ends.target_id), state)
    bus = EventBus(*([on_event] if on_event else []))
    with ExitStack() as stack:
        store = stack.enter_context(closing(SqliteStore.drive(folder.path, folder.name)))
        migration = _accepted(store, ends, settings)
        if migration.state is State.COMMITTED:
            return migration
        readable, writable = ends.open(stack, settings.namespaces)
        if migration.planned_at is None:
            pace = Pace(bus, retry_for=min(retry_for, PATIENCE))
            _check_ends(ends, readable, writable, settings.namespaces, pace)
        store.update(
            lambda m: replace(
                m, source=ends.source_id, target=ends.target_id, settings=settings.stored()
            )
        )
        buffer = stack.enter_context(closing(SqliteBuffer(folder.buffer_file)))
        verifiers = LocalExecutor(max(2, workers // 2), name="verifier")
        work = Work(
            source=readable,
            target=writable,
            store=store,
            buffer=buffer,
            settings=settings,
            workers=stack.enter_context(closing(LocalExecutor(workers, name="worker"))),
            verifiers=stack.enter_context(closing(verifiers)),
            pace=Pace(bus, retry_for=retry_for),
            bus=bus,
        )
        when_ready = commit == "when-ready"
        return Engine(work, stop=stop or threading.Event(), commit_when_ready=when_ready).run()


@dataclass(frozen=True, slots=True)
class PlannedCollection:
    """A collection as a migration would treat it."""

    spec: CollectionSpec
    target: Namespace
    partitions: int  # about


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration would do, and how long that would take."""

    collections: Sequence[PlannedCollection]
    estimated: timedelta

    @property
    def documents(self) -> int:
        return sum(c.spec.documents for c in self.collections)

    @property
    def bytes(self) -> int:
        return sum(c.spec.size for c in self.collections)


def plan(
    source: str,
    target: str,
    *,
    settings: Settings = Settings(),
    workers: int = 4,
) -> Plan:
    """
    Return what `migrate` would do; touches nothing.

    Raises:
        ConfigError: the request is wrong.
        TransientError, AccessDenied: the source could not be read.
    """
    ends = Ends.of(source, target)
    namespaces = settings.namespaces
    with ExitStack() as stack:
        readable, _ = ends.open(stack, namespaces)
        specs = _existing(readable, namespaces)
    total = sum(s.documents for s in specs)
    collections = [
        PlannedCollection(
            s,
            s.collection.namespace,
            max(1, -(-s.documents // partition_documents(s, total=total, workers=workers))),
        )
        for s in specs
    ]
    seconds = sum(s.size for s in specs) / ESTIMATED_BYTES_PER_SECOND
    return Plan(collections, timedelta(seconds=seconds))


def examine(
    source: str, target: str, *, settings: Settings = Settings()
) -> list[tuple[str, Finding]]:
    """
    Look at both ends before anything moves; findings come with "source" or "target".

    Raises:
        ConfigError: the request is wrong.
    """
    ends = Ends.of(source, target)
    namespaces = settings.namespaces
    specs: list[CollectionSpec] = []
    wanted: list[CollectionSpec] = []
    with ExitStack() as stack:
        try:
            readable, _ = ends.open(stack, namespaces)
            specs = chosen(readable, namespaces)
            wanted = _wanted_of(readable, namespaces, specs)
        except LimosaError:
            wanted = specs  # the examination says what ails the source
    return [
        *(("source", f) for f in ends.source_kind.examine(ends.source, "source", wanted)),
        *(("target", f) for f in ends.target_kind.examine(ends.target, "target", specs)),
    ]


@dataclass(frozen=True)
class Ends:
    """Source and target as they were named, and what they are."""

    source: str
    target: str
    source_kind: Connector
    target_kind: Connector

    @classmethod
    def of(cls, source: str, target: str) -> Ends:
        """
        Find the connectors.

        Raises:
            ConfigError: an address is not understood, or both are the same.
        """
        ends = cls(source, target, connector_for(source), connector_for(target))
        if ends.source_kind.kind != ends.target_kind.kind:
            msg = (
                f"expected two databases of one kind, got {ends.source_kind.kind} "
                f"and {ends.target_kind.kind}"
            )
            raise ConfigError(msg)
        if ends.source_id == ends.target_id:
            msg = f"source and target are both {ends.source_id}"
            raise SameEnds(msg)
        return ends

    @property
    def source_id(self) -> str:
        return self.source_kind.identity(self.source)

    @property
    def target_id(self) -> str:
        return self.target_kind.identity(self.target)

    def open(self, stack: ExitStack, namespaces: NamespaceFilter) -> tuple[Source, Target]:
        """Open both for a migration of *namespaces*; *stack* closes them."""
        database = namespaces.single_database
        return (
            stack.enter_context(
                closing(self.source_kind.open_source(self.source, database=database))
            ),
            stack.enter_context(closing(self.target_kind.open_target(self.target))),
        )


def _wanted_of(
    source: Source, namespaces: NamespaceFilter, specs: list[CollectionSpec]
) -> list[CollectionSpec]:
    """
    Return *specs*, or nothing, which stands for everything, if they would mislead.

    They may all be in one database without the migration being confined to it. Then it follows
    the whole deployment, and rights on that database would seem enough, but are not.
    """
    databases = {s.collection.namespace.database for s in specs}
    if namespaces.single_database is None and len(databases) == 1:
        try:
            source.position()
        except AccessDenied:
            return []
    return specs


def _accepted(store: StateStore, ends: Ends, settings: Settings) -> Migration:
    """Return the migration, if it was begun with the same request or not at all."""
    migration = store.migration()
    if migration.state is State.IDLE:
        return migration
    was = {"source": migration.source, "target": migration.target, **migration.settings}
    now = {"source": ends.source_id, "target": ends.target_id, **settings.stored()}
    changed = [f"{k} was {was.get(k)!r}, is {v!r}" for k, v in now.items() if was.get(k) != v]
    if changed:
        msg = f"migration {migration.name!r} was begun with other settings: {'; '.join(changed)}"
        raise SettingsChanged(msg)
    return migration


def _check_ends(
    ends: Ends, source: Source, target: Target, namespaces: NamespaceFilter, pace: Pace
) -> None:
    """Refuse, before anything is written, what could not end well."""
    pace.retrying("look at the source", source.position)
    specs = pace.retrying("look at the source", lambda: _existing(source, namespaces))
    wanted = {s.collection.namespace for s in specs}
    if pace.retrying("look at both ends", lambda: ends.source_kind.are_same(source, target)):
        msg = f"source and target are both {ends.source_id}, which {ends.target_id} is too"
        raise SameEnds(msg)
    held = pace.retrying("look at the target", lambda: list(target.collections()))
    taken = [s.collection.namespace for s in held if s.collection.namespace in wanted]
    if taken:
        named = ", ".join(str(n) for n in sorted(taken)[:10])
        msg = f"the target already has {len(taken)} of the namespaces: {named}"
        raise TargetNotEmpty(msg)


def _existing(source: Source, namespaces: NamespaceFilter) -> list[CollectionSpec]:
    specs = chosen(source, namespaces)
    missing = namespaces.unmatched(s.collection.namespace for s in specs)
    if missing:
        msg = f"the source has nothing that matches {', '.join(map(repr, missing))}"
        raise NamespaceNotFound(msg)
    return specs
