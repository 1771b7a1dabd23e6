"""How long a call that fails is tried again, told by values instead of by waiting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tenacity import RetryCallState, Retrying

from limosa.pacing import _Patience

TEN_MINUTES = timedelta(minutes=10)
HOUR = 3_600.0


def _gives_up(*tries: float, wait: float = 5.0, retry_for: timedelta = TEN_MINUTES) -> list[bool]:
    """Return what is decided after each of *tries*, which lasted so many seconds and failed."""
    patience = _Patience(retry_for)
    call: Any = RetryCallState(Retrying(), None, (), {})
    now, decided = 1_000_000.0, []
    for lasted in tries:
        now += lasted
        call.outcome_timestamp = now
        decided.append(patience(call))
        now += wait
        call.idle_for += wait
    return decided


def test_gives_up_in_time() -> None:
    """A call that fails at once each time is given up when the time for retries has passed."""
    decided = _gives_up(*[0.0] * 122)

    assert decided == [False] * 120 + [True] * 2


def test_first_failure_of_a_long_try() -> None:
    """A partition that was copied for an hour and then lost its connection is tried again."""
    assert _gives_up(HOUR) == [False]


def test_long_tries_begin_anew() -> None:
    """Failures that lie an hour of work apart are never one too many."""
    assert _gives_up(*[HOUR] * 10) == [False] * 10


def test_unanswered_tries_end() -> None:
    """A connection on which no answer ever comes does not count as work."""
    assert _gives_up(300.0, 300.0, 300.0) == [False, False, True]


def test_no_time_at_all() -> None:
    """With no time for retries nothing is tried again."""
    assert _gives_up(1.0, retry_for=timedelta(0)) == [True]
