"""Named threads: the first failure stops all, and is the one that is reported."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from .errors import Stopped
from .pacing import Pace


class Supervisor:
    """
    Runs parts of a migration in threads for as long as its ``with`` block lasts.

    A part that fails stops all others and the block itself; leaving the block stops the
    parts and raises the first failure, in place of the `Stopped` that it caused elsewhere.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Supervisor:
        return self

    def start(self, name: str, part: Callable[[], None]) -> None:
        """Run *part* in a thread called *name*."""
        thread = threading.Thread(target=self._run, args=(part,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._note(error)
        self._pace.stop()
        for thread in self._threads:
            thread.join()
        if self._failure is None or self._failure is error:
            return
        if error is not None or not isinstance(self._failure, Stopped):
            raise self._failure  # the cause, in place of what it led to

    def _run(self, part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:  # noqa: BLE001 - handed to the block, whatever it is
            self._note(error)
            self._pace.stop()

    def _note(self, error: BaseException) -> None:
        with self._lock:
            # `Stopped` is a consequence; the cause may come later, from another thread.
            if self._failure is None or isinstance(self._failure, Stopped):
                self._failure = error
