"""Whether the oplog reaches far enough back, and the data fits on the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from ...connector import Finding
from ...errors import AccessDenied
from ...model import CollectionSpec, Namespace
from .others import end_of_oplog
from .probe import Probe

#: Bytes a second of a copy, to be on the safe side: 59 to 88 MB/s were measured with both
#: servers and Limosa on two cores.
_COPY_RATE = 50_000_000
#: An oplog this full has its present reach; a newer one is still growing.
_FULL = 0.9
#: Who pauses a migration, or has to repair something, wants at least so long.
_SHORT_WINDOW = timedelta(hours=1)
#: The server's compression seldom makes data smaller than this share of itself.
_BEST_COMPRESSION = 0.2
_NAMED = 10


def check_oplog(probe: Probe, specs: Sequence[CollectionSpec]) -> Iterator[Finding]:
    """Compare the oplog's window with the time that the copy will take."""
    try:
        window = _window(probe)
    except AccessDenied:
        yield Finding(
            "oplog_window",
            "warning",
            "not allowed to read local.oplog.rs, so its window is unknown",
            "grant the role clusterMonitor on admin, or ask rs.printReplicationInfo()",
        )
        return
    if window is None:
        return
    copy = timedelta(seconds=sum(s.size for s in specs) / _COPY_RATE)
    text = f"the oplog reaches back {_brief(window)}; the copy will take about {_brief(copy)}"
    if window >= max(copy, _SHORT_WINDOW):
        yield Finding("oplog_window", "ok", text)
        return
    yield Finding(
        "oplog_window",
        "warning",
        text,
        "changes are captured from the first second, so the copy may take longer; but a "
        f"migration that stands still for more than {_brief(window)} has to start anew: "
        "enlarge the oplog with replSetResizeOplog",
    )


def check_others(probe: Probe) -> Finding:
    """Say whether what others write to the target can be seen."""
    try:
        _window(probe)
    except AccessDenied:
        return Finding(
            "other_writers",
            "warning",
            "not allowed to read local.oplog.rs: what somebody else writes to a document of the "
            "target after it was compared is found by `limosa verify --again` only",
            "grant the role clusterMonitor on admin, or keep others out: --block-writes target",
        )
    return Finding("other_writers", "ok", "what somebody else writes meanwhile is seen")


def check_disk(probe: Probe, specs: Sequence[CollectionSpec]) -> Finding:
    """Compare the free space on the target with the size of the data."""
    needed = sum(s.size for s in specs)
    databases = [*sorted({s.collection.namespace.database for s in specs}), "admin"]
    stats: dict[str, Any] = {}
    for database in databases:
        try:
            stats = probe.ask(database, {"dbStats": 1}, doing="measure the disk")
        except AccessDenied:
            continue
        if stats.get("fsTotalSize"):
            break
    if not stats.get("fsTotalSize"):
        advice = "grant the role clusterMonitor on admin, or look yourself"
        return Finding("disk", "warning", "the free space is unknown", advice)
    free = int(stats["fsTotalSize"] - stats["fsUsedSize"])
    text = f"{_size(needed)} to be copied before compression, {_size(free)} free"
    figures = {"needed": needed, "free": free}
    if free >= needed:
        return Finding("disk", "ok", text, figures=figures)
    level = "error" if free < needed * _BEST_COMPRESSION else "warning"
    advice = "free some space on the target, or give it a larger disk"
    return Finding("disk", level, text, advice, figures)


def check_empty(probe: Probe, specs: Sequence[CollectionSpec]) -> Finding:
    """Name the collections to be migrated that hold documents on the target."""
    namespaces = [s.collection.namespace for s in specs]
    occupied = [str(n) for n in namespaces if _holds_documents(probe, n)]
    if not occupied:
        return Finding("target_empty", "ok", "no collection to be migrated holds documents")
    names = ", ".join(occupied[:_NAMED])
    more = f" and {len(occupied) - _NAMED} more" if len(occupied) > _NAMED else ""
    return Finding(
        "target_empty",
        "error",
        f"the target already has documents in {names}{more}",
        "drop these collections on the target, or leave them out with --exclude",
    )


def _window(probe: Probe) -> timedelta | None:
    ends = []
    for direction in (1, -1):
        command = end_of_oplog(direction)
        ends += probe.first_batch("local", command, doing="read the oplog's ends")
    if len(ends) < 2:
        return None
    reach = timedelta(seconds=ends[1]["ts"].time - ends[0]["ts"].time)
    try:
        stats = probe.ask("local", {"collStats": "oplog.rs"}, doing="measure the oplog")
    except AccessDenied:
        return reach
    share = stats["size"] / stats["maxSize"]
    return reach if not 0 < share < _FULL else _times(reach, 1 / share)


def _times(span: timedelta, factor: float) -> timedelta:
    # A day-old oplog of an idle server may reach back for ever.
    return timedelta(seconds=min(span.total_seconds() * factor, 366 * 86_400))


def _holds_documents(probe: Probe, namespace: Namespace) -> bool:
    command = {"find": namespace.collection, "limit": 1, "projection": {"_id": 1}}
    doing = f"look into {namespace}"
    return bool(probe.first_batch(namespace.database, command, doing=doing))


def _brief(span: timedelta) -> str:
    seconds = span.total_seconds()
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.0f} {unit}"
        count /= 1_000
    return f"{count:,.1f} TB"
