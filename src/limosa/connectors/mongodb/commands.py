"""Commands that change a target: durable on return, and refused in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from ...errors import LimosaError, PermanentError, WriteRefused
from . import errors
from .deployment import Deployment

#: What is acknowledged so survives the loss of a minority of members, at once.
DURABLE = {"w": "majority", "j": True}


def alter(
    deployment: Deployment, database: str, command: Mapping[str, Any], *, doing: str
) -> RawBSONDocument:
    """
    Run a command that changes a collection or its indexes; its effect is durable on return.

    Raises:
        WriteRefused: the server does not do it; `code_of` tells why.
        CollectionGone: there is no such collection.
    """
    try:
        reply = deployment.run(database, {**command, "writeConcern": DURABLE}, doing=doing)
    except PermanentError as exc:
        if type(exc) is not PermanentError:
            raise
        raise WriteRefused(str(exc)) from exc.__cause__
    errors.write_errors(reply, f"{deployment.identity}: {doing}")
    return reply


def code_of(error: LimosaError) -> int:
    """Return the server's code behind *error*, 0 if there is none."""
    cause = error.__cause__
    return (cause.code or 0) if isinstance(cause, OperationFailure) else 0
