"""The status of a migration for people, from its body: here or from a server, it reads the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from ..state import Phase, State
from .figures import count, duration, percentage, size
from .steps import step_rows

Body: TypeAlias = Mapping[str, Any]
Row: TypeAlias = tuple[str, str]


def rows_of(body: Body) -> list[Row]:
    """Return what a person wants to know of a body of `status --json`, as names and values."""
    rows = [
        ("migration", body["name"]),
        ("source", body["source"]),
        ("target", body["target"]),
        ("state", body["state"]),
        ("phase", body["phase"]),
        ("driven by", _driven_by(body)),
        *step_rows(body["steps"]),
    ]
    if body["plannedAt"] is not None:
        rows += _figures(body)
    if body["canReverse"]:
        rows.append(("can be reversed", _reversible(body)))
    if body["blockedWrites"]:
        rows.append(("writes blocked at", ", ".join(body["blockedWrites"])))
    if body["oplog"]:
        rows.append(("oplog", f"still holds {body['oplog']['remaining']}"))
    if mismatches := body["verification"]["mismatches"]:
        rows.append(("mismatches", f"{count(mismatches)} – see `limosa verify`"))
    if failure := body["failure"]:
        rows.append(("failure", f"{failure['message']} [{failure['code']}]"))
        rows += [("what to do", failure["hint"])] if failure["hint"] else []
    return rows


def _figures(body: Body) -> list[Row]:
    lag, changes = body["lagTimeSeconds"], body["changes"]
    captured = f"{count(changes['eventsCaptured'])} captured"
    return [
        ("copy", _copy(body)),
        ("changes", f"{captured}, {count(changes['changesApplied'])} applied"),
        ("lag", "–" if lag is None else duration(timedelta(seconds=lag))),
        ("throttled", body["throttled"] or "no"),
        ("verification", _verification(body)),
        ("can commit", "yes" if body["canCommit"] else "no"),
        ("can write to the target", "yes" if body["canWrite"] else "no"),
    ]


def _driven_by(body: Body) -> str:
    if body["isDriven"]:
        return body["holder"] or "a process that is starting"
    if body["state"] == State.COMMITTED:
        return "no process; it is complete"
    return "no process drives it: run the same command again"


def _copy(body: Body) -> str:
    copy = body["collectionCopy"]
    share = copy["partitionsCopied"] / max(1, copy["partitions"])
    return (
        f"{percentage(1.0 if body['copiedAt'] else share)}: {count(copy['copiedDocuments'])} of "
        f"about {count(copy['estimatedDocuments'])} documents, {size(copy['copiedBytes'])}, "
        f"{count(copy['partitionsCopied'])} of {count(copy['partitions'])} partitions"
    )


def _verification(body: Body) -> str:
    found = body["verification"]
    if not found["isEnabled"]:
        return "switched off by --no-verify"
    if body["phase"] == Phase.PLANNING:
        return "not begun"
    partitions = body["collectionCopy"]["partitions"]
    progress = f"{count(found['partitionsVerified'])} of {count(partitions)} partitions"
    return (
        f"{progress}, {count(found['comparedDocuments'])} documents compared, "
        f"{count(found['equalDocuments'])} equal, {count(found['waitingForRecheck'])} to recheck, "
        f"{count(found['mismatches'])} mismatches"
    )


def _reversible(body: Body) -> str:
    until = body["reversibleUntil"]
    how_long = (
        f"until about {datetime.fromisoformat(until):%Y-%m-%d %H:%M} UTC"
        if until
        else "while its oplog holds"
    )
    return f"yes, with `limosa reverse`, {how_long}"
