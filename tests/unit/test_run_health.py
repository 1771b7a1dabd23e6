"""Watching over a run: what counts as rising, and as standing still."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from limosa.run.health import Lags, Motion
from limosa.run.time_limit import TimeLimit
from limosa.state import Migration, State

MINUTE = timedelta(minutes=1)
RUNNING = Migration("m", state=State.RUNNING)


def risings(lags: list[float | None], *, every: float = 10.0) -> list[int]:
    """Return the numbers of the looks at which a rise is told of."""
    watch = Lags(MINUTE)
    looks = ((i, None if lag is None else timedelta(seconds=lag)) for i, lag in enumerate(lags))
    return [i for i, lag in looks if watch.seen(i * every, lag)]


@pytest.mark.parametrize(
    ("lags", "told"),
    [
        ([0.0, 10, 20, 30, 40, 50, 60], [6]),
        ([0.0, 10, 20, 15, 40, 50, 60], [6]),
        ([10.0 * i for i in range(14)], [6, 13]),
        ([0.0, 10, 20, 30, 40, 50], []),  # not long enough
        ([60.0, 50, 40, 30, 20, 10, 0], []),
        ([5.0, 6, 5, 6, 5, 6, 5, 6, 5], []),  # hovers
        ([0.0, 1, 2, 3, 4, 5, 6, 7], []),  # rises by less than a quarter of the time
        ([100.0] * 9, []),
        ([0.0, 10, 20, None, 40, 50, 60, 70, 80], []),  # nobody knew in between
        ([50.0, 40, 10, 20, 30, 40, 50, 60, 70], [7]),
    ],
)
def test_lag(lags: list[float | None], told: list[int]) -> None:
    """A lag that rises for a minute is told of, once a minute."""
    assert risings(lags) == told


def test_motion() -> None:
    """That nothing moves is told of after the span, and once more after another one."""
    watch = Motion(MINUTE)

    told = [watch.seen(10.0 * i, RUNNING, 7, is_driven=True) for i in range(14)]

    assert [i for i, event in enumerate(told) if event] == [6, 12]


@pytest.mark.parametrize("moves", ["events", "captured", "applied", "phase"])
def test_whatever_moves(moves: str) -> None:
    """An event, a step of capture or application, or another phase is motion."""
    watch = Motion(MINUTE)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    told = []
    for i in range(30):
        at = start + timedelta(seconds=i)
        migration = {
            "events": RUNNING,
            "captured": Migration("m", state=State.RUNNING, captured_to=at),
            "applied": Migration("m", state=State.RUNNING, applied_to=at),
            "phase": Migration(
                "m", state=State.RUNNING if i % 2 else State.COMMITTING, planned_at=start
            ),
        }[moves]
        told.append(watch.seen(10.0 * i, migration, i * (moves == "events"), is_driven=True))

    assert told == [None] * 30


@pytest.mark.parametrize(
    ("state", "driven"),
    [(State.PAUSED, True), (State.FAILED, True), (State.COMMITTED, True), (State.RUNNING, False)],
)
def test_rest(state: State, driven: bool) -> None:
    """What is paused, over or not driven may stand still."""
    watch = Motion(MINUTE)

    told = [watch.seen(60.0 * i, Migration("m", state=state), 0, is_driven=driven) for i in (0, 9)]

    assert told == [None, None]


def test_time_limit() -> None:
    """The limit halts the run when its time is over."""
    with TimeLimit(timedelta(seconds=0.2), stop=threading.Event(), waits=lambda: False) as limit:
        assert limit.halt.wait(30)
        assert limit.is_over


def test_time_for_a_person() -> None:
    """Time in which a person is waited for does not count."""
    waiting = threading.Event()
    waiting.set()
    with TimeLimit(timedelta(seconds=0.2), stop=threading.Event(), waits=waiting.is_set) as limit:
        assert not limit.halt.wait(1.5)
        waiting.clear()
        began = time.monotonic()
        assert limit.halt.wait(30)
        assert time.monotonic() - began < 20


def test_no_time_limit() -> None:
    """Without a limit only a stop halts, and that is no lack of time."""
    stop = threading.Event()
    with TimeLimit(None, stop=stop, waits=lambda: False) as limit:
        assert not limit.halt.wait(0.3)
        stop.set()
        assert limit.halt.wait(30)
        assert not limit.is_over
