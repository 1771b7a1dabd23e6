"""Commands of the operator: hooks and tasks, bounded in time and in what they write."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import IO

from ..errors import Stopped
from .secrecy import Secrets

#: How soon a stop is seen while a command runs.
_LOOK_EVERY = 0.1
#: Given to a command that has to end, before it is killed.
_GRACE = 5.0
#: Of what a command wrote last, so much is read for the error.
_TAIL_BYTES = 4096
_QUOTED = 200


class Commands:
    """Runs commands in the environment of this process, one after the other, until stopped."""

    def __init__(self, *, stop: threading.Event, secrets: Secrets) -> None:
        self._stop = stop
        self._secrets = secrets

    def run(
        self,
        command: Sequence[str],
        *,
        variables: Mapping[str, str],
        timeout: timedelta,
        text: str = "",
    ) -> str:
        """
        Return "" once *command* has ended well, else what it ended with.

        *variables* are added to its environment, *text* is its standard input. One that takes
        too long is ended with all that it has started.

        Raises:
            Stopped: this process was asked to stop; the command was ended.
        """
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(text.encode())
            given.seek(0)
            try:
                process = subprocess.Popen(  # noqa: S603 - the operator's own command
                    command,
                    env={**os.environ, **variables},
                    stdin=given,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as exc:
                return f"it cannot be started: {exc.strerror}"
            try:
                ended = self._wait(process, timeout)
            finally:
                if process.poll() is None:
                    _end(process)
            return ended and f"{ended}{self._last_line(said)}"

    def _wait(self, process: subprocess.Popen[bytes], timeout: timedelta) -> str:
        deadline = time.monotonic() + timeout.total_seconds()
        while True:
            try:
                code = process.wait(_LOOK_EVERY)
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    msg = "the run was asked to stop"
                    raise Stopped(msg) from None
                if time.monotonic() > deadline:
                    return f"it had not ended after {timeout.total_seconds():g} s"
                continue
            return "" if code == 0 else f"it ended with exit code {code}"

    def _last_line(self, said: IO[bytes]) -> str:
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - _TAIL_BYTES))
        lines = said.read().decode(errors="replace").split("\n")
        last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
        return f": {self._secrets.hidden(last)[:_QUOTED]}" if last else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and what it has started, gently at first."""
    with suppress(ProcessLookupError, PermissionError):  # gone, or somebody else's by now
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
