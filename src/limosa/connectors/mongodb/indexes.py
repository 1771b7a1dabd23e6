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
from typing import Any

from ...connector import Build
from ...errors import CollectionGone, WriteRefused
from ...model import Namespace
from . import errors
from .commands import alter, code_of
from .deployment import Deployment
from .options import without_version

Index = Mapping[str, Any]

#: The longest time that the server lets a document live by an index: 68 years.
_NEVER = 2_147_483_647
#: The version of indexes before there were collations.
_WITHOUT_COLLATION = 1
#: Turned on at the commit, except the first two, which earlier versions list and none uses.
_NOT_INERT = frozenset({"ns", "dropDups", "clustered", "unique", "hidden", "prepareUnique"})
#: The last one is the user's own form of an index on buckets, whose key says as much.
_NOT_IDENTITY = _NOT_INERT | {
    *("v", "name", "background", "expireAfterSeconds", "collation", "originalSpec")
}


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
        build_missing(deployment, namespace, present, indexes)


def drop(deployment: Deployment, namespace: Namespace, indexes: Iterable[Index]) -> None:
    """Drop indexes by name; what is missing is fine."""
    for index in indexes:
        _drop(deployment, namespace, index["name"])


def build_missing(
    deployment: Deployment,
    namespace: Namespace,
    present: Sequence[Index],
    indexes: Sequence[Index],
    *,
    known: Mapping[str, Index] | None = None,
) -> bool:
    """
    Build in inert form what of *indexes* is not *present*; return whether anything was changed.

    *known* are all indexes of the source by name, where these are all there are.

    Raises:
        WriteRefused: an index cannot be built.
    """
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
        create(deployment, namespace, missing)
    return left != list(present)


def create(deployment: Deployment, namespace: Namespace, forms: Sequence[Index]) -> None:
    """
    Build indexes of these *forms* in one go.

    Raises:
        WriteRefused: an index cannot be built.
    """
    names = ", ".join(form["name"] for form in forms)
    command = {"createIndexes": namespace.collection, "indexes": list(forms)}
    doing = f"build indexes of {namespace} ({names})"
    try:
        alter(deployment, namespace.database, command, doing=doing)
    except WriteRefused as exc:
        hint = "correct or drop that index on the source; then run the same command again"
        raise WriteRefused(str(exc), hint=hint) from exc.__cause__


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
    # its collection. One of the first version knows none, and is on no collection that has one.
    if index.get("v") != _WITHOUT_COLLATION:
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


def _equals_inert(present: Index, index: Index) -> bool:
    """Whether the server could not tell *index* in inert form from *present*."""
    return not present.get("unique") and identity(present) == identity(index)


def _gives_way(rival: Index, index: Index, known: Mapping[str, Index]) -> bool:
    wanted = known.get(rival["name"])
    return wanted is None or (bool(wanted.get("unique")) and not index.get("unique"))


def _drop(deployment: Deployment, namespace: Namespace, name: str) -> None:
    command = {"dropIndexes": namespace.collection, "index": name}
    try:
        alter(deployment, namespace.database, command, doing=f"drop index {name} of {namespace}")
    except CollectionGone:
        return
    except WriteRefused as exc:
        if code_of(exc) != errors.INDEX_NOT_FOUND:
            raise


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
