"""What inert indexes are made of at the commit: unique, expiring and hidden as on the source."""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Mapping, Sequence
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from ...canonical import key_for, readable
from ...connector import Readiness
from ...errors import CollectionGone, LimosaError, WriteRefused
from ...model import Namespace, Unfinished, is_hashed
from .commands import alter, code_of
from .deployment import PLAIN, Deployment
from .indexes import Index, build_missing, create, drop, identity, inert, listed

#: What a server answers that cannot turn an index into a unique one.
NOT_CONVERTIBLE = frozenset({9, 72, 40415})  # FailedToParse, InvalidOptions, unknown field
_CANNOT_CONVERT = 359
#: How many keys of conflicting documents are named.
_NAMED_KEYS = 5


def finish(
    deployment: Deployment,
    namespace: Namespace,
    indexes: Sequence[Index],
    readiness: Readiness,
    *,
    guarded: Some[str] = frozenset(),
    leaves_hashed: bool = False,
) -> list[Unfinished]:
    """
    Bring the indexes to *readiness*; return those that cannot be brought there.

    What the target has beside them is dropped, with *leaves_hashed* but for what is hashed. The
    unique ones named by *guarded* were prepared before they were checked, and need not be
    checked again.

    Raises:
        WriteRefused: an index cannot be built.
    """
    try:
        present = listed(deployment, namespace)
        wanted = {i["name"] for i in indexes}
        if leaves_hashed:
            wanted |= {p["name"] for p in present if is_hashed(p)}
        if readiness is not Readiness.INDEXED:  # else what is made meanwhile may be missing here
            drop(deployment, namespace, [p for p in present if p["name"] not in wanted])
            present = [p for p in present if p["name"] in wanted]
        known = {i["name"]: i for i in indexes}
        if build_missing(deployment, namespace, present, indexes, known=known):
            present = listed(deployment, namespace)
        if readiness is Readiness.INDEXED:
            return []
        return _Conversion(deployment, namespace, present, guarded).to(readiness, indexes)
    except CollectionGone:
        return [Unfinished(namespace, "collection", "it is missing on the target")]


def modify(
    deployment: Deployment,
    namespace: Namespace,
    name: str,
    *,
    dry_run: bool = False,
    **changes: Any,
) -> None:
    """
    Change an index in place.

    Raises:
        WriteRefused: the server does not do it.
    """
    command: dict[str, Any] = {"collMod": namespace.collection, "index": {"name": name, **changes}}
    if dry_run:
        command["dryRun"] = True
    doing = f"change index {name} of {namespace}"
    alter(deployment, namespace.database, command, doing=doing)


def conflict(deployment: Deployment, namespace: Namespace, name: str) -> Unfinished | None:
    """
    Return why a prepared index cannot be made unique, None if it can.

    The server reads the index once, beside other writers of the collection.
    """
    try:
        modify(deployment, namespace, name, dry_run=True, unique=True)
    except WriteRefused as exc:
        if code_of(exc) != _CANNOT_CONVERT:
            raise
        return _unfinished(namespace, name, exc)
    return None


class _Conversion:
    """Turns the inert indexes of one collection into what they are on the source."""

    def __init__(
        self,
        deployment: Deployment,
        namespace: Namespace,
        present: Sequence[Index],
        guarded: Some[str],
    ) -> None:
        self._deployment = deployment
        self._namespace = namespace
        self._present = {p["name"]: p for p in present}
        # By what the server says, too: the index may have been made anew.
        self._guarded = {n for n in guarded if self._present.get(n, {}).get("prepareUnique")}
        self._unfinished: list[Unfinished] = []

    def to(self, readiness: Readiness, indexes: Sequence[Index]) -> list[Unfinished]:
        for index in indexes:
            try:
                self._guard(index)
                if readiness is Readiness.COMPLETE:
                    self._complete(index)
                else:
                    self._check(index)
            except WriteRefused as exc:
                reason = Unfinished(self._namespace, f"index {index['name']}", str(exc))
                self._unfinished.append(reason)
        return self._unfinished

    def _guard(self, index: Index) -> None:
        """From now on no document may be written that breaks a unique index."""
        present = self._present.get(index["name"])
        if present is None:
            # Unique and not unique on the same key: only now do the two differ.
            self._build_as_is(index)
        elif not index.get("unique") or present.get("unique") or present.get("prepareUnique"):
            return
        else:
            try:
                self._modify(index, prepareUnique=True)
            except WriteRefused as exc:
                if code_of(exc) not in NOT_CONVERTIBLE:
                    raise
                # The target is older than 6.0 and cannot turn an index into a unique one.
                drop(self._deployment, self._namespace, [index])
                self._build_as_is(index)

    def _check(self, index: Index) -> None:
        """Give up on a prepared index that could not be made unique."""
        name = index["name"]
        if not index.get("unique") or self._present[name].get("unique") or name in self._guarded:
            return
        found = conflict(self._deployment, self._namespace, name)
        if found is not None:
            self._unfinished.append(found)

    def _build_as_is(self, index: Index) -> None:
        form = {**inert(index), "unique": bool(index.get("unique"))}
        name = index["name"]
        try:
            create(self._deployment, self._namespace, [form])
        except WriteRefused:
            if not any(identity(p) == identity(index) for p in self._others(name)):
                create(self._deployment, self._namespace, [inert(index)])
            raise
        self._present[name] = form

    def _others(self, name: str) -> list[Index]:
        return [p for n, p in self._present.items() if n != name]

    def _complete(self, index: Index) -> None:
        present = self._present[index["name"]]
        if index.get("unique") and not present.get("unique"):
            self._make_unique(index)
        if present.get("prepareUnique") and not _is_guarded(index):
            self._modify(index, prepareUnique=False)
        if index.get("prepareUnique") and not present.get("prepareUnique"):
            self._modify(index, prepareUnique=True)
        changes: dict[str, Any] = {}
        if index.get("expireAfterSeconds") != present.get("expireAfterSeconds"):
            changes["expireAfterSeconds"] = index.get("expireAfterSeconds")
        if bool(index.get("hidden")) != bool(present.get("hidden")):
            changes["hidden"] = bool(index.get("hidden"))
        if changes:
            self._modify(index, **changes)

    def _make_unique(self, index: Index) -> None:
        try:
            self._modify(index, unique=True)
        except WriteRefused as exc:
            if code_of(exc) != _CANNOT_CONVERT:
                raise
            self._modify(index, prepareUnique=False)
            self._unfinished.append(_unfinished(self._namespace, index["name"], exc))

    def _modify(self, index: Index, **changes: Any) -> None:
        modify(self._deployment, self._namespace, index["name"], **changes)


def _is_guarded(index: Index) -> bool:
    return bool(index.get("unique") or index.get("prepareUnique"))


def _unfinished(namespace: Namespace, name: str, error: LimosaError) -> Unfinished:
    reason = f"documents have the same value: {_conflicts(error)}"
    return Unfinished(namespace, f"index {name}", reason)


def _conflicts(error: LimosaError) -> str:
    cause = error.__cause__
    details: Any = cause.details if isinstance(cause, OperationFailure) else None
    if isinstance(details, RawBSONDocument):
        details = bson.decode(details.raw, PLAIN)
    violations: Sequence[Mapping[str, Any]] = (details or {}).get("violations", [])
    groups = [group.get("ids", []) for group in violations]
    named = 0
    texts = []
    for ids in groups:
        ids = ids[: _NAMED_KEYS - named]
        named += len(ids)
        if ids:
            texts.append("_id " + ", ".join(readable(key_for(i)) for i in ids))
    more = " and more" if sum(map(len, groups)) > named else ""
    return "; ".join(texts) + more
