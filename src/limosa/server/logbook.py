"""mongosync's log: lines of JSON from which public dashboards draw their charts."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..history import Histogram
from ..views.mongosync import INSTANCE, Figures, progress_body, state_of

FILE = "mongosync.log"
#: Bytes of a file before the next one is begun, and how many old ones are kept.
_FILE_BYTES = 100 * 1024 * 1024
_FILES_KEPT = 10
#: Lines that wait for the disk; further ones are left out, so that no answer waits.
_WAITING_LINES = 10_000
#: Seconds between two lines about the progress.
_PROGRESS_EVERY = 10.0
_LOOK_EVERY = 0.5

_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC")

#: mongosync's name of each duration that is measured.
_DURATIONS = {
    "CollectionCopySourceRead": "read.source",
    "CollectionCopyDestinationWrite": "write.target",
    "CEASourceRead": "lookup.source",
    "CEADestinationWrite": "apply.target",
}


class Logbook:
    """Writes lines in a thread of its own; whoever tells one never waits for the disk."""

    def __init__(self, folder: Path, *, verbosity: str = "INFO") -> None:
        """
        Open the file in *folder*, made if there is none.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = RotatingFileHandler(
                folder / FILE, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8"
            )
        except OSError as exc:
            msg = f"open the log in {str(folder)!r}: {exc.strerror or exc}"
            raise ConfigError(msg, hint="choose another --logPath") from exc
        self._file.setFormatter(logging.Formatter("%(message)s"))
        self._least = _LEVELS.index(verbosity)
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING_LINES)
        self._is_closed = threading.Event()
        self._is_rotation_due = threading.Event()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def tell(
        self, message: str, *, level: str = "INFO", component: str = "Mongosync", **fields: Any
    ) -> None:
        """Add a line, unless the disk is far behind."""
        if _LEVELS.index(level) < self._least or self._is_closed.is_set():
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "level": level.lower(),
            "mongosyncID": INSTANCE,
            "componentName": component,
            "message": message,
            **fields,
        }
        try:
            self._lines.put_nowait(json.dumps(line, ensure_ascii=False, default=str))
        except queue.Full:
            return

    def rotate(self) -> None:
        """Begin a new file before the next line."""
        self._is_rotation_due.set()

    def close(self) -> None:
        """Write what waits and close the file."""
        self._is_closed.set()
        self._lines.put(None)
        self._thread.join()
        self._file.close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._is_rotation_due.is_set():
                self._is_rotation_due.clear()
                self._file.doRollover()
            self._file.handle(logging.makeLogRecord({"msg": line}))


class Narrator:
    """Tells a logbook twice a second what has become of the migration."""

    def __init__(
        self,
        log: Logbook,
        figures: Callable[[], Figures],
        durations: Callable[[], Mapping[str, Histogram]],
    ) -> None:
        self._log = log
        self._figures = figures
        self._durations = durations
        self._phase = "uninitialized"
        self._partitions = 0
        self._state = ""
        self._applied = (0.0, 0)  # when and how many, at the last line about the progress
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="narrator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell no more."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        due = 0.0
        while not self._closing.wait(_LOOK_EVERY):
            figures = self._figures()
            if figures.status is None or figures.is_initializing:
                continue
            self._tell_changes(figures)
            if time.monotonic() >= due:
                due = time.monotonic() + _PROGRESS_EVERY
                self._tell_progress(figures)

    def _tell_changes(self, figures: Figures) -> None:
        assert figures.status is not None
        phase = figures.status.migration.phase.value
        if phase != self._phase:
            self._log.tell(f"Updating the in-memory phase from `{self._phase}` to `{phase}`.")
            self._phase = phase
        totals = figures.status.totals
        if totals.partitions_copied != self._partitions:
            self._partitions = totals.partitions_copied
            self._log.tell(
                f"Completed writing {totals.partitions_copied} / {totals.partitions} partitions "
                "to destination cluster"
            )
        state = state_of(figures)
        if state != self._state:
            if state == "FAILED" and figures.failure is not None:
                self._log.tell(figures.failure.message, level="ERROR", error=figures.failure.code)
            self._state = state

    def _tell_progress(self, figures: Figures) -> None:
        progress = progress_body(figures)["progress"]
        applied, (since, before) = progress["totalEventsApplied"] or 0, self._applied
        now = time.monotonic()
        rate = (applied - before) / (now - since) if since else 0.0
        self._applied = (now, applied)
        self._log.tell(
            "Replication progress",
            state=progress["state"],
            totalEventsApplied=applied,
            lagTimeSeconds=progress["lagTimeSeconds"],
            eventApplicationRatePerSecond=round(max(0.0, rate), 1),
        )
        durations = self._durations()
        stats: dict[str, Any] = {n: _stats(durations.get(key)) for n, key in _DURATIONS.items()}
        stats["sourcePingLatencyMs"] = figures.pings.get("source")
        stats["destinationPingLatencyMs"] = figures.pings.get("target")
        self._log.tell("Operation duration stats", **stats)


def _stats(histogram: Histogram | None) -> dict[str, float]:
    """Return mean and number; the longest is known to the upper end of its bucket only."""
    if histogram is None or not histogram.count:
        return {"averageDurationMs": 0, "maximumDurationMs": 0, "numOperations": 0}
    highest = max(n for n, count in enumerate(histogram.counts) if count)
    bound = histogram.bounds[min(highest, len(histogram.bounds) - 1)]
    return {
        "averageDurationMs": round(histogram.total / histogram.count * 1000, 3),
        "maximumDurationMs": round(bound * 1000, 3),
        "numOperations": histogram.count,
    }
