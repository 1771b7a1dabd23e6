"""Metrics sent to a collector by the server itself, where nobody comes to fetch them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import LimosaError
from ..otlp import push
from ..views.readings import Readings

#: Seconds from one push to the next, about as often as metrics are fetched elsewhere.
PUSH_EVERY = 10.0


class Pushing:
    """Sends what *readings* returns to the collector at *endpoint* until closed."""

    def __init__(
        self,
        readings: Callable[[], Readings | None],
        endpoint: str,
        say: Callable[[str], None],
        *,
        every: float = PUSH_EVERY,
    ) -> None:
        self._readings = readings
        self._endpoint = endpoint
        self._say = say
        self._every = every
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send no more; the push under way is waited for."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        is_told = False  # a collector that is down for long is not told about every time
        while not self._closing.wait(self._every):
            readings = self._readings()
            if readings is None:
                continue
            try:
                push(readings, self._endpoint)
                is_told = False
            except LimosaError as error:
                if not is_told:
                    self._say(f"{error}; {error.hint}" if error.hint else str(error))
                is_told = True
