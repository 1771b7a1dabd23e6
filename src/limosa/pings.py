"""Whether both ends answer, and how quickly, whoever drives the migration."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from .errors import LimosaError, TransientError
from .events import EndReachable, EndUnreachable

#: Seconds between two pings.
PING_EVERY = 10.0
#: Seconds that the end of all this waits for a ping under way.
_LAST_WAIT = 0.2


class Pinged(Protocol):
    """An end, as far as it is needed here."""

    def ping(self) -> None:
        """Return once the deployment has answered."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


#: Is told when the end of a name answers no more, or again.
Told: TypeAlias = Callable[[EndUnreachable | EndReachable], None]


class Pings:
    """Asks each end in a thread of its own, from `begin` to `close`: an answer may never come."""

    def __init__(
        self, ends: Mapping[str, Callable[[], Pinged]], *, every: float = PING_EVERY
    ) -> None:
        """Take the *ends* by name; they are opened and closed here."""
        self._every = every
        self._tell: Told = _nobody
        self._closing = threading.Event()
        self._found: dict[str, int] = {}
        self._threads = [
            threading.Thread(
                target=self._run, args=(name, opened), name=f"ping {name}", daemon=True
            )
            for name, opened in ends.items()
        ]

    def begin(self, tell: Told) -> None:
        """Ask from now on; *tell* is given the name of an end for its side."""
        self._tell = tell
        for thread in self._threads:
            thread.start()

    def latencies(self) -> Mapping[str, int]:
        """Return the last answers in ms by name: at least 1, -1 if none came; absent before."""
        return dict(self._found)

    def close(self) -> None:
        """Ask no more; an answer that does not come is not waited for, and not told of."""
        self._closing.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_LAST_WAIT)

    def _run(self, name: str, opened: Callable[[], Pinged]) -> None:
        end: Pinged | None = None
        is_there = True
        while not self._closing.is_set():
            started = time.monotonic()
            error: LimosaError | None = None
            try:
                end = opened() if end is None else end
                end.ping()
            except LimosaError as exc:
                error = exc
            took = time.monotonic() - started
            self._found[name] = -1 if error else max(1, round(took * 1000))
            # What is wrong with an address is told by whoever opens it to work with it.
            if end is not None or isinstance(error, TransientError):
                is_there = self._seen(name, error, was_there=is_there)
            self._closing.wait(self._every)
        if end is not None:
            end.close()

    def _seen(self, name: str, error: LimosaError | None, *, was_there: bool) -> bool:
        """Tell if that is news, and return whether the end answers."""
        if error is not None and was_there and not self._closing.is_set():
            self._tell(EndUnreachable(name, str(error) or error.code))
        if error is None and not was_there and not self._closing.is_set():
            self._tell(EndReachable(name))
        return error is None


def _nobody(_event: EndUnreachable | EndReachable) -> None:
    return
