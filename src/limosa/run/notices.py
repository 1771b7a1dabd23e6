"""Telling people how a run stands, by mail, chat or whatever else Apprise knows."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..events import (
    AttemptFailed,
    Committed,
    CopyCompleted,
    Event,
    MigrationStarted,
    ReadyToCommit,
)
from ..state import Failure
from ..views.story import entry
from .plan_file import Moment, Notification

if TYPE_CHECKING:
    from apprise import Apprise

#: Seconds that the end of a run waits for what is still to be sent.
_LAST_WORDS = 30.0
#: A message that could not be sent is sent once more.
_TRIES = 2


@dataclass(frozen=True, slots=True)
class _Message:
    moment: Moment | None  # None for everybody
    title: str
    body: str


class Notices:
    """
    A subscriber that notifies people, in a thread of its own.

    What cannot be sent is warned about, by its place in the plan file: addresses hold secrets.
    """

    def __init__(
        self, to: Sequence[Notification], *, name: str, warn: Callable[[str], None]
    ) -> None:
        """Notify of the migration called *name*."""
        self._to = [(_opened(each), frozenset(each.on)) for each in to]
        self._warn = warn
        self._name = name
        self._told: set[Moment] = set()
        self._waiting: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Notify of *event*, if it is one of the moments, and the first of its kind."""
        moment = _moment_of(event)
        if moment is None or moment in self._told:
            return
        self._told.add(moment)
        told = entry(event, datetime.now(UTC))  # without what a document says
        assert told is not None
        self._waiting.put(_Message(moment, f"limosa: {self._name}: {moment}", told.message))

    def say(self, text: str) -> None:
        """Send *text* to everybody."""
        self._waiting.put(_Message(None, f"limosa: {self._name}", text))

    def failed(self, failure: Failure) -> None:
        """Notify of a failure that no event tells of."""
        text = f"it has failed [{failure.code}]; {failure.hint}"
        self._waiting.put(_Message(Moment.FAILED, f"limosa: {self._name}: failed", text))

    def close(self) -> None:
        """Wait for a while until everything is sent."""
        self._waiting.put(None)
        self._thread.join(_LAST_WORDS)

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            for number, (who, moments) in enumerate(self._to):
                if message.moment is None or message.moment in moments:
                    self._send(number, who, message)

    def _send(self, number: int, who: Apprise, message: _Message) -> None:
        if not any(_is_sent(who, message) for _ in range(_TRIES)):
            self._warn(f"notify[{number}] of the plan file was not reached: {message.title!r}")


def _opened(to: Notification) -> Apprise:
    from apprise import Apprise
    from apprise.logger import logger

    # It logs addresses; that a message could not be sent is told by us.
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    opened = Apprise()
    opened.add(to.url.get_secret_value())
    return opened


def _is_sent(who: Apprise, message: _Message) -> bool:
    try:
        return bool(who.notify(message.body, title=message.title, notify_type=_type_of(message)))
    except Exception:  # noqa: BLE001 - a hundred plug-ins; none of them may end the run
        return False  # told by the caller, without the address that the error may quote


def _type_of(message: _Message) -> str:
    match message.moment:
        case Moment.FAILED:
            return "failure"
        case Moment.COMMITTED:
            return "success"
        case _:
            return "info"


def _moment_of(event: Event) -> Moment | None:
    match event:
        case MigrationStarted():
            return Moment.STARTED
        case CopyCompleted():
            return Moment.COPIED
        case ReadyToCommit():
            return Moment.READY
        case Committed():
            return Moment.COMMITTED
        case AttemptFailed(wait=None):
            return Moment.FAILED
        case _:
            return None
