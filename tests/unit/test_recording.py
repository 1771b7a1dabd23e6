"""What happens becomes history, cheaply, and never stops the migration."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from limosa.connectors.memory import MemoryDatabase
from limosa.errors import (
    AccessDenied,
    ConnectionLost,
    StateUnwritable,
    VerificationFailed,
    WriteRefused,
)
from limosa.events import (
    BatchCopied,
    CopyCompleted,
    Event,
    Failed,
    MismatchFound,
    PartitionCopied,
    PartitionVerified,
    PhaseChanged,
    Retrying,
    SchemaChanged,
    StateChanged,
    Warned,
)
from limosa.history import Entry, Histogram, Sample
from limosa.model import Collection, Key, Mismatch, MismatchKind, Namespace, SchemaVerb
from limosa.recording import Recorder
from limosa.state import Failure, Phase, State
from limosa.storage.history import HISTORY_FILE, SqliteHistory
from limosa.tallies import Limit
from limosa.timing import Pings, timed
from limosa.views.story import entry

PEOPLE = Namespace("shop", "people")
SECOND = timedelta(seconds=1)
RETRY = Retrying("copy shop.people/1", "connection lost", 1, SECOND)
DEADLINE = 20.0


def until(look: Callable[[], Any]) -> Any:
    """Return what *look* returns once that is true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


class Recorded:
    """A recorder, what it has written, and what it warned of."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / HISTORY_FILE
        self.warnings: list[str] = []
        self.sample = Sample(datetime.now(UTC), Phase.COLLECTION_COPY.value)
        self.recorder = self.begin()

    def begin(self, opened: Callable[[], SqliteHistory] | None = None) -> Recorder:
        return Recorder(
            opened or (lambda: SqliteHistory(self.path)),
            look=lambda: replace(self.sample, at=datetime.now(UTC)),
            entry=entry,
            warn=self.warnings.append,
        )

    def tell(self, *events: Event) -> None:
        for event in events:
            self.recorder(event)

    def closed(self) -> SqliteHistory:
        """End the recorder and return what it has written."""
        self.recorder.close()
        return SqliteHistory(self.path)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    recorded = Recorded(tmp_path)
    yield recorded
    recorded.recorder.close()


def entries(history: SqliteHistory) -> list[Entry]:
    with closing(history):
        return history.entries()


def test_story(recorded: Recorded) -> None:
    """Milestones are entries in order, with class, level, one line and fields."""
    failure = Failure(ConnectionLost.code, "the source\n is gone")
    recorded.tell(
        PhaseChanged(Phase.COLLECTION_COPY),
        StateChanged(State.RUNNING, State.PAUSED),
        SchemaChanged(SchemaVerb.DROP, PEOPLE),
        Warned("look"),
        Failed(failure),
    )

    found = entries(recorded.closed())

    assert [(e.number, e.kind, e.level) for e in found] == [
        (1, "PhaseChanged", "info"),
        (2, "StateChanged", "info"),
        (3, "SchemaChanged", "info"),
        (4, "Warned", "warning"),
        (5, "Failed", "error"),
    ]
    assert found[0].message == "phase: collection copy"
    assert found[4].message == "the migration has failed: the source is gone"
    assert found[1].fields == {"before": "RUNNING", "after": "PAUSED"}


@pytest.mark.parametrize("kind", [VerificationFailed, WriteRefused])
def test_failure_that_quotes_a_document(recorded: Recorded, kind: type[WriteRefused]) -> None:
    """Of a failure whose message may quote a document only code and hint are kept."""
    recorded.tell(Failed(Failure.of(kind("duplicate key {email: 'secret@example.org'}"))))

    (found,) = entries(recorded.closed())

    assert kind.code in found.message
    assert found.fields["hint"] == kind.hint
    assert "secret" not in repr(found)


def test_work_is_summed_up(recorded: Recorded) -> None:
    """Batches and partitions are no entries of their own, but sums and durations."""
    for i in range(10):
        recorded.tell(
            BatchCopied(PEOPLE, 100, 5_000),
            PartitionCopied(PEOPLE, f"p/{i}", 100, 5_000, 2 * SECOND),
        )
    recorded.tell(
        CopyCompleted(1000, 50_000, 20 * SECOND), PartitionVerified(PEOPLE, "p", 70, 0, SECOND)
    )

    with closing(recorded.closed()) as history:
        assert [e.kind for e in history.entries()] == [
            "PartitionCopied",
            "CopyCompleted",
            "PartitionVerified",
        ]
        assert history.entries()[0].fields == {"partitions": 10, "documents": 1000}
        assert history.counters() == {
            "documents_copied": 1000,
            "bytes_copied": 50_000,
            "partitions_copied": 10,
            "documents_compared": 70,
        }
        copied = history.durations()["copy_partition"]
        assert (copied.count, copied.total) == (10, 20.0)


def test_retries_are_limited(recorded: Recorded) -> None:
    """Of thousands of retries some are entries; the counter has all of them."""
    recorded.tell(*[RETRY] * 5_000)

    with closing(recorded.closed()) as history:
        assert 1 <= len(history.entries(limit=5_000)) < 100
        assert history.counters() == {"retries": 5_000}


def test_limit() -> None:
    """What was left out is told of with the next that is kept."""
    limit, now = Limit(), time.monotonic()
    kept = sum(limit.allows(now) for _ in range(1_000))

    assert 1 <= kept < 100
    assert not limit.allows(now + 1)
    assert limit.allows(now + 60)
    assert limit.left_out() == 1_001 - kept
    assert limit.left_out() == 0


def test_sums_go_on(recorded: Recorded) -> None:
    """A later process adds to what an earlier one has counted."""
    recorded.tell(RETRY, RETRY)
    recorded.recorder.close()
    recorded.recorder = recorded.begin()
    recorded.tell(RETRY)

    with closing(recorded.closed()) as history:
        assert history.counters() == {"retries": 3}
        assert [e.number for e in history.entries()] == [1, 2, 3]


def test_is_written_while_it_runs(recorded: Recorded) -> None:
    """Somebody who looks meanwhile sees entries, figures and what the process uses."""
    recorded.tell(Warned("look"), BatchCopied(PEOPLE, 7, 70))

    with closing(SqliteHistory(recorded.path)) as history:
        until(history.entries)
        assert until(lambda: history.counters().get("documents_copied")) == 7
        assert until(history.latest).documents_copied == 7
        assert until(history.gauges)["process_cpu_seconds"] > 0


def test_samples_go_on(recorded: Recorded) -> None:
    """While nothing happens samples are still taken, about one a second."""
    with closing(SqliteHistory(recorded.path)) as history:
        first, *_, last = until(lambda: len(s := history.samples()) >= 3 and s)

    assert SECOND < last.at - first.at < 10 * SECOND


def test_copied_includes_what_is_under_way(recorded: Recorded) -> None:
    """A sample counts batches of partitions under way, on top of what was there before."""
    recorded.recorder.close()
    recorded.sample = replace(recorded.sample, documents_copied=1_000, bytes_copied=9_000)
    recorded.recorder = recorded.begin()
    recorded.tell(
        BatchCopied(PEOPLE, 100, 500),
        BatchCopied(PEOPLE, 50, 250),
        PartitionCopied(PEOPLE, "p/1", 150, 750, SECOND),
        BatchCopied(PEOPLE, 30, 150),
    )

    with closing(recorded.closed()) as history:
        latest = history.latest()
        assert latest is not None
        assert (latest.documents_copied, latest.bytes_copied) == (1_180, 9_900)


def test_copied_after_a_retry(recorded: Recorded) -> None:
    """Batches of a partition that begins again no longer count; those of others do."""
    other = threading.Thread(target=lambda: recorded.tell(BatchCopied(PEOPLE, 5, 50)))
    other.start()
    other.join()
    recorded.tell(BatchCopied(PEOPLE, 100, 500), RETRY, BatchCopied(PEOPLE, 40, 200))

    with closing(recorded.closed()) as history:
        latest = history.latest()
        assert latest is not None
        assert latest.documents_copied == 45


def test_after_the_copy_the_state_counts(recorded: Recorded) -> None:
    """Once everything is copied a sample says what the state says, whatever was dropped."""
    recorded.tell(BatchCopied(PEOPLE, 100, 500))
    recorded.sample = replace(
        recorded.sample, phase=Phase.CHANGE_EVENT_APPLICATION.value, documents_copied=60
    )

    with closing(recorded.closed()) as history:
        latest = history.latest()
        assert latest is not None
        assert latest.documents_copied == 60


def test_history_that_cannot_be_written(tmp_path: Path) -> None:
    """It is warned about once, and what was held is written once it can be."""
    recorded = Recorded(tmp_path)
    recorded.recorder.close()
    works = threading.Event()

    def opened() -> SqliteHistory:
        if not works.is_set():
            raise StateUnwritable("open: no space left")
        return SqliteHistory(recorded.path)

    recorded.recorder = recorded.begin(opened)
    recorded.tell(RETRY, Warned("look"))
    until(lambda: recorded.warnings)
    works.set()

    with closing(recorded.closed()) as history:
        assert [e.kind for e in history.entries()] == ["Retrying", "Warned"]
        assert history.counters() == {"retries": 1, "warnings": 1}
    (warning,) = recorded.warnings
    assert "no space left" in warning
    assert "the migration goes on" in warning


def test_history_that_can_never_be_written(tmp_path: Path) -> None:
    """Without a folder to write to the recorder takes everything and ends in peace."""
    recorded = Recorded(tmp_path / "nowhere")
    for _ in range(20_000):
        recorded.tell(Warned("look"))
    recorded.recorder.close()

    assert len(recorded.warnings) == 1


def test_history_damaged_meanwhile(recorded: Recorded) -> None:
    """A history that is overwritten while the migration runs begins anew."""
    recorded.tell(Warned("one"))
    with closing(SqliteHistory(recorded.path)) as history:
        until(history.entries)
    recorded.path.write_bytes(b"no database" * 1000)
    recorded.tell(Warned("two"))

    found = entries(recorded.closed())

    assert [e.message for e in found][-1:] == ["two"]


class Slow(MemoryDatabase):
    """A database that can be told to be away or to refuse."""

    error: Exception | None = None

    def ping(self) -> None:
        if self.error is not None:
            raise self.error

    def write(self, namespace: Namespace, batch: Any) -> None:
        self.ping()
        super().write(namespace, batch)


class Watched:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken: list[str] = []
        self.there: Mapping[str, bool] = {}

    def took(self, what: str, side: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append(f"{what} {side}")

    def broke(self, side: str) -> None:
        self.broken.append(side)

    def answers(self, side: str, *, is_there: bool) -> None:
        self.there = {**self.there, side: is_there}


def test_timed() -> None:
    """What is read, looked up, written and applied goes through unchanged, with its time."""
    source, target, watch = MemoryDatabase(batch_documents=2), MemoryDatabase(), Watched()
    source.put(PEOPLE, *({"_id": i} for i in range(3)))
    here, there = timed(source, "source", watch), timed(target, "target", watch)

    (spec,) = here.collections()
    (partition,) = here.partitions(spec, documents=10)
    for batch in here.read(partition):
        there.write(PEOPLE, batch)
    keys = list(source.documents(PEOPLE))
    there.apply(PEOPLE, {keys[0]: None})
    found = there.lookup(Collection(PEOPLE), keys)

    assert list(found) == keys[1:]
    assert watch.calls == [
        *("read source", "write target", "read source", "write target", "read source"),
        *("apply target", "lookup target"),
    ]


def test_timed_is_closed() -> None:
    """Whoever reads no further closes the reading of the end, too."""
    source, closed = MemoryDatabase(batch_documents=1), []
    source.put(PEOPLE, {"_id": 1}, {"_id": 2})

    class Reader:
        def read(self, partition: Any) -> Iterator[Any]:
            try:
                yield from source.read(partition)
            finally:
                closed.append(True)

    (spec,) = source.collections()
    (partition,) = source.partitions(spec, documents=10)
    reading = timed(Reader(), "source", Watched()).read(partition)  # type: ignore[type-var]
    next(reading)
    reading.close()

    assert closed == [True]


def test_timed_breaks() -> None:
    """An error that may pass is counted and raised; it has no duration."""
    target, watch = Slow(), Watched()
    target.error = ConnectionLost("away")

    with pytest.raises(ConnectionLost):
        timed(target, "target", watch).write(PEOPLE, None)  # type: ignore[arg-type]

    assert (watch.calls, watch.broken) == ([], ["target"])


def test_pings() -> None:
    """An end is away while it does not answer; a refusal is an answer."""
    end, watch = Slow(), Watched()
    with closing(Pings(end, "source", watch, every=0.01)):
        until(lambda: watch.there.get("source"))
        end.error = ConnectionLost("away")
        until(lambda: watch.there["source"] is False)
        end.error = AccessDenied("no")
        until(lambda: watch.there["source"])

    assert "ping source" in watch.calls


def test_recorder_watches(recorded: Recorded) -> None:
    """Durations, errors and absence of the ends are written by side."""
    recorded.recorder.took("read", "source", 0.2)
    recorded.recorder.broke("target")
    recorded.recorder.answers("target", is_there=False)

    with closing(recorded.closed()) as history:
        assert history.durations() == {"read.source": Histogram().plus(0.2)}
        assert history.counters() == {"errors.target": 1}
        gauges = history.gauges()
    assert gauges["unavailable.target"] == 1
    assert "unavailable.source" not in gauges


def test_no_key_is_kept() -> None:
    """Neither message nor fields of a mismatch tell the key."""
    found = entry(
        MismatchFound(Mismatch(MismatchKind.EXTRA, PEOPLE, Key(b"secret"))), datetime.now(UTC)
    )

    assert found is not None
    assert found.level == "warning"
    assert "secret" not in repr(found)
