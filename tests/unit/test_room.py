"""The disk is watched: capture stops before it is full, and goes on when there is room."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from limosa.canonical import key_for
from limosa.catalog import keep_free
from limosa.change_capture import ChangeCapture
from limosa.connectors.memory import MemoryDatabase
from limosa.errors import ConfigError, DiskNearlyFull, Stopped
from limosa.events import ChangesCaptured, Event, EventBus, Warned
from limosa.executors.local import LocalExecutor
from limosa.model import ChangeBatch, Collection, Namespace, ResumeToken
from limosa.pacing import Pace
from limosa.settings import Settings
from limosa.state import State
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.sqlite import SqliteStore
from limosa.work import Work

PEOPLE = Namespace("shop", "people")
NOW = datetime(2024, 5, 1, tzinfo=UTC)
#: More than any disk has.
ALL = 10**18
#: Of a buffer of 40 MB, as many batches.
LARGE = 40


class Capturing:
    """A capture in a thread, from a database in memory into a buffer."""

    def __init__(self, folder: Path, *, keep_free: int, fill: int, **fields: Any) -> None:
        self.source = MemoryDatabase()
        self.source.put(PEOPLE, {"_id": 0})
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self._seen = threading.Condition()
        self._stack = ExitStack()
        opened = self._stack.enter_context
        self.store = opened(closing(SqliteStore.drive(folder, "m1")))
        self.buffer = opened(closing(SqliteBuffer(folder / "buffer.db", keep_free=keep_free)))
        position = self.source.position()
        for number in range(fill):
            self.buffer.append(large(number, position))
        self.store.update(lambda m: replace(m, position=position, **fields))
        bus = EventBus(self._note)
        workers = opened(closing(LocalExecutor(1, name="worker")))
        self.pace = Pace(bus)
        self._capture = ChangeCapture(
            Work(
                source=self.source,
                target=MemoryDatabase(),
                store=self.store,
                buffer=self.buffer,
                settings=Settings(),
                workers=workers,
                verifiers=workers,
                pace=self.pace,
                bus=bus,
            )
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Capturing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pace.stop()
        self._thread.join(60)
        self._stack.close()

    def end(self) -> BaseException | None:
        """Return what it ended with."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.error

    def await_event(self, kind: type[Event]) -> Any:
        """Return the first event of *kind*."""
        with self._seen:
            assert self._seen.wait_for(lambda: self._found(kind) or self.error, 60)
        assert self.error is None, self.error
        return self._found(kind)

    def _found(self, kind: type[Event]) -> Event | None:
        return next((e for e in self.events if isinstance(e, kind)), None)

    def _run(self) -> None:
        try:
            self._capture.run()
        except Stopped:
            return
        except BaseException as error:
            self.error = error
            with self._seen:
                self._seen.notify_all()

    def _note(self, event: Event) -> None:
        with self._seen:
            self.events.append(event)
            self._seen.notify_all()


def large(number: int, token: ResumeToken) -> ChangeBatch:
    """Return a batch of 1 MB."""
    state = RawBSONDocument(bson.encode({"_id": number, "text": "x" * 1_000_000}))
    return ChangeBatch(token, NOW, {Collection(PEOPLE, "1"): {key_for(number): state}}, events=1)


def test_room(tmp_path: Path) -> None:
    """A buffer may take what its disk has free, less what is to stay free."""
    with (
        closing(SqliteBuffer(tmp_path / "a.db", keep_free=0)) as all_of_it,
        closing(SqliteBuffer(tmp_path / "b.db")) as some,
        closing(SqliteBuffer(tmp_path / "c.db", keep_free=ALL)) as none,
    ):
        assert all_of_it.room().left == all_of_it.room().free > 0
        assert 0 < some.room().kept <= 1024**3
        assert none.room().left < 0
        assert none.room().place == str(tmp_path / "c.db")


def test_pages_are_used_again(tmp_path: Path) -> None:
    """What was freed in the file may be filled again, however full the disk is."""
    with closing(SqliteBuffer(tmp_path / "buffer.db", keep_free=ALL)) as buffer:
        for number in range(LARGE):
            buffer.append(large(number, ResumeToken(b"t")))
        full = buffer.room()
        buffer.trim(through=LARGE)

        assert full.left < 0
        assert 0 < buffer.room().left < LARGE * 1_000_000


@pytest.mark.parametrize(
    "fields",
    [{"indexed_at": None}, {"indexed_at": NOW, "state": State.PAUSED}],
    ids=["copying", "paused"],
)
def test_nothing_makes_room(tmp_path: Path, fields: dict[str, Any]) -> None:
    """While nothing is applied, a full disk ends capture; what was captured stays."""
    with Capturing(tmp_path, keep_free=ALL, fill=2, **fields) as capturing:
        before = capturing.buffer.position()
        capturing.source.put(PEOPLE, {"_id": 1})

        error = capturing.end()

        assert isinstance(error, DiskNearlyFull)
        assert str(tmp_path / "buffer.db") in str(error)
        assert "2 changes wait" in str(error)
        assert capturing.buffer.position() == before


def test_nothing_to_apply(tmp_path: Path) -> None:
    """A disk that is full of other things ends capture, whatever the phase."""
    with Capturing(tmp_path, keep_free=ALL, fill=0, indexed_at=NOW) as capturing:
        capturing.source.put(PEOPLE, {"_id": 1})

        assert isinstance(capturing.end(), DiskNearlyFull)


def test_waits_for_application(tmp_path: Path) -> None:
    """Where changes are applied, capture waits until that has made room, and says so."""
    fields = {"indexed_at": NOW, "state": State.RUNNING}
    with Capturing(tmp_path, keep_free=ALL, fill=LARGE, **fields) as capturing:
        capturing.source.put(PEOPLE, {"_id": 1})
        warned = capturing.await_event(Warned)
        assert "until some that wait in it are applied" in warned.message

        capturing.buffer.trim(through=LARGE)

        assert capturing.await_event(ChangesCaptured).events == 1


@pytest.mark.parametrize(("text", "bytes_"), [("", None), ("0", 0), ("1500", 1_500_000_000)])
def test_chosen(monkeypatch: pytest.MonkeyPatch, text: str, bytes_: int | None) -> None:
    """What stays free can be chosen in megabytes."""
    monkeypatch.setenv("LIMOSA_KEEP_FREE_MB", text)

    assert keep_free() == bytes_


@pytest.mark.parametrize("text", ["5%", "-1", "1 GB", "١"])
def test_not_understood(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Anything but a whole number is refused."""
    monkeypatch.setenv("LIMOSA_KEEP_FREE_MB", text)

    with pytest.raises(ConfigError, match="whole number of megabytes"):
        keep_free()
