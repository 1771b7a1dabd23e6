"""What a person asks for, and what the workers may do then."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limosa.errors import ConfigError, Stopped
from limosa.events import EventBus
from limosa.limits import UNLIMITED, Excess, LimitChange, Limits, Load, Rates, Window
from limosa.pacing import Allowance, Bucket, Pace

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NIGHT = datetime(2026, 5, 1, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "noon", "night"),
    [("22:00-06:00", False, True), ("8:00-18:30", True, False), ("12:00-12:00", True, True)],
)
def test_window(text: str, noon: bool, night: bool) -> None:
    """A window covers its hours, over midnight too, and the whole day if both ends are one."""
    window = Window.parse(text)

    assert (window.covers(NOON.time()), window.covers(NIGHT.time())) == (noon, night)
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize("text", ["", "22-6", "25:00-06:00", "22:00", "22:00-06:60", "-"])
def test_no_window(text: str) -> None:
    """What is no window is refused, and named."""
    with pytest.raises(ConfigError, match="expected one such as"):
        Window.parse(text)


def test_outside_windows() -> None:
    """Outside of all windows level 1 holds, and the reason says so."""
    limits = Limits(load_level=4, windows=(Window.parse("22:00-06:00"),))

    assert (limits.level_at(NIGHT), limits.level_at(NOON)) == (4, 1)
    assert limits.reasons(NIGHT) == []
    assert limits.reasons(NOON) == ["load level 1 outside 22:00-06:00"]


@pytest.mark.parametrize(("level", "work"), [(1, 0.5), (2, 4.0), (3, 0.0), (4, 0.0)])
def test_levels(level: int, work: float) -> None:
    """A level bounds the time of all workers together; 3 and 4 do not."""
    assert Limits(load_level=level).rates(NOON, workers=8) == Rates(work=work)


def test_share() -> None:
    """Where servers suffer, workers have a share of the time that the level leaves them."""
    assert Limits().rates(NOON, workers=8, share=0.25).work == 2.0
    assert Limits(load_level=1).rates(NOON, workers=8, share=0.5).work == 0.25


@pytest.mark.parametrize(
    ("load", "excess"),
    [
        (Load(), None),
        (Load(timedelta(seconds=1), 100, timedelta(seconds=10)), None),
        (
            Load(timedelta(seconds=9), 900, timedelta(seconds=12)),
            Excess("target replication lag", "12 s"),
        ),
        (Load(timedelta(seconds=9), 101), Excess("target queue", "101 operations")),
        (Load(timedelta(seconds=1.2), 0), Excess("target latency", "1200 ms")),
    ],
)
def test_excess(load: Load, excess: Excess | None) -> None:
    """What is over its threshold is named with its value; at the threshold nothing is."""
    assert Limits().excess("target", load) == excess


def test_threshold_lifted() -> None:
    """A threshold of zero is none, and level 4 has none at all."""
    limits = Limits(max_lag=timedelta())

    assert limits.excess("source", Load(replication_lag=timedelta(hours=1))) is None
    assert limits.regards(NOON)
    assert not UNLIMITED.regards(NOON)


@pytest.mark.parametrize(
    "asked",
    [
        {"loadLevel": 5},
        {"loadLevel": None},
        {"loadLevel": "3"},
        {"documentsPerSecond": -1},
        {"megabytesPerSecond": float("nan")},
        {"maxLagSeconds": 1e300},
        {"maxLagSeconds": -1},
        {"maxQueue": True},
        {"windows": ["noon"]},
        {"speed": 3},
    ],
)
def test_refused(asked: Mapping[str, Any]) -> None:
    """A change that means nothing is refused."""
    with pytest.raises(ConfigError):
        LimitChange.of(asked)


def test_change() -> None:
    """A change leaves what it does not name; --off lifts all, and the level brings it back."""
    limits = Limits(documents_per_second=100, load_level=2)
    changed = LimitChange(megabytes_per_second=5).applied_to(limits)
    off = LimitChange(is_off=True).applied_to(changed)

    assert (changed.load_level, changed.documents_per_second) == (2, 100)
    assert changed.megabytes_per_second == 5
    assert off == UNLIMITED
    assert LimitChange(load_level=3).applied_to(off) == Limits()
    assert LimitChange(documents_per_second=0).applied_to(limits) == Limits(load_level=2)


@given(
    st.builds(
        Limits,
        load_level=st.integers(1, 4),
        documents_per_second=st.integers(0, 10**6) | st.floats(0, 1e9),
        max_lag=st.integers(0, 86_400).map(lambda s: timedelta(seconds=s)),
        max_latency=st.integers(0, 60_000).map(lambda ms: timedelta(milliseconds=ms)),
        max_queue=st.integers(0, 10_000),
        windows=st.lists(
            st.builds(
                Window,
                _times := st.times().map(lambda t: t.replace(second=0, microsecond=0)),
                _times,
            ),
            max_size=3,
        ).map(tuple),
    )
)
def test_stored(limits: Limits) -> None:
    """What is stored is what was asked for."""
    assert Limits.restored(limits.stored()) == limits


@given(st.floats(0.1, 1e6), st.lists(st.floats(0, 1e5), min_size=1, max_size=50))
def test_bucket(rate: float, amounts: list[float]) -> None:
    """Who waits as told takes no more in all than the rate grants, and no less."""
    bucket, now = Bucket(), 0.0
    bucket.change(rate, now)
    for amount in amounts:
        place = bucket.take(amount, now)
        now += bucket.seconds_until(place, now)
        assert bucket.seconds_until(place, now) <= 1e-6 * (1 + now)

    assert now == pytest.approx(sum(amounts) / rate, rel=1e-6, abs=1e-6)


def test_made_up_for() -> None:
    """Of the time in which nothing was taken no more than a second is made up for."""
    bucket = Bucket()
    bucket.change(10, 0.0)

    place = bucket.take(50, 100.0)

    assert bucket.seconds_until(place, 100.0) == 4.0


def test_rates_change_while_waiting() -> None:
    """A new rate holds for those who wait too, and none lets them go."""
    allowance = Allowance()
    allowance.change(Rates(documents=10), 0.0)
    ticket = allowance.take(Rates(documents=100, bytes=1e9), 0.0)

    assert allowance.seconds_until(ticket, 0.0) == 10.0
    allowance.change(Rates(documents=90), 1.0)
    assert allowance.seconds_until(ticket, 1.0) == 1.0
    allowance.change(Rates(), 1.0)
    assert allowance.seconds_until(ticket, 1.0) == 0.0


def test_spend() -> None:
    """Workers together keep to the rate, however many they are."""
    pace = Pace(EventBus())
    pace.limit(Rates(documents=1_000))
    began = time.monotonic()

    def work() -> None:
        for _ in range(5):
            pace.spend(50, 0, since=time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert time.monotonic() - began > 0.95


def test_stop_while_waiting() -> None:
    """A stop ends the longest rest at once."""
    pace = Pace(EventBus())
    pace.limit(Rates(bytes=1))
    threading.Timer(0.1, pace.stop).start()
    began = time.monotonic()

    with pytest.raises(Stopped):
        pace.spend(1, 1_000_000, since=began)

    assert time.monotonic() - began < 30


def test_unlimited() -> None:
    """Without limits nothing is waited for, whatever was done."""
    pace = Pace(EventBus())
    began = time.monotonic()

    assert pace.spend(10**9, 10**12, since=began - 1e6) - began < 30
