"""The time that a run may take, without that in which it waits for a person."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

#: Seconds between two looks at the clock, and at whether a person is waited for.
_LOOK_EVERY = 0.1
_ASK_EVERY = 1.0


class TimeLimit:
    """While entered, sets `halt` once the time is over or *stop* is set."""

    def __init__(
        self, span: timedelta | None, *, stop: threading.Event, waits: Callable[[], bool]
    ) -> None:
        """Allow *span*, None for any time; what passes while *waits* says so does not count."""
        self._left = float("inf") if span is None else span.total_seconds()
        self._stop = stop
        self._waits = waits
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="time limit", daemon=True)
        #: Set when all that goes on has to end.
        self.halt = threading.Event()

    @property
    def is_over(self) -> bool:
        return self._left <= 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        before, asked, is_waiting = time.monotonic(), 0.0, False
        while not self._closing.is_set():
            now = time.monotonic()
            if now - asked >= _ASK_EVERY:
                asked, is_waiting = now, self._waits()
            if not is_waiting:
                self._left -= now - before
            before = now
            if self._stop.is_set() or self.is_over:
                self.halt.set()
                return
            self._stop.wait(_LOOK_EVERY)
