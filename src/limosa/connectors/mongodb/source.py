"""A MongoDB replica set, or one database of it, as a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from ...errors import AccessDenied, UnsupportedSource
from ...limits import Memory
from ...model import Batch, ChangeBatch, Collection, CollectionSpec, Partition, ResumeToken
from . import sharding
from .deployment import Deployment, as_datetime, is_router
from .reader import MongoReader
from .stream import ChangeStream

#: The first version whose change streams tell of created collections and indexes, and by UUID.
_OLDEST = (6, 0)
_UPGRADE = "upgrade it to 6.0 or later, then run setFeatureCompatibilityVersion with its version"


class MongoSource(MongoReader):
    """
    Where the data is: a replica set or sharded cluster of version 6.0 or later.

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
        position = self._stream.position()
        if self._deployment.is_router:
            # What any shard has written by then is read by all that is read from now on.
            self._deployment.now()
        return position

    def collections(self) -> Iterator[CollectionSpec]:
        """List the user collections of all databases, with their shard keys."""
        specs = super().collections()
        if self._deployment.is_router:
            yield from sharding.with_keys(self._deployment, specs)
        else:
            yield from specs

    def described(self, collection: Collection) -> CollectionSpec | None:
        """Describe one collection under its present name; None if it is gone."""
        spec = super().described(collection)
        if spec is None or not self._deployment.is_router:
            return spec
        return next(sharding.with_keys(self._deployment, [spec]))

    def read(self, partition: Partition) -> Iterator[Batch]:
        """
        Yield the partition's documents in order of ``_id`` (capped: of insertion).

        Raises:
            PermanentError: two documents on different shards have one ``_id``.
        """
        batches: Iterable[Batch] = super().read(partition)
        if self._deployment.is_router:
            batches = sharding.without_twins(partition.collection, batches)
        yield from batches

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
        UnsupportedSource: a standalone, or an older version.
    """
    hello = deployment.decoded("admin", {"hello": 1}, doing="ask what kind of server it is")
    build = deployment.decoded("admin", {"buildInfo": 1}, doing="ask its version")
    what = unsupported(hello, build, _level(deployment, hello))
    if what:
        msg = f"expected a replica set of version 6.0 or later, but {deployment.identity} is {what}"
        raise UnsupportedSource(msg, hint=_UPGRADE if hello.get("setName") else "")


def unsupported(hello: Mapping[str, Any], build: Mapping[str, Any], level: str) -> str:
    """
    Return what cannot be followed about a source; "" if it can be.

    *level* is its feature compatibility version, "" where that is not known.
    """
    if "setName" not in hello and not is_router(hello):
        return "a standalone server without an oplog"
    if tuple(build["versionArray"][:2]) < _OLDEST:
        return f"of version {build['version']}"
    # Members of the earlier version may be among its members, and become primary.
    if level and tuple(map(int, level.split("."))) < _OLDEST:
        return f"of feature compatibility version {level}"
    return ""


def _level(deployment: Deployment, hello: Mapping[str, Any]) -> str:
    if is_router(hello):
        return ""  # its shards have one
    command = {"getParameter": 1, "featureCompatibilityVersion": 1}
    doing = "ask for the feature compatibility version"
    try:
        answer = deployment.decoded("admin", command, doing=doing)
    except AccessDenied:
        return ""  # it differs from the version only for a while after an upgrade
    found: str = answer["featureCompatibilityVersion"]["version"]
    return found
