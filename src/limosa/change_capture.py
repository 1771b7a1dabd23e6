"""Change capture: from the source's change stream into the buffer, from the first second."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .errors import DiskNearlyFull, TransientError
from .events import ChangesCaptured, Retrying, Warned
from .model import ChangeBatch
from .state import Migration, State
from .storage import Room
from .work import Work

#: Below so many changes in an answer the stream is asked again only after a while: asking
#: costs the source the same for one change as for thousands.
_FEW_CHANGES = 1_000
_GATHER_SECONDS = 0.02
#: The same while nothing is applied: changes that are stored together take a third of the disk.
_GATHER_LONG_SECONDS = 0.2
#: How often an idle position, and the figures that people look at, are written down.
_MARK_SECONDS = 1.0
#: Bytes that a buffer may still take from which on that is worth a warning, and then each half of
#: it: 40 million changes and more.
_LITTLE_ROOM = 1024**3
#: How often a full buffer is looked at while changes are applied from it.
_ROOM_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Reached:
    """Everything up to *time* on the source's clock stands in the buffer up to *seq*."""

    seq: int
    time: datetime | None


class ChangeCapture:
    """
    Moves changes to the buffer, together with the position after them.

    Goes on while the migration is paused: a long pause must not outlive the oplog.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        #: Events captured in the whole migration.
        self.events = work.store.migration().events_captured
        self._marked = 0.0
        self._warn_below = _LITTLE_ROOM
        position = work.buffer.position()
        #: Replaced as a whole, so that a reader sees both parts of the same moment.
        self.reached = Reached(work.buffer.last_seq(), position[1] if position else None)

    def run(self) -> None:
        """Capture until stopped; a broken stream is opened again where it broke."""
        while not self._work.pace.is_stopping:
            self._work.pace.retrying("capture changes", self._follow)

    def _follow(self) -> None:
        """Follow one stream; return when it breaks after it has shown that it works."""
        stored = self._work.buffer.position()
        after = stored[0] if stored else self._work.store.migration().position
        assert after is not None, "the plan takes the position first"
        works = False
        idle: ChangeBatch | None = None
        try:
            for number, batch in enumerate(self._work.source.changes(after)):
                if self._work.pace.is_stopping:
                    return
                self._take(batch)
                idle = batch if batch.is_empty else None
                # Nothing in the first answer may be all that the stream can still do.
                works = works or number > 0 or not batch.is_empty
        except TransientError as error:
            if idle is not None:
                # Here the stream may have ended, not broken: opened before, it would only end
                # again.
                self._work.buffer.mark(idle.resume_token, idle.source_time)
            if not works:
                raise
            self._work.bus.emit(Retrying("capture changes", str(error), 1, timedelta(0)))

    def _take(self, batch: ChangeBatch) -> None:
        if not batch.is_empty:
            self._await_room()
            seq = self._work.buffer.append(batch)
            self.events += batch.events
            self.reached = Reached(seq, batch.source_time)
            self._work.bus.emit(ChangesCaptured(batch.events, batch.source_time, batch.size))
        else:
            self.reached = Reached(self.reached.seq, batch.source_time)
        now = time.monotonic()
        if now - self._marked > _MARK_SECONDS:
            self._marked = now
            self._mark(batch)
        if 0 < batch.events < _FEW_CHANGES:
            is_awaited = _is_applied(self._work.store.migration())
            self._work.pace.wait(_GATHER_SECONDS if is_awaited else _GATHER_LONG_SECONDS)

    def _await_room(self) -> None:
        """
        Return once the buffer may grow: at once, as a rule.

        A full one is waited for while what stands in it is being applied.

        Raises:
            DiskNearlyFull: nothing makes room; what was captured stays, and so does the position.
        """
        is_told = False
        while (room := self._work.buffer.room()).left <= self._warn_below:
            if room.left > 0:
                self._warn_below = room.left // 2
                self._work.bus.emit(Warned(f"{_described(room)}: {_size(room.left)} to go"))
                return
            if not self._shrinks():
                waiting = self._work.buffer.waiting(after=self._work.store.migration().applied_seq)
                msg = f"capture changes: {_described(room)}; {waiting:,} changes wait in it"
                raise DiskNearlyFull(msg)
            if not is_told:
                is_told = True
                what = "no change is captured until some that wait in it are applied"
                self._work.bus.emit(Warned(f"{_described(room)}: {what}"))
            self._work.pace.wait(_ROOM_SECONDS)

    def _shrinks(self) -> bool:
        """Whether something waits that is being applied: its pages can be used again then."""
        return _is_applied(self._work.store.migration()) and self._work.buffer.waiting(after=0) > 0

    def _mark(self, batch: ChangeBatch) -> None:
        if batch.is_empty:
            self._work.buffer.mark(batch.resume_token, batch.source_time)
        self._work.store.update(
            lambda m: replace(m, captured_to=batch.source_time, events_captured=self.events)
        )


def _is_applied(migration: Migration) -> bool:
    """Whether changes are applied as they come."""
    return migration.indexed_at is not None and migration.state is not State.PAUSED


def _described(room: Room) -> str:
    return (
        f"{room.place!r} leaves {_size(room.kept)} of its disk free, which has {_size(room.free)}"
    )


def _size(bytes_: int) -> str:
    return f"{bytes_ / 1e6:,.0f} MB"
