"""A MongoDB replica set, or one database of it, as a source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import Any

from ...errors import AccessDenied, UnsupportedSource
from ...limits import Memory
from ...model import ChangeBatch, ResumeToken
from .deployment import Deployment, as_datetime
from .reader import MongoReader
from .stream import ChangeStream

#: The first version whose change streams tell of created collections and indexes, and by UUID.
_OLDEST = (6, 0)


class MongoSource(MongoReader):
    """
    Where the data is: a replica set of version 6.0 or later.

    With *database* rights on that database are enough. Its collections alone are listed; the
    change stream is that of the whole deployment where it is allowed, else that of *database*.
    """

    def __init__(self, deployment: Deployment, *, database: str | None = None) -> None:
        super().__init__(deployment, database=database)

    def position(self) -> ResumeToken:
        """
        Return the present end of the change stream.

        Raises:
            UnsupportedSource: there is none that a live migration could follow.
        """
        check_supported(self._deployment)
        return self._stream.position()

    def clock(self) -> datetime:
        """Return the primary's operation time."""
        return as_datetime(self._deployment.now(), up=True)

    def changes(self, after: ResumeToken) -> Iterator[ChangeBatch]:
        """Yield keys of changed documents, and changes of collections and indexes."""
        return self._stream.batches(after)

    def remembers(self, since: datetime) -> Memory | None:
        """Return how long the oplog will hold what comes after *since*."""
        return self._meter.remembers(since)

    @cached_property
    def _stream(self) -> ChangeStream:
        # Asked, not looked up among the user's privileges, and in the same order at every
        # start: the token that ends a database's stream means nothing to the deployment's.
        whole = ChangeStream(self._deployment)
        if self._database is None:
            return whole
        try:
            whole.position()
        except AccessDenied:
            return ChangeStream(self._deployment, database=self._database)
        return whole


def check_supported(deployment: Deployment) -> None:
    """
    Refuse what cannot be followed.

    Raises:
        UnsupportedSource: a standalone, a sharded cluster, or an older version.
    """
    hello = deployment.decoded("admin", {"hello": 1}, doing="ask what kind of server it is")
    if hello.get("msg") == "isdbgrid":
        raise UnsupportedSource(_unsupported(deployment, "a sharded cluster"))
    if "setName" not in hello:
        raise UnsupportedSource(_unsupported(deployment, "a standalone server without an oplog"))
    build: dict[str, Any] = deployment.decoded("admin", {"buildInfo": 1}, doing="ask its version")
    version = build["version"]
    if tuple(build["versionArray"][:2]) < _OLDEST:
        raise UnsupportedSource(_unsupported(deployment, f"of version {version}"))


def _unsupported(deployment: Deployment, what: str) -> str:
    return f"expected a replica set of version 6.0 or later, but {deployment.identity} is {what}"
