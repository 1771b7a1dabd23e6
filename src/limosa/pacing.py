"""Going on, waiting, trying again and ending: what every worker of a migration obeys."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from .errors import Stopped, Throttled, TransientError
from .events import EventBus
from .events import Retrying as RetryingEvent
from .limits import Rates

T = TypeVar("T")

#: Documents above this (bytes, on average) are moved one worker at a time: the driver holds
#: several copies of what it receives and sends, and 16 MB times all of them times all
#: workers is more memory than we promise.
_LARGE_DOCUMENT_BYTES = 1024 * 1024

#: Full jitter, as recommended for many clients of one server: a mean of 50 ms at first, of
#: 5 s at last, so that an election of a few seconds costs little more than itself.
_WAIT = wait_random_exponential(multiplier=0.1, max=10)

#: A try that went on for so long did its work for most of that time: the copy of a large
#: partition, the build of an index. One that only waits for an answer ends earlier.
_LONG_SECONDS = 360.0

#: A worker that rests looks so often whether it still has to.
_LOOK_SECONDS = 0.1

#: What was not used of a limit may be made up for so many seconds later.
_MAKE_UP_SECONDS = 1.0


class Pace:
    """
    Lets workers go on, holds them while paused, and ends them.

    Every worker calls `check` between two steps, so a pause or a stop takes effect after
    the step under way.
    """

    def __init__(self, bus: EventBus, *, retry_for: timedelta = timedelta(minutes=10)) -> None:
        self._bus = bus
        self._retry_for = retry_for
        self._stopping = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._large = threading.Lock()
        self._allowance = Allowance()
        self._is_limited = False

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Have every worker end at its next step, also the paused and the waiting."""
        self._stopping.set()
        self._going.set()

    def pause(self) -> None:
        """Hold every worker at its next step."""
        if not self._stopping.is_set():
            self._going.clear()

    def resume(self) -> None:
        """Let all go on."""
        self._going.set()

    def check(self) -> None:
        """
        Return at once, or when a pause is over.

        Raises:
            Stopped: the migration was asked to stop.
        """
        self._going.wait()
        if self._stopping.is_set():
            raise Stopped("the migration was asked to stop")  # noqa: EM101 - raised a thousand times

    def wait(self, seconds: float) -> None:
        """
        Return after *seconds*.

        Raises:
            Stopped: the migration was asked to stop meanwhile.
        """
        if self._stopping.wait(seconds):
            self.check()

    def limit(self, rates: Rates) -> None:
        """Have `spend` keep to *rates* from now on, also for those who wait in it."""
        self._allowance.change(rates, time.monotonic())
        self._is_limited = rates.is_limited

    def spend(self, documents: int, size: int, *, since: float) -> float:
        """
        Return when the work on *documents* of *size* bytes in all, begun at *since*, is allowed
        for: at once where nothing is limited.

        Both times are of ``time.monotonic()``.

        Raises:
            Stopped: the migration was asked to stop meanwhile.
        """
        now = time.monotonic()
        if not self._is_limited:
            return now
        ticket = self._allowance.take(Rates(documents, size, now - since), now)
        while (seconds := self._allowance.seconds_until(ticket, time.monotonic())) > 0:
            self.wait(min(seconds, _LOOK_SECONDS))
        return time.monotonic()

    def room_for(self, *, document_size: int) -> AbstractContextManager[object]:
        """Return what to hold while documents of so many bytes are moved."""
        return self._large if document_size > _LARGE_DOCUMENT_BYTES else nullcontext()

    def retrying(self, what: str, function: Callable[[], T]) -> T:
        """
        Return what *function* returns, calling it again after a transient error.

        Raises:
            TransientError: it still failed when the time set for retries had passed since the
                first failure, or since the last try that went on for long.
            Stopped: the migration was asked to stop.
        """
        retry = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=_wait,
            stop=_Patience(self._retry_for),
            sleep=self.wait,
            before_sleep=lambda call: self._tell(what, call),
            reraise=True,
        )
        return retry(function)

    def _tell(self, what: str, call: RetryCallState) -> None:
        error = call.outcome.exception() if call.outcome else None
        wait = timedelta(seconds=call.upcoming_sleep)
        self._bus.emit(RetryingEvent(what, str(error), call.attempt_number, wait))


class Allowance:
    """
    What workers may do together under `Rates`, which may change at any time.

    Each takes what it has used, and waits until that much has been granted; so it is right on
    the average whatever the number of workers and the size of their steps.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets = (Bucket(), Bucket(), Bucket())

    def change(self, rates: Rates, now: float) -> None:
        """Grant *rates* from *now* on."""
        with self._lock:
            for bucket, rate in zip(self._buckets, _each(rates), strict=True):
                bucket.change(rate, now)

    def take(self, used: Rates, now: float) -> Rates:
        """Count *used*; return the ticket to wait with."""
        with self._lock:
            pairs = zip(self._buckets, _each(used), strict=True)
            return Rates(*(bucket.take(amount, now) for bucket, amount in pairs))

    def seconds_until(self, ticket: Rates, now: float) -> float:
        """Return how long to wait with *ticket*, as it looks at *now*."""
        with self._lock:
            pairs = zip(self._buckets, _each(ticket), strict=True)
            return max(bucket.seconds_until(place, now) for bucket, place in pairs)


class Bucket:
    """A token bucket that lends: a step of any size is taken at once and waited for after it."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._taken = 0.0
        self._granted = 0.0
        self._at = 0.0

    def change(self, rate: float, now: float) -> None:
        """Grant *rate* a second from *now* on; zero grants everything."""
        self._grant(now)
        self._rate = rate

    def take(self, amount: float, now: float) -> float:
        """Take *amount*; return the place up to which must be granted."""
        self._grant(now)
        self._taken += amount
        return self._taken

    def seconds_until(self, place: float, now: float) -> float:
        """Return how long until everything up to *place* is granted."""
        self._grant(now)
        return max(0.0, place - self._granted) / self._rate if self._rate else 0.0

    def _grant(self, now: float) -> None:
        most = self._taken + self._rate * _MAKE_UP_SECONDS
        more = self._granted + self._rate * (now - self._at)
        self._granted = min(most, more) if self._rate else self._taken
        self._at = now


def _each(rates: Rates) -> tuple[float, float, float]:
    return rates.documents, rates.bytes, rates.work


class _Patience:
    """Says when to give up one call that fails time and again."""

    def __init__(self, retry_for: timedelta) -> None:
        self._seconds = retry_for.total_seconds()
        self._since: float | None = None  # when the first failure of the series came
        self._last = (0.0, 0.0)  # when the last one came, and what was waited until then

    def __call__(self, call: RetryCallState) -> bool:
        now = call.outcome_timestamp or 0.0
        last, waited = self._last
        tried_for = now - last - (call.idle_for - waited)
        if self._since is None or tried_for > max(self._seconds, _LONG_SECONDS):
            self._since = now
        self._last = (now, call.idle_for)
        return now - self._since >= self._seconds


def _wait(call: RetryCallState) -> float:
    error = call.outcome.exception() if call.outcome else None
    asked_for = error.retry_after if isinstance(error, Throttled) else 0.0
    return max(asked_for, _WAIT(call))
