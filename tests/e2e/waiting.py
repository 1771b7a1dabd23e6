"""Waiting for what other processes and threads do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds; far more than anything takes, for a machine that has other things to do.
PATIENCE = 60.0


def until(look: Callable[[], T], what: str, *, seconds: float = PATIENCE) -> T:
    """Return what *look* returns as soon as that is true; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"still no {what} after {seconds:g} s"
        time.sleep(0.02)
    return found
