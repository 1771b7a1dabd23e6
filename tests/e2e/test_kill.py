"""The engine is killed again and again; the same command goes on, and nothing is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from failing import FailPoint
from judge import differences
from program import PHASES, Program, limosa
from waiting import until

from limosa.workload import Traffic, fill

#: So much at the target that every phase lasts long enough to be hit.
SLOWED = ("insert", "createIndexes", "update", "delete", "find", "listIndexes", "collMod")
MILLISECONDS = 40
#: When each of a migration's processes is killed; together with a random moment within.
PLANS = (
    ("planning", "copy", "copy", "catching up", "verification", "commit"),
    ("copy", "copy", "index build", "catching up", "verification", "commit"),
    ("copy", "copy", "catching up", "catching up", "following", "commit"),
    ("copy", "copy", "catching up", "verification", "verification", "commit"),
    ("copy", "index build", "catching up", "verification", "commit", "commit"),
)
#: Seconds within which the moment is drawn.
SPREAD = 0.25


@pytest.fixture(scope="module")
def application(source_server: Any) -> Iterator[Traffic]:
    """An application that writes to a filled source all the time."""
    source_server.clear()
    fill(source_server.uri, documents=8_000)
    for number in range(8):
        source_server.client.archive[f"part{number}"].insert_many(
            {"_id": i, "text": "x" * 50} for i in range(500)
        )
    with Traffic(source_server.uri, rate=150, lasting=timedelta(minutes=5)) as traffic:
        yield traffic


@pytest.mark.parametrize("seed", range(len(PLANS)))
def test_kill(
    application: Traffic, source_server: Any, target_server: Any, tmp_path: Path, seed: int
) -> None:
    """Killed in every phase, a migration ends equal, and copies no partition twice."""
    target_server.clear()
    application.release()
    slow = FailPoint(target_server.client)
    slow.slow_down(SLOWED, milliseconds=MILLISECONDS)
    dice = random.Random(seed)
    hit = []
    with Program(
        source_server.uri,
        target_server.uri,
        tmp_path / "state",
        ("--log-format", "json", "--verbose"),
    ) as program:
        for phase in PLANS[seed]:
            copied = _copied(program)
            program.start()
            hit.append(_kill_in(program, phase, application, dice))
            assert copied <= _copied(program)
            again = program.lines("partitionCopied", since=len(program.logs) - 1)
            assert not copied & {line["partition"] for line in again}
        slow.off()
        program.start()
        code = program.end()

    assert code == 0, program.log()[-3000:]
    assert program.phase() == "committed"
    assert differences(source_server.client, target_server.client) == []
    assert all(_is_reached(phase, seen) for phase, seen in zip(PLANS[seed], hit, strict=True))


def _kill_in(program: Program, phase: str, application: Traffic, dice: random.Random) -> str:
    """Kill at a random moment of *phase*, or of one after it; return in which that was."""
    program.await_start()
    if phase == "commit":
        _commit(program, application)
    seen = program.await_phase(phase)
    moment = time.monotonic() + dice.uniform(0, SPREAD)
    until(lambda: time.monotonic() > moment or program.phase() != seen, "moment")
    program.kill()
    return program.phase()


def _commit(program: Program, application: Traffic) -> None:
    # A second process only completes the commit that the one before was asked for, maybe already.
    if program.phase() not in ("commit", "committed"):
        program.await_phase("following")
        application.hold()
        asked = limosa("commit", "--no-wait", "--state", program.folder)
        assert asked.code == 0, asked.err


def _is_reached(phase: str, seen: str) -> bool:
    return PHASES.index(seen) >= PHASES.index(phase)


def _copied(program: Program) -> set[str]:
    return {r["id"] for r in program.rows("SELECT id FROM partitions WHERE status <> 'pending'")}
