"""Collections come, go and change their names under filters and renames; nothing is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest

from limosa.change_application import ChangeApplication
from limosa.connectors.memory import MemoryDatabase
from limosa.engine import Engine
from limosa.events import Event, EventBus, ReadyToCommit
from limosa.executors.local import LocalExecutor
from limosa.model import Document, Key, Namespace, ResumeToken, SchemaVerb
from limosa.pacing import Pace
from limosa.schema_changes import SchemaChanges
from limosa.settings import Settings
from limosa.state import CollectionProgress, Migration, State
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.sqlite import SqliteStore
from limosa.work import Work

SETTINGS = Settings.of(
    include=["a", "b"],
    exclude=["a.t"],
    renames=["a=b", "b=a", "a.p=z.p"],
    filters=['a.p={"v": {"$lt": 50}}', 'b={"v": {"$gte": 20}}'],
)
NAMESPACES = [Namespace(d, c) for d in "abx" for c in "pqt"]
CONTENTS = dict[Namespace, dict[Key, bytes]]


def place_of(namespace: Namespace) -> Namespace | None:
    """Say where a namespace of the source belongs: the settings in other words."""
    database, collection = namespace.database, namespace.collection
    if database == "x" or (database, collection) == ("a", "t"):
        return None
    if (database, collection) == ("a", "p"):
        return Namespace("z", "p")
    return Namespace("b" if database == "a" else "a", collection)


def is_meant(namespace: Namespace, value: int) -> bool:
    """Say whether a document belongs on the target: the settings in other words."""
    if namespace == Namespace("a", "p"):
        return value < 50
    return namespace.database != "b" or value >= 20


class Crash(BaseException):
    """The process died."""


class Fragile:
    """A target that dies at random calls, before or after the work is done; in the end it lives."""

    def __init__(self, target: MemoryDatabase, dice: random.Random, *, crashes: int) -> None:
        self._target, self._dice, self._crashes_left = target, dice, crashes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in {"prepare", "write", "apply", "evolve", "finish"}:
            return found

        def called(*given: Any) -> Any:
            self._perhaps()
            answer = found(*given)
            self._perhaps()
            return answer

        return called

    def _perhaps(self) -> None:
        if self._crashes_left and self._dice.random() < 0.06:
            self._crashes_left -= 1
            raise Crash


class Busy(MemoryDatabase):
    """A source whose application does something between any two steps of the migration."""

    def __init__(self, dice: random.Random, *, operations: int) -> None:
        super().__init__(batch_documents=7, documents_in_stream=dice.random() < 0.5)
        self._dice = dice
        self._operations_left = operations

    def position(self) -> ResumeToken:
        """Return the position; what happens before anything else is looked at comes after it."""
        position = super().position()
        self.act()
        return position

    def act(self) -> None:
        """Do some of what an application does, as long as there is something left to be done."""
        for _ in range(self._dice.randrange(4)):
            if self._operations_left:
                self._operations_left -= 1
                self._operate()

    def cease(self) -> None:
        """Do nothing from now on."""
        self._operations_left = 0

    def contents(self) -> CONTENTS:
        """Return all documents of all collections."""
        specs = self.collections()
        names = [s.collection.namespace for s in specs]
        return {n: {k: bytes(d.raw) for k, d in self.documents(n).items()} for n in names}

    def _operate(self) -> None:
        dice, namespace = self._dice, self._dice.choice(NAMESPACES)
        match dice.randrange(10):
            case 0:
                self.drop(namespace)
            case 1 | 2:
                self.rename(namespace, dice.choice(NAMESPACES), replace=True)
            case 3:
                self.create_index(namespace, name=f"i{dice.randrange(3)}", key={"v": 1})
            case 4:
                self.drop_index(namespace, f"i{dice.randrange(3)}")
            case 5:
                self.delete(namespace, *(dice.randrange(40) for _ in range(5)))
            case _:
                documents = ({"_id": dice.randrange(40), "v": dice.randrange(70)} for _ in range(6))
                self.put(namespace, *documents)


class Run:
    """A migration with `SETTINGS` that is driven again each time it dies, until it is committed."""

    def __init__(self, folder: Path, seed: int, *, crashes: int = 5, operations: int = 60) -> None:
        dice = random.Random(seed)
        self.folder = folder
        self.source = Busy(dice, operations=operations)
        for namespace in NAMESPACES:
            if dice.random() < 0.7:
                self.source.put(namespace, *({"_id": i, "v": i * 2} for i in range(30)))
        self.target = MemoryDatabase()
        self.fragile = Fragile(self.target, dice, crashes=crashes)

    def drive(self) -> Migration:
        """Return the migration once it has ended."""
        while True:
            try:
                return self._once()
            except Crash:
                continue

    def expected(self) -> CONTENTS:
        """Return what the target should hold."""
        found = {}
        for namespace, documents in self.source.contents().items():
            if (place := place_of(namespace)) is not None:
                found[place] = {
                    k: raw for k, raw in documents.items() if is_meant(namespace, value_of(raw))
                }
        return found

    def found(self) -> CONTENTS:
        """Return what the target holds."""
        names = [s.collection.namespace for s in self.target.collections()]
        return {n: {k: bytes(d.raw) for k, d in self.target.documents(n).items()} for n in names}

    def indexes(self, end: MemoryDatabase) -> Mapping[Namespace, set[str]]:
        """Return the names of the indexes at one end, by namespaces of the target."""
        here = {s.collection.namespace: {i["name"] for i in s.indexes} for s in end.collections()}
        if end is self.target:
            return here
        return {place: here[n] for n in here if (place := place_of(n)) is not None}

    def _once(self) -> Migration:
        bus = EventBus(self._note)
        with (
            closing(SqliteStore.drive(self.folder, "m1")) as store,
            closing(SqliteBuffer(self.folder / "buffer.db")) as buffer,
            closing(LocalExecutor(2, name="worker")) as workers,
            closing(LocalExecutor(2, name="verifier")) as verifiers,
        ):
            store.update(lambda m: replace(m, settings=SETTINGS.stored()))
            work = Work(
                source=self.source,
                target=self.fragile,
                store=store,
                buffer=buffer,
                settings=SETTINGS,
                workers=workers,
                verifiers=verifiers,
                pace=Pace(bus),
                bus=bus,
            )
            return Engine(work, stop=threading.Event(), commit_when_ready=True).run()

    def _note(self, event: Event) -> None:
        if isinstance(event, ReadyToCommit):
            self.source.cease()
        else:
            self.source.act()


def value_of(raw: bytes) -> int:
    value: int = bson.decode(raw)["v"]
    return value


@pytest.mark.parametrize("seed", range(16))
def test_ends_where_the_settings_say(tmp_path: Path, seed: int) -> None:
    """Whatever happens to collections and documents, the target is what the settings choose."""
    run = Run(tmp_path, seed)

    migration = run.drive()

    assert migration.failure is None
    assert migration.state is State.COMMITTED
    assert run.found() == run.expected()
    assert run.indexes(run.target) == run.indexes(run.source)


def forget_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes is written, whether it matches or not."""

    def looked_up(
        self: ChangeApplication, collection: Any, states: Mapping[Key, Document | None]
    ) -> Any:
        return {**dict.fromkeys(states), **self._work.source.lookup(collection, list(states))}

    monkeypatch.setattr(ChangeApplication, "_looked_up", looked_up)


def move_whatever_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection keeps its documents when another filter stands for its new name."""

    def rename(self: SchemaChanges, change: Any, known: CollectionProgress | None) -> None:
        if known is None or known.is_dropped or not known.is_indexed:
            real(self, change, known)
        elif self._work.settings.includes(change.to):
            self._move(change, known)
        else:
            self._drop(known)

    real = SchemaChanges._rename
    monkeypatch.setattr(SchemaChanges, "_rename", rename)


def leave_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is created later gets its own name."""
    real = SchemaChanges._dispatch

    def dispatch(self: SchemaChanges, change: Any) -> None:
        if change.verb is SchemaVerb.CREATE:
            monkeypatch.setattr(Settings, "target_of", lambda _, namespace: namespace)
        try:
            real(self, change)
        finally:
            monkeypatch.setattr(Settings, "target_of", target_of)

    target_of = Settings.target_of
    monkeypatch.setattr(SchemaChanges, "_dispatch", dispatch)


@pytest.mark.parametrize("mistake", [forget_the_filter, move_whatever_the_filter, leave_names])
def test_mistake_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Each of three deliberate mistakes turns the test above red."""
    mistake(monkeypatch)

    red = False
    for seed in range(20):
        run = Run(tmp_path / str(seed), seed, crashes=0)
        migration = run.drive()
        red = migration.state is not State.COMMITTED or run.found() != run.expected()
        if red:
            break

    assert red


def test_occupied(tmp_path: Path) -> None:
    """What the target held is remembered for those who drive the migration later."""
    names = frozenset({Namespace("a", "p"), Namespace("b", "q.r")})
    with closing(SqliteStore.drive(tmp_path, "m1")) as store:
        store.save_occupied([Namespace("old", "one")])
        store.save_occupied(names)

    with closing(SqliteStore.drive(tmp_path, "m1")) as store:
        assert store.occupied() == names


def test_replaced_in_passing(tmp_path: Path) -> None:
    """
    A collection made after the position is on the target, also if another one had its name
    for a while between the position and the plan.
    """
    run = Run(tmp_path, 0, crashes=0, operations=0)
    first, name, last = Namespace("a", "q"), Namespace("a", "r"), Namespace("a", "s")
    run.source.put(first, {"_id": "first", "v": 1})
    real = run.source.position

    def position() -> ResumeToken:
        taken = real()
        if run.source.documents(first):
            run.source.rename(first, name)
            run.source.rename(name, last)
            run.source.put(name, {"_id": "second", "v": 2})
        return taken

    run.source.position = position  # type: ignore[method-assign]

    assert run.drive().state is State.COMMITTED
    assert run.found() == run.expected()
    assert Namespace("b", "r") in run.found()
