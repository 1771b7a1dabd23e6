"""The history: what is written comes back, from other processes too, bounded, and may be lost."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limosa.errors import StateError, StateUnwritable
from limosa.history import BOUNDS, Entry, Histogram, Sample
from limosa.storage import history as history_module
from limosa.storage.history import ASIDE, HISTORY_FILE, SqliteHistory

NOW = datetime(2026, 5, 4, 12, 0, 0, 7000, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ENTRY = Entry(at=NOW, kind="Warned", level="warning", message="look – today", fields={"a": [1]})
SAMPLE = Sample(NOW, "collection copy", 1, 2, 3, 4, 5, 6, 7.5, 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / HISTORY_FILE


@pytest.fixture
def history(path: Path) -> Iterator[SqliteHistory]:
    with closing(SqliteHistory(path)) as history:
        yield history


def entry(number: int, level: str = "info") -> Entry:
    return Entry(at=NOW + number * SECOND, kind="Warned", level=level, message=f"n {number}")


def samples(count: int, *, every: timedelta = SECOND) -> list[Sample]:
    return [replace(SAMPLE, at=NOW + i * every, documents_copied=i) for i in range(count)]


@given(st.lists(st.floats(0, 10_000)))
def test_histogram(values: list[float]) -> None:
    """Each value is counted once, under the first bound that is not below it."""
    histogram = Histogram()
    for value in values:
        histogram = histogram.plus(value)

    assert histogram.count == sum(histogram.counts) == len(values)
    assert histogram.total == pytest.approx(sum(values))
    for bound, count in zip(BOUNDS, histogram.cumulative, strict=False):
        assert count == sum(value <= bound for value in values)
    assert histogram.cumulative[-1] == len(values)


def test_joined_histograms() -> None:
    """A sum of histograms counts what either has; of other bounds the later one stays."""
    one, other = Histogram().plus(0.2), Histogram().plus(0.2).plus(7200)

    assert one.joined(other) == Histogram().plus(0.2).plus(0.2).plus(7200)
    assert Histogram((1.0,), (1, 0), 0.5, 1).joined(other) == other


def test_empty(history: SqliteHistory) -> None:
    """A new history has nothing in it."""
    assert (history.entries(), history.samples(), history.latest()) == ([], [], None)
    assert (history.durations(), history.counters(), history.gauges()) == ({}, {}, {})


def test_entries(history: SqliteHistory) -> None:
    """Entries come back as they were, numbered from 1, in pages and from the end."""
    history.record([ENTRY, *(entry(i) for i in range(2, 11))])

    assert history.entries(limit=1) == [replace(ENTRY, number=1)]
    assert [e.number for e in history.entries(after=3, limit=4)] == [4, 5, 6, 7]
    assert [e.number for e in history.newest_entries(limit=2)] == [9, 10]
    assert history.entries(after=10) == []


def test_entries_are_bounded(history: SqliteHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped, those that tell of trouble after all others."""
    monkeypatch.setattr(history_module, "MAX_ENTRIES", 100)
    history.record([entry(i, "warning") for i in range(60)])
    for start in range(60, 1_060, 100):
        history.record([entry(i) for i in range(start, start + 100)])

    kept = history.entries(limit=10_000)

    assert len(kept) <= 200
    assert [e.level for e in kept].count("warning") == 60
    assert kept[-1].number == 1_060


def test_trouble_is_bounded(history: SqliteHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings alone do not make the history grow without end."""
    monkeypatch.setattr(history_module, "MAX_ENTRIES", 100)

    history.record([entry(i, "error") for i in range(1_000)])

    assert [e.number for e in history.entries(limit=1_000)] == list(range(901, 1_001))


def test_samples(history: SqliteHistory) -> None:
    """Samples come back as they were, in order of time, unknown lag as unknown."""
    later = replace(SAMPLE, at=NOW + SECOND, lag_seconds=None)
    history.sample(later)
    history.sample(SAMPLE)

    assert history.samples() == [SAMPLE, later]
    assert history.samples(since=NOW) == [later]
    assert history.latest() == later


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 99, 100, 150, 1000])
def test_samples_are_thinned_evenly(history: SqliteHistory, limit: int) -> None:
    """Of many samples so many are returned, evenly over the whole time, first and last too."""
    stored = samples(100)
    for each in stored:
        history.sample(each)

    found = history.samples(limit=limit)

    assert len(found) <= limit
    assert found[-1] == stored[-1]
    if limit > 1:
        assert found[0] == stored[0]
        gaps = [b.at - a.at for a, b in itertools.pairwise(found)]
        assert max(gaps[:-1], default=SECOND) <= -(-99 // (limit - 1)) * SECOND
        assert len(found) >= min(100, limit) / 2


def test_old_samples_are_thinned(history: SqliteHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older samples are, the fewer are kept of them; the latest are all there."""
    tiers = ((timedelta(minutes=5), timedelta(seconds=10)), (timedelta(minutes=15), 60 * SECOND))
    monkeypatch.setattr(history_module, "THINNED", tiers)

    for each in samples(1_800):
        history.sample(each)

    found = history.samples(limit=10_000)
    ages = [found[-1].at - s.at for s in found]
    assert sum(age <= timedelta(minutes=5) for age in ages) == 301
    assert 60 <= sum(timedelta(minutes=5) < age <= timedelta(minutes=15) for age in ages) <= 70
    assert 15 <= sum(age > timedelta(minutes=15) for age in ages) <= 20


def test_sums(history: SqliteHistory) -> None:
    """Durations and counters add up; gauges are replaced."""
    for value in (1, 2):
        history.observe({"read.source": Histogram().plus(value), "ping": Histogram()})
        history.count({"retries": value})
        history.note({"memory": value})

    assert history.durations() == {
        "ping": Histogram(),
        "read.source": Histogram().plus(1).plus(2),
    }
    assert (history.counters(), history.gauges()) == ({"retries": 3}, {"memory": 2.0})


def write(path: Path, times: int) -> None:
    """Write to the history as another process."""
    with closing(SqliteHistory(path)) as history:
        for i in range(times):
            history.record([entry(i)])
            history.count({"retries": 1})
            history.observe({"read": Histogram().plus(1)})


def test_several_processes(path: Path) -> None:
    """What several processes write at once, from the first moment on, is all there."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write, args=(path, 40)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [p.exitcode for p in processes] == [0, 0, 0]
    with closing(SqliteHistory(path)) as history:
        assert len(history.entries()) == 120
        assert history.counters() == {"retries": 120}
        assert history.durations()["read"].count == 120


def test_several_threads(history: SqliteHistory) -> None:
    """What several threads write at once is all there."""
    threads = [
        threading.Thread(target=lambda: [history.count({"n": 1}) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert history.counters() == {"n": 200}


@pytest.mark.parametrize(
    "content", [b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_damaged_before(path: Path, content: bytes) -> None:
    """A history that cannot be read is put aside with a warning, and a new one is begun."""
    path.write_bytes(content)
    warnings: list[str] = []

    with closing(SqliteHistory(path, warn=warnings.append)) as history:
        history.record([ENTRY])

        assert history.entries() == [replace(ENTRY, number=1)]
    (warning,) = warnings
    assert ASIDE in warning
    assert path.with_name(path.name + ASIDE).read_bytes() == content


def test_foreign_or_newer(path: Path) -> None:
    """A database of another program or version is put aside, too, and stays as it is."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE mine (a)")
        db.execute("PRAGMA user_version = 99")
        db.commit()
    content = path.read_bytes()
    warnings: list[str] = []

    with closing(SqliteHistory(path, warn=warnings.append)) as history:
        assert history.entries() == []

    assert len(warnings) == 1
    assert path.with_name(path.name + ASIDE).read_bytes() == content


def test_damaged_meanwhile(path: Path) -> None:
    """A history that is damaged while it is open begins anew at the next use."""
    warnings: list[str] = []
    with closing(SqliteHistory(path, warn=warnings.append)) as history:
        history.record([ENTRY] * 3)
        with closing(sqlite3.connect(path)) as db:
            db.execute("DROP TABLE entries")
            db.commit()

        history.record([ENTRY])

        assert [e.number for e in history.entries()] == [1]
    assert len(warnings) == 1


def test_value_that_makes_no_sense(path: Path) -> None:
    """A stored value that cannot be understood counts as damage."""
    warnings: list[str] = []
    with closing(SqliteHistory(path, warn=warnings.append)) as history:
        history.record([ENTRY])
        with closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE entries SET fields = '{'")
            db.commit()

        assert history.entries() == []
    assert len(warnings) == 1


def test_removed_or_replaced_meanwhile(path: Path) -> None:
    """After the file was removed, or begun anew by another process, that one is used."""
    with closing(SqliteHistory(path)) as history:
        history.record([ENTRY] * 3)
        for file in path.parent.iterdir():
            file.unlink()
        with closing(SqliteHistory(path)) as other:
            other.record([entry(1)])

        assert [e.message for e in history.entries()] == ["n 1"]


def test_no_folder(tmp_path: Path) -> None:
    """A history that cannot be made is an error with the name of the file."""
    with pytest.raises(StateUnwritable, match=HISTORY_FILE):
        SqliteHistory(tmp_path / "nowhere" / HISTORY_FILE)


def test_folder_removed_meanwhile(path: Path) -> None:
    """Once the folder is gone every use is an error, and nothing is made in its place."""
    folder = path.parent / "state"
    folder.mkdir()
    with closing(SqliteHistory(folder / HISTORY_FILE)) as history:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

        with pytest.raises(StateError, match=HISTORY_FILE):
            history.record([ENTRY])
    assert not folder.exists()


def test_is_readable_by_people(path: Path, history: SqliteHistory) -> None:
    """The tables say what happened without this program."""
    history.record([ENTRY])
    history.sample(SAMPLE)

    with closing(sqlite3.connect(path)) as db:
        (row,) = db.execute("SELECT at, kind, level, message, fields FROM entries").fetchall()
        (at,) = db.execute("SELECT datetime(at / 1000, 'unixepoch') FROM samples").fetchone()

    assert row[:4] == (NOW.isoformat(timespec="microseconds"), "Warned", "warning", "look – today")
    assert (json.loads(row[4]), at) == ({"a": [1]}, "2026-05-04 12:00:00")
