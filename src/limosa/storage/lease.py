"""The right to drive a migration: held by one process at a time, gone when it is gone."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

from ..errors import LeaseHeld, StateGone
from .errors import translated

#: Seconds to go on trying: `is_held` and `cleanup` hold the lock for a moment, and a killed
#: process of many threads needs a few milliseconds to be gone.
_PATIENCE = 0.5


class Lease:
    """
    An exclusive lock on a file that names its holder.

    The system gives the lock back when the process ends, however it ends. A child that was
    forked without ``exec`` shares it and keeps it alive, so workers are spawned.
    """

    def __init__(self, path: Path, descriptor: int, holder: str) -> None:
        self.path = path
        self.holder = holder  # "host:pid"
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Lease:
        """
        Take the lease.

        Raises:
            LeaseHeld: another process has it; the message names host and pid.
            StateUnwritable: the file cannot be made.
        """
        with translated(path, "take the lease"):
            descriptor = _locked(path)
            holder = f"{socket.gethostname()}:{os.getpid()}"
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{holder}\n".encode(), 0)
        return cls(path, descriptor, holder)

    def check(self) -> None:
        """
        Return at once if the lease still keeps others out.

        Raises:
            StateGone: the file was removed, and what lies beside it most likely, too.
        """
        if not _is_still(self.path, self._descriptor):
            msg = f"look at the lease: {str(self.path)!r}: it was removed while it was held"
            raise StateGone(msg)

    def release(self) -> None:
        """Give the lease back; released already is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(path: Path) -> bool:
    """Whether a process holds the lease at this moment."""
    with translated(path, "look at the lease"):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def _locked(path: Path) -> int:
    deadline = time.monotonic() + _PATIENCE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _try_lock(descriptor, fcntl.LOCK_EX):
                if _is_still(path, descriptor):
                    kept, descriptor = descriptor, -1
                    return kept
            elif time.monotonic() > deadline:
                holder = os.pread(descriptor, 1024, 0).decode(errors="replace").strip()
                raise _held(path, holder)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        time.sleep(0.01)


def _try_lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    # A clean-up may have removed the file after it was opened here: a lock on a file without
    # a name keeps nobody out.
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _held(path: Path, holder: str) -> LeaseHeld:
    host, _, pid = holder.rpartition(":")
    who = f"process {pid} on host {host!r}" if host else "another process"
    return LeaseHeld(f"take the lease: {str(path)!r}: {who} drives this migration")
