"""What `limosa doctor` asks a MongoDB deployment before anything moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...connector import Finding
from ...errors import AccessDenied, ConfigError, LimosaError
from ...model import CollectionSpec
from .blocking import check_left_on
from .capacity import check_disk, check_empty, check_oplog, check_others
from .cluster import check_cluster
from .deployment import is_router
from .features import check_features
from .privileges import check_login, check_privileges
from .probe import Probe

#: The oldest version of each end, and why.
_OLDEST = {
    "source": ((6, 0), "earlier change streams do not tell of new collections and indexes"),
    "target": ((5, 0), "earlier servers do not store field names that begin with a dollar"),
}
_INITIATE = "run rs.initiate(): a replica set may have a single member"


def examine(uri: str, role: str, specs: Sequence[CollectionSpec]) -> Iterator[Finding]:
    """
    Yield what was found at one end, *role* being "source" or "target".

    A server that cannot be reached or asked is a finding, too, never an error. Nothing is
    changed there.
    """
    try:
        probe = Probe(uri)
    except ConfigError as exc:
        yield Finding(
            "uri", "error", str(exc), "expected mongodb://host:port or mongodb+srv://host"
        )
        return
    with probe:
        stopped = False
        for finding in _check_access(probe):
            stopped = stopped or finding.level == "error"
            yield finding
        if not stopped:
            yield from _check_server(probe, role, specs)


def _check_access(probe: Probe) -> Iterator[Finding]:
    try:
        milliseconds = probe.round_trip() * 1_000
        yield Finding("reachable", "ok", f"{probe.identity} answers in {milliseconds:.1f} ms")
        demanded = check_login(probe)
        if demanded:
            yield demanded
    except AccessDenied as exc:
        yield Finding("reachable", "ok", f"{probe.identity} answers")
        yield Finding(
            "authentication", "error", str(exc), "check user, password and authSource of the URI"
        )
    except LimosaError as exc:
        yield Finding(
            "reachable", "error", str(exc), "check address, network, TLS options and server"
        )


def _check_server(probe: Probe, role: str, specs: Sequence[CollectionSpec]) -> Iterator[Finding]:
    try:
        hello = probe.ask("admin", {"hello": 1}, doing="ask what kind of server it is")
        topology = list(_check_topology(probe, role, hello))
        yield from topology
        yield from _check_version(probe, role, has_level=not is_router(hello))
    except LimosaError as exc:
        yield Finding("topology", "error", str(exc), exc.hint)
        return
    yield from _guarded("write_blocking", check_left_on(probe, role))
    namespaces = [s.collection.namespace for s in specs]
    capped = [s.collection.namespace for s in specs if s.options.get("capped")]
    series = [s.collection.namespace for s in specs if "timeseries" in s.options]
    checked = check_privileges(probe, role, namespaces, capped=capped, series=series)
    yield from _guarded("privileges", checked)
    if is_router(hello):
        yield from _guarded("cluster", check_cluster(probe, role, specs))
        if role == "target":
            yield from _guarded("target_empty", (check_empty(probe, specs) for _ in (1,)))
        return  # what follows asks a single replica set
    if role == "source":
        yield from _guarded("oplog_window", check_oplog(probe, specs) if "setName" in hello else ())
        yield from _guarded("features", check_features(probe, specs))
    else:
        if "setName" in hello:
            yield from _guarded("other_writers", (check_others(probe) for _ in (1,)))
        yield from _guarded("disk", (check_disk(probe, specs) for _ in (1,)))
        yield from _guarded("target_empty", (check_empty(probe, specs) for _ in (1,)))


def _guarded(check: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except LimosaError as exc:
        yield Finding(check, "warning", f"cannot be checked: {exc}", exc.hint)


def _check_topology(probe: Probe, role: str, hello: Mapping[str, Any]) -> Iterator[Finding]:
    if is_router(hello):
        yield Finding(
            "topology",
            "warning",
            f"{probe.identity} is a sharded cluster: limosa has not been run on one, only tested "
            "against what its routers answer",
            "rehearse on a copy, and do not reshard, move or refine collections meanwhile",
        )
        return
    if "setName" not in hello:  # "isreplicaset" is one that was never initiated
        todo = _INITIATE
        if "isreplicaset" not in hello:
            todo = f"restart it with --replSet rs0; {_INITIATE}"
        why = "has no change stream" if role == "source" else "cannot acknowledge by a majority"
        yield Finding(
            "topology",
            "error",
            f"{probe.identity} is a standalone server: it {why}",
            todo,
        )
        return
    hosts = ", ".join(hello.get("hosts", ()))
    yield Finding("topology", "ok", f"replica set {hello['setName']} of {hosts}")
    primary = hello.get("primary")
    if primary:
        yield Finding("primary", "ok", f"the primary is {primary}")
    else:
        yield Finding(
            "primary",
            "error",
            f"replica set {hello['setName']} has no primary",
            "see rs.status() for members that are down; a majority must be up",
        )


def _check_version(probe: Probe, role: str, *, has_level: bool) -> Iterator[Finding]:
    build = probe.ask("admin", {"buildInfo": 1}, doing="ask for the version")
    oldest, why = _OLDEST[role]
    needed = ".".join(map(str, oldest))
    if tuple(build["versionArray"][:2]) < oldest:
        advice = f"upgrade it to {needed} or later: {why}"
        yield Finding("version", "error", f"MongoDB {build['version']}", advice)
        return
    yield Finding("version", "ok", f"MongoDB {build['version']}")
    if not has_level:
        return  # a router has no feature compatibility version
    try:
        parameter = {"getParameter": 1, "featureCompatibilityVersion": 1}
        answer = probe.ask("admin", parameter, doing="ask for the feature compatibility version")
    except AccessDenied:
        return  # it differs from the version only for a while after an upgrade
    compatibility = answer["featureCompatibilityVersion"]["version"]
    level = "error" if tuple(map(int, compatibility.split("."))) < oldest else "ok"
    yield Finding(
        "feature_compatibility",
        level,
        f"feature compatibility version {compatibility}",
        f'run setFeatureCompatibilityVersion: "{needed}"' if level == "error" else "",
    )
