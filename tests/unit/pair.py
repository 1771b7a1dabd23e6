"""Two databases in memory and a migration between them, in either direction, killed at random."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from limosa.connectors.memory import MemoryDatabase
from limosa.engine import Engine
from limosa.events import Event, EventBus
from limosa.executors.local import LocalExecutor
from limosa.model import Document, Key, Namespace
from limosa.pacing import Pace
from limosa.settings import Settings
from limosa.state import Migration, State
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.sqlite import SqliteStore
from limosa.work import Work

PEOPLE = Namespace("shop", "people")
ORDERS = Namespace("shop", "orders")
CARTS = Namespace("shop", "carts")
NAMESPACES = (PEOPLE, ORDERS)
UNIQUE = {"name": "email_1", "key": {"email": 1}, "unique": True}
EXPIRING = {"name": "at_1", "key": {"at": 1}, "expireAfterSeconds": 5}


class Crash(BaseException):
    """The process died."""


class Dice:
    """Decides which calls are the last ones of a process."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.crashes_left = 0

    def roll(self) -> None:
        if self.crashes_left and self._random.random() < 0.2:
            self.crashes_left -= 1
            raise Crash


class Mortal:
    """Whatever is asked of it may be the last thing that the process does."""

    def __init__(self, inner: Any, dice: Dice, *calls: str) -> None:
        self._inner = inner
        self._dice = dice
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._calls:
            return found

        def perhaps(*given: Any, **named: Any) -> Any:
            self._dice.roll()
            answer = found(*given, **named)
            self._dice.roll()
            return answer

        return perhaps


class Pair:
    """Two databases and a migration between them, driven again each time it dies."""

    def __init__(self, folder: Path, seed: int, **settings: Any) -> None:
        self.first, self.second = MemoryDatabase(batch_documents=10), MemoryDatabase()
        for namespace in NAMESPACES:
            self.first.put(namespace, *({"_id": i, "email": i} for i in range(60)))
        self.first.create_index(PEOPLE, **UNIQUE)
        self.first.create_index(ORDERS, **EXPIRING)
        self.dice = Dice(seed)
        self.folder = folder
        self.settings = Settings(**{"reversible": True, **settings})
        self.events: list[Event] = []
        self._seen = threading.Condition()
        self.starts = 0

    def start(self) -> Drive:
        """Drive it in a thread until it ends by itself."""
        return Drive(self)

    def once(self, stop: threading.Event) -> Migration:
        """Do what one process does."""
        self.starts += 1
        with (
            closing(SqliteStore.drive(self.folder, "m1")) as store,
            closing(SqliteBuffer(self.folder / "buffer.db")) as buffer,
            closing(LocalExecutor(2, name="worker")) as workers,
            closing(LocalExecutor(2, name="verifier")) as verifiers,
        ):
            migration = store.update(self._named)
            ends, settings = (self.first, self.second), self.settings
            if migration.is_way_back:
                ends, settings = (self.second, self.first), settings.way_back()
            bus = EventBus(self._note)
            work = Work(
                source=ends[0],
                target=Mortal(ends[1], self.dice, "relax", "apply", "write", "finish", "evolve"),
                store=Mortal(store, self.dice, "turn", "remember_target", "save_collection"),
                buffer=Mortal(buffer, self.dice, "clear", "append"),
                settings=settings,
                workers=workers,
                verifiers=verifiers,
                pace=Pace(bus),
                bus=bus,
                way_back=ends[1],
            )
            return Engine(work, stop=stop).run()

    def _named(self, migration: Migration) -> Migration:
        if migration.state is not State.IDLE:
            return migration
        stored = self.settings.stored()
        return replace(migration, source="first", target="second", settings=stored)

    def _note(self, event: Event) -> None:
        with self._seen:
            self.events.append(event)
            self._seen.notify_all()

    def wait_until(self, condition: Callable[[Migration], bool]) -> None:
        """Wait until the stored migration fulfils *condition*."""
        with self._seen:
            assert self._seen.wait_for(lambda: self.events, 30)
            met = self._seen.wait_for(lambda: condition(self.migration()), 30)
            assert met, self.migration()

    @contextmanager
    def store(self) -> Iterator[SqliteStore]:
        with closing(SqliteStore.watch(self.folder)) as store:
            yield store

    def migration(self) -> Migration:
        with self.store() as store:
            return store.migration()

    def update(self, change: Callable[[Migration], Migration]) -> Migration:
        """Change the state, as a command in another shell does."""
        with self.store() as store:
            return store.update(change)

    def commit(self, drive: Drive) -> Migration:
        """Commit as soon as that is possible, and return the end."""
        self.wait_until(lambda m: m.can_commit)
        self.update(Migration.committing)
        return drive.end()

    def differences(self) -> list[object]:
        """Compare both ends without Limosa's verification."""
        found: list[object] = []
        here, there = described(self.first), described(self.second)
        if here != there:
            found.append((here, there))
        for namespace in sorted({*here, *there}):
            one, other = raw(self.first, namespace), raw(self.second, namespace)
            found += [
                (namespace, k) for k in one.keys() | other.keys() if one.get(k) != other.get(k)
            ]
        return found


class Drive:
    """Processes that drive a migration one after another, until one ends by itself."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._stop = threading.Event()
        self._result: Migration | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> Migration:
        """Wait for the end."""
        self._thread.join(30)
        assert self._result is not None, self._pair.migration()
        return self._result

    def stop(self) -> Migration:
        """Ask it to stop, and wait for that."""
        self._stop.set()
        return self.end()

    def _run(self) -> None:
        while self._result is None:
            try:
                self._result = self._pair.once(self._stop)
            except Crash:
                continue


class Application(threading.Thread):
    """Writes, and changes collections, at one end until told to stop."""

    def __init__(self, database: MemoryDatabase, seed: int) -> None:
        super().__init__(daemon=True)
        self._database, self._random, self._seed = database, random.Random(seed), seed
        self._stopping = threading.Event()

    def run(self) -> None:
        for i in range(20_000):
            namespace = self._random.choice((*NAMESPACES, CARTS))
            key = self._random.randrange(90)
            if self._random.random() < 0.3:
                self._database.delete(namespace, key)
            else:
                self._database.put(namespace, {"_id": key, "email": f"{self._seed}:{i}"})
            if i % 40 == 39:
                self._change_schema(i)
            if self._stopping.wait(0.001):
                return

    def _change_schema(self, i: int) -> None:
        match self._random.randrange(4):
            case 0:
                self._database.create_index(CARTS, name=f"v_{i}", key={"v": 1})
            case 1:
                self._database.drop(CARTS)
            case 2:
                self._database.rename(CARTS, Namespace("shop", f"carts{i}"), replace=True)
            case _:
                self._database.drop_index(ORDERS, "at_1")
                self._database.create_index(ORDERS, **EXPIRING)

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def described(database: MemoryDatabase) -> dict[Namespace, object]:
    """Return options and indexes of each collection."""
    return {
        s.collection.namespace: (dict(s.options), sorted(s.indexes, key=lambda i: i["name"]))
        for s in database.collections()
    }


def raw(database: MemoryDatabase, namespace: Namespace) -> dict[Key, bytes]:
    documents: dict[Key, Document] = database.documents(namespace)
    return {key: document.raw for key, document in documents.items()}


def committed(folder: Path, seed: int, **settings: Any) -> Pair:
    """Return a pair that was migrated from the first to the second."""
    folder.mkdir(exist_ok=True)
    pair = Pair(folder, seed, **settings)
    assert pair.commit(pair.start()).state is State.COMMITTED
    assert pair.differences() == []
    return pair
