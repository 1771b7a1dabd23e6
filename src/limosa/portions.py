"""How much is handed to a deployment in one go."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from .errors import TransientError
from .pacing import Pace

T = TypeVar("T")
R = TypeVar("R")

#: A try that fails sooner was refused; what takes so many seconds may have been too much.
_SECONDS = 1.0
#: After so many portions that went through, they are doubled: one that is too large for a slow
#: network costs a time-out, which may be minutes, and then is worth no more than an eighth of them.
_PASSES = 16


class Portions:
    """
    Hands over lists as a whole, and after a try that fails in halves.

    On a slow network a list may be too large to pass within the driver's time-out, however
    often it is tried. For several threads: what fits for one fits for the others.
    """

    def __init__(self, pace: Pace, *, most: int, seconds: float = _SECONDS) -> None:
        """Hand over *most* items at first, half as many after a failure that took *seconds*."""
        self._pace = pace
        self._largest = self._most = most
        self._seconds = seconds
        self._passed = 0

    def each(self, what: str, items: Sequence[T], act: Callable[[Sequence[T]], R]) -> list[R]:
        """
        Return what *act* returns for each portion of *items*, in order.

        Raises:
            TransientError: a portion still failed when the time for retries had passed.
            Stopped: the migration was asked to stop.
        """
        done = 0
        results: list[R] = []

        def portion() -> int:
            some = items[done : done + self._most]
            began = time.monotonic()
            try:
                results.append(act(some))
            except TransientError:
                if time.monotonic() - began >= self._seconds:
                    self._most, self._passed = max(1, len(some) // 2), 0
                raise
            return len(some)

        while done < len(items):
            done += self._pace.retrying(what, portion)
            self._passed += 1
            if self._passed >= _PASSES:
                self._most, self._passed = min(self._largest, 2 * self._most), 0
        return results
