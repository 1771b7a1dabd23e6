"""The demonstration behind `limosa demo`, and its summary."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

from .. import catalog
from ..embedded import ReplicaSet
from ..errors import PermanentError
from ..events import (
    BecameConsistent,
    ChangesApplied,
    ChangesCaptured,
    Event,
    IndexesBuilt,
    KeysVerified,
    PhaseChanged,
    ReadyToCommit,
    TargetWritable,
    VerificationCompleted,
)
from ..migrations import migrate
from ..state import Migration, Phase, State, Totals
from ..views.figures import count, duration, plural, size
from ..views.story import Level
from ..workload import Comparison, Counters, Filled, Traffic, compare, fill
from .display import Display
from .listening import ANYWHERE, shown

E = TypeVar("E", bound=Event)

#: The migration's name, and that of the folder with its state.
NAME = "demo"

#: Seconds that the application goes on at the target.
AFTERWARDS = 2.0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What was seen."""

    filled: Filled
    migration: Migration
    totals: Totals
    chronicle: Chronicle
    before: Counters  # writes to the source
    after: Counters  # writes to source and target
    held: timedelta  # from the last acknowledged write until the target could be written to
    comparison: Comparison
    took: timedelta

    @property
    def is_equal(self) -> bool:
        """Whether neither Limosa nor the independent comparison has found a difference."""
        return not self.comparison.differences and not self.totals.mismatches


class Chronicle:
    """A subscriber that notes when each event happened."""

    def __init__(self) -> None:
        self._entries: defaultdict[type, list[tuple[datetime, Event]]] = defaultdict(list)
        self._noted = threading.Condition()

    def __call__(self, event: Event) -> None:
        """Note *event*."""
        with self._noted:
            self._entries[type(event)].append((datetime.now(UTC), event))
            self._noted.notify_all()

    def all(self, kind: type[E]) -> list[tuple[datetime, E]]:
        """Return all events of *kind* and when they happened, oldest first."""
        with self._noted:
            entries = self._entries.get(kind, [])
            return [(at, event) for at, event in entries if isinstance(event, kind)]

    def first(self, kind: type[E], such: Callable[[E], bool] = lambda _: True) -> datetime | None:
        """Return when an event of *kind* happened first, None if it did not."""
        return next((at for at, event in self.all(kind) if such(event)), None)

    def awaited(self, kind: type[Event], run: Future[Migration]) -> datetime:
        """
        Return when an event of *kind* happened, waiting for it as long as *run* goes on.

        Raises:
            PermanentError: the migration ended without it.
        """
        run.add_done_callback(lambda _: self._wake())
        with self._noted:
            self._noted.wait_for(lambda: self.first(kind) is not None or run.done())
        at = self.first(kind)
        if at is None:
            migration = run.result()
            failure = migration.failure
            msg = failure.message if failure else f"the migration ended as {migration.state}"
            raise PermanentError(msg, hint=failure.hint if failure else "")
        return at

    def _wake(self) -> None:
        with self._noted:
            self._noted.notify_all()


def demonstrated(
    display: Callable[[], Display],
    *,
    documents: int,
    rate: float,
    follow: float,
    finish: Callable[[Demonstration, str], None] = lambda _seen, _url: None,
) -> Demonstration:
    """
    Migrate between two new servers under traffic, and compare them.

    *finish* is called with what was seen and the address of the dashboard, which is gone when
    that returns.

    Raises:
        EmbeddedUnavailable: there is no ``mongod``.
        PermanentError: the migration failed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        state = Path(temporary) / NAME
        folder = catalog.folder_for(NAME, state)
        with shown(folder, ANYWHERE, looks_only=True) as url:
            _say(f"dashboard: {url}")
            seen = _demonstrated(display, state, documents=documents, rate=rate, follow=follow)
            finish(seen, url)
    return seen


def _demonstrated(
    display: Callable[[], Display], state: Path, *, documents: int, rate: float, follow: float
) -> Demonstration:
    began = datetime.now(UTC)
    with _two_servers() as (source, target):
        _say(f"filling the source with {count(documents)} documents")
        filled = fill(source.uri, documents=documents)
        _say(f"an application writes to it, {count(rate)} times a second")
        with Traffic(source.uri, rate=rate) as traffic:
            cut_over = _migrated(source, target, traffic, display(), state, follow=follow)
            _say(
                "comparing both servers by a full scan; for this alone the application still waits"
            )
            comparison = compare(source.uri, target.uri)
            _say("the application goes on at the target")
            before = traffic.counters
            traffic.switch(target.uri)
            traffic.release()
            threading.Event().wait(AFTERWARDS)
            after = traffic.stop()
    migration, totals, chronicle, held = cut_over
    took = datetime.now(UTC) - began
    return Demonstration(
        filled, migration, totals, chronicle, before, after, held, comparison, took
    )


def summarize(seen: Demonstration, url: str) -> None:
    """Print the summary; if a person is there to look at the dashboard, wait for Enter."""
    print_summary(seen)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _say(f"the dashboard stays at {url} until you press Enter")
        with suppress(KeyboardInterrupt):  # Ctrl-C is as good
            sys.stdin.readline()


def print_summary(seen: Demonstration) -> None:
    """Print on standard output what a person would show to a colleague."""
    table = Table(box=box.SIMPLE_HEAD, title="A live migration", title_justify="left")
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_column("how fast", justify="right")
    for row in _rows(seen):
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    for difference in seen.comparison.differences:
        console.print(difference, markup=False)
    verdict = "nothing was lost" if seen.is_equal else "SOURCE AND TARGET DIFFER"
    console.print(f"{verdict}, in {duration(seen.took)} all together")


@contextmanager
def _two_servers() -> Iterator[tuple[ReplicaSet, ReplicaSet]]:
    _say("starting two throwaway servers")
    with ReplicaSet() as source, ReplicaSet() as target:
        yield source, target


def _migrated(
    source: ReplicaSet,
    target: ReplicaSet,
    traffic: Traffic,
    display: Display,
    state: Path,
    *,
    follow: float,
) -> tuple[Migration, Totals, Chronicle, timedelta]:
    """Migrate and cut over; return with the application held."""
    chronicle, stop = Chronicle(), threading.Event()

    def note(event: Event) -> None:
        chronicle(event)
        display(event)

    folder = catalog.folder_for(NAME, state)
    display.look_in(state)
    with display, ThreadPoolExecutor(1, "migration") as pool:
        run = pool.submit(
            migrate, source.uri, target.uri, name=NAME, state=state, on_event=note, stop=stop
        )
        try:
            chronicle.awaited(ReadyToCommit, run)
            display.say(f"following the source for {follow:g} s", level=Level.INFO)
            stop.wait(follow)
            last_write = traffic.hold()
            display.say("the application is held; committing", level=Level.INFO)
            store = catalog.watch(folder)
            try:
                store.update(Migration.committing)
                writable_at = chronicle.awaited(TargetWritable, run)
                migration = run.result()
                totals = store.totals()
            finally:
                store.close()
        finally:
            stop.set()
    if migration.state is not State.COMMITTED:
        failure = migration.failure
        raise PermanentError(failure.message if failure else "the commit was not completed")
    held = writable_at - last_write if last_write else timedelta()
    return migration, totals, chronicle, held


def _rows(seen: Demonstration) -> Iterator[tuple[str, str, str]]:
    migration, totals, chronicle = seen.migration, seen.totals, seen.chronicle
    yield "collections", count(totals.collections), f"{seen.filled.indexes} indexes"
    copy = _phase(chronicle, Phase.COLLECTION_COPY, Phase.INDEX_BUILD)
    documents = totals.documents_copied
    yield "documents copied", count(documents), f"{_rate(documents, copy)} documents/s"
    yield "bytes copied", size(totals.bytes_copied), f"{_speed(totals.bytes_copied, copy)}"
    indexes = sum(e.indexes for _, e in chronicle.all(IndexesBuilt))
    build = _phase(chronicle, Phase.INDEX_BUILD, Phase.CHANGE_EVENT_APPLICATION)
    yield "indexes built", count(indexes), f"in {duration(build)}"
    yield "writes by the application", count(seen.before.writes), ""
    captured = sum(e.events for _, e in chronicle.all(ChangesCaptured))
    yield "changes captured", count(captured), "from before the copy on"
    yield (
        "changes applied, joined by key",
        count(migration.changes_applied),
        _catching_up(chronicle),
    )
    yield from _verification_rows(seen)
    yield "application held for", duration(seen.held), "last write → target writable"
    after = seen.after.writes - seen.before.writes
    yield (
        "writes to the target since",
        count(after),
        f"{_rate(after, timedelta(seconds=AFTERWARDS))}/s",
    )


def _verification_rows(seen: Demonstration) -> Iterator[tuple[str, str, str]]:
    chronicle, totals = seen.chronicle, seen.totals
    since = chronicle.first(PhaseChanged, lambda e: e.phase is Phase.CHANGE_EVENT_APPLICATION)
    until = chronicle.first(VerificationCompleted)
    took = until - since if since and until else None
    compared = totals.documents_compared
    yield "documents verified", count(compared), f"{_rate(compared, took)} documents/s"
    again = sum(e.compared for _, e in chronicle.all(KeysVerified))
    yield "compared again after a change", count(again), ""
    yield "mismatches", count(totals.mismatches), ""
    found = plural(len(seen.comparison.differences), "difference")
    yield "independent full comparison", count(seen.comparison.documents), found


def _catching_up(chronicle: Chronicle) -> str:
    """Tell how fast the changes that had gathered during the copy were applied."""
    since = chronicle.first(PhaseChanged, lambda e: e.phase is Phase.CHANGE_EVENT_APPLICATION)
    until = chronicle.first(BecameConsistent)
    if since is None or until is None:
        return ""
    applied = [(at, e.changes) for at, e in chronicle.all(ChangesApplied)]
    # The event after the last of them tells of both, in this order or the other.
    until = next((at for at, _ in applied if at >= until), until)
    changes = sum(number for at, number in applied if at <= until)
    return f"{_rate(changes, until - since)}/s while catching up"


def _phase(chronicle: Chronicle, phase: Phase, following: Phase) -> timedelta | None:
    since = chronicle.first(PhaseChanged, lambda e: e.phase is phase)
    until = chronicle.first(PhaseChanged, lambda e: e.phase is following)
    return until - since if since and until else None


def _rate(number: float, took: timedelta | None) -> str:
    return count(number / took.total_seconds()) if took else "–"


def _speed(number: float, took: timedelta | None) -> str:
    return f"{size(number / took.total_seconds())}/s" if took else "–"


def _say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)
