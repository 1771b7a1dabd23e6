"""
What the server itself refuses.

* LimosaError
  x BadRequest           - the request is not what the call expects
    + UnsupportedField   - understood, but not possible here
  x Unauthorized         - no token, or not one that may do this
  x ForeignOrigin        - asked for by another site than this server's own
  x UnknownPath
  x UnknownMethod
  x TooManyRequests
  x Initializing         - the server has just begun
  x LagTooLarge          - a commit would take too long
  x EngineEnded          - the process that drives the migration ends again and again

An answer names them by their class, an error of the engine by its code in the same spelling.
"""

from __future__ import annotations

from ..errors import IllegalTransition, LimosaError


class BadRequest(LimosaError):
    """The body is not what the call expects; nothing was done."""

    code = "bad_request"
    hint = "see docs/mongosync.md or /docs on the server for the body of each call"


class UnsupportedField(BadRequest):
    """A field is understood, but what it asks for cannot be done; nothing was done."""

    code = "unsupported_field"
    hint = "leave the field out"


class Unauthorized(LimosaError):
    """The request has no token, or one that does not allow this."""

    code = "unauthorized"
    hint = "send `Authorization: Bearer TOKEN` with a token from the server's --token-file"


class ForeignOrigin(LimosaError):
    """A page or name of another site asks; nothing was done."""

    code = "foreign_origin"
    hint = "use the address at which the server listens, or allow the name with --allow-host"


class UnknownPath(LimosaError):
    """There is nothing under this path."""

    code = "unknown_path"


class UnknownMethod(LimosaError):
    """The path does not know this method."""

    code = "unknown_method"


class TooManyRequests(LimosaError):
    """More requests came than the server takes."""

    code = "too_many_requests"
    hint = "ask less often: the figures change every half second"


class Initializing(IllegalTransition):
    """The server has just begun and does not know the state yet."""

    code = "initializing"
    hint = "ask for the progress until the state is another one; then send the request again"


class LagTooLarge(IllegalTransition):
    """A commit would have to wait for too many changes."""

    code = "lag_too_large"
    hint = "wait until canCommit is true, or lessen the writes to the source"


class EngineEnded(LimosaError):
    """The process that drives the migration ended unexpectedly, several times in a row."""

    code = "engine_ended"
    hint = "see whether it was killed or lacks memory; then `resume`"
