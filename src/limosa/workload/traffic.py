"""An application that keeps writing, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from ..errors import PermanentError
from ..model import Namespace


class TrafficFailed(PermanentError):
    """The application met an error that it cannot live with."""

    code = "traffic_failed"
    hint = "see what the server that it writes to says"


@dataclass(frozen=True, slots=True)
class Counters:
    """Acknowledged writes by operation."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    hot: int = 0  # updates of the few documents that everybody updates
    failed: int = 0  # requests given up, as in an election; not writes

    @property
    def writes(self) -> int:
        """All writes together."""
        return self.inserted + self.updated + self.deleted + self.hot


class Traffic:
    """
    An application that makes about *rate* writes a second, between `start` and `stop`.

    It inserts, updates, deletes and hammers a few hot documents in the collections that `fill`
    makes, or in *namespaces* of them. Each write is acknowledged as the URI says. It ends by
    itself with its owner, and after the time *lasting*.
    """

    def __init__(
        self,
        uri: str,
        *,
        rate: float = 1_000,
        seed: int = 1,
        workers: int = 4,
        namespaces: Collection[Namespace] = (),
        lasting: timedelta = timedelta(minutes=10),
    ) -> None:
        self._settings = {
            "uri": uri,
            "rate": rate,
            "seed": seed,
            "workers": workers,
            "namespaces": [str(n) for n in namespaces],
            "seconds": lasting.total_seconds(),
        }
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._report: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the application; it is about to make its first writes when this returns."""
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [
                sys.executable,
                "-c",
                "from limosa.workload.application import main; main()",
                str(os.getpid()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C in a terminal reaches a whole process group; only the owner ends this one.
            start_new_session=True,
        )
        self._ask("start", self._settings)

    def hold(self) -> datetime | None:
        """Stop writing; return when the last write, now acknowledged, was made, if any was."""
        self._ask("hold")
        return self.last_write_at

    def release(self) -> None:
        """Go on writing."""
        self._ask("release")

    def switch(self, uri: str) -> None:
        """Write to another server from now on; only while held."""
        self._ask("switch", uri)

    def stop(self) -> Counters:
        """End the application and return what it has done; done already is done."""
        if self._process is not None:
            output, _ = self._process.communicate()
            self._process = None
            for line in output.splitlines():
                self._take(line)
        return self._counters()

    @property
    def counters(self) -> Counters:
        """What was acknowledged until now."""
        if self._process is not None:
            self._ask("report")
        return self._counters()

    @property
    def last_write_at(self) -> datetime | None:
        """When the last write was acknowledged, by this machine's clock."""
        if self._process is not None:
            self._ask("report")
        last = self._report.get("last")
        return None if last is None else datetime.fromtimestamp(last, UTC)

    def _ask(self, *request: Any) -> None:
        if self._process is None:
            msg = f"{request[0]}: the application does not run"
            raise TrafficFailed(msg)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended by itself; its last report waits to be read
            self._take(self._process.stdout.readline())

    def _take(self, line: str) -> None:
        if line:
            self._report = json.loads(line)
        if self._report.get("error"):
            raise TrafficFailed(self._report["error"])

    def _counters(self) -> Counters:
        return Counters(**self._report.get("counters", {}))
