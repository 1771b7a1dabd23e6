"""How quickly both ends answer, asked every half minute, whoever drives the migration."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ..errors import LimosaError

#: Seconds between two pings, as mongosync has it.
PING_EVERY = 30.0


class Pinged(Protocol):
    """An end, as far as it is needed here."""

    def ping(self) -> None:
        """Return once the deployment has answered."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class Pings:
    """Asks each end in a thread of its own: an answer may take long or never come."""

    def __init__(
        self, ends: Mapping[str, Callable[[], Pinged]], *, every: float = PING_EVERY
    ) -> None:
        """Begin to ask the *ends*, opened here, by name."""
        self._every = every
        self._closing = threading.Event()
        self._found: dict[str, int] = {}
        self._threads = [
            threading.Thread(
                target=self._run, args=(name, opened), name=f"ping {name}", daemon=True
            )
            for name, opened in ends.items()
        ]
        for thread in self._threads:
            thread.start()

    def latencies(self) -> Mapping[str, int]:
        """Return the last answers in ms by name: at least 1, -1 if none came; absent before."""
        return dict(self._found)

    def close(self) -> None:
        """Ask no more; an answer that does not come is not waited for."""
        self._closing.set()

    def _run(self, name: str, opened: Callable[[], Pinged]) -> None:
        end: Pinged | None = None
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                if end is None:
                    end = opened()
                end.ping()
                took = time.monotonic() - started
                self._found[name] = max(1, round(took * 1000))
            except LimosaError:
                self._found[name] = -1
            self._closing.wait(self._every)
        if end is not None:
            end.close()
