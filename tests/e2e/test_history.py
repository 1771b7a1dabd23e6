"""What a migration between real servers leaves behind for those who look later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from failing import FailPoint
from in_process import Running
from judge import differences
from program import Program, limosa
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from limosa import timing
from limosa.catalog import Folder, is_driven, watch
from limosa.state import State
from limosa.storage.history import SqliteHistory
from limosa.views.metrics import exposition
from limosa.views.readings import Readings
from limosa.views.status import Status

DOCUMENTS = 20_000


@contextmanager
def opened(folder: Path) -> Iterator[SqliteHistory]:
    """Lend the history as a server of it has it."""
    with closing(SqliteHistory(Folder(folder).history_file)) as history:
        yield history


def scraped(folder: Path) -> dict[str, float]:
    """Return what a scrape sees, by name and values of the labels but the migration's name."""
    with closing(watch(Folder(folder))) as store, opened(folder) as history:
        status = Status(
            store.migration(),
            store.totals(),
            datetime.now(UTC),
            is_driven=is_driven(Folder(folder)),
        )
        readings = Readings(
            status,
            history.latest(),
            history.counters(),
            history.durations(),
            history.gauges(),
        )
    families = text_string_to_metric_families(exposition(readings).decode())
    return {
        " ".join([s.name, *(v for k, v in s.labels.items() if k != "migration")]): s.value
        for family in families
        for s in family.samples
    }


@pytest.fixture
def filled(ends: Any) -> Any:
    """Both ends, the source with documents of three batches and an index."""
    people = ends.source.client.shop.people
    people.insert_many({"_id": i, "number": i, "text": "x" * 500} for i in range(DOCUMENTS))
    people.create_index("number")
    return ends


def test_whole_migration(filled: Any, tmp_path: Path) -> None:
    """After a commit the history tells the story, and its last sample equals the state."""
    folder = tmp_path / "state"
    people = filled.source.client.shop.people
    with Running(filled.source.uri, filled.target.uri, folder) as running:
        running.start()
        running.await_ready()
        for i in range(30):
            people.update_one({"_id": i}, {"$set": {"text": "changed"}})
        people.create_index("text")
        migration = running.committed()

    with opened(folder) as history:
        kinds = [e.kind for e in history.entries()]
        latest = history.latest()
        counters, durations = history.counters(), history.durations()
    told = (
        *("MigrationStarted", "Planned", "PartitionCopied", "CopyCompleted", "IndexesBuilt"),
        *("BecameConsistent", "VerificationCompleted", "ReadyToCommit", "StateChanged"),
        *("CommitStarted", "TargetWritable", "Committed"),
    )
    found = [k for k in kinds if k in told]
    # What is verified is stored first, and then told: who asks for the state may be quicker.
    last = told.index("VerificationCompleted")
    found[last : last + 2] = sorted(found[last : last + 2], reverse=True)
    assert found == list(told)
    assert "SchemaChanged" in kinds
    assert latest is not None
    assert (latest.phase, latest.lag_seconds, latest.waiting) == ("commit completed", 0, 0)
    assert latest.documents_copied == counters["documents_copied"] == DOCUMENTS
    assert latest.events_captured == migration.events_captured
    assert latest.changes_applied == counters["changes_applied"] == migration.changes_applied >= 30
    assert counters["schema_changes"] >= 1
    # The key, the name and the time of each, and what follows from them.
    assert 100 < counters["change_bytes"] / counters["events_captured"] < 1_000
    timed = ("read.source", "read.target", "write.target", "lookup.source", "apply.target")
    for name in (*timed, "ping.source", "ping.target", "copy_partition", "build_indexes", "commit"):
        assert durations[name].count >= 1, name
        assert 0 < durations[name].total < 600, name


def test_metrics_while_it_runs(filled: Any, tmp_path: Path) -> None:
    """A scrape from outside sees the migration run, its lag and its ends, and afterwards none."""
    folder = tmp_path / "state"
    with Running(filled.source.uri, filled.target.uri, folder) as running:
        running.start()
        running.await_ready()

        def look() -> dict[str, float] | None:
            now = scraped(folder)
            is_told = "limosa_unavailable target" in now and "limosa_process_cpu_seconds" in now
            return now if is_told and now["limosa_copied_documents"] == DOCUMENTS else None

        found = until(look, "figures")
        running.committed()
    after = scraped(folder)

    assert (
        found["limosa_state RUNNING"] == found["limosa_driven"] == found["limosa_can_commit"] == 1
    )
    assert found["limosa_phase change event application"] == 1
    assert 0 <= found["limosa_lag_seconds"] < 30
    assert found["limosa_unavailable source"] == found["limosa_unavailable target"] == 0
    assert found["limosa_buffer_bytes"] > 0
    assert found["limosa_process_resident_bytes"] > 10_000_000
    assert after["limosa_state COMMITTED"] == after["limosa_can_write"] == 1
    assert after["limosa_driven"] == 0
    assert "limosa_unavailable source" not in after
    assert after["limosa_commit_duration_seconds_count"] == 1


def test_documents_under_way(filled: Any, tmp_path: Path) -> None:
    """While a partition is copied, its documents are counted before it is complete."""
    folder = tmp_path / "state"
    slow = FailPoint(filled.target.client)
    with Running(filled.source.uri, filled.target.uri, folder, workers=1) as running:
        slow.slow_down(["insert"], milliseconds=700)
        running.start()

        def look() -> bool:
            if not Folder(folder).history_file.exists():
                return False
            with opened(folder) as history, running.store() as store:
                seen, recorded = history.latest(), store.totals().documents_copied
            return seen is not None and recorded < seen.documents_copied < DOCUMENTS

        until(look, "documents under way")
        slow.off()
        running.committed()

    with opened(folder) as history:
        copied = [s.documents_copied for s in history.samples()]
    assert copied == sorted(copied)
    assert copied[-1] == DOCUMENTS


def test_trouble(filled: Any, tmp_path: Path) -> None:
    """Retries and errors are counted by side, and are entries with what was tried."""
    folder = tmp_path / "state"
    point = FailPoint(filled.target.client)
    with Running(filled.source.uri, filled.target.uri, folder) as running:
        point.on(["insert"], times=3, errorCode=262)
        running.start()
        running.committed()

    with opened(folder) as history:
        retries = [e for e in history.entries() if e.kind == "Retrying"]
        counters = history.counters()
    assert counters["errors.target"] >= 3
    assert counters["retries"] == len(retries) >= 3
    assert "errors.source" not in counters
    assert all(e.message.startswith("copy shop.people") for e in retries)
    assert differences(filled.source.client, filled.target.client) == []


def test_end_that_is_away(filled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that stops answering is shown as unavailable, and as available when it is back."""
    monkeypatch.setattr(timing.Pings.__init__, "__kwdefaults__", {"every": 0.2})
    folder = tmp_path / "state"
    point = FailPoint(filled.target.client)
    target = filled.target.uri
    target += ("&" if "?" in target else "/?") + "serverSelectionTimeoutMS=500"
    with Running(filled.source.uri, target, folder) as running:
        running.start()
        running.await_ready()
        with point.while_on(["hello"], errorCode=91):
            until(lambda: scraped(folder).get("limosa_unavailable target") == 1, "absence")
            assert scraped(folder)["limosa_unavailable source"] == 0
        until(lambda: scraped(folder).get("limosa_unavailable target") == 0, "presence")
        running.committed()


def test_killed(filled: Any, tmp_path: Path) -> None:
    """After a kill the same command adds to the history; nothing in it is lost or begun anew."""
    folder = tmp_path / "state"
    slow = FailPoint(filled.target.client)
    options = ("--commit", "when-ready")
    with Program(filled.source.uri, filled.target.uri, folder, options) as program:
        # So slow that a busy machine, too, has seen a sample before the end.
        slow.slow_down(["insert"], milliseconds=2_000)
        program.start()
        program.await_phase("copy")
        until(lambda: Folder(folder).history_file.exists(), "history")
        with opened(folder) as history:
            before = until(history.entries, "entries")
            until(history.latest, "sample")
        program.kill()
        slow.off()
        program.start()
        assert program.end() == 0, program.log()

    with opened(folder) as history:
        entries, samples = history.entries(), history.samples()
    assert entries[: len(before)] == before
    assert [e.fields["generation"] for e in entries if e.kind == "MigrationStarted"] == [1, 2]
    assert [e.number for e in entries] == list(range(1, len(entries) + 1))
    assert [s.at for s in samples] == sorted(s.at for s in samples)
    assert scraped(folder)["limosa_starts_total"] == 2


def test_damaged_while_it_runs(filled: Any, tmp_path: Path) -> None:
    """A history that is destroyed while the migration runs is begun anew, and all else goes on."""
    folder = tmp_path / "state"
    with Running(filled.source.uri, filled.target.uri, folder) as running:
        running.start()
        running.await_ready()
        file = Folder(folder).history_file
        for each in (file, *folder.glob(f"{file.name}-*")):
            each.write_bytes(b"no database" * 2_000)
        running.committed()

    with opened(folder) as history:
        assert "Committed" in [e.kind for e in history.entries()]
    assert any("history" in str(e) for e in running.events if type(e).__name__ == "Warned")
    assert differences(filled.source.client, filled.target.client) == []


def test_cleanup(filled: Any, tmp_path: Path) -> None:
    """Cleaning a migration up removes its history, and what was put aside of it."""
    folder = tmp_path / "state"
    with Running(filled.source.uri, filled.target.uri, folder) as running:
        running.start()
        running.committed()
    (folder / "history.db.damaged").write_bytes(b"x")

    ended = limosa("cleanup", "--state", folder, "--yes")

    assert ended.code == 0, ended.err
    assert not folder.exists()


def test_samples_have_the_whole_time(filled: Any, tmp_path: Path) -> None:
    """From start to end no two samples are far apart, also while it is paused."""
    folder = tmp_path / "state"
    with Running(filled.source.uri, filled.target.uri, folder) as running:
        running.start()
        running.await_ready()
        running.update(lambda m: m.moved_to(State.PAUSED))
        with opened(folder) as history:
            start = datetime.now(UTC)
            until(lambda: len(history.samples(since=start)) > 2, "samples")
        running.update(lambda m: m.moved_to(State.RUNNING))
        running.committed()

    with opened(folder) as history:
        samples = history.samples()
        states = [e.fields["after"] for e in history.entries() if e.kind == "StateChanged"]
    assert max(b.at - a.at for a, b in pairwise(samples)) < timedelta(seconds=10)
    assert states[0] == "PAUSED"
