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
_ON_DATABASES = ("listCollections",)
#: The change stream is that of the whole deployment.
_ON_EVERYTHING = {"source": ("find", "changeStream"), "target": ()}
_ON_CLUSTER = ("listDatabases",)
_SUFFICIENT_ROLES = {
    "source": "readAnyDatabase and clusterMonitor",
    "target": "readWriteAnyDatabase, dbAdminAnyDatabase and clusterMonitor",
}
_EVERYTHING = Namespace("*", "*")


def check_privileges(probe: Probe, role: str, namespaces: Sequence[Namespace]) -> Iterator[Finding]:
    """Name exactly what the user may not do and has to, on *namespaces* or, if none, on all."""
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
    if missing:
        yield Finding(
            "privileges",
            "error",
            f"{user} lacks {', '.join(missing)}",
            f"grant these, or the roles {_SUFFICIENT_ROLES[role]} on admin",
        )
    else:
        yield Finding("privileges", "ok", f"{user} has all that are needed")
    if role == "source" and not held.on_cluster("useUUID"):
        yield Finding(
            "use_uuid",
            "warning",
            f"{user} lacks useUUID on the cluster: collections are read by name, and their "
            "identity is checked with every batch",
            "grant it, or the role clusterMonitor on admin, for less work on the source",
        )


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


def _covers(resource: Mapping[str, Any], namespace: Namespace) -> bool:
    if resource.get("anyResource"):
        return True
    if "db" not in resource or "collection" not in resource:
        return False
    # An empty name stands for all that are not the system's.
    return resource["db"] in {"", namespace.database} and resource["collection"] in {
        "",
        namespace.collection,
    }


def _missing(held: Privileges, role: str, namespaces: Sequence[Namespace]) -> Iterator[str]:
    """Yield texts such as ``find on shop.*``."""
    everything = [a for a in _ON_EVERYTHING[role] if not held.on(a, _EVERYTHING)]
    yield from (f"{action} on *.*" for action in everything)
    for database in sorted({n.database for n in namespaces} or {"*"}):
        within = [n for n in namespaces if n.database == database]
        for action in _ON_COLLECTIONS[role]:
            if action not in everything:
                yield from _missing_in(held, action, database, within)
        for action in _ON_DATABASES:
            if not held.on(action, Namespace(database, "*")):
                yield f"{action} on {database}.*"
    yield from (f"{action} on the cluster" for action in _ON_CLUSTER if not held.on_cluster(action))


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
