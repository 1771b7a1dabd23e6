"""Keeping other writers out of a deployment (``setUserWriteBlockMode``, server 6.0 and later)."""

from __future__ import annotations

from collections.abc import Iterator

from ...connector import Finding
from ...errors import AccessDenied, ConfigError
from .deployment import Deployment, is_router
from .privileges import Privileges
from .probe import Probe

#: Who may set the block, and whose own writes it lets through.
_SET, _BYPASS = "setUserWriteBlockMode", "bypassWriteBlockingMode"
#: What ``serverStatus`` answers while writes are blocked.
_BLOCKED = 2
_STATUS = {"serverStatus": 1, "repl": 1, "metrics": 0, "wiredTiger": 0, "tcmalloc": 0, "locks": 0}
#: A block holds for everybody who has no privilege, and without access control nobody has any.
_OPEN = "it has no access control, so a block would keep limosa out as well"
#: A router does not say whether writes are blocked, so a block might be left on.
_CLUSTER = "not possible on a sharded cluster"
_STOP = "leave out --block-writes, and stop the application's writes yourself"
_UNBLOCK = "db.adminCommand({setUserWriteBlockMode: 1, global: false})"


def check(deployment: Deployment, *, bypass: bool) -> None:
    """
    Return if this user may block writes, and with *bypass* would go on writing himself.

    Raises:
        AccessDenied: a privilege is missing.
        ConfigError: limosa would be kept out as well.
    """
    if deployment.is_router:
        msg = f"block writes to {deployment.identity}: {_CLUSTER}"
        raise ConfigError(msg, hint=_STOP)
    doing = "ask for the privileges"
    command = {"connectionStatus": 1, "showPrivileges": True}
    status = deployment.decoded("admin", command, doing=doing)["authInfo"]
    if not status["authenticatedUsers"]:
        if bypass:
            msg = f"block writes to {deployment.identity}: {_OPEN}"
            raise ConfigError(msg, hint="leave out --block-writes, or switch access control on")
        return
    missing = _missing(Privileges(status["authenticatedUserPrivileges"]), bypass=bypass)
    if missing:
        msg = f"block writes to {deployment.identity}: the user lacks {', '.join(missing)}"
        raise AccessDenied(msg, hint="grant it on the cluster, or leave out --block-writes")


def block(deployment: Deployment, *, is_blocked: bool) -> None:
    """Refuse the writes of others, or take them again; what holds already is fine."""
    doing = "block writes" if is_blocked else "allow writes"
    deployment.run("admin", {_SET: 1, "global": is_blocked}, doing=doing)


def is_blocked(deployment: Deployment) -> bool:
    """Whether writes are blocked now; False where this user may not ask."""
    try:
        status = deployment.decoded("admin", _STATUS, doing="ask whether writes are blocked")
    except AccessDenied:
        return False
    return bool(status.get("repl", {}).get("userWriteBlockMode") == _BLOCKED)


def check_left_on(probe: Probe, role: str) -> Iterator[Finding]:
    """Warn of a block that is on: of another migration, or left behind by somebody."""
    try:
        status = probe.ask("admin", _STATUS, doing="ask whether writes are blocked")
    except AccessDenied:
        return  # only those who may ask are told
    if status.get("repl", {}).get("userWriteBlockMode") == _BLOCKED:
        yield Finding(
            "write_blocking",
            "warning",
            f"the {role} refuses the writes of its users: somebody has blocked them",
            "if that is no migration under way: `limosa cleanup` of the one that did it, or "
            + _UNBLOCK,
        )


def examine_blocking(uri: str, role: str) -> Iterator[Finding]:
    """Name exactly what the user lacks to block writes, *role* being "source" or "target"."""
    with Probe(uri) as probe:
        if is_router(probe.ask("admin", {"hello": 1}, doing="ask what kind of server it is")):
            what = f"writes cannot be blocked: {_CLUSTER}"
            yield Finding("block_writes", "error", what, _STOP)
            return
        command = {"connectionStatus": 1, "showPrivileges": True}
        status = probe.ask("admin", command, doing="ask for the privileges")["authInfo"]
        is_target = role == "target"
        if not status["authenticatedUsers"]:
            advice = "leave out --block-writes, or switch access control on"
            if is_target:
                yield Finding("block_writes", "error", f"writes cannot be blocked: {_OPEN}", advice)
            return
        missing = _missing(Privileges(status["authenticatedUserPrivileges"]), bypass=is_target)
        users = ", ".join(f"{u['user']}@{u['db']}" for u in status["authenticatedUsers"])
        if missing:
            named = ", ".join(missing)
            yield Finding(
                "block_writes",
                "error",
                f"{users} lacks {named} on the cluster, which --block-writes needs",
                "grant it by a role of your own, or the role restore on admin",
            )
        else:
            yield Finding("block_writes", "ok", f"{users} may block writes")


def _missing(held: Privileges, *, bypass: bool) -> list[str]:
    return [a for a in ((_SET, _BYPASS) if bypass else (_SET,)) if not held.on_cluster(a)]
