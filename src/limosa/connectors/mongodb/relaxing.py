"""
Taking back what the commit has made of a target, when it becomes one again or a source did.

While changes are applied in another order than they were made, two documents may for a moment
have one unique value, and nothing may expire here before it does on the new source.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ...errors import CollectionGone, WriteRefused
from ...model import Namespace
from . import indexes, options
from .commands import alter, code_of
from .deployment import Deployment
from .errors import INDEX_CONFLICTS

#: What a server answers that does not know a field of ``collMod``.
_UNKNOWN = frozenset({9, 72, 40415})  # FailedToParse, InvalidOptions, unknown field


def relax(deployment: Deployment, namespace: Namespace, stored: Namespace) -> None:
    """
    Have no value unique in *namespace* and nothing expire; a missing collection is fine.

    Its documents and indexes are *stored* there under another name if it is a time series.

    What `indexes.finish` and `options.complete` are told then brings it back.
    """
    with suppress(CollectionGone):
        for index in indexes.listed(deployment, stored):
            _relax(deployment, stored, index)
        entry = options.listed(deployment, namespace) or {}
        if "expireAfterSeconds" in entry.get("options", {}):
            _modify(deployment, namespace, expireAfterSeconds="off")


def _relax(deployment: Deployment, namespace: Namespace, index: indexes.Index) -> None:
    name = index["name"]
    inert = indexes.inert(index)
    if index.get("expireAfterSeconds") != inert.get("expireAfterSeconds"):
        change = {"name": name, "expireAfterSeconds": inert["expireAfterSeconds"]}
        _modify(deployment, namespace, index=change)
    if index.get("prepareUnique"):
        _modify(deployment, namespace, index={"name": name, "prepareUnique": False})
    if not index.get("unique"):
        return
    try:
        # Undocumented, but what the server's own tools use; the other way is a new build.
        _modify(deployment, namespace, index={"name": name, "forceNonUnique": True})
    except WriteRefused as exc:
        if code_of(exc) not in _UNKNOWN | INDEX_CONFLICTS:
            raise
        indexes.drop(deployment, namespace, [index])
        indexes.build(deployment, namespace, [index])


def _modify(deployment: Deployment, namespace: Namespace, **change: Any) -> None:
    command = {"collMod": namespace.collection, **change}
    alter(deployment, namespace.database, command, doing=f"relax {namespace}")
