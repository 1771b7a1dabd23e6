"""A migration as a user sees it: writes go on, the engine dies, nothing is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limosa.change_application import ChangeApplication
from limosa.change_capture import ChangeCapture
from limosa.collection_copy import CollectionCopy
from limosa.connectors.memory import MemoryDatabase
from limosa.engine import Engine
from limosa.events import Event, EventBus
from limosa.executors.local import LocalExecutor
from limosa.model import Batch, Document, Key, Namespace
from limosa.pacing import Pace
from limosa.settings import Settings
from limosa.state import Migration, State
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.sqlite import SqliteStore
from limosa.work import Work

PEOPLE = Namespace("shop", "people")
ORDERS = Namespace("shop", "orders")
NAMESPACES = (PEOPLE, ORDERS)


class Crash(BaseException):
    """The process died."""


class Fragile:
    """A target that dies at random calls, after half of the work is done; in the end it lives."""

    def __init__(self, target: MemoryDatabase, seed: int, *, crashes: int) -> None:
        self._target = target
        self._random = random.Random(seed)
        self.crashes_left = crashes
        self.may_apply = threading.Event()
        self.may_apply.set()
        self.is_applying = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def write(self, namespace: Namespace, batch: Batch) -> None:
        self._perhaps(lambda: self._target.write(namespace, Batch.of(batch.documents[::2])))
        self._target.write(namespace, batch)

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        self._perhaps(lambda: self._target.apply(namespace, dict(list(states.items())[::2])))
        if not self.may_apply.is_set():
            self.is_applying.set()
            assert self.may_apply.wait(30)
        self._target.apply(namespace, states)

    def _perhaps(self, half: Callable[[], None]) -> None:
        if self.crashes_left and self._random.random() < 0.15:
            self.crashes_left -= 1
            half()
            raise Crash


class Application(threading.Thread):
    """Writes to the source until told to stop, or for so many writes at most."""

    def __init__(self, source: MemoryDatabase, seed: int) -> None:
        super().__init__(daemon=True)
        self._source, self._random = source, random.Random(seed)
        self._stopping = threading.Event()

    def run(self) -> None:
        for i in range(20_000):
            namespace = self._random.choice(NAMESPACES)
            key = self._random.randrange(150)
            if self._random.random() < 0.3:
                self._source.delete(namespace, key)
            else:
                self._source.put(namespace, {"_id": key, "v": i})
            if self._stopping.wait(0.0005):
                return

    def stop(self) -> None:
        self._stopping.set()
        self.join()


class Run:
    """A migration from memory to memory that is driven again each time it dies."""

    def __init__(self, folder: Path, seed: int, *, crashes: int, verifies: bool) -> None:
        self.source = MemoryDatabase(batch_documents=10)
        for namespace in NAMESPACES:
            self.source.put(namespace, *({"_id": i, "v": -i} for i in range(150)))
        self.target = MemoryDatabase()
        self.fragile = Fragile(self.target, seed, crashes=crashes)
        self.folder = folder
        self.verifies = verifies
        self.events: list[Event] = []
        self.result: Migration | None = None
        self.seen = threading.Condition()

    def drive(self) -> None:
        """Run until the migration ends, starting again after each crash."""
        while self.result is None:
            try:
                self.result = self._once()
            except Crash:
                continue

    def _once(self) -> Migration:
        bus = EventBus(self._note)
        with (
            closing(SqliteStore.drive(self.folder, "m1")) as store,
            closing(SqliteBuffer(self.folder / "buffer.db")) as buffer,
            closing(LocalExecutor(2, name="worker")) as workers,
            closing(LocalExecutor(2, name="verifier")) as verifiers,
        ):
            settings = Settings(verify=self.verifies)
            store.update(lambda m: replace(m, settings=settings.stored()))
            work = Work(
                source=self.source,
                target=self.fragile,
                store=store,
                buffer=buffer,
                settings=settings,
                workers=workers,
                verifiers=verifiers,
                pace=Pace(bus),
                bus=bus,
            )
            return Engine(work, stop=threading.Event()).run()

    def _note(self, event: Event) -> None:
        with self.seen:
            self.events.append(event)
            self.seen.notify_all()

    def wait_until_started(self) -> None:
        """Wait until the state exists."""
        with self.seen:
            assert self.seen.wait_for(lambda: self.events, 30)

    def wait_until(self, condition: Callable[[Migration], bool], *, seconds: float = 30) -> None:
        """Wait until the stored migration fulfils *condition*; events wake the waiting."""
        with closing(SqliteStore.watch(self.folder)) as store, self.seen:
            met = self.seen.wait_for(lambda: condition(store.migration()), seconds)
            assert met, store.migration()

    def commit(self) -> None:
        """Ask for the cut-over, as the command does."""
        with closing(SqliteStore.watch(self.folder)) as store:
            store.update(Migration.committing)

    def differences(self) -> list[tuple[Namespace, Key]]:
        """Compare both ends without Limosa's verification."""
        found = []
        for namespace in NAMESPACES:
            here, there = self.source.documents(namespace), self.target.documents(namespace)
            for key in here.keys() | there.keys():
                one, other = here.get(key), there.get(key)
                if one is None or other is None or one.raw != other.raw:
                    found.append((namespace, key))
        return found


def committed(folder: Path, seed: int, *, crashes: int, verifies: bool = True) -> Run:
    """Run a whole migration under load, with the cut-over when it is possible."""
    run = Run(folder, seed, crashes=crashes, verifies=verifies)
    folder.mkdir(exist_ok=True)
    application = Application(run.source, seed)
    application.start()
    driver = threading.Thread(target=run.drive, daemon=True)
    driver.start()
    run.wait_until_started()
    run.wait_until(lambda m: m.can_commit and run.fragile.crashes_left == 0)
    application.stop()
    # The last writes before a commit are those that a hasty one loses: they come while the
    # target is busy with what came before.
    run.fragile.may_apply.clear()
    run.source.put(PEOPLE, {"_id": 1_000})
    assert run.fragile.is_applying.wait(30)
    run.source.put(PEOPLE, *({"_id": 1_001 + i} for i in range(100)))
    run.commit()
    run.fragile.may_apply.set()
    driver.join(30)
    return run


def is_green(run: Run) -> bool:
    """Whether the migration ended well and nothing is lost."""
    assert run.result is not None
    return run.result.state is State.COMMITTED and run.differences() == []


@pytest.mark.parametrize("seed", range(20))
def test_no_write_is_lost(tmp_path: Path, seed: int) -> None:
    """A migration that dies several times under load ends with equal data."""
    run = committed(tmp_path, seed, crashes=6)

    assert run.result is not None
    assert run.result.failure is None
    assert run.result.state is State.COMMITTED
    assert run.differences() == []
    assert 3 <= run.result.generation <= 7  # two workers may die at once


def test_no_partition_is_copied_twice(tmp_path: Path) -> None:
    """What was recorded as copied before a crash is not copied again."""
    run = committed(tmp_path, 1, crashes=6)

    copied = [e.partition for e in run.events if type(e).__name__ == "PartitionCopied"]
    assert sorted(copied) == sorted(set(copied))
    assert len(copied) == len(NAMESPACES)


def capture_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is opened at its present end, not at the stored position."""
    follow = ChangeCapture._follow

    def mutant(self: ChangeCapture) -> None:
        now = self._work.source.position(), self._work.source.clock()
        monkeypatch.setattr(self._work.buffer, "position", lambda: now)
        follow(self)

    monkeypatch.setattr(ChangeCapture, "_follow", mutant)


def record_before_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is recorded before the target has acknowledged."""
    copy, apply = CollectionCopy._copy, ChangeApplication._apply

    def early_copy(self: CollectionCopy, partition: Any) -> None:
        self._work.store.partition_copied(partition.id, documents=0, size=0)
        copy(self, partition)

    def early_apply(self: ChangeApplication, seq: int, batch: Any) -> Migration:
        self._advance(seq, batch.source_time, 0)
        return apply(self, seq, batch)

    monkeypatch.setattr(CollectionCopy, "_copy", early_copy)
    monkeypatch.setattr(ChangeApplication, "_apply", early_apply)


def commit_without_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut-over does not wait for what was captured last."""
    monkeypatch.setattr(Migration, "is_drained", property(lambda m: m.state is State.COMMITTING))


@pytest.mark.parametrize(
    "mistake", [capture_from_now, record_before_writing, commit_without_draining]
)
def test_mistake_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Each of three deliberate mistakes turns the test above red."""
    mistake(monkeypatch)
    # A commit that has to wait for the verification is thereby drained, mistake or not.
    verifies = mistake is not commit_without_draining

    red = False
    for seed in range(10):
        run = committed(tmp_path / str(seed), seed, crashes=6, verifies=verifies)
        if not is_green(run):
            red = True
            break

    assert red
