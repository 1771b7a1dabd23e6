"""Views are pure functions and sums of values."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import bson
import pytest
from bson import Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from limosa import events
from limosa.events import (
    BatchCopied,
    ChangesApplied,
    ChangesCaptured,
    CopyCompleted,
    Event,
    MigrationStarted,
    MismatchFound,
    PartitionCopied,
    PartitionVerified,
    PhaseChanged,
    Planned,
    ReadyToCommit,
    Retrying,
    StateChanged,
)
from limosa.model import DefinitionKind, Key, Mismatch, MismatchKind, Namespace, SchemaVerb
from limosa.state import Failure, Migration, Phase, State, Suspect, Totals
from limosa.views import figures as text
from limosa.views.keys import key_value
from limosa.views.progress import Meter, Progress, Waiting
from limosa.views.status import (
    Status,
    is_verified,
    list_row,
    mismatch_rows,
    status_body,
    status_rows,
    verification_body,
)
from limosa.views.story import Level, entry, level_of, progress_line, told

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PEOPLE = Namespace("shop", "people")
SECRET_KEY = Key(bson.encode({"_id": "secret-key"}))
SECOND = timedelta(seconds=1)


def migration(**changes: Any) -> Migration:
    """A migration that runs, is consistent and verified."""
    running = Migration(
        "m",
        State.RUNNING,
        source="mongodb://a:1",
        target="mongodb://b:1",
        generation=1,
        holder="host:7",
        started_at=NOW,
        planned_at=NOW,
        copied_at=NOW,
        indexed_at=NOW,
        captured_to=NOW,
        applied_to=NOW,
        verified_at=NOW,
    )
    return replace(running, **changes)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3e15, "3000.0 TB")],
)
def test_size(number: float, expected: str) -> None:
    """Bytes are shown in the decimal unit that fits."""
    assert text.size(number) == expected


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (None, "–"),
        (timedelta(seconds=0.25), "0.2 s"),
        (timedelta(seconds=61), "0:01:01"),
        (timedelta(days=2), "48:00:00"),
    ],
)
def test_duration(span: timedelta | None, expected: str) -> None:
    """Spans are shown in tenths of seconds, then in hours, minutes and seconds."""
    assert text.duration(span) == expected


@given(st.floats(min_value=0, max_value=0.999999))
def test_percentage(fraction: float) -> None:
    """Nothing unfinished is shown as 100 %."""
    assert text.percentage(fraction) != "100 %"


def test_meter() -> None:
    """A rate is over the window, and falls to zero when nothing comes any more."""
    meter = Meter(window=timedelta(seconds=10))
    for second in range(20):
        meter.add(100, float(second))

    assert meter.rate(19.0) == pytest.approx(100, rel=0.15)
    assert meter.rate(100.0) == 0.0


def test_meter_at_once() -> None:
    """The first amount makes a finite rate."""
    meter = Meter()
    meter.add(1000, 5.0)

    assert 0 < meter.rate(5.0) <= 2000


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(0, 60))
def test_waiting(amounts: list[int], applied: int) -> None:
    """What waits is what was captured after the time up to which all is applied."""
    waiting = Waiting()
    for second, amount in enumerate(amounts):
        waiting.captured(amount, NOW + second * SECOND)
    waiting.applied(NOW + (applied - 1) * SECOND)

    assert waiting.changes == sum(amounts[applied:])


def test_waiting_is_bounded() -> None:
    """A long copy joins what was captured, and all of it is gone once all is applied."""
    waiting = Waiting()
    for second in range(20_000):
        waiting.captured(1, NOW + second * SECOND)

    assert waiting.changes == 20_000
    waiting.applied(NOW + 20_000 * SECOND)
    assert waiting.changes == 0


def test_progress_of_the_copy() -> None:
    """Batches add up to documents, bytes, rates and the remaining time."""
    clock = Clock()
    progress = Progress(clock=clock)
    progress(Planned(1, 2, 1000, 50_000))
    progress(PhaseChanged(Phase.COLLECTION_COPY))
    for _ in range(5):
        clock.now += 1
        progress(BatchCopied(PEOPLE, 100, 5000))
    progress(PartitionCopied(PEOPLE, "p/0", 500, 25_000, SECOND))

    figures = progress.figures()
    assert (figures.documents_copied, figures.bytes_copied) == (500, 25_000)
    assert figures.fraction_copied == 0.5
    assert figures.partitions_copied == 1
    assert figures.documents_rate == pytest.approx(125)
    assert figures.remaining == timedelta(seconds=4)
    assert figures.collections[PEOPLE].copied == 500


def test_progress_after_a_retry() -> None:
    """Batches that were copied twice are not in the final figures."""
    progress = Progress()
    progress(Planned(1, 1, 100, 5000))
    for _ in range(2):
        progress(BatchCopied(PEOPLE, 100, 5000))
    progress(CopyCompleted(100, 5000, SECOND))

    assert progress.figures().documents_copied == 100


def test_progress_goes_on_from_the_state() -> None:
    """After a restart the figures begin with what is recorded."""
    progress = Progress()
    totals = Totals(
        collections=1,
        partitions=4,
        partitions_copied=2,
        partitions_verified=1,
        documents=400,
        bytes=4000,
        documents_copied=200,
        bytes_copied=2000,
        documents_compared=100,
        mismatches=1,
    )
    progress.seed(totals, {PEOPLE: (400, 200, 100, 2000)})
    progress(BatchCopied(PEOPLE, 10, 100))
    progress(PartitionVerified(PEOPLE, "p/1", 100, 0, SECOND))

    figures = progress.figures()
    assert figures.documents_copied == 210
    assert figures.documents_compared == 200
    assert figures.partitions_verified == 2
    assert figures.collections[PEOPLE].documents == 400
    assert figures.mismatches == 1


def test_progress_of_changes() -> None:
    """Lag is what was told last, and grows while changes wait and none is applied."""
    clock = Clock()
    progress = Progress(clock=clock)
    progress(ChangesCaptured(10, NOW))
    progress(ChangesApplied(8, NOW, timedelta(seconds=0.5)))
    clock.now += 5

    assert progress.figures().lag == timedelta(seconds=0.5)
    progress(ChangesCaptured(3, NOW + SECOND))
    assert progress.figures().changes_waiting == 3
    assert progress.figures().lag == timedelta(seconds=5.5)


def test_lag_before_anything_is_applied() -> None:
    """The lag told at the start grows from then on, as long as nothing is applied."""
    clock = Clock()
    progress = Progress(clock=clock)
    clock.now = 50_000.0
    progress(ReadyToCommit(timedelta(seconds=1)))
    progress(ChangesCaptured(3, NOW))
    clock.now += 5

    assert progress.figures().lag == timedelta(seconds=6)


def test_progress_of_phases() -> None:
    """The time of each phase is known, the current one included."""
    clock = Clock()
    progress = Progress(clock=clock)
    clock.now += 2
    progress(PhaseChanged(Phase.COLLECTION_COPY))
    clock.now += 3

    phases = progress.figures().phases
    assert phases[Phase.PLANNING] == 2 * SECOND
    assert phases[Phase.COLLECTION_COPY] == 3 * SECOND


def test_progress_can_commit() -> None:
    """A migration that is ready stays so until it is paused or commits."""
    progress = Progress()
    progress(MigrationStarted("m", "a", "b", 1))
    progress(ReadyToCommit(SECOND))
    assert progress.figures().can_commit

    progress(StateChanged(State.RUNNING, State.COMMITTING))
    assert not progress.figures().can_commit


def example(kind: type[Any]) -> Event:
    """An event of *kind* with something in each field."""
    values: dict[str, Any] = {
        "str": "x",
        "int": 3,
        "datetime": NOW,
        "timedelta": SECOND,
        "timedelta | None": SECOND,
        "Namespace": PEOPLE,
        "State": State.RUNNING,
        "Phase": Phase.PLANNING,
        "SchemaVerb": SchemaVerb.CREATE,
        "Mismatch": Mismatch(MismatchKind.EXTRA, PEOPLE, SECRET_KEY),
        "DefinitionKind": next(iter(DefinitionKind)),
        "Failure": Failure("write_refused", "it was refused", "correct it"),
    }
    named = getattr(kind, "__annotations__", {})
    event: Event = kind(*(values[annotation] for annotation in named.values()))
    return event


EVERY_EVENT = [example(kind) for kind in get_args(events.Event)]


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda e: type(e).__name__)
def test_every_event_is_told(event: Event) -> None:
    """Every event makes a line of text and of JSON, in which no key appears."""
    line = told(event)

    assert line.text
    assert "secret-key" not in line.text + json.dumps(line.fields)
    assert bytes(SECRET_KEY).hex() not in line.text + json.dumps(line.fields)
    assert line.event[0].islower()
    assert all("_" not in name for name in line.fields)


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda e: type(e).__name__)
def test_every_event_is_kept(event: Event) -> None:
    """Every event but the details makes an entry of one line that is JSON and tells no key."""
    found = entry(event, NOW)

    if level_of(event) is Level.DEBUG:
        assert found is None
        return
    assert found is not None
    assert (found.kind, found.at, found.number) == (type(event).__name__, NOW, 0)
    assert found.message
    assert "\n" not in found.message
    assert "it was refused" not in found.message + json.dumps(found.fields)
    assert "secret-key" not in found.message + json.dumps(found.fields)


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda e: type(e).__name__)
def test_every_event_counts(event: Event) -> None:
    """Progress takes every event, and can still say how far it is."""
    progress = Progress()
    progress(event)

    assert progress_line(progress.figures()).text
    assert json.dumps(progress_line(progress.figures()).fields)


def test_levels() -> None:
    """Batches are details, a few retries are the story, many a warning, a failure an error."""
    assert level_of(BatchCopied(PEOPLE, 1, 1)) is Level.DEBUG
    assert level_of(Retrying("copy", "lost", 1, SECOND)) is Level.INFO
    assert level_of(Retrying("copy", "lost", 9, SECOND)) is Level.WARNING
    assert level_of(events.Failed(Failure("x", "y"))) is Level.ERROR
    assert level_of(MismatchFound(Mismatch(MismatchKind.EXTRA, PEOPLE, SECRET_KEY))) == "warning"


def test_units_of_fields() -> None:
    """Fields of a line name their units."""
    applied = told(ChangesApplied(1, NOW, timedelta(seconds=1.5)))
    copied = told(CopyCompleted(1, 2, timedelta(seconds=2)))

    assert applied.fields["lagTimeSeconds"] == 1.5
    assert copied.fields["tookSeconds"] == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, {"$numberInt": "1"}),
        (Int64(1), {"$numberLong": "1"}),
        ("a", "a"),
        (ObjectId("0" * 24), {"$oid": "0" * 24}),
        ({"a": [None]}, {"a": [None]}),
        (float("nan"), {"$numberDouble": "NaN"}),
    ],
)
def test_key_value(value: Any, expected: Any) -> None:
    """A key is canonical extended JSON, so that types can be told apart."""
    assert key_value(Key(bson.encode({"_id": value}))) == expected


def test_key_value_beyond_datetime() -> None:
    """A date that Python cannot hold is shown all the same."""
    from bson.datetime_ms import DatetimeMS

    assert key_value(Key(bson.encode({"_id": DatetimeMS(2**62)}))) == {
        "$date": {"$numberLong": str(2**62)}
    }


def test_key_value_of_broken_bytes() -> None:
    """A key that cannot be decoded is shown by its bytes."""
    assert key_value(Key(b"\x01\x02")) == {"$bson": "0102"}


def test_status_body() -> None:
    """The status is JSON with units in the names and times as ISO 8601."""
    body = status_body(Status(migration(), Totals(documents_copied=7), NOW, is_driven=True))

    assert json.loads(json.dumps(body)) == body
    assert body["state"] == "RUNNING"
    assert body["canCommit"]
    assert body["lagTimeSeconds"] == 0
    assert body["copiedAt"] == "2026-05-04T12:00:00+00:00"
    assert body["collectionCopy"]["copiedDocuments"] == 7
    assert body["failure"] is None


def test_status_of_a_failure() -> None:
    """A failure is shown with its code and what to do."""
    failure = Failure("position_lost", "gone", "enlarge it")
    failed = Status(migration(state=State.FAILED, failure=failure), Totals(), NOW)

    assert status_body(failed)["failure"] == {
        "code": "position_lost",
        "message": "gone",
        "hint": "enlarge it",
    }
    assert ("what to do", "enlarge it") in status_rows(failed)


def test_status_of_a_migration_that_nobody_drives() -> None:
    """The status says so when no process drives the migration, and what to do."""
    rows = dict(status_rows(Status(migration(), Totals(), NOW)))

    assert rows["driven by"] == "no process drives it: run the same command again"


@pytest.mark.parametrize(
    ("changes", "is_driven", "expected"),
    [
        ({"captured_to": NOW, "applied_to": NOW - 3 * SECOND}, True, 3),
        ({"captured_to": NOW - 60 * SECOND, "applied_to": NOW - 60 * SECOND}, True, 60),
        ({"captured_to": NOW, "applied_to": NOW - 3 * SECOND}, False, 3),
        ({"captured_to": NOW + 5 * SECOND, "applied_to": NOW + 5 * SECOND}, False, 0),
        ({"state": State.COMMITTED, "applied_to": NOW - 60 * SECOND}, False, 0),
    ],
)
def test_lag(changes: dict[str, Any], is_driven: bool, expected: int) -> None:
    """Lag goes by the source's clock while capture is alive, and is never hidden by a dead one."""
    status = Status(migration(**changes), Totals(), NOW, is_driven=is_driven)

    assert status.lag == expected * SECOND


def test_lag_is_unknown_at_first() -> None:
    """There is no lag before the first change was applied."""
    assert Status(migration(applied_to=None), Totals(), NOW).lag is None


def test_verification() -> None:
    """The verification is complete once what it found was rechecked, whatever is in doubt later."""
    mismatch = Mismatch(MismatchKind.MISSING, PEOPLE, SECRET_KEY)
    early = Suspect(mismatch, "c", NOW - SECOND, b"")
    late = Suspect(mismatch, "c", NOW + SECOND, b"")

    assert is_verified(migration(), [late, replace(early, counts=True)])
    assert not is_verified(migration(), [early])
    assert not is_verified(migration(verified_at=None), [])


def test_mismatches() -> None:
    """Each mismatch is shown with kind, namespace and readable key."""
    mismatch = Mismatch(MismatchKind.MISSING, PEOPLE, SECRET_KEY)
    status = Status(migration(), Totals(documents_compared=10, mismatches=1), NOW)
    body = verification_body(status, [mismatch], is_complete=True)

    assert body["mismatchedKeys"] == [
        {"kind": "missing", "namespace": "shop.people", "key": "secret-key"}
    ]
    assert (body["comparedDocuments"], body["equalDocuments"]) == (10, 9)
    assert mismatch_rows([mismatch]) == [("missing", "shop.people", '"secret-key"')]


def test_list_row() -> None:
    """A line of the list says name, state, phase and both ends."""
    row = list_row(Status(migration(), Totals(), NOW))

    assert row[:2] == ("m", "RUNNING")
    assert row[-2:] == ("mongodb://a:1", "mongodb://b:1")
