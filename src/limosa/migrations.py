"""What a caller does with migrations: run one, plan one, examine both ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from . import catalog
from .allocation import return_large_blocks
from .attempts import Supervision
from .connector import Finding, Source, Target
from .ends import Ends, check_abilities, examined_more
from .engine import Engine
from .errors import (
    AccessDenied,
    LimosaError,
    SameEnds,
    SettingsChanged,
)
from .events import EventBus, Subscriber, Warned
from .executors.local import LocalExecutor
from .history import Sample
from .limits import LimitChange
from .model import CollectionSpec, Namespace
from .namespaces import NamespaceFilter
from .pacing import Pace
from .plan import (
    chosen,
    examined,
    held,
    laid_out,
    named,
    partition_documents,
    refuse_bad_queries,
    refuse_unmatched,
    views_chosen,
)
from .recording import Recorder
from .settings import ReadFrom, Settings
from .state import Migration, State
from .storage import ChangeBuffer, StateStore
from .storage.buffer import SqliteBuffer
from .storage.history import SqliteHistory
from .storage.sqlite import SqliteStore
from .timing import Pings, timed
from .views.readings import sample
from .views.status import Status
from .views.story import entry
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
    limits: LimitChange = LimitChange(),
    read_from: ReadFrom | None = None,
    on_event: Subscriber | None = None,
    stop: threading.Event | None = None,
    supervision: Supervision = Supervision(),
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
        store.update(lambda m: replace(m, limits=limits.applied_to(m.limits)))
        if migration.is_way_back:
            # From a reversal on the ends stand the other way round than on the command line.
            ends, settings = ends.swapped(), settings.way_back()
        ends = ends.reading_from(read_from)
        pace = Pace(bus, retry_for=min(retry_for, PATIENCE))
        opened = _opened(stack, store, ends, settings, pace)
        work = _work(stack, folder, store, opened, settings, workers, retry_for, on_event)
        return Engine(
            work,
            stop=stop or threading.Event(),
            commit_when_ready=commit == "when-ready",
            supervision=supervision,
        ).run()


def folder_of(
    source: str, target: str, *, name: str | None = None, state: Path | None = None
) -> catalog.Folder:
    """
    Return where `migrate` keeps the state of this migration.

    Raises:
        ConfigError: the request is wrong.
    """
    ends = Ends.of(source, target)
    return catalog.folder_for(name or catalog.name_for(ends.source_id, ends.target_id), state)


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
    with ExitStack() as stack:
        readable, _ = ends.open(stack, settings)
        specs = _existing(readable, settings)
    total = sum(s.documents for s in specs)
    collections = [
        PlannedCollection(
            c.spec,
            c.target,
            max(
                1, -(-c.spec.documents // partition_documents(c.spec, total=total, workers=workers))
            ),
        )
        for c in laid_out(specs, settings)
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
    specs: list[CollectionSpec] = []
    wanted: list[CollectionSpec] = []
    selection: list[Finding] = []
    with ExitStack() as stack:
        try:
            readable, _ = ends.open(stack, settings)
            specs = chosen(readable, settings)
            wanted = _wanted_of(readable, settings.namespaces, specs)
            selection = list(examined(readable, specs, settings))
        except LimosaError:
            wanted = specs  # the examination says what ails the source
    return [
        *(("source", f) for f in ends.source_kind.examine(ends.source, "source", wanted)),
        *(("source", f) for f in selection),
        *(
            ("target", f)
            for f in ends.target_kind.examine(ends.target, "target", named(specs, settings))
        ),
        *examined_more(ends, settings, specs),
    ]


def in_threads(count: int, *, name: str) -> LocalExecutor:
    """Return what runs *count* units of work at once, in threads of this process."""
    return LocalExecutor(count, name=name)


def _opened(
    stack: ExitStack, store: SqliteStore, ends: Ends, settings: Settings, pace: Pace
) -> tuple[Source, Target, Source | None]:
    """
    Open source, target and, for a reversible migration, the target as a source.

    One that is not planned yet is checked, and then stored as it is to be.
    """
    readable, writable = ends.open(stack, settings)
    way_back = ends.swapped().open_source(stack, settings.way_back())
    if store.migration().planned_at is None:
        store.save_occupied(_check_ends(ends, readable, writable, settings, pace))
        check_abilities(ends, readable, writable, way_back, settings, pace)
        source, target, stored = ends.source_id, ends.target_id, settings.stored()
        store.update(lambda m: replace(m, source=source, target=target, settings=stored))
    return readable, writable, way_back if settings.reversible else None


def _work(
    stack: ExitStack,
    folder: catalog.Folder,
    store: SqliteStore,
    opened: tuple[Source, Target, Source | None],
    settings: Settings,
    workers: int,
    retry_for: timedelta,
    on_event: Subscriber | None,
) -> Work:
    """Return what every part works with; *stack* closes it."""
    readable, writable, way_back = opened
    buffer = stack.enter_context(
        closing(SqliteBuffer(folder.buffer_file, keep_free=catalog.keep_free()))
    )
    recorder, bus = _recorder(stack, folder, store, buffer, on_event)
    stack.enter_context(closing(Pings(readable, "source", recorder)))
    stack.enter_context(closing(Pings(writable, "target", recorder)))
    verifiers = in_threads(max(2, workers // 2), name="verifier")
    return Work(
        source=timed(readable, "source", recorder),
        target=timed(writable, "target", recorder),
        store=store,
        buffer=buffer,
        settings=settings,
        workers=stack.enter_context(closing(in_threads(workers, name="worker"))),
        verifiers=stack.enter_context(closing(verifiers)),
        pace=Pace(bus, retry_for=retry_for),
        bus=bus,
        way_back=way_back,
    )


def _recorder(
    stack: ExitStack,
    folder: catalog.Folder,
    store: StateStore,
    buffer: ChangeBuffer,
    on_event: Subscriber | None,
) -> tuple[Recorder, EventBus]:
    """Return what writes the history until *stack* ends, and the bus that tells it too."""

    def look() -> Sample:
        migration = store.migration()
        status = Status(migration, store.totals(), datetime.now(UTC), is_driven=True)
        return sample(status, waiting=buffer.waiting(after=migration.applied_seq))

    def warn(message: str) -> None:
        bus.emit(Warned(message))

    recorder = Recorder(
        lambda: SqliteHistory(folder.history_file, warn=warn),
        look=look,
        entry=entry,
        warn=warn,
        buffer_file=folder.buffer_file,
    )
    bus = EventBus(*([on_event] if on_event else []), recorder)
    stack.enter_context(closing(recorder))
    return recorder, bus


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
    ends = ends.swapped() if migration.reversals % 2 else ends
    was = {"source": migration.source, "target": migration.target, **migration.settings}
    now = {"source": ends.source_id, "target": ends.target_id, **settings.stored()}
    changed = [f"{k} was {was.get(k)!r}, is {v!r}" for k, v in now.items() if was.get(k) != v]
    if changed:
        msg = f"migration {migration.name!r} was begun with other settings: {'; '.join(changed)}"
        raise SettingsChanged(msg)
    return migration


def _check_ends(
    ends: Ends, source: Source, target: Target, settings: Settings, pace: Pace
) -> frozenset[Namespace]:
    """
    Refuse, before anything is written, what could not end well.

    What the target already holds is returned.
    """
    pace.retrying("look at the source", source.position)
    specs = pace.retrying("look at the source", lambda: _existing(source, settings))
    if pace.retrying("look at both ends", lambda: ends.source_kind.are_same(source, target)):
        msg = f"source and target are both {ends.source_id}, which {ends.target_id} is too"
        raise SameEnds(msg)
    views = pace.retrying("look at the source", lambda: views_chosen(source, settings))
    occupied = pace.retrying("look at the target", lambda: held(target))
    laid_out(specs, settings, occupied, views=views)
    return occupied


def _existing(source: Source, settings: Settings) -> list[CollectionSpec]:
    specs = chosen(source, settings)
    refuse_unmatched(specs, views_chosen(source, settings), settings)
    refuse_bad_queries(source, specs, settings)
    return specs
