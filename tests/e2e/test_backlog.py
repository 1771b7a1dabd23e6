"""Changes that wait: as many as the disk holds, and no more."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from program import Program, limosa
from pymongo import UpdateOne
from waiting import until

from limosa.canonical import key_for
from limosa.catalog import Folder, watch
from limosa.events import ChangesApplied
from limosa.model import ChangeBatch, ResumeToken
from limosa.state import State
from limosa.storage.buffer import SqliteBuffer

#: Seconds of CPU for a start; it takes about one, and time by the clock is the machine's.
START = 8.0


def test_disk_nearly_full(ends: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture ends the migration before the disk is full; with room the same command goes on."""
    people = ends.source.client.shop.people
    people.insert_many({"_id": i} for i in range(2_000))
    monkeypatch.setenv("LIMOSA_KEEP_FREE_MB", "999999999")
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        with running.held_at("copy"):
            people.insert_one({"_id": "during the copy"})
        failed = running.end()
        people.insert_one({"_id": "while nobody captures"})
        monkeypatch.setenv("LIMOSA_KEEP_FREE_MB", "0")
        running.start()
        running.committed()

    assert failed.state is State.FAILED
    assert failed.failure is not None
    assert failed.failure.code == "disk_nearly_full"
    assert "free some space" in failed.failure.hint
    assert differences(ends.source.client, ends.target.client) == []


def test_hot_document(ends: Any, tmp_path: Path) -> None:
    """Thousands of changes of one document that wait are one write, between those of others."""
    people = ends.source.client.shop.people
    people.insert_many({"_id": i, "n": 0} for i in range(100))
    more = {"$inc": {"n": 1}}
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        with running.held_at("application"):
            people.bulk_write(
                [UpdateOne({"_id": n // 50 if n % 50 == 0 else 7}, more) for n in range(5_000)]
            )
            running.await_captured(ends.source.client)
        migration = running.committed()
        written = sum(e.changes for e in running.events if isinstance(e, ChangesApplied))

    assert migration.events_captured == 5_000
    assert written == 100
    assert differences(ends.source.client, ends.target.client) == []


def test_works_again_after_a_kill(ends: Any, tmp_path: Path) -> None:
    """Killed with many collections and a long backlog, the same command soon works again."""
    for number in range(20):
        ends.source.client.shop[f"c{number}"].insert_one({"_id": 1})
    ends.source.client.shop.people.insert_many({"_id": i} for i in range(2_000))
    given = (ends.source.uri, ends.target.uri, tmp_path / "state", ("--no-verify",))
    with Program(*given) as program:
        program.start()
        program.await_phase("verification", "following")
        program.kill()
        _lengthen(program.folder, keys=2_000, times=50)
        before = program.rows("SELECT changes_applied FROM migration")[0]["changes_applied"]

        program.start()
        more = f"SELECT 1 FROM migration WHERE changes_applied > {before}"
        until(lambda: program.rows(more), "change that is applied")
        seconds = _cpu(program)

        asked = limosa("commit", "--state", program.folder)
        assert (asked.code, program.end()) == (0, 0), program.log()
    assert seconds < START
    assert differences(ends.source.client, ends.target.client) == []


def _lengthen(folder: Path, *, keys: int, times: int) -> None:
    """Have *keys* of the people wait to be applied, so many times."""
    with closing(watch(Folder(folder))) as store:
        (people,) = (c for c in store.collections() if c.target.collection == "people")
    states = {people.spec.collection: dict.fromkeys(map(key_for, range(keys)))}
    with closing(SqliteBuffer(folder / "buffer.db")) as buffer:
        position = buffer.position()
        assert position is not None
        for _ in range(times):
            buffer.append(ChangeBatch(ResumeToken(position[0]), position[1], states, events=keys))


def _cpu(program: Program) -> float:
    """Return the seconds of CPU that the process has used, as far as the system says so."""
    assert program.process is not None
    stat = Path(f"/proc/{program.process.pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
