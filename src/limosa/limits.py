"""How much of both servers a migration may take: what is asked for, and what follows from it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, time, timedelta
from typing import Any

from .errors import ConfigError

#: mongosync's four levels: up to here it looks at the servers and slows down by itself.
REGARDFUL_LEVEL = 3
LEVELS = range(1, 5)
#: Seconds of a worker's time in a second at level 1: one worker, resting half of the time.
_GENTLE_WORK = 0.5
#: The share of the workers' time at level 2.
_HALF = 0.5
#: The longest span of anything that a limit may name.
_MOST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of each day, over midnight if it ends before it begins."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Window:
        """
        Return the window that *text* names: ``22:00-06:00``.

        Raises:
            ConfigError: *text* is no such window.
        """
        found = re.fullmatch(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)", text.strip())
        try:
            if found is not None:
                a, b, c, d = map(int, found.groups())
                return cls(time(a, b), time(c % 24 if (c, d) == (24, 0) else c, d))
        except ValueError:
            pass  # 25:00: said below, as all that is no time of day
        msg = f"read a time window: expected one such as '22:00-06:00', got {text!r}"
        raise ConfigError(msg, hint="give hours and minutes of the day")

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def covers(self, now: time) -> bool:
        """Whether *now* lies in it; its end does not."""
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


@dataclass(frozen=True, slots=True)
class Rates:
    """What may be done in a second by all workers together; zero stands for no limit."""

    documents: float = 0.0
    bytes: float = 0.0
    work: float = 0.0  # seconds of workers' time, those in which they wait for a server too

    @property
    def is_limited(self) -> bool:
        return self != Rates()


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a deployment is; None where it cannot be told."""

    latency: timedelta | None = None  # of an answer that is no work
    queue: int | None = None  # operations that wait for their turn
    replication_lag: timedelta | None = None  # of the slowest member that replicates


@dataclass(frozen=True, slots=True)
class Memory:
    """For how long a source will hold changes, if writes go on as they do."""

    left: timedelta
    is_growing: bool = False  # what it will hold in the end is not known yet, only estimated


@dataclass(frozen=True, slots=True)
class Excess:
    """Something that has risen over its threshold."""

    cause: str  # "target replication lag"
    value: str  # "12 s"

    def __str__(self) -> str:
        return f"{self.cause} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What a person has asked for; the default works as fast as both ends easily can.

    A rate or a threshold of zero is none.
    """

    load_level: int = REGARDFUL_LEVEL
    documents_per_second: float = 0.0
    megabytes_per_second: float = 0.0
    #: From 10 s on a server slows its own writers down, too (``flowControlTargetLagSeconds``).
    max_lag: timedelta = timedelta(seconds=10)
    #: A thousand times what an answer takes within one place.
    max_latency: timedelta = timedelta(seconds=1)
    #: Nearly all of the 128 operations that a server lets in at once have as many behind them.
    max_queue: int = 100
    #: Outside of them level 1 holds; none stands for always.
    windows: tuple[Window, ...] = field(default=())

    def level_at(self, now: datetime) -> int:
        """Return the load level that holds at *now*, by its own clock."""
        if not self.windows or any(w.covers(now.time()) for w in self.windows):
            return self.load_level
        return min(LEVELS)

    def rates(self, now: datetime, *, workers: int, share: float = 1.0) -> Rates:
        """Return what *workers* may do when no more than *share* is left to them."""
        work = {1: _GENTLE_WORK, 2: workers * _HALF}.get(self.level_at(now), 0.0)
        if share < 1.0:
            work = (work or workers) * share
        return Rates(self.documents_per_second, self.megabytes_per_second * 1e6, work)

    def regards(self, now: datetime) -> bool:
        """Whether it slows down by itself at *now*."""
        has_threshold = bool(self.max_lag or self.max_latency or self.max_queue)
        return has_threshold and self.level_at(now) <= REGARDFUL_LEVEL

    def excess(self, side: str, load: Load) -> Excess | None:
        """Return what of *load* is over its threshold, the most telling first."""
        lag, latency, queue = load.replication_lag, load.latency, load.queue
        if lag is not None and self.max_lag and lag > self.max_lag:
            return Excess(f"{side} replication lag", f"{lag.total_seconds():.0f} s")
        if queue is not None and 0 < self.max_queue < queue:
            return Excess(f"{side} queue", f"{queue} operations")
        if latency is not None and self.max_latency and latency > self.max_latency:
            return Excess(f"{side} latency", f"{latency.total_seconds() * 1_000:.0f} ms")
        return None

    def reasons(self, now: datetime) -> list[str]:
        """Return why it is slower than it could be, as a person has asked for it."""
        level = self.level_at(now)
        found = []
        if level != self.load_level:
            found.append(f"load level {level} outside {', '.join(map(str, self.windows))}")
        elif level < REGARDFUL_LEVEL:
            found.append(f"load level {level}")
        if self.documents_per_second:
            found.append(f"{self.documents_per_second:,g} documents/s")
        if self.megabytes_per_second:
            found.append(f"{self.megabytes_per_second:,g} MB/s")
        return found

    def stored(self) -> dict[str, Any]:
        """Return what the state keeps and `limosa throttle --json` shows."""
        return {
            "loadLevel": self.load_level,
            "documentsPerSecond": self.documents_per_second or None,
            "megabytesPerSecond": self.megabytes_per_second or None,
            "maxLagSeconds": self.max_lag.total_seconds() or None,
            "maxLatencyMilliseconds": self.max_latency / timedelta(milliseconds=1) or None,
            "maxQueue": self.max_queue or None,
            "windows": [str(w) for w in self.windows],
        }

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Limits:
        """Return what `stored` was called on; what is missing has its default."""
        return LimitChange.of(stored).applied_to(cls())


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """What a person changes of `Limits`; None leaves what there is."""

    load_level: int | None = None
    documents_per_second: float | None = None
    megabytes_per_second: float | None = None
    max_lag: timedelta | None = None
    max_latency: timedelta | None = None
    max_queue: int | None = None
    windows: tuple[Window, ...] | None = None
    is_off: bool = False  # lift them all first, the automatic ones too

    def __post_init__(self) -> None:
        """
        Refuse what means nothing.

        Raises:
            ConfigError: a level, a rate or a threshold is out of range.
        """
        if self.load_level is not None and self.load_level not in LEVELS:
            msg = f"set the load level: expected 1, 2, 3 or 4, got {self.load_level!r}"
            raise ConfigError(msg)
        for name in ("documents_per_second", "megabytes_per_second", "max_queue"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                msg = f"set {name.replace('_', ' ')}: expected a number from 0 on, got {value!r}"
                raise ConfigError(msg)
        for name in ("max_lag", "max_latency"):
            value = getattr(self, name)
            if value is not None and not timedelta() <= value <= _MOST:
                msg = f"set {name.replace('_', ' ')}: expected up to a day, got {value}"
                raise ConfigError(msg)

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> LimitChange:
        """
        Take the fields of `Limits.stored`; null lifts a limit, what is missing stays.

        Raises:
            ConfigError: one is unknown or out of range.
        """
        if unknown := asked.keys() - Limits().stored().keys():
            msg = f"change the limits: unknown fields {', '.join(sorted(unknown))}"
            raise ConfigError(msg)

        def number(name: str) -> Any:
            value = asked[name] or 0
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (is_number and abs(value) <= _HUGE):
                msg = f"change the limits: {name}: expected a number, got {asked[name]!r}"
                raise ConfigError(msg)
            return value

        given: dict[str, Any] = {n: number(w) for n, w in _NUMBERS.items() if w in asked}
        given |= {n: unit * number(w) for n, (w, unit) in _SPANS.items() if w in asked}
        if "windows" in asked:
            given["windows"] = tuple(Window.parse(str(w)) for w in asked["windows"] or ())
        return cls(**given)

    @property
    def is_empty(self) -> bool:
        return self == LimitChange()

    def asked(self) -> dict[str, Any]:
        """Return the fields of `Limits.stored` that it changes, as `of` takes them."""
        after = self.applied_to(Limits())
        if self.is_off:
            return after.stored()
        given = {f.name for f in fields(Limits) if getattr(self, f.name) is not None}
        words = {**_NUMBERS, **{n: w for n, (w, _) in _SPANS.items()}, "windows": "windows"}
        return {words[n]: after.stored()[words[n]] for n in words if n in given}

    def applied_to(self, limits: Limits) -> Limits:
        """Return *limits* as they are from now on."""
        before = UNLIMITED if self.is_off else limits
        given = {f.name: getattr(self, f.name) for f in fields(Limits)}
        return replace(before, **{n: v for n, v in given.items() if v is not None})


#: As fast as both ends can, whatever that does to others.
UNLIMITED = Limits(load_level=max(LEVELS))

_NUMBERS = {
    "load_level": "loadLevel",
    "documents_per_second": "documentsPerSecond",
    "megabytes_per_second": "megabytesPerSecond",
    "max_queue": "maxQueue",
}
_SPANS = {
    "max_lag": ("maxLagSeconds", timedelta(seconds=1)),
    "max_latency": ("maxLatencyMilliseconds", timedelta(milliseconds=1)),
}
#: Beyond it a number is a slip, and a span more than there are.
_HUGE = 1e12
