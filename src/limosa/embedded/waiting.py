"""Waiting for a server to reach a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import EmbeddedFailed

T = TypeVar("T")

#: Seconds between two looks: a server that starts in 300 ms is noticed at once.
LOOK_EVERY = 0.02


def wait_for(condition: Callable[[], T | None], what: str, *, seconds: float = 30.0) -> T:
    """
    Return the first answer of *condition* that is true.

    Raises:
        EmbeddedFailed: there was none within *seconds*.
    """
    deadline = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            msg = f"{what}: not within {seconds:g} s"
            raise EmbeddedFailed(msg)
        time.sleep(LOOK_EVERY)
