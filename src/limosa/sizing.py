"""How much may pass in one go, found by trying."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import TransientError

#: A try that fails sooner was refused; what takes so many seconds may have been too much.
_SECONDS = 1.0
#: After so many goes that went well, more is tried: what is too much for a slow network costs a
#: time-out, which may be minutes, and then is worth no more than an eighth of them.
_PASSES = 16


class Size:
    """
    How many items to hand over or to ask for in one go.

    On a slow network many may be too many to pass within the driver's time-out, however often
    they are tried. For several threads: what fits for one fits for the others.
    """

    def __init__(self, most: int, *, seconds: float = _SECONDS) -> None:
        """Begin with *most*; half as many after a failure that took *seconds*."""
        self._largest = self.now = most
        self._seconds = seconds
        self._passed = 0

    @contextmanager
    def tried(self, count: int) -> Iterator[None]:
        """Learn from what becomes of a go with *count* items."""
        began = time.monotonic()
        try:
            yield
        except TransientError:
            if time.monotonic() - began >= self._seconds:
                self.now, self._passed = max(1, count // 2), 0
            raise
        self._passed += 1
        if self._passed >= _PASSES:
            self.now, self._passed = min(self._largest, 2 * self.now), 0
