"""The story of a migration, top to bottom."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from . import plan
from .attempts import Attempts, Supervision
from .change_application import ChangeApplication
from .change_capture import ChangeCapture
from .collection_copy import CollectionCopy
from .constraints import Constraints
from .cutover import Cutover
from .errors import LeaseLost, LimosaError, StateCorrupt, StateError, Stopped
from .events import Failed, MigrationStarted, PhaseChanged, Planned
from .index_build import IndexBuild
from .other_writers import OtherWriters
from .registry import Registry
from .regulation import Regulation
from .reversal import Reversal
from .schema_changes import SchemaChanges
from .state import CollectionProgress, Failure, Migration, Phase, State
from .steering import Steering
from .steps import APPLICATION, CAPTURE, COPY, names_of
from .supervisor import Supervisor
from .verification import Verification
from .work import Work
from .write_blocking import WriteGuard


class Engine:
    """
    Carries one migration from wherever it was left to its end.

    There is no code for resuming: each step looks at the durable state and does what is
    missing.
    """

    def __init__(
        self,
        work: Work,
        *,
        stop: threading.Event,
        commit_when_ready: bool = False,
        supervision: Supervision = Supervision(),
    ) -> None:
        self._work = work
        names = names_of(work.settings.steps)
        self._attempts = Attempts(work.store, work.bus, names=names, supervision=supervision)
        self._guard = WriteGuard(work)
        self._was_failed = False
        self._steering = Steering(
            work, stop, self._attempts, self._guard, when_ready=commit_when_ready
        )
        self._registry = Registry(work.store)
        self._copy = CollectionCopy(work, self._registry)
        self._indexes = IndexBuild(work, self._registry)
        self._schema = SchemaChanges(work, self._registry, self._adopt)

    def run(self) -> Migration:
        """
        Run until committed, failed or asked to stop; call again to go on.

        Raises:
            StateError: the state could not be written; nothing is lost.
        """
        self._check_buffer()
        migration = self._begin()
        if migration.state is State.COMMITTED:
            return migration
        try:
            with Supervisor(self._work.pace) as supervisor:
                return self._tell_story(supervisor)
        except Stopped:
            self._guard.end()
            return self._work.store.migration()
        except LeaseLost:
            raise  # the blocks are those of the process that took over
        except StateError:
            self._guard.abandon()
            raise
        except LimosaError as error:
            return self._failed(Failure.of(error))
        except Exception as error:
            self._failed(Failure("internal_error", f"{type(error).__name__}: {error}"))
            raise

    def _check_buffer(self) -> None:
        """Refuse a buffer that is not the one the state speaks of: numbers would start anew."""
        if self._work.buffer.last_seq() < self._work.store.migration().applied_seq:
            msg = "open the buffer: it lacks changes that the state calls applied"
            raise StateCorrupt(msg)

    def _begin(self) -> Migration:
        self._was_failed = self._work.store.migration().state is State.FAILED
        migration = self._work.store.update(Migration.begun)
        self._work.bus.emit(
            MigrationStarted(
                migration.name, migration.source, migration.target, migration.generation
            )
        )
        return migration

    def _tell_story(self, supervisor: Supervisor) -> Migration:
        is_reversing = self._work.store.migration().is_reversing
        if not is_reversing:
            self._attempts.start()
        supervisor.start("steering", self._steering.run)
        supervisor.start("regulation", Regulation(self._work).run)
        if is_reversing:
            Reversal(self._work).run()
            self._registry.forget()
            self._attempts.start()  # at the first step: those of the way there are gone
        cutover = Cutover(self._work, self._guard)
        if self._work.store.migration().can_write:  # writable before a crash: only completed
            self._work.store.update(lambda m: replace(m, state=State.COMMITTING))
            return self._finished(cutover.run(started=time.monotonic()))
        self._guard.begin()
        self._plan()
        capture = ChangeCapture(self._work)
        supervisor.start("capture", capture.run)
        self._copy_all()
        return self._follow(supervisor, capture, cutover)

    def _follow(
        self, supervisor: Supervisor, capture: ChangeCapture, cutover: Cutover
    ) -> Migration:
        """Apply and verify until a commit is asked for and drained; then cut over."""
        application = ChangeApplication(self._work, capture, self._schema)
        others = OtherWriters(self._work, self._registry, self._schema.own)
        verification = Verification(self._work, self._schema, others)
        verifies = self._work.store.migration().verifies
        if verifies:
            supervisor.start("verification", verification.run)

        def is_over(migration: Migration) -> bool:
            return migration.is_drained and (not verifies or verification.is_complete(migration))

        self._attempts.phase(APPLICATION)
        self._work.bus.emit(PhaseChanged(Phase.CHANGE_EVENT_APPLICATION))
        if self._was_failed or self._work.store.migration().state is State.COMMITTING:
            cutover.take_back()  # a commit may have failed, or was interrupted
        supervisor.start("constraints", Constraints(self._work).run)
        application.run_until(is_over)
        if verifies and self._work.store.mismatches(limit=1):
            verification.revisit()
            application.run_until(is_over)
        return self._finished(cutover.run(started=self._steering.commit_seen))

    def _plan(self) -> None:
        """Take the position, then cut the collections; both are stored before any copying."""
        migration = self._work.store.migration()
        if migration.position is None:
            self._work.bus.emit(PhaseChanged(Phase.PLANNING))
            position = self._work.pace.retrying("take the position", self._work.source.position)
            migration = self._work.store.update(lambda m: replace(m, position=position))
        self._attempts.phase(CAPTURE)
        if migration.planned_at is not None:
            return
        specs = self._work.pace.retrying(
            "list the collections",
            lambda: plan.chosen(self._work.source, self._work.settings),
        )
        collections = plan.laid_out(specs, self._work.settings, self._work.store.occupied())
        parts = list(
            plan.partitions(
                self._work.source, specs, workers=self._work.workers.width, pace=self._work.pace
            )
        )
        at = self._work.pace.retrying("read the source's clock", self._work.source.clock)
        self._work.store.save_plan(collections, parts, at)
        totals = self._work.store.totals()
        self._work.bus.emit(Planned(len(specs), len(parts), totals.documents, totals.bytes))

    def _copy_all(self) -> None:
        """Copy what is pending, then build what indexes are missing."""
        self._attempts.phase(COPY)
        if self._work.store.migration().copied_at is None:
            self._work.bus.emit(PhaseChanged(Phase.COLLECTION_COPY))
            self._copy.run(self._attempts)
        if self._work.store.migration().indexed_at is not None:
            return
        self._work.bus.emit(PhaseChanged(Phase.INDEX_BUILD))
        self._indexes.run()
        at = self._work.pace.retrying("read the source's clock", self._work.source.clock)
        self._work.store.update(lambda m: replace(m, indexed_at=at))

    def _adopt(self, collection: CollectionProgress) -> None:
        """Copy a collection that joins while changes are applied, and build its indexes."""
        parts = list(
            plan.partitions(
                self._work.source,
                [collection.spec],
                workers=self._work.workers.width,
                pace=self._work.pace,
            )
        )
        self._work.store.cut(collection.spec.collection.id, parts)
        self._copy.copy([collection], parts)
        here = replace(collection.spec.collection, namespace=collection.target)
        self._indexes.build(replace(collection.spec, collection=here))

    def _finished(self, migration: Migration) -> Migration:
        self._attempts.finish()
        return migration

    def _failed(self, failure: Failure) -> Migration:
        def fail(migration: Migration) -> Migration:
            if migration.state in {State.FAILED, State.COMMITTED}:
                return replace(migration, failure=failure)
            return migration.moved_to(State.FAILED, failure=failure)

        try:
            migration = self._work.store.update(fail)
        except StateError:
            self._guard.abandon()
            raise
        self._guard.end()
        self._attempts.fail(failure)
        self._work.bus.emit(Failed(failure))
        return migration
