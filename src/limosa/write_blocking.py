"""Keeping the application out of an end while it must not write there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Literal, cast

from .connector import Blockable
from .errors import LimosaError
from .events import Warned, WritesAllowed, WritesBlocked
from .pacing import Pace
from .settings import WriteBlocking
from .state import Migration
from .work import Work

End = Literal["source", "target"]

#: How long a process that ends goes on trying to lift its blocks.
_PATIENCE = timedelta(seconds=5)


class WriteGuard:
    """
    Blocks the writes of others where the settings say so, and lifts what it has blocked.

    The state says which ends are blocked, before they are and until they are not any more: so
    what a killed process leaves behind is known to the next one, and a block of somebody else
    is left alone.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        #: What this process has blocked and would lift, were the state lost.
        self._held: set[End] = set()

    def begin(self) -> None:
        """Block the target, if that is asked for, until it is writable."""
        migration = self._work.store.migration()
        if self._mode is not WriteBlocking.NONE and not migration.can_write:
            self._block("target", self._work.pace)

    def close_source(self) -> None:
        """Block the source, if that is asked for: from the commit on nobody may write there."""
        if self._mode is WriteBlocking.BOTH:
            self._block("source", self._work.pace)

    def open_target(self) -> None:
        """Let the application write to the target, unless somebody else keeps it out."""
        self._held.discard("source")  # it stays closed now, whatever becomes of this process
        if self._work.store.migration().blocks("target"):
            self._allow("target", self._work.pace)
        elif self._mode is not WriteBlocking.NONE and self._is_blocked("target", self._work.pace):
            self._work.bus.emit(
                Warned("writes to the target are still blocked, not by limosa: lift that yourself")
            )

    def end(self) -> None:
        """
        Lift every block, as a process does that ends before the target is writable.

        After that the source stays closed: the application has moved. What cannot be lifted
        now is warned about; the state says so, and the next start or `limosa cleanup` does it.
        """
        migration = self._work.store.migration()
        if migration.can_write:
            return
        ends: tuple[End, ...] = ("target", "source")
        for end in ends:
            if migration.blocks(end):
                self._attempt(end)

    def abandon(self) -> None:
        """Lift every block without the state, which cannot be used any more."""
        pace = Pace(self._work.bus, retry_for=_PATIENCE)
        for end in sorted(self._held):
            try:
                pace.retrying(f"allow writes to the {end}", self._end(end).allow_writes)
            except LimosaError as error:
                self._work.bus.emit(Warned(f"writes to the {end} are still blocked: {error}"))
            else:
                self._work.bus.emit(WritesAllowed(end))

    def _attempt(self, end: End) -> None:
        pace = Pace(self._work.bus, retry_for=_PATIENCE)  # that of the work has come to its end
        try:
            self._allow(end, pace)
        except LimosaError as error:
            what = "the same command again or `limosa cleanup` lifts that"
            self._work.bus.emit(Warned(f"writes to the {end} are still blocked; {what}: {error}"))

    def _block(self, end: End, pace: Pace) -> None:
        if not self._work.store.migration().blocks(end):
            if self._is_blocked(end, pace):
                self._work.bus.emit(
                    Warned(f"writes to the {end} are blocked already, not by limosa: left so")
                )
                return
            self._work.store.update(lambda m: m.with_blocked(end, is_blocked=True))
        self._held.add(end)
        pace.retrying(f"block writes to the {end}", self._end(end).block_writes)
        self._work.bus.emit(WritesBlocked(end))

    def _allow(self, end: End, pace: Pace) -> None:
        def allowed(migration: Migration) -> Migration:
            after = migration.with_blocked(end, is_blocked=False)
            # What is written to the source from now on belongs to the commit as well.
            return replace(after, commit_at=None) if end == "source" else after

        pace.retrying(f"allow writes to the {end}", self._end(end).allow_writes)
        self._held.discard(end)
        self._work.store.update(allowed)
        self._work.bus.emit(WritesAllowed(end))

    def _is_blocked(self, end: End, pace: Pace) -> bool:
        doing = f"ask whether writes to the {end} are blocked"
        return pace.retrying(doing, self._end(end).writes_blocked)

    @property
    def _mode(self) -> WriteBlocking:
        return self._work.settings.write_blocking

    def _end(self, end: End) -> Blockable:
        # `migrations` has made sure that the connector can do it.
        return cast("Blockable", self._work.source if end == "source" else self._work.target)
