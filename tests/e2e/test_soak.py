"""Some rounds of `make soak`: random load, random faults, random kills, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import soak_plan

import soak

ROUNDS = 20
PROGRAM = Path(soak.__file__)


def test_soak(mongod_options: Any, tmp_path: Path) -> None:
    """Twenty rounds end equal, or as many as a busy machine plays in some minutes."""
    command = [sys.executable, str(PROGRAM), "--rounds", str(ROUNDS), "--jobs", "2"]
    command += ["--minutes", "3"]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    assert "rounds ended equal; not: none" in done.stdout


def test_plans() -> None:
    """A seed always means the same, and a few seeds let everything happen that can."""
    plans = [soak.plan_for(seed) for seed in range(60)]

    assert plans == [soak.plan_for(seed) for seed in range(60)]
    assert {s.what for p in plans for s in (*p.steps, *p.last_steps)} == set(soak_plan.HAPPENINGS)


def test_difference(mongod_options: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A round that ends with a difference fails, says its seed and keeps what is needed."""

    def tampered(round_: soak.Round) -> list[str]:
        field = round_._field
        found = original(round_)
        field.sites["target"].client.shop.counters.delete_one({})
        return found + soak.differences(field.sites["source"].client, field.sites["target"].client)

    original = soak.Round.play
    monkeypatch.setattr(soak.Round, "play", tampered)
    with soak.Field.opened() as field:
        well = soak.play(_quiet_seed(), field, tmp_path)

    assert not well
    (kept,) = tmp_path.glob("soak-*")
    names = {path.name for path in kept.iterdir()}
    assert {"plan.json", "differences", "state", "source-oplog", "target-oplog"} <= names
    assert "is missing" in (kept / "differences").read_text()


def _quiet_seed() -> int:
    """Return a seed whose round has little in store."""
    return min(range(200), key=lambda s: len(soak.plan_for(s).steps + soak.plan_for(s).last_steps))
