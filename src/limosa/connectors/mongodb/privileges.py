"""Which privileges a migration needs and a user lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...connector import Finding
from ...errors import AccessDenied
from ...model import Namespace
from .commands import code_of
from .errors import UNAUTHORIZED
from .probe import Probe
from .timeseries import stored_as

#: On every collection that is migrated, by role of the deployment.
_ON_COLLECTIONS = {
    "source": ("find", "collStats", "listIndexes"),
    "target": (
        "find",
        "insert",
        "update",
        "remove",
        "bypassDocumentValidation",
        "createCollection",
        "dropCollection",
        "renameCollectionSameDB",
        "collMod",
        "createIndex",
        "dropIndex",
        "listIndexes",
        "collStats",
    ),
}
#: On the buckets of a time-series collection, which no role on a single database reaches.
_ON_BUCKETS = {
    "source": ("find",),
    "target": (
        "find",
        "insert",
        "update",
        "remove",
        "bypassDocumentValidation",
        "createIndex",
        "dropIndex",
        "listIndexes",
        "collMod",
    ),
}
#: To carry users and roles over, and the role that has all of it.
_ON_ACCOUNTS = {
    "source": (
        ("find", Namespace("admin", "system.roles")),
        ("find", Namespace("admin", "system.users")),
    ),
    "target": (
        ("createRole", Namespace("*", "*")),
        ("grantRole", Namespace("*", "*")),
        ("insert", Namespace("admin", "system.users")),
    ),
}
_ROLE_FOR_ACCOUNTS = {"source": "backup", "target": "restore"}
#: To create a capped collection.
_CAPPING = "convertToCapped"
_ON_DATABASES = ("listCollections",)
#: On all that the change stream covers: the deployment, or one database of it.
_ON_STREAM = ("find", "changeStream")
_SUFFICIENT_ROLES = {
    "source": (
        "the roles readAnyDatabase and clusterMonitor on admin; for a single database, named by "
        "--include, the role read on it is enough"
    ),
    "target": "the roles readWriteAnyDatabase, dbAdminAnyDatabase and clusterMonitor on admin",
}
_SUFFICIENT_ROLES_ON_ONE = {
    "source": "the role read on {}",
    "target": "the roles readWrite and dbAdmin on {}",
}
_EVERYTHING = Namespace("*", "*")
_BUCKETS_HINT = (
    '; the resource {db: …, system_buckets: ""} stands for the buckets of a database, also those '
    "of collections made meanwhile"
)


def check_privileges(
    probe: Probe,
    role: str,
    namespaces: Sequence[Namespace],
    *,
    capped: Sequence[Namespace] = (),
    series: Sequence[Namespace] = (),
) -> Iterator[Finding]:
    """
    Name exactly what the user may not do and has to, on *namespaces* or, if none, on all.

    To create those that are *capped* takes another privilege; the measurements of time *series*
    lie in buckets, which take privileges of their own.
    """
    status = probe.ask(
        "admin", {"connectionStatus": 1, "showPrivileges": True}, doing="ask for the privileges"
    )["authInfo"]
    users = [f"{u['user']}@{u['db']}" for u in status["authenticatedUsers"]]
    if not users:
        yield Finding("authentication", "ok", "no access control: everybody may do everything")
        return
    user = ", ".join(users)
    yield Finding("authentication", "ok", f"authenticated as {user}")
    held = Privileges(status["authenticatedUserPrivileges"])
    missing = list(_missing(held, role, namespaces))
    if role == "target":
        missing += [f"{_CAPPING} on {n}" for n in capped if not held.on(_CAPPING, n)]
    of_buckets = list(_missing_on_buckets(held, role, series))
    missing += of_buckets
    if missing:
        yield Finding(
            "privileges",
            "error",
            f"{user} lacks {', '.join(missing)}",
            f"grant these, or {_sufficient(role, () if of_buckets else namespaces)}"
            + (_BUCKETS_HINT if of_buckets else ""),
        )
    else:
        yield Finding("privileges", "ok", f"{user} has all that are needed")
    if role == "source":
        yield from _check_reading(held, user, namespaces)


def _check_reading(
    held: Privileges, user: str, namespaces: Sequence[Namespace]
) -> Iterator[Finding]:
    """Say in which of two ways the source is followed, and in which it is read."""
    stream = _stream_for(held, namespaces)
    if all(held.on(action, stream) for action in _ON_STREAM):
        yield Finding(
            "change_stream",
            "ok",
            "the change stream of the whole deployment is followed"
            if stream == _EVERYTHING
            else f"the change stream of {stream.database} alone is followed: {user} may not "
            "follow that of the whole deployment",
        )
    if not held.on_cluster("useUUID"):
        yield Finding(
            "use_uuid",
            "warning",
            f"{user} lacks useUUID on the cluster: collections are read by name, and their "
            "identity is checked with every batch",
            "grant it, or the role clusterMonitor on admin, for less work on the source",
        )


def examine_accounts(uri: str, role: str) -> Iterator[Finding]:
    """Name exactly what the user lacks to carry users and roles over, at one end."""
    with Probe(uri) as probe:
        command = {"connectionStatus": 1, "showPrivileges": True}
        status = probe.ask("admin", command, doing="ask for the privileges")["authInfo"]
        if not status["authenticatedUsers"]:
            return  # everybody may do everything
        users = ", ".join(f"{u['user']}@{u['db']}" for u in status["authenticatedUsers"])
        held = Privileges(status["authenticatedUserPrivileges"])
        missing = [f"{a} on {n}" for a, n in _ON_ACCOUNTS[role] if not held.on(a, n)]
        if not missing:
            yield Finding("accounts", "ok", f"{users} may carry users and roles over")
            return
        yield Finding(
            "accounts",
            "error",
            f"{users} lacks {', '.join(missing)}, which --accounts needs",
            f"grant these, or the role {_ROLE_FOR_ACCOUNTS[role]} on admin; or leave accounts out",
        )


def _sufficient(role: str, namespaces: Sequence[Namespace]) -> str:
    databases = {n.database for n in namespaces}
    if len(databases) == 1:
        return _SUFFICIENT_ROLES_ON_ONE[role].format(*databases)
    return _SUFFICIENT_ROLES[role]


def check_login(probe: Probe) -> Finding | None:
    """Return a finding if the server wants a login and has none."""
    try:
        probe.ask("admin", {"listDatabases": 1, "nameOnly": True}, doing="list the databases")
    except AccessDenied as exc:
        if code_of(exc) != UNAUTHORIZED or "requires authentication" not in str(exc):
            raise
        return Finding(
            "authentication",
            "error",
            f"{probe.identity} demands a login",
            "put user and password into the URI: mongodb://user:password@host",
        )
    return None


@dataclass(frozen=True, slots=True)
class Privileges:
    """What a user may do, as ``connectionStatus`` lists it."""

    listed: Sequence[Mapping[str, Any]]

    def on_cluster(self, action: str) -> bool:
        """Whether *action* is allowed on the cluster as a whole."""
        return any(
            action in p["actions"]
            for p in self.listed
            if p["resource"].get("cluster") or p["resource"].get("anyResource")
        )

    def on(self, action: str, namespace: Namespace) -> bool:
        """Whether *action* is allowed; ``*`` stands for all databases or collections."""
        return any(action in p["actions"] for p in self.listed if _covers(p["resource"], namespace))

    def on_buckets(self, action: str, series: Namespace) -> bool:
        """Whether *action* is allowed on the buckets of a time-series collection."""
        stored = stored_as(series, {"timeseries": True})
        return self.on(action, stored) or any(
            action in p["actions"] for p in self.listed if _covers_buckets(p["resource"], series)
        )


def _covers_buckets(resource: Mapping[str, Any], series: Namespace) -> bool:
    if "system_buckets" not in resource:
        return False
    return resource.get("db", "") in {"", series.database} and resource["system_buckets"] in {
        "",
        series.collection,
    }


def _covers(resource: Mapping[str, Any], namespace: Namespace) -> bool:
    if resource.get("anyResource"):
        return True
    if "db" not in resource or "collection" not in resource:
        return False
    if resource["db"] not in {"", namespace.database}:
        return False
    if not resource["collection"]:  # stands for all that are not the system's
        return not namespace.collection.startswith("system.")
    return bool(resource["collection"] == namespace.collection)


def _stream_for(held: Privileges, namespaces: Sequence[Namespace]) -> Namespace:
    """Return what the change stream covers: everything, or one database if only that may be."""
    databases = {n.database for n in namespaces}
    if len(databases) != 1 or all(held.on(a, _EVERYTHING) for a in _ON_STREAM):
        return _EVERYTHING
    return Namespace(databases.pop(), "*")


def _missing(held: Privileges, role: str, namespaces: Sequence[Namespace]) -> Iterator[str]:
    """Yield texts such as ``find on shop.*``."""
    stream = _stream_for(held, namespaces)
    on_stream = [a for a in _ON_STREAM if role == "source" and not held.on(a, stream)]
    yield from (f"{action} on {stream}" for action in on_stream)
    for database in sorted({n.database for n in namespaces} or {"*"}):
        within = [n for n in namespaces if n.database == database]
        for action in _ON_COLLECTIONS[role]:
            if action not in on_stream:
                yield from _missing_in(held, action, database, within)
        for action in _ON_DATABASES:
            if not held.on(action, Namespace(database, "*")):
                yield f"{action} on {database}.*"


def _missing_on_buckets(held: Privileges, role: str, series: Iterable[Namespace]) -> Iterator[str]:
    for each in series:
        stored = stored_as(each, {"timeseries": True})
        for action in _ON_BUCKETS[role]:
            if not held.on_buckets(action, each):
                yield f"{action} on {stored}"


def _missing_in(
    held: Privileges, action: str, database: str, namespaces: Iterable[Namespace]
) -> list[str]:
    whole = Namespace(database, "*")
    if held.on(action, whole):
        return []
    named = list(namespaces)
    missing = [n for n in named if not held.on(action, n)]
    if len(missing) == len(named):
        return [f"{action} on {whole}"]
    return [f"{action} on {n}" for n in missing]
