"""What a person sees while a migration runs."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from limosa.cli.bars import Bars, drawing
from limosa.cli.display import Display
from limosa.cli.lines import Lines
from limosa.events import (
    BatchCopied,
    CopyCompleted,
    Failed,
    IndexesBuilt,
    MigrationStarted,
    PartitionCopied,
    PhaseChanged,
    Planned,
    StopRequested,
    Warned,
)
from limosa.model import Namespace
from limosa.state import Failure, Phase, Totals
from limosa.views.progress import Figures, Progress
from limosa.views.story import Level, Line

PEOPLE = Namespace("shop", "people")
SECOND = timedelta(seconds=1)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMOSA_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")


def story(display: Display) -> None:
    with display:
        display(MigrationStarted("m", "mongodb://a:1", "mongodb://b:1", 1))
        display(Planned(1, 1, 100, 5000))
        display(PhaseChanged(Phase.COLLECTION_COPY))
        display(BatchCopied(PEOPLE, 100, 5000))
        display(PartitionCopied(PEOPLE, "p/0", 100, 5000, SECOND))
        display(CopyCompleted(100, 5000, SECOND))
        display(Warned("look at this"))
        display(Failed(Failure("write_refused", "it was refused", "correct it")))


def written(**settings: object) -> str:
    stream = io.StringIO()
    story(Display.for_terminal(stream=stream, **settings))  # type: ignore[arg-type] # flags
    return stream.getvalue()


def test_lines() -> None:
    """Away from a terminal the story is one line for each thing, without batches."""
    lines = written().splitlines()

    assert len(lines) == 6
    assert "copied 100 documents" in lines[3]
    assert "WARNING look at this" in lines[4]
    assert "ERROR" in lines[5]
    assert not any("p/0" in line for line in lines)


def test_verbose() -> None:
    """Batches and partitions are told to who wants to know."""
    assert "p/0" in written(verbose=True)


def test_quiet() -> None:
    """A quiet display tells warnings and errors, nothing else."""
    lines = written(quiet=True).splitlines()

    assert len(lines) == 2


def test_quiet_on_a_terminal() -> None:
    """A quiet display draws nothing on a terminal either."""
    stream = Terminal()
    story(Display.for_terminal(stream=stream, quiet=True))

    assert len(stream.getvalue().splitlines()) == 2


def test_json_lines() -> None:
    """Each JSON line is an object with time, level, event, message and the event's fields."""
    lines = [json.loads(line) for line in written(log_format="json").splitlines()]

    assert all({"time", "level", "event", "message"} <= set(line) for line in lines)
    assert lines[1]["documents"] == 100
    assert lines[-1]["level"] == "error"
    assert lines[-1]["code"] == "write_refused"
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo is not None


def test_progress_lines() -> None:
    """A line about progress comes again and again, until the display is left."""
    told = threading.Event()

    class Heard(io.StringIO):
        def write(self, text: str) -> int:
            if "documents copied" in text:
                told.set()
            return super().write(text)

    with Display(Lines(Heard(), every=0.01)) as display:
        display(Planned(1, 1, 100, 5000))

        assert told.wait(10)
    assert "display" not in {thread.name for thread in threading.enumerate()}


def test_many_lines_of_one_sort() -> None:
    """A migration of very many collections does not drown its story."""
    stream = io.StringIO()
    with Display(Lines(stream, progress=False)) as display:
        for number in range(1000):
            display(IndexesBuilt(Namespace("shop", f"c{number}"), 1, SECOND))
        display(StopRequested())

    lines = stream.getvalue().splitlines()
    assert len(lines) < 30
    assert "980 more" in lines[-1]
    assert "stopping" in lines[-2]


def test_whole_lines_from_many_threads() -> None:
    """Lines told by several threads at once are never mixed."""
    stream = io.StringIO()
    with Display(Lines(stream, as_json=True, progress=False), told_each=10_000) as display:
        threads = [
            threading.Thread(target=lambda: [display(Warned("x" * 50)) for _ in range(200)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lines = stream.getvalue().splitlines()
    assert len(lines) == 800
    assert all(json.loads(line)["message"] == "x" * 50 for line in lines)


def test_said() -> None:
    """What comes from no event can be said too."""
    stream = io.StringIO()
    with Display(Lines(stream, progress=False)) as display:
        display.say("stopping cleanly")

    assert "stopping cleanly" in stream.getvalue()


def test_bars_on_a_terminal() -> None:
    """On a terminal the story scrolls above bars for the copy."""
    stream = Terminal()
    story(Display.for_terminal(stream=stream))

    shown = stream.getvalue()
    assert "look at this" in shown
    assert "━" in shown
    assert "100 of 100 documents" in shown


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves the bars and takes the colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    story(Display.for_terminal(stream=stream))

    assert "━" in stream.getvalue()
    assert "\x1b[3" not in stream.getvalue().replace("\x1b[3A", "")


def test_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot draw gets lines."""
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    story(Display.for_terminal(stream=stream))

    assert "\x1b" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 6


def drawn(figures: Figures, *, rows: int = 50) -> str:
    console = Console(file=io.StringIO(), width=120, height=rows, force_terminal=False)
    console.print(drawing(figures, rows=rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_largest_collections() -> None:
    """The ten largest collections have a bar each, the others one together."""
    progress = Progress()
    names = {Namespace("shop", f"c{n:02}"): (n * 10, n, 0, 0) for n in range(1, 31)}
    progress.seed(Totals(documents=1000), names)
    progress(PhaseChanged(Phase.COLLECTION_COPY))

    shown = drawn(progress.figures())

    assert "shop.c30" in shown
    assert "shop.c21" in shown
    assert "shop.c20" not in shown
    assert "20 others" in shown


def test_small_screen() -> None:
    """Bars of collections do not fill more lines than the terminal has."""
    progress = Progress()
    progress.seed(Totals(), {Namespace("shop", f"c{n}"): (n, 0, 0, 0) for n in range(30)})
    progress(PhaseChanged(Phase.COLLECTION_COPY))

    assert len(drawn(progress.figures(), rows=12).splitlines()) < 12


def test_sizes_from_the_state(tmp_path: Path) -> None:
    """The sizes of collections are taken from the state that is being written."""
    from limosa.model import Collection, CollectionSpec, Partition
    from limosa.state import CollectionProgress
    from limosa.storage.sqlite import SqliteStore

    collection = Collection(PEOPLE, "id")
    store = SqliteStore.drive(tmp_path / "m", "m")
    store.save_plan(
        [CollectionProgress(CollectionSpec(collection, documents=70), PEOPLE)],
        [Partition("id/0", collection, b"", 70)],
        datetime.now(UTC),
    )
    with Display(Lines(io.StringIO(), progress=False)) as display:
        display(MigrationStarted("m", "a", "b", 1))
        display(Planned(1, 1, 70, 0))

    store.close()
    assert display.progress.figures().collections[PEOPLE].documents == 70


def test_bars_end_once() -> None:
    """Leaving the display gives the cursor back."""
    stream = Terminal()
    bars = Bars(stream)
    figures: Callable[[], Figures] = Figures
    bars.open(figures)
    bars.tell(Line(Level.INFO, "x", "hello", {}))
    bars.close()

    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")
