"""
Users and roles, with what a password is checked against.

A user is copied as the server keeps it, hashes of its password included, so everybody logs in as
before. These bytes go from one server to the other and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from ...errors import AccessDenied, WriteRefused
from ...model import Definition, DefinitionKind, Namespace, Unfinished
from . import errors
from .commands import DURABLE, alter, code_of
from .deployment import PLAIN, Deployment

_COLLECTIONS = {DefinitionKind.ROLE: "system.roles", DefinitionKind.USER: "system.users"}
_NAMES = {DefinitionKind.ROLE: "role", DefinitionKind.USER: "user"}
_AT_ONCE = 1_000
#: "role X@Y already exists"
_ROLE_EXISTS = 51002
_READING_HINT = (
    "grant the user that limosa reads the source as the role backup on admin, or leave accounts out"
)
_WRITING_HINT = (
    "grant the user that limosa writes the target as the role restore on admin, or leave "
    "accounts out"
)


def listed(deployment: Deployment, kind: DefinitionKind) -> Iterator[Definition]:
    """
    Yield all users, or all roles that are not built in, but for the user who asks.

    Raises:
        AccessDenied: the user may not read them; the hint says what is needed.
    """
    own = _own_names(deployment) if kind is DefinitionKind.USER else set()
    command = {"find": _COLLECTIONS[kind], "batchSize": _AT_ONCE}
    try:
        for batch in deployment.batches(
            "admin", command, doing=f"list the {kind}s", batch_size=_AT_ONCE
        ):
            for document in batch.documents:
                database, name = document["db"], document[_NAMES[kind]]
                if (database, name) not in own:
                    yield Definition(kind, database, name, bytes(document.raw))
    except AccessDenied as exc:
        raise AccessDenied(str(exc), hint=_READING_HINT) from exc


def define_roles(deployment: Deployment, roles: Sequence[Definition]) -> list[Unfinished]:
    """Create *roles*, inherited ones first; those that are there already stay as they are."""
    unfinished = []
    for role in _in_order(roles):
        content = bson.decode(role.content, PLAIN)
        command: dict[str, Any] = {
            "createRole": role.name,
            "privileges": content.get("privileges", []),
            "roles": content.get("roles", []),
        }
        if content.get("authenticationRestrictions"):
            command["authenticationRestrictions"] = content["authenticationRestrictions"]
        try:
            alter(deployment, role.database, command, doing=f"create the role {_shown(role)}")
        except AccessDenied as exc:
            raise AccessDenied(str(exc), hint=_WRITING_HINT) from exc
        except WriteRefused as exc:
            if code_of(exc) != _ROLE_EXISTS:
                unfinished.append(_unfinished(role, str(exc)))
    return unfinished


def define_users(deployment: Deployment, users: Sequence[Definition]) -> list[Unfinished]:
    """Create *users* with their passwords; those that are there already stay as they are."""
    if not users:
        return []
    command = {
        "insert": _COLLECTIONS[DefinitionKind.USER],
        "documents": [RawBSONDocument(user.content) for user in users],
        "ordered": False,
        "writeConcern": DURABLE,
    }
    doing = f"create {len(users)} users"
    try:
        reply = deployment.run("admin", command, doing=doing)
    except AccessDenied:
        # Not the server's own words: they could quote what was to be written.
        msg = f"{deployment.identity}: {doing}: refused"
        raise AccessDenied(msg, hint=_WRITING_HINT) from None
    return [
        _unfinished(users[error["index"]], f"refused with code {error['code']}")
        for error in errors.write_errors(reply, doing)
        if error["code"] != errors.DUPLICATE_KEY
    ]


def _own_names(deployment: Deployment) -> set[tuple[str, str]]:
    command = {"connectionStatus": 1, "showPrivileges": False}
    status = deployment.decoded("admin", command, doing="ask who this is")
    found = status["authInfo"]["authenticatedUsers"]
    return {(user["db"], user["user"]) for user in found}


def _in_order(roles: Sequence[Definition]) -> list[Definition]:
    known = {(r.database, r.name): r for r in roles}
    graph = {key: _inherited(role) & known.keys() for key, role in known.items()}
    try:
        return [known[key] for key in TopologicalSorter(graph).static_order()]
    except CycleError:
        return list(roles)


def _inherited(role: Definition) -> set[tuple[str, str]]:
    inherited = bson.decode(role.content, PLAIN).get("roles", [])
    return {(other["db"], other["role"]) for other in inherited}


def _unfinished(account: Definition, reason: str) -> Unfinished:
    where = Namespace("admin", _COLLECTIONS[account.kind])
    return Unfinished(where, f"{account.kind} {_shown(account)}", reason)


def _shown(account: Definition) -> str:
    return f"{account.name}@{account.database}"
