"""The disk fills up, the state disappears, the clock jumps: what can go wrong on Limosa's side."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from failing import FailPoint
from faults import PHASES, change, fill, some, struck_in
from in_process import Running
from judge import differences
from program import Program, limosa

FAILED, STATE = 3, 5  # exit codes
#: By how much the clock is wrong from a phase on.
JUMPS = {"copy": "+3000d", "verification": "-3000d", "following": "+10d"}


@pytest.fixture
def program(ends: Any, tmp_path: Path) -> Iterator[Program]:
    """A command line for a filled source and an empty target."""
    fill(ends.source.client)
    with Program(ends.source.uri, ends.target.uri, tmp_path / "state") as program:
        yield program
    for end in ends:
        FailPoint(end.client).off()


@pytest.mark.parametrize("phase", some("following", "planning", "copy"))
def test_file_size_limit(ends: Any, program: Program, phase: str) -> None:
    """A file that may not grow ends the process with a clear error; more room, and it goes on."""
    point = FailPoint(ends.target.client)
    if phase == "copy":
        point.slow_down(["insert"], milliseconds=500)
    if phase == "planning":
        with _limited(100_000):
            program.start()
    else:
        program.start()
        program.await_phase(phase)
        assert program.process is not None
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    _write_until_it_ends(ends, program)

    assert program.end() == STATE
    _assert_clear(program)

    point.off()
    _finish(ends, program)
    assert differences(ends.source.client, ends.target.client) == []


def test_full_disk(ends: Any, program: Program) -> None:
    """A full disk ends the process with a clear error; with space freed the command goes on."""
    with _small_disk(program.folder, kilobytes=8_000) as disk:
        program.start()
        program.await_phase("following")
        _fill_up(disk / "filler")
        _write_until_it_ends(ends, program)

        # Capture stops where it sees that; whether the state can still be written is chance.
        assert program.end() in {FAILED, STATE}
        _assert_clear(program)

        (disk / "filler").unlink()
        _finish(ends, program)
    assert differences(ends.source.client, ends.target.client) == []


@pytest.mark.parametrize("phase", some("following", "verification", "copy"))
def test_state_removed(ends: Any, program: Program, phase: str) -> None:
    """A state that was removed is noticed at once; the target has to be emptied to start anew."""
    slowed = {"copy": ["insert"], "verification": ["find"]}
    point = FailPoint(ends.target.client)
    point.slow_down(slowed.get(phase, ["ping"]), milliseconds=500)
    program.start()
    program.await_phase(phase)
    shutil.rmtree(program.folder)

    assert program.end() == STATE
    assert "it was removed" in program.log()
    assert "hint: restore the state folder" in program.log()
    assert "Traceback" not in program.log()

    point.off()
    if phase != "copy":  # there the target may hold nothing yet
        refused = limosa(*program.command[3:])

        assert refused.code == 2
        assert "target already has" in refused.err

    ends.target.client.drop_database("shop")
    _finish(ends, program)
    assert differences(ends.source.client, ends.target.client) == []


@pytest.mark.parametrize("phase", some("commit", *PHASES[:-1]))
def test_clock_jumps(
    ends: Any, tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that jumps by years at every look changes what is shown, nothing else."""
    fill(ends.source.client)
    for name, module in list(sys.modules.items()):
        if name.startswith("limosa.") and vars(module).get("datetime") is datetime:
            monkeypatch.setattr(module, "datetime", _JumpingClock)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        struck_in(phase, running, ends.source.client, lambda: None)

    assert differences(ends.source.client, ends.target.client) == []


def test_clock_of_a_process_jumps(
    ends: Any, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a machine that is set years ahead and back again is nobody's concern."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(_faketime()))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")  # which the system keeps from jumps
    program.start()
    monkeypatch.delenv("LD_PRELOAD")
    for number, (phase, shift) in enumerate(JUMPS.items()):
        program.await_phase(phase)
        clock.write_text(shift)
        change(ends.source.client, mark=f"jump {number}")
    asked = limosa("commit", "--state", program.folder)

    assert asked.code == 0, asked.err
    assert program.end() == 0, program.log()
    assert differences(ends.source.client, ends.target.client) == []


def _faketime() -> Path:
    libraries = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    given = os.environ.get("LIMOSA_TEST_FAKETIME")
    library = Path(given) if given else next(libraries, None)
    if library is None:
        pytest.skip("the clock of a process is set by libfaketime, which is not installed")
    return library


class _JumpingClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # not a Self
        return datetime.now(tz) + timedelta(days=random.uniform(-9_000, 9_000))


@contextmanager
def _limited(size: int) -> Iterator[None]:
    """Let no file of the processes started meanwhile grow beyond *size* bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def _small_disk(folder: Path, *, kilobytes: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk of a given size needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill_up(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return


def _write_until_it_ends(ends: Any, program: Program) -> None:
    assert program.process is not None
    for number in range(200):
        if program.process.poll() is not None:
            return
        people = ends.source.client.shop.people
        people.update_many({"_id": {"$lt": 3_000}}, {"$set": {"number of updates": number}})


def _assert_clear(program: Program) -> None:
    said = program.log()
    assert "state.db" in said or "buffer.db" in said
    assert "hint: free some space" in said
    assert "Traceback" not in said


def _finish(ends: Any, program: Program) -> None:
    change(ends.source.client, mark="after")
    program.start()
    program.await_start()
    program.await_phase("following")
    asked = limosa("commit", "--state", program.folder)
    assert asked.code == 0, asked.err
    assert program.end() == 0, program.log()
