"""Lists that are handed to a deployment, as a whole if it takes them so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from .pacing import Pace
from .sizing import Size

T = TypeVar("T")
R = TypeVar("R")


class Portions:
    """Hands over lists in portions of one size, and tries each again while it may pass."""

    def __init__(self, pace: Pace, size: Size) -> None:
        self._pace = pace
        self._size = size

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
            some = items[done : done + self._size.now]
            with self._size.tried(len(some)):
                results.append(act(some))
            return len(some)

        while done < len(items):
            done += self._pace.retrying(what, portion)
        return results
