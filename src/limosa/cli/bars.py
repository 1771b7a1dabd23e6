"""The progress of a migration as bars on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..model import Namespace
from ..state import Phase, State
from ..views.figures import count, duration, percentage, plural, size
from ..views.progress import CollectionFigures, Figures
from ..views.story import Level, Line

#: Collections with a bar of their own; the rest shares one.
LARGEST = 10

#: Redraws a second: smooth enough, and cheap beside the copy.
_REFRESH = 4

_STYLES = {Level.DEBUG: "dim", Level.INFO: "", Level.WARNING: "yellow", Level.ERROR: "bold red"}


class Bars:
    """Draws bars at the foot of the terminal, and lets the story scroll above them."""

    def __init__(self, stream: TextIO, *, color: bool | None = None) -> None:
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=None if color is None else not color,
            highlight=False,
        )
        self._live: Live | None = None

    def open(self, figures: Callable[[], Figures]) -> None:
        """Begin to draw what *figures* returns."""
        self._live = Live(
            get_renderable=lambda: drawing(figures(), rows=self._console.height),
            console=self._console,
            refresh_per_second=_REFRESH,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def tell(self, line: Line) -> None:
        """Print *line* above the bars."""
        self._console.print(Text(line.text, style=_STYLES[line.level]))

    def close(self) -> None:
        """Draw the last figures and leave them on the screen."""
        if self._live is not None:
            self._live.stop()


def drawing(figures: Figures, *, rows: int = 50) -> RenderableType:
    """Return what the terminal shows for *figures* on a screen of *rows* lines."""
    parts: list[RenderableType] = [_heading(figures), _phases(figures), _changes(figures)]
    # Bars that do not fit are cut by the terminal at the wrong end.
    room = min(LARGEST, rows - 8)
    if figures.phase is Phase.COLLECTION_COPY and figures.collections and room > 0:
        parts.append(_collections(figures.collections, room))
    return Group(*parts)


def _heading(figures: Figures) -> Text:
    state = f" ({figures.state})" if figures.state in (State.PAUSED, State.FAILED) else ""
    ready = " – ready to commit" if figures.can_commit else ""
    text = Text(f"{figures.name or 'migration'}: {figures.phase}{state}{ready}", style="bold")
    return text.append(f"  {duration(figures.elapsed)}", style="dim")


def _phases(figures: Figures) -> Table:
    table = _grid()
    copied = f"{count(figures.documents_copied)} of {count(figures.documents)} documents"
    rates = [copied, size(figures.bytes_copied)]
    if figures.phase is Phase.COLLECTION_COPY:
        rates += [f"{count(figures.documents_rate)}/s", f"{size(figures.bytes_rate)}/s"]
        rates += [f"ETA {duration(figures.remaining)}"]
    _bar(table, "copy", figures.fraction_copied, rates)
    if figures.documents_compared or figures.partitions_verified:
        compared = [f"{count(figures.documents_compared)} compared"]
        if figures.compared_rate:
            compared.append(f"{count(figures.compared_rate)}/s")
        compared.append(f"mismatches {count(figures.mismatches)}")
        _bar(table, "verification", figures.fraction_verified, compared)
    return table


def _changes(figures: Figures) -> Text:
    lag = "–" if figures.lag is None else duration(figures.lag)
    parts = [
        f"captured {count(figures.changes_captured)} ({count(figures.captured_rate)}/s)",
        f"applied {count(figures.changes_applied)} ({count(figures.applied_rate)}/s)",
        f"waiting {count(figures.changes_waiting)}",
        f"lag {lag}",
    ]
    if figures.retries:
        parts.append(f"retries {count(figures.retries)}")
    return Text("changes: ", style="bold").append(", ".join(parts), style="not bold")


def _collections(collections: Mapping[Namespace, CollectionFigures], room: int) -> Table:
    table = _grid()
    largest = nlargest(room, collections.items(), key=lambda item: item[1].documents)
    for namespace, figures in sorted(largest):
        _bar(table, f"  {namespace}", _fraction(figures), _parts(figures))
    chosen = {namespace for namespace, _ in largest}
    rest = [f for namespace, f in collections.items() if namespace not in chosen]
    if rest:
        others = _sum(rest)
        _bar(table, f"  {plural(len(rest), 'other')}", _fraction(others), _parts(others))
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=14, max_width=40, no_wrap=True, overflow="ellipsis")
    table.add_column()
    table.add_column(justify="right", min_width=5)
    table.add_column(no_wrap=True)
    return table


def _bar(table: Table, name: str, fraction: float, parts: Iterable[str]) -> None:
    bar = ProgressBar(total=1.0, completed=fraction, width=24)
    table.add_row(name, bar, percentage(fraction), "  ".join(parts))


def _fraction(figures: CollectionFigures) -> float:
    return min(1.0, figures.copied / figures.documents) if figures.documents else 1.0


def _parts(figures: CollectionFigures) -> list[str]:
    known = f" of {count(figures.documents)}" if figures.documents else ""
    return [f"{count(figures.copied)}{known}"]


def _sum(figures: Iterable[CollectionFigures]) -> CollectionFigures:
    documents = copied = compared = amount = 0
    for each in figures:
        documents += each.documents
        copied += each.copied
        compared += each.compared
        amount += each.bytes
    return CollectionFigures(documents, copied, compared, amount)
