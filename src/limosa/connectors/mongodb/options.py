"""Collections and their options on the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import CollectionGone, WriteRefused
from ...model import Namespace, Unfinished
from . import errors, timeseries
from .commands import alter, code_of
from .deployment import Deployment

#: Fixed when the collection is created.
_FIXED = ("capped", "size", "max", "clusteredIndex", "storageEngine")
#: What ``collMod`` can change, with what their absence means.
_CHANGEABLE: Mapping[str, Any] = {
    "validator": {},
    "validationLevel": "strict",
    "validationAction": "error",
    "changeStreamPreAndPostImages": {"enabled": False},
}
#: Fields of ``collMod`` that take effect at once; all others are inert until the commit.
_MODIFIED_AT_ONCE = (*_CHANGEABLE, "cappedSize", "cappedMax", "timeseries")
#: The limits of a capped collection as ``create`` and as ``collMod`` call them.
_LIMITS = {"size": "cappedSize", "max": "cappedMax"}
_UNSUPPORTED = {
    "encryptedFields": "a collection with queryable encryption",
}
#: Servers before 6.0 round the size of a capped collection up to a multiple of this.
_CAPPED_UNIT = 256


def create(deployment: Deployment, namespace: Namespace, options: Mapping[str, Any]) -> None:
    """
    Create a collection; one with equal options may be there already.

    It lets no document expire until `complete`.

    Raises:
        WriteRefused: it cannot be created so, or is there with other options.
    """
    for option, what in _UNSUPPORTED.items():
        if option in options:
            msg = f"create {namespace}: {what} cannot be migrated yet"
            raise WriteRefused(msg, hint=f"leave it out: --exclude {namespace}")
    command = {"create": namespace.collection, **_creatable(options)}
    try:
        alter(deployment, namespace.database, command, doing=f"create {namespace}")
    except WriteRefused as exc:
        if code_of(exc) != errors.NAMESPACE_EXISTS:
            raise
        _check_equal(deployment, namespace, options)


def listed(deployment: Deployment, namespace: Namespace) -> dict[str, Any] | None:
    """Return what ``listCollections`` says of the collection, or None if there is none."""
    command = {"listCollections": 1, "filter": {"name": namespace.collection}}
    reply = deployment.decoded(namespace.database, command, doing=f"look at {namespace}")
    found: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
    return found[0] if found else None


def modify(deployment: Deployment, namespace: Namespace, detail: Mapping[str, Any]) -> None:
    """Carry a ``collMod`` over, less what is to stay inert; a missing collection is fine."""
    fields = {k: v for k, v in detail.items() if k in _MODIFIED_AT_ONCE}
    if "timeseries" in fields:
        fields["timeseries"] = timeseries.modification(fields["timeseries"])
    if not fields:
        return
    command = {"collMod": namespace.collection, **fields}
    try:
        alter(deployment, namespace.database, command, doing=f"modify {namespace}")
    except CollectionGone:
        return


def complete(
    deployment: Deployment, namespace: Namespace, options: Mapping[str, Any]
) -> list[Unfinished]:
    """Bring the options to those of the source; return those that cannot be brought there."""
    entry = listed(deployment, namespace)
    if entry is None:
        return [Unfinished(namespace, "collection", "it is missing on the target")]
    present = entry.get("options", {})
    options = _as_listed(options)
    unfinished = []
    for fields in _changes(present, options):
        command = {"collMod": namespace.collection, **fields}
        what = "option " + ", ".join(fields)
        try:
            alter(deployment, namespace.database, command, doing=f"set {what} of {namespace}")
        except WriteRefused as exc:
            unfinished.append(Unfinished(namespace, what, str(exc)))
    unfinished += [
        Unfinished(namespace, f"option {name}", "it cannot be changed once a collection exists")
        for name in _differing_fixed(present, options)
        if name not in {"size", "max"} or not present.get("capped")
    ]
    return unfinished


def without_version(collation: Mapping[str, Any]) -> dict[str, Any]:
    """Return *collation* less the version of the library, which another server may not have."""
    return {k: v for k, v in collation.items() if k != "version"}


def _creatable(options: Mapping[str, Any]) -> dict[str, Any]:
    taken = (*_FIXED, *_CHANGEABLE, "collation", "indexOptionDefaults", "timeseries")
    chosen = {k: options[k] for k in taken if k in options}
    if "collation" in chosen:
        chosen["collation"] = without_version(chosen["collation"])
    return chosen


def _check_equal(deployment: Deployment, namespace: Namespace, options: Mapping[str, Any]) -> None:
    entry = listed(deployment, namespace)
    if entry is None:
        return create(deployment, namespace, options)  # it was dropped in between
    present = entry.get("options", {})
    if entry.get("type") == "view":
        msg = f"create {namespace}: the target has a view of that name"
        raise WriteRefused(msg, hint="drop it on the target; then run the same command again")
    different = _differing_fixed(present, options) + _differing_changeable(present, options)
    if different:
        names = ", ".join(different)
        msg = f"create {namespace}: it exists on the target with other options ({names})"
        raise WriteRefused(msg, hint="drop it on the target; then run the same command again")
    return None


def _differing_fixed(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    names = [n for n in _FIXED if _normal(n, present.get(n)) != _normal(n, wanted.get(n))]
    if not _are_one_collation(present.get("collation") or {}, wanted.get("collation") or {}):
        names.append("collation")
    series = present.get("timeseries"), wanted.get("timeseries")
    if any(series) and not timeseries.are_equal(series[0] or {}, series[1] or {}):
        names.append("timeseries")
    return names


def _differing_changeable(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [n for n, d in _CHANGEABLE.items() if (present.get(n) or d) != (wanted.get(n) or d)]


def _are_one_collation(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # The server lists every field; what was asked for need not name them all.
    common = (one.keys() & other.keys()) - {"version"} | {"locale"}
    return all(one.get(k) == other.get(k) for k in common)


def _normal(name: str, value: Any) -> object:
    match name:
        case "size":
            return -(-int(value or 0) // _CAPPED_UNIT)
        case "clusteredIndex":
            return bool(value)
        case _:
            return value or None


def _as_listed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return *options* with what ``collMod`` has another name for under that of ``create``."""
    kept = {k: v for k, v in options.items() if k not in _LIMITS.values()}
    return kept | {n: options[modified] for n, modified in _LIMITS.items() if modified in options}


def _changes(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of each ``collMod`` that is needed."""
    found = []
    different = _differing_changeable(present, wanted)
    if different:
        found.append({n: wanted.get(n) or _CHANGEABLE[n] for n in different})
    if wanted.get("capped") and present.get("capped"):
        fixed = _differing_fixed(present, wanted)
        found += [{_LIMITS[n]: wanted.get(n) or 0} for n in fixed if n in _LIMITS]
    if wanted.get("expireAfterSeconds") != present.get("expireAfterSeconds"):
        found.append({"expireAfterSeconds": wanted.get("expireAfterSeconds", "off")})
    return found
