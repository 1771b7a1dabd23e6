"""How lists are handed over where they may be too long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limosa.errors import ConnectionLost, PermanentError, TransientError
from limosa.events import EventBus
from limosa.pacing import Pace
from limosa.portions import Portions
from limosa.sizing import Size


class Narrow:
    """Takes no more than some items at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken: list[int] = []
        self.tries = 0

    def take(self, items: Sequence[int]) -> int:
        self.tries += 1
        if len(items) > self.most:
            msg = "timed out"
            raise ConnectionLost(msg)
        self.taken += items
        return len(items)


class Hasty(Pace):
    """Does not wait before it tries again."""

    def wait(self, seconds: float) -> None:
        pass


def portions(most: int = 100, *, seconds: float = 0.0) -> Portions:
    pace = Hasty(EventBus(), retry_for=timedelta(seconds=0.2))
    return Portions(pace, Size(most, seconds=seconds))


def test_whole() -> None:
    """What passes as a whole is handed over as a whole."""
    line = Narrow(100)

    assert portions().each("send", range(100), line.take) == [100]
    assert portions().each("send", [], line.take) == []
    assert line.tries == 1


@given(st.integers(1, 8), st.integers(0, 40))
def test_every_item_once(most: int, count: int) -> None:
    """However little passes at a time, all of it does, once and in order."""
    line = Narrow(most)

    results = portions(40).each("send", range(count), line.take)

    assert line.taken == list(range(count))
    assert sum(results) == count


def test_remembered() -> None:
    """What did not pass is not tried again as a whole with each list; later, more is."""
    line, ours = Narrow(30), portions()
    ours.each("send", range(100), line.take)
    tries = line.tries
    ours.each("send", range(25), line.take)
    assert line.tries == tries + 1

    line.most = 100
    for _ in range(30):
        ours.each("send", range(100), line.take)

    tries = line.tries
    ours.each("send", range(100), line.take)
    assert line.tries == tries + 1


def test_failures_that_stay() -> None:
    """What does not pass at all, or is refused, is the caller's."""
    with pytest.raises(TransientError):
        portions().each("send", range(8), Narrow(0).take)

    def refuse(_items: Sequence[int]) -> None:
        msg = "no"
        raise PermanentError(msg)

    with pytest.raises(PermanentError):
        portions().each("send", range(8), refuse)


def test_refused_at_once() -> None:
    """A failure that comes at once is not one of too many items."""
    line = Narrow(100)
    fails = iter([True, True, False])

    def take(items: Sequence[int]) -> int:
        if next(fails):
            msg = "not primary"
            raise ConnectionLost(msg)
        return line.take(items)

    assert portions(seconds=1.0).each("send", range(100), take) == [100]
