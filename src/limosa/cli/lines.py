"""The story of a migration as lines, for logs and pipes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from ..views.progress import Figures
from ..views.story import Level, Line, progress_line

#: Seconds between two lines of progress.
PROGRESS_EVERY = 10.0


class Lines:
    """Writes one line for each thing told, and one about progress every ten seconds."""

    def __init__(
        self,
        stream: TextIO,
        *,
        as_json: bool = False,
        progress: bool = True,
        every: float = PROGRESS_EVERY,
    ) -> None:
        self._stream = stream
        self._write = _as_json if as_json else _as_text
        self._progress = progress
        self._every = every
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ticker: threading.Thread | None = None

    def open(self, figures: Callable[[], Figures]) -> None:
        """Begin to write lines of progress, taken from *figures*."""
        if self._progress:
            self._ticker = threading.Thread(
                target=self._tick, args=(figures,), name="display", daemon=True
            )
            self._ticker.start()

    def tell(self, line: Line) -> None:
        """Write *line*, whole, whichever thread tells."""
        text = self._write(line, datetime.now(UTC))
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Write no more lines of progress."""
        self._closed.set()
        if self._ticker is not None:
            self._ticker.join()

    def _tick(self, figures: Callable[[], Figures]) -> None:
        while not self._closed.wait(self._every):
            self.tell(progress_line(figures()))


def _as_text(line: Line, now: datetime) -> str:
    mark = "" if line.level in (Level.DEBUG, Level.INFO) else f"{line.level.upper()} "
    return f"{now:%Y-%m-%d %H:%M:%S}Z {mark}{line.text}"


def _as_json(line: Line, now: datetime) -> str:
    head = {"time": now.isoformat(timespec="milliseconds"), "level": line.level.value}
    # The head comes first and wins: a field must not be able to pose as another level.
    fields = {key: value for key, value in line.fields.items() if key not in head}
    return json.dumps(
        {**head, "event": line.event, "message": line.text, **fields}, ensure_ascii=False
    )
