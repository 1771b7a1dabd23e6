"""What a person sees of a migration that this process drives."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from ..errors import LimosaError
from ..events import Event, MigrationStarted, Planned
from ..state import State
from ..views.progress import Figures, Progress
from ..views.story import Level, Line, level_of, told
from .lines import Lines

#: Lines of one sort that are told; of the rest only the number. It keeps the story of a
#: migration of a hundred thousand collections readable.
_TOLD_EACH = 20

_ORDER = (Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR)


class Screen(Protocol):
    """Where lines and figures go."""

    def open(self, figures: Callable[[], Figures]) -> None:
        """Begin to show what *figures* returns."""
        ...

    def tell(self, line: Line) -> None:
        """Show a line of the story."""
        ...

    def close(self) -> None:
        """Leave the screen as it is."""
        ...


class Display:
    """
    A subscriber that shows events, from any thread, while it is entered.

    ``display.progress.figures()`` tells how far the migration has come.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        least: Level = Level.INFO,
        state: Path | None = None,
        told_each: int = _TOLD_EACH,
    ) -> None:
        self.progress = Progress()
        self._screen = screen
        self._least = _ORDER.index(least)
        self._state = state
        self._told_each = told_each
        self._told: Counter[str] = Counter()
        self._lock = threading.Lock()

    @classmethod
    def for_terminal(
        cls,
        *,
        quiet: bool = False,
        verbose: bool = False,
        log_format: str = "text",
        color: bool | None = None,
        stream: TextIO | None = None,
        state: Path | None = None,
    ) -> Display:
        """
        Return a display for *stream*, standard error by default.

        Bars on a terminal, lines elsewhere. *quiet* leaves warnings and errors only, *verbose*
        adds batches and partitions. *state* is the folder given to the migration, if any: the
        sizes of its collections are looked up there. *color* None leaves it to the terminal
        and NO_COLOR.
        """
        stream = stream or sys.stderr
        least = Level.WARNING if quiet else Level.DEBUG if verbose else Level.INFO
        as_json = log_format == "json"
        if quiet or as_json or not _can_draw(stream):
            screen: Screen = Lines(stream, as_json=as_json, progress=not quiet)
        else:
            from .bars import Bars  # rich takes a tenth of a second to load

            screen = Bars(stream, color=color)
        return cls(screen, least=least, state=state)

    def __enter__(self) -> Self:
        self._screen.open(self.progress.figures)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._screen.close()
        for line in self._left_out():
            self._screen.tell(line)

    def __call__(self, event: Event) -> None:
        """Show *event*, as far as it is important enough."""
        self.progress(event)
        if isinstance(event, Planned | MigrationStarted):
            self._look_up()
        if self._shows(level_of(event), type(event).__name__):
            self._screen.tell(told(event))

    def say(self, text: str, *, level: Level = Level.WARNING, event: str = "message") -> None:
        """Show a line that comes from no event."""
        if _ORDER.index(level) >= self._least:
            self._screen.tell(Line(level, event, text, {}))

    def look_in(self, state: Path) -> None:
        """Look the sizes of collections up in *state*, the folder given to the migration."""
        self._state = state

    def _shows(self, level: Level, kind: str) -> bool:
        if _ORDER.index(level) < self._least:
            return False
        if level is Level.ERROR or self._least == 0:
            return True
        with self._lock:
            self._told[kind] += 1
            return self._told[kind] <= self._told_each

    def _left_out(self) -> list[Line]:
        with self._lock:
            left = {kind: n - self._told_each for kind, n in self._told.items()}
        return [
            Line(Level.INFO, "leftOut", f"{n:,} more lines like {kind} were left out", {"count": n})
            for kind, n in sorted(left.items())
            if n > 0
        ]

    def _look_up(self) -> None:
        from ..catalog import find, watch  # only where a migration runs

        name = self.progress.figures().name
        try:
            store = watch(find(name, self._state))
        except LimosaError:
            # Without sizes the bars say less; what is wrong with the state is told by who
            # drives the migration.
            return
        try:
            state = store.migration().state
            self.progress.seed(store.totals(), store.copied_by_namespace(), state=state)
        except LimosaError:
            return
        finally:
            store.close()
        if state is State.PAUSED:
            self.say("the migration is paused; `limosa resume` lets it go on")


def _can_draw(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
