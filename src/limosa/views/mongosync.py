"""The progress of a migration in mongosync's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..history import Sample
from ..settings import IndexMode
from ..state import CollectionProgress, Failure, Migration, Phase, State
from .status import Status

#: The state of a server that has just begun; the others are those of the migration.
INITIALIZING = "INITIALIZING"

#: A commit is refused while the target is further behind, and not offered.
MAX_COMMIT_LAG = timedelta(seconds=30)

#: There is one instance, which therefore is the coordinator, as one of a replica set is.
INSTANCE = "coordinator"

#: The order of the fields; before the start each is there, most of them null.
FIELDS = (
    *("state", "canCommit", "canWrite", "info", "ceaStage", "indexBuilding", "lag"),
    *("lagTimeSeconds", "totalEventsApplied", "estimatedSecondsToCEACatchup", "collectionCopy"),
    *("directionMapping", "source", "destination", "verification"),
    *("estimatedOplogTimeRemaining", "mongosyncID", "coordinatorID", "warnings"),
)

_INFO = {
    Phase.PLANNING: "collection copy",
    Phase.COLLECTION_COPY: "collection copy",
    Phase.INDEX_BUILD: "change event application",
    Phase.CHANGE_EVENT_APPLICATION: "change event application",
    Phase.WAITING_FOR_COMMIT: "waiting for commit to complete",
    Phase.COMMIT_COMPLETED: "commit completed",
}
#: What a start calls the options of the command line.
_FIELDS_OF_OPTIONS = (
    ("--existing keep", "`preExistingDestinationData`"),
    ("--block-writes", "`enableUserWriteBlocking`"),
    ("--reversible", "`reversible`"),
    ("--include", "`includeNamespaces`"),
    ("--exclude", "`excludeNamespaces`"),
    ("--rename", "`namespaceRemap`"),
    ("--filter", "`documentFilter`"),
    ("`limosa status` says that it can commit", "`canCommit` is true"),
)
_APPLYING = _INFO[Phase.CHANGE_EVENT_APPLICATION]


@dataclass(frozen=True, slots=True)
class Indexing:
    """How far the secondary indexes are built."""

    indexes_built: int
    indexes: int
    collections_finished: int
    collections: int

    @classmethod
    def of(cls, collections: Iterable[CollectionProgress]) -> Indexing:
        """Return the sums over all collections that have any."""
        built = indexes = finished = wanted = 0
        for collection in collections:
            if _has_indexes(collection):
                count = len(collection.spec.indexes)
                indexes, wanted = indexes + count, wanted + 1
                if collection.is_indexed:
                    built, finished = built + count, finished + 1
        return cls(built, indexes, finished, wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that a progress document stands on, at one moment."""

    status: Status | None = None  # None: nothing was started
    is_initializing: bool = False
    #: Why the migration stands still, also if that is not in its state.
    failure: Failure | None = None
    sample: Sample | None = None  # the latest
    recent: Sequence[Sample] = ()  # of the last half minute, oldest first
    counters: Mapping[str, int] = field(default_factory=dict)
    indexing: Indexing | None = None
    pings: Mapping[str, int] = field(default_factory=dict)  # ms by "source", "target"; -1: none
    names: tuple[str, str] = ("cluster0", "cluster1")  # of source and target
    oplog_left: timedelta | None = None
    warnings: Sequence[str] = ()


def progress_body(figures: Figures) -> dict[str, Any]:
    """Return the whole answer: the progress, and why the migration stands still if it does."""
    body: dict[str, Any] = {"progress": _progress(figures), "success": figures.failure is None}
    if figures.failure is not None:
        failure = figures.failure
        body["error"] = error_name(failure.code)
        body["errorDescription"] = description(failure.message, failure.hint, again="`resume`")
    return body


def state_of(figures: Figures) -> str:
    """Return the state that is shown."""
    if figures.is_initializing:
        return INITIALIZING
    if figures.failure is not None:
        return State.FAILED.value
    return State.IDLE.value if figures.status is None else figures.status.migration.state.value


def can_commit(status: Status) -> bool:
    """Whether a commit asked for now is accepted."""
    lag = status.lag
    return status.migration.can_commit and lag is not None and lag <= MAX_COMMIT_LAG


def error_name(code: str) -> str:
    """Return the name under which an answer speaks of an error: ``TargetNotEmpty``."""
    return "".join(word.capitalize() for word in code.split("_"))


def description(message: str, hint: str, *, again: str = "send the call again") -> str:
    """
    Return cause and cure as one text, for those who send calls and type no commands.

    *again* is what they do where others run the same command again.
    """
    text = f"{message}; {hint}" if hint else message
    for said, meant in (*_FIELDS_OF_OPTIONS, ("run the same command again", again)):
        text = text.replace(said, meant)
    return text


def oplog_text(left: timedelta | None) -> str:
    """Return how long the oplog still holds what is needed, as mongosync says it."""
    if left is None:
        return "not checked yet"
    minutes = int(left.total_seconds() // 60)
    if minutes < 15:
        return "less than 15 minutes"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = minutes // 60
    return "more than 72 hours" if hours > 72 else f"{hours} hour{'s' if hours > 1 else ''}"


def hosts(identity: str) -> str:
    """Return the hosts of a deployment, comma-separated."""
    return identity.partition("://")[2] or identity


def _progress(figures: Figures) -> dict[str, Any]:
    state, status = state_of(figures), figures.status
    if status is None or state in (State.IDLE, INITIALIZING):
        return {**dict.fromkeys(FIELDS), "state": state, "canCommit": False}
    migration = status.migration
    info = _info(migration)
    found = {
        "state": state,
        "canCommit": state == State.RUNNING and can_commit(status),
        "canWrite": migration.can_write,
        "info": info,
        **_stage(figures, status, info),
        **_lags(figures, status, info),
        "totalEventsApplied": migration.changes_applied,
        **_catchup(figures, status, info),
        "collectionCopy": _copy(figures, status),
        "directionMapping": {
            "Source": f"{figures.names[0]}: {hosts(migration.source)}",
            "Destination": f"{figures.names[1]}: {hosts(migration.target)}",
        },
        "source": _ping(figures, "source"),
        "destination": _ping(figures, "target"),
        "verification": _verification(status),
        **_oplog(figures, migration),
        "mongosyncID": INSTANCE,
        "coordinatorID": INSTANCE,
    }
    if figures.warnings:
        found["warnings"] = list(figures.warnings)
    return {name: found[name] for name in FIELDS if name in found}


def _info(migration: Migration) -> str | None:
    return _INFO.get(migration.phase)


def _stage(figures: Figures, status: Status, info: str | None) -> dict[str, Any]:
    if info != _APPLYING:
        return {}
    is_steady = status.migration.is_consistent
    found: dict[str, Any] = {"ceaStage": "steady state" if is_steady else "collection copy drain"}
    mode = IndexMode(status.migration.settings.get("indexes", IndexMode.AFTER))
    if figures.indexing is not None and mode.builds_after:
        found["indexBuilding"] = {
            "indexesBuilt": figures.indexing.indexes_built,
            "totalIndexesToBuild": figures.indexing.indexes,
            "collectionsFinished": figures.indexing.collections_finished,
            "collectionsTotal": figures.indexing.collections,
        }
    return found


def _lags(figures: Figures, status: Status, info: str | None) -> dict[str, Any]:
    """Null while paused and before changes are applied; a number while they are."""
    if status.migration.state is State.PAUSED:
        return {"lag": None, "lagTimeSeconds": None}
    lag = None if info in (None, _INFO[Phase.COLLECTION_COPY]) else _seconds(_lag(status))
    has_schema_changes = figures.counters.get("schema_changes", 0) > 0
    return {
        "lag": {
            "overallLagSeconds": lag,
            "crudLagSeconds": lag,
            # They are applied in order with the data, so they are no further behind.
            "ddlLagSeconds": lag if has_schema_changes else None,
        },
        "lagTimeSeconds": lag,
    }


def _lag(status: Status) -> timedelta | None:
    """Before the first change is applied, everything since the plan is missing."""
    migration = status.migration
    if status.lag is not None or migration.planned_at is None:
        return status.lag
    return max(timedelta(), (migration.captured_to or status.now) - migration.planned_at)


def _catchup(figures: Figures, status: Status, info: str | None) -> dict[str, Any]:
    """Omitted unless the lag falls."""
    known = [s for s in figures.recent if s.lag_seconds is not None]
    if info != _APPLYING or status.migration.state is not State.RUNNING or len(known) < 2:
        return {}
    first, last = known[0], known[-1]
    assert first.lag_seconds is not None
    assert last.lag_seconds is not None
    fall = first.lag_seconds - last.lag_seconds
    took = (last.at - first.at).total_seconds()
    if fall <= 0 or took <= 0:
        return {}
    return {"estimatedSecondsToCEACatchup": round(last.lag_seconds * took / fall)}


def _copy(figures: Figures, status: Status) -> dict[str, Any]:
    migration, totals = status.migration, status.totals
    # The state counts whole partitions only.
    copied = totals.bytes_copied
    if figures.sample is not None and migration.copied_at is None:
        copied = max(copied, figures.sample.bytes_copied)
    total = max(totals.bytes, copied)
    if migration.planned_at is None or total == 0:
        copied, total = (1, 1) if migration.copied_at is not None else (0, 1)
    elif migration.copied_at is not None:
        copied = total
    is_filtered = bool(migration.settings.get("filters"))
    return {
        "estimatedTotalBytes": None if is_filtered else total,
        "estimatedCopiedBytes": copied,
    }


def _ping(figures: Figures, side: str) -> dict[str, int]:
    return {"pingLatencyMs": figures.pings[side]} if side in figures.pings else {}


def _verification(status: Status) -> dict[str, Any] | None:
    """Both sides are compared at once, so they show the same."""
    migration, totals = status.migration, status.totals
    if not migration.verifies:
        return None
    phase = "not started"
    if migration.verified_at is not None:
        phase = "stream hashing"
    elif totals.documents_compared or totals.partitions_verified:
        phase = "initial hashing"
    side = {
        "estimatedDocumentCount": max(totals.documents, totals.documents_compared),
        "hashedDocumentCount": totals.documents_compared,
        "lagTimeSeconds": _seconds(status.lag) if phase == "stream hashing" else None,
        "totalCollectionCount": totals.collections,
        "scannedCollectionCount": totals.collections_verified,
        "phase": phase,
    }
    return {"source": side, "destination": dict(side)}


def _oplog(figures: Figures, migration: Migration) -> dict[str, Any]:
    if migration.state is not State.RUNNING or migration.can_write:
        return {}
    return {"estimatedOplogTimeRemaining": oplog_text(figures.oplog_left)}


def _seconds(lag: timedelta | None) -> int | None:
    return None if lag is None else int(lag.total_seconds())


def _has_indexes(collection: CollectionProgress) -> bool:
    spec = collection.spec
    return bool(spec.indexes) and not (collection.is_dropped or spec.leaves_indexes)
