"""Which metrics there are, and where the value of each comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from ..history import Histogram, Sample
from ..state import Phase, State, Totals
from .status import Status


@dataclass(frozen=True, slots=True)
class Readings:
    """What one scrape sees of one migration: its state and what its history holds."""

    status: Status
    sample: Sample | None = None  # the latest
    counters: Mapping[str, int] = field(default_factory=dict)
    durations: Mapping[str, Histogram] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)


def sample(status: Status, *, waiting: int) -> Sample:
    """Return what the state says, with *waiting* changes in the buffer."""
    migration, totals, lag = status.migration, status.totals, status.lag
    return Sample(
        at=status.now,
        phase=migration.phase.value,
        documents_copied=totals.documents_copied,
        bytes_copied=totals.bytes_copied,
        events_captured=migration.events_captured,
        changes_applied=migration.changes_applied,
        documents_compared=totals.documents_compared,
        waiting=waiting,
        lag_seconds=None if lag is None else lag.total_seconds(),
        mismatches=totals.mismatches,
    )


class Kind(StrEnum):
    """How the values of a metric go on."""

    GAUGE = "gauge"
    COUNTER = "counter"  # never falls; its name ends in _total
    HISTOGRAM = "histogram"  # of seconds


#: Values of one migration by the values of the labels beside its name.
Values: TypeAlias = Iterable[tuple[tuple[str, ...], float | Histogram]]


@dataclass(frozen=True, slots=True)
class Metric:
    """
    A metric: what it is called, what it means, and where its values come from.

    What is unknown has no value, instead of one that looks like a measurement. The labels have
    few values, whatever is migrated; no namespace is among them.
    """

    name: str
    kind: Kind
    text: str
    values: Callable[[Readings], Values]
    labels: tuple[str, ...] = ()


def _one(value: float | None) -> Values:
    return [] if value is None else [((), value)]


def _of_migration(read: Callable[[Status], float | None]) -> Callable[[Readings], Values]:
    return lambda readings: _one(read(readings.status))


def _of_totals(read: Callable[[Totals], float]) -> Callable[[Readings], Values]:
    return lambda readings: _one(read(readings.status.totals))


def _of_sample(read: Callable[[Sample], float]) -> Callable[[Readings], Values]:
    return lambda r: _one(None if r.sample is None else read(r.sample))


def _copied(figure: str) -> Callable[[Readings], Values]:
    """The newer of state and sample: the state counts whole partitions only."""

    def values(readings: Readings) -> Values:
        in_state: int = getattr(readings.status.totals, figure)
        return _one(max(in_state, getattr(readings.sample, figure, 0)))

    return values


def _counter(name: str) -> Callable[[Readings], Values]:
    return lambda readings: _one(readings.counters.get(name, 0))


def _counter_by_side(name: str) -> Callable[[Readings], Values]:
    return lambda r: [((s,), r.counters.get(f"{name}.{s}", 0)) for s in _SIDES]


def _gauge(name: str) -> Callable[[Readings], Values]:
    """Of the process that drives: without one there is nothing to be measured."""
    return lambda r: _one(r.gauges.get(name) if r.status.is_driven else None)


def _gauge_by_side(name: str) -> Callable[[Readings], Values]:
    def values(readings: Readings) -> Values:
        found = ((side, readings.gauges.get(f"{name}.{side}")) for side in _SIDES)
        return [((s,), v) for s, v in found if v is not None and readings.status.is_driven]

    return values


def _durations(name: str) -> Callable[[Readings], Values]:
    def values(readings: Readings) -> Values:
        found = readings.durations.get(name)
        return [] if found is None else [((), found)]

    return values


def _durations_by_side(name: str) -> Callable[[Readings], Values]:
    def values(readings: Readings) -> Values:
        found = ((side, readings.durations.get(f"{name}.{side}")) for side in _SIDES)
        return [((side,), histogram) for side, histogram in found if histogram is not None]

    return values


def _states(readings: Readings) -> Values:
    return [((s.value,), float(readings.status.migration.state is s)) for s in State]


def _phases(readings: Readings) -> Values:
    return [((p.value,), float(readings.status.migration.phase is p)) for p in Phase]


def _partitions(readings: Readings) -> Values:
    totals = readings.status.totals
    return [
        (("pending",), totals.partitions - totals.partitions_copied),
        (("copied",), totals.partitions_copied - totals.partitions_verified),
        (("verified",), totals.partitions_verified),
    ]


def _lag(status: Status) -> float | None:
    return None if status.lag is None else status.lag.total_seconds()


_SIDES = ("source", "target")
_G, _C, _H = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM

#: All there are, in the order in which they are shown. docs/metrics.md explains each.
METRICS = (
    # The migration as a whole.
    Metric("limosa_state", _G, "1 for the state it is in", _states, ("state",)),
    Metric("limosa_phase", _G, "1 for the phase it is in", _phases, ("phase",)),
    Metric(
        "limosa_driven",
        _G,
        "1 while a process drives the migration",
        _of_migration(lambda s: float(s.is_driven)),
    ),
    Metric(
        "limosa_can_commit",
        _G,
        "1 if a commit asked for now is accepted",
        _of_migration(lambda s: float(s.migration.can_commit)),
    ),
    Metric(
        "limosa_can_write",
        _G,
        "1 if the application may write to the target",
        _of_migration(lambda s: float(s.migration.can_write)),
    ),
    Metric(
        "limosa_lag_seconds",
        _G,
        "how far the target is behind the source",
        _of_migration(_lag),
    ),
    Metric(
        "limosa_starts_total",
        _C,
        "processes that have driven the migration",
        _of_migration(lambda s: s.migration.generation),
    ),
    Metric("limosa_retries_total", _C, "steps that were tried again", _counter("retries")),
    Metric("limosa_warnings_total", _C, "warnings", _counter("warnings")),
    Metric("limosa_failures_total", _C, "times it has failed", _counter("failures")),
    Metric(
        "limosa_last_sample_timestamp_seconds",
        _G,
        "when the process that drives last wrote its figures",
        _of_sample(lambda s: s.at.timestamp()),
    ),
    # Collection copy.
    Metric(
        "limosa_planned_collections",
        _G,
        "collections to be copied",
        _of_totals(lambda t: t.collections),
    ),
    Metric(
        "limosa_planned_documents",
        _G,
        "documents to be copied, estimated when planned",
        _of_totals(lambda t: t.documents),
    ),
    Metric(
        "limosa_planned_bytes",
        _G,
        "bytes to be copied, estimated when planned",
        _of_totals(lambda t: t.bytes),
    ),
    Metric(
        "limosa_copied_documents",
        _G,
        "documents on the target, of partitions under way too",
        _copied("documents_copied"),
    ),
    Metric(
        "limosa_copied_bytes",
        _G,
        "bytes on the target, of partitions under way too",
        _copied("bytes_copied"),
    ),
    Metric(
        "limosa_copy_documents_total",
        _C,
        "documents written by the copy, repeated ones too",
        _counter("documents_copied"),
    ),
    Metric(
        "limosa_copy_bytes_total",
        _C,
        "bytes written by the copy, repeated ones too",
        _counter("bytes_copied"),
    ),
    Metric("limosa_partitions", _G, "partitions by status", _partitions, ("status",)),
    Metric(
        "limosa_copy_partition_duration_seconds",
        _H,
        "copying one partition",
        _durations("copy_partition"),
    ),
    Metric("limosa_indexes_built_total", _C, "indexes built", _counter("indexes_built")),
    Metric(
        "limosa_index_build_duration_seconds",
        _H,
        "building the indexes of one collection",
        _durations("build_indexes"),
    ),
    # Changes.
    Metric(
        "limosa_events_captured_total",
        _C,
        "events of the change stream that are in the buffer or applied",
        _of_migration(lambda s: s.migration.events_captured),
    ),
    Metric(
        "limosa_change_stream_bytes_total",
        _C,
        "bytes of events read from the change stream",
        _counter("change_bytes"),
    ),
    Metric(
        "limosa_changes_applied_total",
        _C,
        "documents written or deleted by changes, after coalescing",
        _of_migration(lambda s: s.migration.changes_applied),
    ),
    Metric(
        "limosa_schema_changes_total",
        _C,
        "changes of collections and indexes carried over or left out",
        _counter("schema_changes"),
    ),
    Metric(
        "limosa_buffer_changes",
        _G,
        "changes captured and not yet applied",
        _of_sample(lambda s: s.waiting),
    ),
    Metric("limosa_buffer_bytes", _G, "size of the buffer on disk", _gauge("buffer_bytes")),
    # Verification.
    Metric(
        "limosa_verified_collections",
        _G,
        "collections of which every partition was compared",
        _of_totals(lambda t: t.collections_verified),
    ),
    Metric(
        "limosa_compared_documents",
        _G,
        "documents compared with their partition",
        _of_totals(lambda t: t.documents_compared),
    ),
    Metric(
        "limosa_compare_documents_total",
        _C,
        "documents compared with their partition, repeated ones too",
        _counter("documents_compared"),
    ),
    Metric(
        "limosa_rechecked_documents_total",
        _C,
        "documents compared again by key",
        _of_migration(lambda s: s.migration.documents_rechecked),
    ),
    Metric(
        "limosa_suspects",
        _G,
        "differences that wait for their recheck",
        _of_totals(lambda t: t.suspects),
    ),
    Metric("limosa_mismatches", _G, "differences that count", _of_totals(lambda t: t.mismatches)),
    Metric(
        "limosa_verify_partition_duration_seconds",
        _H,
        "comparing one partition",
        _durations("verify_partition"),
    ),
    # Both ends.
    Metric(
        "limosa_unavailable",
        _G,
        "1 if the last ping was not answered",
        _gauge_by_side("unavailable"),
        ("side",),
    ),
    Metric(
        "limosa_errors_total",
        _C,
        "calls that failed in a way that may pass",
        _counter_by_side("errors"),
        ("side",),
    ),
    Metric("limosa_ping_duration_seconds", _H, "a ping", _durations_by_side("ping"), ("side",)),
    Metric(
        "limosa_read_duration_seconds",
        _H,
        "reading one batch of a partition",
        _durations_by_side("read"),
        ("side",),
    ),
    Metric(
        "limosa_lookup_duration_seconds",
        _H,
        "reading documents by key",
        _durations_by_side("lookup"),
        ("side",),
    ),
    Metric(
        "limosa_write_duration_seconds",
        _H,
        "writing one batch of the copy",
        _durations("write.target"),
    ),
    Metric(
        "limosa_apply_duration_seconds",
        _H,
        "writing one part of the changes",
        _durations("apply.target"),
    ),
    # The cut-over.
    Metric(
        "limosa_writable_duration_seconds",
        _H,
        "from the commit until the application may write to the target",
        _durations("make_writable"),
    ),
    Metric(
        "limosa_commit_duration_seconds",
        _H,
        "from the commit to its end",
        _durations("commit"),
    ),
    # The process that drives.
    Metric(
        "limosa_process_cpu_seconds",
        _G,
        "CPU time used since the process began",
        _gauge("process_cpu_seconds"),
    ),
    Metric(
        "limosa_process_resident_bytes",
        _G,
        "memory in use",
        _gauge("process_resident_bytes"),
    ),
)
