"""Ctrl-C and SIGTERM while this process drives a migration."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from .exits import Exit

_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


class Interrupts:
    """
    While entered, the first signal sets *stop* and is announced; the second ends the process.

    *announce* is called in a thread of its own, never inside the signal.
    """

    def __init__(self, stop: threading.Event, announce: Callable[[str], None]) -> None:
        self._stop = stop
        self._announce = announce
        self._woken = threading.Event()
        self._before: dict[signal.Signals, Any] = {}
        self._thread = threading.Thread(target=self._wait, name="interrupts", daemon=True)
        self.received: signal.Signals | None = None

    @property
    def exit(self) -> Exit | None:
        """The exit code of the signal that came, None if none did."""
        return None if self.received is None else _EXITS[self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        for number in _EXITS:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.received is None:  # else a second one must find its end here, however late
            for number, former in self._before.items():
                signal.signal(number, former)
        self._woken.set()
        self._thread.join()

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            _end_at_once(signal.Signals(number))
        self.received = signal.Signals(number)
        self._stop.set()
        self._woken.set()

    def _wait(self) -> None:
        self._woken.wait()
        # Printing inside the signal could wait for a lock that the interrupted thread holds.
        if self.received is not None:
            what = "Ctrl-C" if self.received is signal.SIGINT else self.received.name
            self._announce(f"{what}: stopping cleanly; once more to stop at once")


def _end_at_once(number: signal.Signals) -> None:
    # Every record is durable when it is made, so nothing is lost; threads are not waited for.
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # the bars have hidden the cursor
    os._exit(_EXITS[number])
