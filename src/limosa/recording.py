"""The history of a migration as it is made: events and answers become entries and figures."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .errors import LimosaError
from .events import (
    BatchCopied,
    ChangesApplied,
    ChangesCaptured,
    CommitStarted,
    Committed,
    CopyCompleted,
    Event,
    Failed,
    IndexesBuilding,
    IndexesBuilt,
    KeysVerified,
    MismatchFound,
    PartitionCopied,
    PartitionVerified,
    Retrying,
    SchemaChanged,
    TargetWritable,
    VerificationCompleted,
    Warned,
)
from .history import Entry, Sample
from .state import Phase
from .storage import History
from .tallies import Copied, Limit, Pending, Sum

#: Seconds between two writes, between two samples, and before a history that cannot be written
#: is tried again.
_WRITE_EVERY = 0.5
_SAMPLE_EVERY = 1.0
_TRY_AGAIN = 10.0
#: A sample may take a hundredth of the time: sums over 100,000 collections are not for every
#: second.
_SAMPLE_SHARE = 100
#: Partitions are told of in sums: at first every so many seconds, later every fiftieth of the
#: time so far, so that a copy of a week makes some hundreds.
_SUM_EVERY = 10.0
_SUM_SHARE = 50


class Recorder:
    """
    A subscriber that writes the history of a migration, and a watch on both ends.

    Being told costs microseconds, whatever the disk does; a thread writes. What cannot be
    written is warned about and never stops the migration.
    """

    def __init__(
        self,
        opened: Callable[[], History],
        *,
        look: Callable[[], Sample],
        entry: Callable[[Event, datetime], Entry | None],
        warn: Callable[[str], None],
        buffer_file: Path | None = None,
    ) -> None:
        """
        Begin to write to what *opened* returns; it is closed here.

        *look* returns what the state says, *entry* what is kept of an event.
        """
        self._opened = opened
        self._look = look
        self._entry = entry
        self._warn = warn
        self._buffer_file = buffer_file
        self._lock = threading.Lock()
        self._pending = Pending()
        self._copied = Copied(look())
        self._limits: dict[str, Limit] = {}
        self._sums = (Sum("PartitionCopied", "copied"), Sum("PartitionVerified", "compared"))
        self._gauges: dict[str, float] = {}
        self._history: History | None = None
        self._has_warned = False
        self._started = self._summed = time.monotonic()
        self._sample_due = self._try_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Take *event* into account."""
        now = datetime.now(UTC)
        with self._lock:
            self._count(event)
        entry = self._entry(event, now)
        if entry is not None:
            self._add(entry, is_milestone=not isinstance(event, _FREQUENT))

    def took(self, what: str, side: str, seconds: float) -> None:
        """Count an answer of an end under its duration."""
        with self._lock:
            self._pending.took(f"{what}.{side}", seconds)

    def broke(self, side: str) -> None:
        """Count a call that failed in a way that may pass."""
        with self._lock:
            self._pending.counts[f"errors.{side}"] += 1

    def answers(self, side: str, *, is_there: bool) -> None:
        """Note whether an end answers."""
        with self._lock:
            self._gauges[f"unavailable.{side}"] = 0.0 if is_there else 1.0

    def close(self) -> None:
        """Write what is left, and how far the migration has come."""
        self._closing.set()
        self._thread.join()
        self._sample_due = self._try_at = 0.0
        self._tell_sums()
        self._step()
        if self._history is not None:
            self._attempt(self._history.close)

    def _count(self, event: Event) -> None:
        pending = self._pending
        match event:
            case BatchCopied(_, documents, size):
                pending.counts["documents_copied"] += documents
                pending.counts["bytes_copied"] += size
                self._copied.batch(documents, size)
            case PartitionCopied(_, _, documents, size, took):
                pending.counts["partitions_copied"] += 1
                pending.took("copy_partition", took.total_seconds())
                self._copied.partition(documents, size)
                self._sums[0].add(documents)
            case PartitionVerified(_, _, compared, _, took):
                pending.counts["documents_compared"] += compared
                pending.took("verify_partition", took.total_seconds())
                self._sums[1].add(compared)
            case KeysVerified(compared):
                pending.counts["keys_compared"] += compared
            case ChangesCaptured(events, _, size):
                pending.counts["events_captured"] += events
                pending.counts["change_bytes"] += size
            case ChangesApplied(changes):
                pending.counts["changes_applied"] += changes
            case IndexesBuilt(_, indexes, took):
                pending.counts["indexes_built"] += indexes
                pending.took("build_indexes", took.total_seconds())
            case Retrying():
                pending.counts["retries"] += 1
                self._copied.again()
            case _:
                self._count_rare(event)

    def _count_rare(self, event: Event) -> None:
        match event:
            case SchemaChanged():
                self._pending.counts["schema_changes"] += 1
            case MismatchFound():
                self._pending.counts["mismatches_found"] += 1
            case Warned():
                self._pending.counts["warnings"] += 1
            case Failed():
                self._pending.counts["failures"] += 1
            case TargetWritable(took):
                self._pending.took("make_writable", took.total_seconds())
            case Committed(took):
                self._pending.took("commit", took.total_seconds())
            case CopyCompleted() | VerificationCompleted() | CommitStarted():
                self._sum_up()
            case _:
                pass

    def _add(self, entry: Entry, *, is_milestone: bool) -> None:
        with self._lock:
            if is_milestone:
                self._pending.entries.append(entry)
                return
            limit = self._limits.setdefault(entry.kind, Limit())
            if limit.allows(time.monotonic()):
                if left_out := limit.left_out():
                    entry = replace(entry, fields={**entry.fields, "leftOut": left_out})
                self._pending.entries.append(entry)

    def _run(self) -> None:
        while not self._closing.wait(_WRITE_EVERY):
            now = time.monotonic()
            if now - self._summed > max(_SUM_EVERY, (now - self._started) / _SUM_SHARE):
                self._tell_sums()
            self._step()

    def _tell_sums(self) -> None:
        with self._lock:
            self._sum_up()

    def _sum_up(self) -> None:
        self._summed = time.monotonic()
        now = datetime.now(UTC)
        self._pending.entries += [e for each in self._sums if (e := each.taken(now)) is not None]

    def _step(self) -> None:
        """Write what has come up."""
        if self._history is None and time.monotonic() >= self._try_at:
            self._attempt(self._open)
        if self._history is None:
            return
        with self._lock:
            pending, self._pending = self._pending, Pending()
        self._attempt(lambda: self._write(pending))
        with self._lock:  # what could not be written, or need not be yet
            self._pending = pending.joined(self._pending)

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do a step; whatever becomes of it, the migration goes on."""
        try:
            step()
        except LimosaError as error:
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - a defect here must not stop a migration
            self._complain(f"{type(error).__name__}: {error}")

    def _complain(self, error: str) -> None:
        self._try_at = time.monotonic() + _TRY_AGAIN
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"the history is incomplete, the migration goes on: {error}")

    def _open(self) -> None:
        self._history = self._opened()

    def _write(self, pending: Pending) -> None:
        """Write and empty *pending*, part by part, so that nothing is written twice."""
        assert self._history is not None
        if pending.entries:
            self._history.record(pending.entries)
            pending.entries.clear()
        if time.monotonic() < self._sample_due:
            return  # every transaction costs, and nobody looks at figures more often
        self._sample(self._history)
        if pending.durations:
            self._history.observe({n: t.histogram() for n, t in pending.durations.items()})
            pending.durations.clear()
        if pending.counts:
            self._history.count(pending.counts)
            pending.counts.clear()

    def _sample(self, history: History) -> None:
        started = time.monotonic()
        sample = self._look()
        with self._lock:
            if sample.phase == Phase.COLLECTION_COPY:
                sample = self._copied.seen_in(sample)
            gauges = {**self._gauges, **_own_figures(self._buffer_file)}
        took = time.monotonic() - started
        self._sample_due = started + max(_SAMPLE_EVERY, took * _SAMPLE_SHARE)
        history.sample(sample)
        history.note(gauges)


#: Events of which a fault or a habit of the application can make thousands.
_FREQUENT = (Retrying, MismatchFound, Warned, SchemaChanged, IndexesBuilt, IndexesBuilding)


def _own_figures(buffer_file: Path | None) -> dict[str, float]:
    """Return what this process uses: seconds of CPU, bytes of memory and of disk."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"process_cpu_seconds": usage.ru_utime + usage.ru_stime}
    if buffer_file is not None:
        files = (buffer_file, buffer_file.with_name(buffer_file.name + "-wal"))
        figures["buffer_bytes"] = float(sum(f.stat().st_size for f in files if f.exists()))
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux
        resident = int(statm.read_text(encoding="ascii").split()[1])
        figures["process_resident_bytes"] = float(resident * resource.getpagesize())
    return figures
