"""What every face reads, and the verbs that it has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from .. import catalog
from ..errors import IllegalTransition, LimosaError, SettingsChanged
from ..history import Entry
from ..limits import LimitChange
from ..process import Request
from ..settings import Settings
from ..state import Migration, State
from ..storage import History, StateStore
from ..views.mongosync import MAX_COMMIT_LAG
from .engine import Engine
from .errors import Initializing, LagTooLarge
from .snapshot import Snapshot
from .watching import Watcher

_NEEDS_ENGINE = {State.RUNNING, State.PAUSED, State.COMMITTING, State.REVERSING}


@dataclass(frozen=True, slots=True)
class End:
    """One of the two deployments that the server was given."""

    name: str  # "cluster0" or "cluster1"
    uri: str = field(repr=False)
    identity: str  # without credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a start asks for."""

    source: str = "cluster0"
    target: str = "cluster1"
    settings: Settings = field(default_factory=Settings)
    options: Mapping[str, Any] = field(default_factory=dict)  # further ones of `migrate`


class Service:
    """
    One migration: `snapshot` shows it at once, the verbs steer it, one at a time.

    With *ends* it drives the migration by a process of its own. Without, as beside `limosa
    migrate`, another process does, and only that can start it.
    """

    def __init__(
        self,
        folder: catalog.Folder,
        *,
        ends: tuple[End, End] | None = None,
        pings: Callable[[], Mapping[str, int]] | None = None,
        verifies: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Look at *folder*, and have a migration that was left running go on."""
        self.folder = folder
        self.ends = ends
        #: Whether a start that does not say so has both ends compared.
        self.verifies = verifies
        self._options = dict(options or {})
        self._verbs = threading.Lock()
        self._engine = Engine(folder, told=self.warn) if ends else None
        self._watcher = Watcher(folder, engine=self._engine, pings=pings or dict)
        self._watcher.look()
        self._restoring = threading.Thread(target=self._restore, name="restore", daemon=True)

    def begin(self) -> None:
        """
        Look all the time from now on, and have a migration that was left running go on.

        Raises:
            SettingsChanged: the stored migration has other ends than the server was given.
        """
        migration = self.snapshot().migration
        if migration is not None and migration.state is not State.IDLE and self.ends:
            self._direction(migration)
        self._watcher.begin()
        self._restoring.start()

    def close(self) -> None:
        """Stop the engine cleanly, and look no more."""
        if self._engine is not None:
            self._engine.close()
        self._watcher.close()

    def snapshot(self) -> Snapshot:
        """Return what was seen last; never waits."""
        return self._watcher.seen

    @property
    def is_kept(self) -> bool:
        """Whether a process of this server drives the migration, or is about to."""
        return self._engine is not None and self._engine.is_kept

    def names(self, seen: Snapshot) -> tuple[str, str]:
        """Return how source and target are called: ``cluster0`` and ``cluster1``, or reversed."""
        migration = seen.migration
        if self.ends is None or migration is None:
            return "cluster0", "cluster1"
        by_identity = {end.identity: end.name for end in self.ends}
        return (
            by_identity.get(migration.source, "cluster0"),
            by_identity.get(migration.target, "cluster1"),
        )

    def changed(self, after: Snapshot, *, seconds: float) -> Snapshot:
        """Return the first snapshot that is not *after*, or that one when *seconds* are over."""
        return self._watcher.changed(after, seconds=seconds)

    @contextmanager
    def store(self) -> Iterator[StateStore]:
        """
        Lend the state, for what no snapshot holds.

        Raises:
            UnknownMigration: nothing was started yet.
            StateError: it cannot be used.
        """
        store = catalog.watch(self.folder)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def history(self) -> Iterator[History]:
        """
        Lend the history.

        Raises:
            StateError: there is none, or it cannot be used.
        """
        history = catalog.history(self.folder)
        try:
            yield history
        finally:
            history.close()

    def start(self, launch: Launch) -> None:
        """
        Return once the migration runs.

        Raises:
            IllegalTransition: it was started before.
            LimosaError: it cannot be started so; nothing was done.
        """
        with self._one_verb() as before:
            if before.state is not State.IDLE:
                msg = f"cannot start: the migration is {before.state}"
                raise IllegalTransition(msg, hint="one server drives one migration")
            engine = self._steered()
            engine.launch(self._request(launch))

    def pause(self) -> None:
        """Have the migration rest."""
        with self._one_verb() as before:
            self._check(before, "pause", State.RUNNING)
            self._update(lambda m: m.moved_to(State.PAUSED))

    def resume(self) -> None:
        """
        Have a paused migration go on, or one that has failed.

        Raises:
            LimosaError: the engine cannot be started.
        """
        with self._one_verb() as before:
            self._check(before, "resume", State.PAUSED, State.FAILED)
            if before.state is State.PAUSED:
                self._update(lambda m: m.moved_to(State.RUNNING))
            migration = before.migration
            engine = self._engine
            if migration is None or engine is None:
                if before.state is State.FAILED:
                    msg = (
                        "cannot resume: the migration has failed and this server does not drive it"
                    )
                    raise IllegalTransition(msg, hint="run the command again that drives it")
                return
            # The process of one that has failed may still be about to end; it is waited for.
            if before.state is State.FAILED or not engine.is_kept:
                engine.launch(self._stored(migration))

    def commit(self) -> None:
        """Ask for the cut-over."""
        with self._one_verb() as before:
            self._check(before, "commit", State.RUNNING)
            lag = before.status.lag if before.status else None
            can_commit = before.migration is not None and before.migration.can_commit
            if can_commit and lag is not None and lag > MAX_COMMIT_LAG:
                seconds, most = lag.total_seconds(), MAX_COMMIT_LAG.total_seconds()
                msg = f"cannot commit: the target is {seconds:.0f} s behind, more than {most:.0f} s"
                raise LagTooLarge(msg)
            self._update(Migration.committing)

    def reverse(self) -> None:
        """Have the changes made on the target flow back to the source."""
        with self._one_verb() as before:
            self._check(before, "reverse", State.COMMITTED)
            self._update(Migration.reversing)
            assert before.migration is not None
            if self._engine is not None:
                self._engine.launch(self._stored(before.migration))

    def throttle(self, change: LimitChange) -> None:
        """Change how much of both servers the migration may take, while it runs."""
        with self._one_verb() as before:
            at_work = (s for s in State if s not in (State.IDLE, State.COMMITTED))
            self._check(before, "throttle", *at_work)
            self._update(lambda m: replace(m, limits=change.applied_to(m.limits)))

    def record(self, entry: Entry) -> None:
        """Add *entry* to the history, if there is one; its loss stops nothing."""
        if self.folder.state_file.exists():
            with suppress(LimosaError), self.history() as history:
                history.record([entry])

    def warn(self, message: str) -> None:
        """Add *message* to the history as a warning."""
        self.record(Entry(at=datetime.now(UTC), kind="Engine", level="warning", message=message))

    @contextmanager
    def _one_verb(self) -> Iterator[Snapshot]:
        """Let one verb in at a time, with a fresh look before it and another after it."""
        with self._verbs:
            before = self._watcher.look()
            if before.is_initializing:
                msg = "the server is starting up"
                raise Initializing(msg)
            try:
                yield before
            finally:
                self._watcher.look()

    def _check(self, snapshot: Snapshot, verb: str, *allowed: State) -> None:
        if snapshot.state not in allowed:
            names = " or ".join(allowed)
            msg = f"cannot {verb}: the migration is {snapshot.state}, not {names}"
            raise IllegalTransition(msg)

    def _update(self, change: Callable[[Migration], Migration]) -> None:
        with self.store() as store:
            store.update(change)

    def _steered(self) -> Engine:
        if self._engine is None:
            msg = "cannot start: this server shows a migration that another process drives"
            raise IllegalTransition(
                msg, hint="run `limosa migrate`, or `limosa serve` with both ends"
            )
        return self._engine

    def _restore(self) -> None:
        """Have the engine go on, if the state says that it should."""
        migration = self.snapshot().migration
        try:
            if self._engine is not None and migration and migration.state in _NEEDS_ENGINE:
                self._engine.restore(self._stored(migration)).result()
        except LimosaError as error:
            self.warn(f"the migration does not go on: {error}")
        finally:
            self._watcher.initialized()

    def _request(self, launch: Launch) -> Request:
        assert self.ends is not None
        by_name = {end.name: end for end in self.ends}
        return Request(
            source=by_name[launch.source].uri,
            target=by_name[launch.target].uri,
            folder=str(self.folder.path),
            name=self.folder.name,
            settings=launch.settings.stored(),
            options={**launch.options, **self._options},  # the server's own count
        )

    def _stored(self, migration: Migration) -> Request:
        source, target = self._direction(migration)
        settings = Settings.restored(migration.settings)
        return self._request(Launch(source=source.name, target=target.name, settings=settings))

    def _direction(self, migration: Migration) -> tuple[End, End]:
        assert self.ends is not None
        one, two = self.ends
        stored = (migration.source, migration.target)
        if migration.reversals % 2:  # they have changed places since the start
            stored = (migration.target, migration.source)
        if stored == (one.identity, two.identity):
            return one, two
        if stored == (two.identity, one.identity):
            return two, one
        msg = (
            f"migration {migration.name!r} is one from {stored[0]} to {stored[1]}, "
            f"but cluster0 is {one.identity} and cluster1 is {two.identity}"
        )
        raise SettingsChanged(msg, hint="give the ends it was started with, or another --state")
