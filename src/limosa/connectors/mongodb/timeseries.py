"""
Time-series collections, which are read and written as what they are stored as.

``shop.heat`` is a view; its measurements lie packed in the buckets of ``shop.system.buckets.heat``,
an ordinary collection with a UUID, indexes and change events of its own. It is the buckets that
are migrated, under the name of the collection, so nothing is unpacked, packed anew or lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model import Namespace, SchemaVerb

_BUCKETS = "system.buckets."
#: What of the buckets' options a time-series collection is created with; the rest follows.
_OWN_OPTIONS = ("timeseries", "expireAfterSeconds")
#: Follows from the granularity, unless it was given in its place.
_SPAN = ("bucketMaxSpanSeconds", "bucketRoundingSeconds")
_CHANGEABLE = ("granularity", *_SPAN)


def is_migrated(name: str) -> bool:
    """Whether the collection stored as *name* is a user's, or holds the buckets of one."""
    return not name.startswith("system.") or name.startswith(_BUCKETS)


def is_buckets(name: str) -> bool:
    """Whether the collection stored as *name* holds the buckets of another one."""
    return name.startswith(_BUCKETS)


def known_as(name: str) -> str:
    """Return the name under which users know what is stored as *name*."""
    return name.removeprefix(_BUCKETS)


def stored_as(namespace: Namespace, options: Mapping[str, Any]) -> Namespace:
    """Return where the documents of a collection with these *options* lie."""
    if "timeseries" not in options:
        return namespace
    return Namespace(namespace.database, _BUCKETS + namespace.collection)


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the *options* of buckets a user has chosen."""
    return {k: options[k] for k in _OWN_OPTIONS if k in options}


def own_change(
    verb: SchemaVerb, detail: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the *detail* of a change of buckets as that of the collection, as it was *before*."""
    if verb is SchemaVerb.CREATE:
        return own_options(detail)
    if verb is not SchemaVerb.MODIFY or "timeseries" not in detail:
        return dict(detail)
    changed = detail["timeseries"]
    kept = {k: v for k, v in before.items() if k not in _CHANGEABLE}
    return {**detail, "timeseries": {**kept, **changed}}


def modification(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``collMod`` takes of the option ``timeseries``."""
    names = ("granularity",) if "granularity" in options else _SPAN
    return {k: options[k] for k in names if k in options}


def are_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two values of the option ``timeseries`` mean the same; versions name more or less."""
    common = (one.keys() & other.keys()) | {"timeField", "metaField"}
    if "granularity" in common:
        common -= set(_SPAN)
    return all(one.get(k) == other.get(k) for k in common)
