"""
Secondary indexes of the target, inert until the commit.

While changes are applied in another order than they were made, two documents may for a
moment have one unique value; and a document that expires on the target while it lives on
the source would be a difference. So an index is built after the copy, neither unique nor
expiring nor hidden, and turned at the commit into what it is on the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from ...canonical import key_for, readable
from ...connector import Build, Readiness
from ...errors import CollectionGone, LimosaError, WriteRefused
from ...model import Namespace, Unfinished
from . import errors
from .commands import alter, code_of
from .deployment import PLAIN, Deployment
from .options import without_version

Index = Mapping[str, Any]

#: The longest time that the server lets a document live by an index: 68 years.
_NEVER = 2_147_483_647
#: Turned on at the commit, except the first three, which earlier versions list and none uses.
_NOT_INERT = frozenset(
    {"ns", "background", "dropDups", "clustered", "unique", "hidden", "prepareUnique"}
)
#: The last one is the user's own form of an index on buckets, whose key says as much.
_NOT_IDENTITY = _NOT_INERT | {"v", "name", "expireAfterSeconds", "collation", "originalSpec"}
_INVALID_OPTIONS = 72
_CANNOT_CONVERT = 359
#: A unique index over so many documents is checked before the target becomes writable, in less
#: than a quarter of a second (6.0.5: 1.5 million keys/s); a larger one is prepared, so that
#: nothing new can break it, and checked when it is converted.
_CHECKED_DOCUMENTS = 300_000
#: How many keys of conflicting documents are named.
_NAMED_KEYS = 5


def build(deployment: Deployment, namespace: Namespace, indexes: Sequence[Index]) -> None:
    """
    Have all *indexes* in inert form, built in one go; a missing collection is fine.

    One that differs from an index of its name replaces that. One that in inert form would
    equal another index (unique and not, on the same key) has to wait for `finish`.

    Raises:
        WriteRefused: an index cannot be built.
    """
    with suppress(CollectionGone):
        present = listed(deployment, namespace)
        _build(deployment, namespace, present, indexes)


def drop(deployment: Deployment, namespace: Namespace, indexes: Iterable[Index]) -> None:
    """Drop indexes by name; what is missing is fine."""
    for index in indexes:
        _drop(deployment, namespace, index["name"])


def finish(
    deployment: Deployment,
    namespace: Namespace,
    indexes: Sequence[Index],
    readiness: Readiness,
) -> list[Unfinished]:
    """
    Bring the indexes to *readiness*; return those that cannot be brought there.

    Raises:
        WriteRefused: an index cannot be built.
    """
    try:
        present = listed(deployment, namespace)
        strays = _strays(present, indexes) if readiness is not Readiness.INDEXED else []
        drop(deployment, namespace, strays)
        present = [p for p in present if p not in strays]
        known = {i["name"]: i for i in indexes}
        if _build(deployment, namespace, present, indexes, known=known):
            present = listed(deployment, namespace)
        if readiness is Readiness.INDEXED:
            return []
        return _Conversion(deployment, namespace, present).to(readiness, indexes)
    except CollectionGone:
        return [Unfinished(namespace, "collection", "it is missing on the target")]


def builds(deployment: Deployment) -> list[Build]:
    """
    Return the index builds of the server that say how far they are.

    Raises:
        AccessDenied: this user may not look at operations.
    """
    command = {
        "aggregate": 1,
        "pipeline": [
            {"$currentOp": {"allUsers": True}},
            {"$match": {"command.createIndexes": {"$exists": True}, "progress": {"$exists": True}}},
            {"$project": {"ns": 1, "progress": 1, "msg": 1, "command.indexes.name": 1}},
        ],
        "cursor": {},
    }
    reply = deployment.decoded("admin", command, doing="look at the index builds")
    return [
        Build(
            Namespace.parse(entry["ns"]),
            len(entry["command"].get("indexes", ())),
            # "Index Build: scanning collection Index Build: scanning collection: 7/9 77%"
            entry.get("msg", "").split(": ")[-2].strip() if ": " in entry.get("msg", "") else "",
            int(entry["progress"]["done"]),
            int(entry["progress"]["total"]),
        )
        for entry in reply["cursor"]["firstBatch"]
    ]


def listed(deployment: Deployment, namespace: Namespace) -> list[Index]:
    """
    Return the secondary indexes of the target.

    Raises:
        CollectionGone: there is no such collection.
    """
    # 64 indexes are the most that a collection can have: one answer holds them all.
    command = {"listIndexes": namespace.collection, "cursor": {"batchSize": 1_000}}
    doing = f"list the indexes of {namespace}"
    reply = deployment.decoded(namespace.database, command, doing=doing)
    found: list[Index] = reply["cursor"]["firstBatch"]
    return [i for i in found if not _is_of_key(i)]


def inert(index: Index) -> dict[str, Any]:
    """Return *index* as it is built before the commit: no constraint, nothing expires."""
    form = {k: v for k, v in index.items() if k not in _NOT_INERT}
    # An index that lists no collation has the simple one; left out, it would get that of
    # its collection.
    form["collation"] = without_version(index.get("collation") or {"locale": "simple"})
    if "expireAfterSeconds" in form:
        form["expireAfterSeconds"] = _NEVER
    return form


def identity(index: Index) -> str:
    """Return what tells an index from others of its collection, apart from name and constraints."""
    rest = {k: v for k, v in index.items() if k not in _NOT_IDENTITY and v is not False}
    key = list(rest.pop("key").items())
    collation = without_version(index.get("collation") or {})
    if collation.get("locale") == "simple":
        collation = {}
    return repr((key, _sorted(rest), _sorted(collation)))


def _build(
    deployment: Deployment,
    namespace: Namespace,
    present: Sequence[Index],
    indexes: Sequence[Index],
    *,
    known: Mapping[str, Index] | None = None,
) -> bool:
    """Return whether anything was changed; *known* are all indexes of the source by name."""
    left = list(present)
    missing: list[Index] = []
    # Those that are not unique come first: they cannot be told from others at commit.
    for index in sorted(indexes, key=lambda i: bool(i.get("unique"))):
        namesake = next((p for p in left if p["name"] == index["name"]), None)
        if namesake is not None and _becomes(namesake, index):
            continue
        rival = next((p for p in left if p is not namesake and _equals_inert(p, index)), None)
        gives_way = rival is not None and known is not None and _gives_way(rival, index, known)
        for obsolete in (namesake, rival if gives_way else None):
            if obsolete is not None:
                _drop(deployment, namespace, obsolete["name"])
                left.remove(obsolete)
        if rival is None or gives_way:
            missing.append(inert(index))
            left.append(missing[-1])
    if missing:
        _create(deployment, namespace, missing)
    return left != list(present)


def _equals_inert(present: Index, index: Index) -> bool:
    """Whether the server could not tell *index* in inert form from *present*."""
    return not present.get("unique") and identity(present) == identity(index)


def _gives_way(rival: Index, index: Index, known: Mapping[str, Index]) -> bool:
    wanted = known.get(rival["name"])
    return wanted is None or (bool(wanted.get("unique")) and not index.get("unique"))


def _create(deployment: Deployment, namespace: Namespace, forms: Sequence[Index]) -> None:
    names = ", ".join(form["name"] for form in forms)
    command = {"createIndexes": namespace.collection, "indexes": list(forms)}
    doing = f"build indexes of {namespace} ({names})"
    try:
        alter(deployment, namespace.database, command, doing=doing)
    except WriteRefused as exc:
        hint = "correct or drop that index on the source; then run the same command again"
        raise WriteRefused(str(exc), hint=hint) from exc.__cause__


def _drop(deployment: Deployment, namespace: Namespace, name: str) -> None:
    command = {"dropIndexes": namespace.collection, "index": name}
    try:
        alter(deployment, namespace.database, command, doing=f"drop index {name} of {namespace}")
    except CollectionGone:
        return
    except WriteRefused as exc:
        if code_of(exc) != errors.INDEX_NOT_FOUND:
            raise


def _strays(present: Iterable[Index], indexes: Iterable[Index]) -> list[Index]:
    """Return what the target has and the source has not."""
    wanted = {i["name"] for i in indexes}
    return [p for p in present if p["name"] not in wanted]


def _is_of_key(index: Index) -> bool:
    return list(index["key"].items()) == [("_id", 1)] or bool(index.get("clustered"))


def _sorted(value: Any) -> Any:
    """Return *value* in a form whose text is the same for equal options."""
    if isinstance(value, Mapping):
        return sorted((k, _sorted(v)) for k, v in value.items())
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _becomes(present: Index, wanted: Index) -> bool:
    """Whether *present* is *wanted*, or can be turned into it without being built anew."""
    if identity(present) != identity(wanted):
        return False
    # Neither of these can be taken back.
    loses_unique = present.get("unique", False) and not wanted.get("unique", False)
    loses_expiry = "expireAfterSeconds" in present and "expireAfterSeconds" not in wanted
    return not loses_unique and not loses_expiry


class _Conversion:
    """Turns the inert indexes of one collection into what they are on the source."""

    def __init__(
        self, deployment: Deployment, namespace: Namespace, present: Sequence[Index]
    ) -> None:
        self._deployment = deployment
        self._namespace = namespace
        self._present = {p["name"]: p for p in present}
        self._unfinished: list[Unfinished] = []

    def to(self, readiness: Readiness, indexes: Sequence[Index]) -> list[Unfinished]:
        for index in indexes:
            try:
                self._guard(index)
                if readiness is Readiness.COMPLETE:
                    self._complete(index)
                elif self._is_small:
                    self._check(index)
            except WriteRefused as exc:
                self._give_up(index, str(exc))
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
                if code_of(exc) != _INVALID_OPTIONS:
                    raise
                # The target is older than 6.0 and cannot turn an index into a unique one.
                _drop(self._deployment, self._namespace, index["name"])
                self._build_as_is(index)

    def _check(self, index: Index) -> None:
        """Give up on a prepared index that could not be made unique."""
        present = self._present[index["name"]]
        if not index.get("unique") or present.get("unique"):
            return
        try:
            self._modify(index, dry_run=True, unique=True)
        except WriteRefused as exc:
            if code_of(exc) != _CANNOT_CONVERT:
                raise
            self._give_up(index, f"documents have the same value: {_conflicts(exc)}")

    @cached_property
    def _is_small(self) -> bool:
        command = {"count": self._namespace.collection}
        doing = f"count {self._namespace}"
        reply = self._deployment.decoded(self._namespace.database, command, doing=doing)
        return int(reply["n"]) <= _CHECKED_DOCUMENTS

    def _build_as_is(self, index: Index) -> None:
        form = {**inert(index), "unique": bool(index.get("unique"))}
        name = index["name"]
        try:
            _create(self._deployment, self._namespace, [form])
        except WriteRefused:
            if not any(identity(p) == identity(index) for p in self._others(name)):
                _create(self._deployment, self._namespace, [inert(index)])
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
            self._give_up(index, f"documents have the same value: {_conflicts(exc)}")

    def _modify(self, index: Index, *, dry_run: bool = False, **changes: object) -> None:
        name = index["name"]
        command: dict[str, Any] = {
            "collMod": self._namespace.collection,
            "index": {"name": name, **changes},
        }
        if dry_run:
            command["dryRun"] = True
        doing = f"change index {name} of {self._namespace}"
        alter(self._deployment, self._namespace.database, command, doing=doing)

    def _give_up(self, index: Index, reason: str) -> None:
        self._unfinished.append(Unfinished(self._namespace, f"index {index['name']}", reason))


def _is_guarded(index: Index) -> bool:
    return bool(index.get("unique") or index.get("prepareUnique"))


def _conflicts(error: LimosaError) -> str:
    cause = error.__cause__
    details: Any = cause.details if isinstance(cause, OperationFailure) else None
    if isinstance(details, RawBSONDocument):
        details = bson.decode(details.raw, PLAIN)
    groups = [group.get("ids", []) for group in (details or {}).get("violations", [])]
    named = 0
    texts = []
    for ids in groups:
        ids = ids[: _NAMED_KEYS - named]
        named += len(ids)
        if ids:
            texts.append("_id " + ", ".join(readable(key_for(i)) for i in ids))
    more = " and more" if sum(map(len, groups)) > named else ""
    return "; ".join(texts) + more
