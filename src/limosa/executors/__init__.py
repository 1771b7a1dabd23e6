"""Where independent units of work run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs independent units of work somewhere, several at once."""

    @property
    def width(self) -> int:
        """How many units run at once."""
        ...

    def map_unordered(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """
        Yield results as they come. *items* are taken as workers become free.

        The first failure is raised once the units under way have ended; no other is begun.
        """
        ...
