"""The lease: one process drives a migration, and a dead one never stands in the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from limosa.errors import LeaseHeld, LeaseLost
from limosa.state import State
from limosa.storage.lease import Lease, is_held
from limosa.storage.sqlite import SqliteStore

DRIVER = """
import sys, time
from pathlib import Path
from limosa.storage.sqlite import SqliteStore

store = SqliteStore.drive(Path(sys.argv[1]), "demo")
print("driving", flush=True)
sys.stdin.read()
"""


def test_holder_and_generation(tmp_path: Path) -> None:
    """Each drive counts one generation up and names its process until it is closed."""
    holder = f"{socket.gethostname()}:{os.getpid()}"
    for generation in (1, 2, 3):
        with closing(SqliteStore.drive(tmp_path, "demo")) as store:
            migration = store.migration()
            assert (migration.generation, migration.holder) == (generation, holder)

        with closing(SqliteStore.watch(tmp_path)) as store:
            assert store.migration().holder == ""


def test_second_driver(tmp_path: Path) -> None:
    """A second driver is refused and told who drives; the first one goes on."""
    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        with pytest.raises(LeaseHeld, match=f"process {os.getpid()} on host"):
            SqliteStore.drive(tmp_path, "demo")

        assert store.update(lambda m: m.moved_to(State.RUNNING)).generation == 1


def test_killed_driver(tmp_path: Path) -> None:
    """The lease of a process that was killed is free at once."""
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == b"driving\n"
            assert is_held(tmp_path / "lock")
            with pytest.raises(LeaseHeld, match=f"process {driver.pid} on host"):
                SqliteStore.drive(tmp_path, "demo")
        finally:
            driver.send_signal(signal.SIGKILL)

    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        assert store.migration().generation == 2


def test_taken_over(tmp_path: Path) -> None:
    """A driver that was taken over cannot write any more, nor clear the new holder."""
    former = SqliteStore.drive(tmp_path, "demo")
    # As on a file system whose locks do not reach the other host.
    (tmp_path / "lock").unlink()
    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        with pytest.raises(LeaseLost, match="took over"):
            former.update(lambda m: replace(m, applied_seq=5))
        with pytest.raises(LeaseLost):
            former.save_suspects(found=[], settled=[], verified_seq=5)
        former.close()

        migration = store.migration()
        assert (migration.applied_seq, migration.verified_seq) == (0, 0)
        assert (migration.generation, migration.holder != "") == (2, True)


def test_close_twice(tmp_path: Path) -> None:
    """A store can be closed twice; the second time does nothing."""
    store = SqliteStore.drive(tmp_path, "demo")
    store.close()
    with closing(SqliteStore.drive(tmp_path, "demo")) as successor:
        store.close()

        assert successor.migration().holder != ""
        assert is_held(tmp_path / "lock")


def test_looking_does_not_take(tmp_path: Path) -> None:
    """To look whether a lease is held neither makes the file nor keeps anyone from it."""
    lock = tmp_path / "lock"
    assert not is_held(lock)
    assert not lock.exists()

    lease = Lease.take(lock)
    assert is_held(lock)
    lease.release()
    lease.release()

    assert not is_held(lock)
