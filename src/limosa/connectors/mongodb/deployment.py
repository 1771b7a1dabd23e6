"""A MongoDB deployment: commands, their errors, and where collections are to be found."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4

import bson
from bson import Binary, Int64, Timestamp
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import ConfigurationError, NetworkTimeout, NotPrimaryError
from pymongo.uri_parser import parse_uri

from ...canonical import elements
from ...errors import AccessDenied, CollectionGone, ConfigError, LimosaError, TransientError
from ...model import Batch, Collection
from . import errors
from .clients import answer_ms, connected, forget_connections

#: Replies stay bytes: only what is looked at is decoded.
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
#: For what is decoded and stored: nothing is lost by a value that Python cannot hold.
PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict, datetime_conversion=bson.codec_options.DatetimeConversion.DATETIME_MS
)
#: These read a whole collection, so they are given more time. That the server is gone is noticed
#: within half a minute all the same, by the driver's monitoring and the system's keep-alive.
_BUILDS = frozenset({"createIndexes", "collMod"})
_BUILD_PATIENCE = 20
_SYSTEM_DATABASES = frozenset({"admin", "config", "local"})
#: Where tools that move data keep their own accounts, which are nobody's data: mongosync's are
#: named so.
_INTERNAL_DATABASES = ("__mdb_internal", "mongosync_reserved_for_", "mongosync_internal_")


def identity(uri: str) -> str:
    """
    Return the deployment's address without credentials.

    Raises:
        ConfigError: *uri* is not a MongoDB connection string.
    """
    doing = "read the connection string"
    try:
        with errors.translated(doing):
            parsed = parse_uri(uri)
    except (ValueError, OSError) as exc:  # a bad port or value; a certificate that is not there
        msg = f"{doing}: {exc}"
        raise ConfigError(msg) from exc
    hosts = ",".join(sorted(f"{host}:{port}" for host, port in parsed["nodelist"]))
    return f"mongodb://{hosts}"


def is_migrated(database: str) -> bool:
    """Whether *database* holds its users' data: it does not if it is the system's or a tool's."""
    return database not in _SYSTEM_DATABASES and not database.startswith(_INTERNAL_DATABASES)


def is_router(hello: Mapping[str, Any]) -> bool:
    """Whether it is a ``mongos`` that answers so."""
    return hello.get("msg") == "isdbgrid"


class Deployment:
    """
    Runs commands and says of errors what they mean.

    Remembers the latest operation time of any answer, so that later reads can be asked not
    to be older than anything seen so far.
    """

    def __init__(self, uri: str) -> None:
        self.identity = identity(uri)
        self.uri = uri
        with errors.translated(f"connect to {self.identity}"):
            self._client = connected(uri, answer_ms=answer_ms(uri))
        self._seen = Timestamp(0, 0)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        if "_builder" in self.__dict__:
            self._builder.close()

    def secondaries(self, tags: Sequence[Mapping[str, str]]) -> list[str]:
        """Return the secondaries that match the first of *tags* that any does, as "host:port"."""
        members = self._client.topology_description.server_descriptions().values()
        found = [m for m in members if m.server_type_name == "RSSecondary"]
        for wanted in tags:
            matching = [m for m in found if wanted.items() <= m.tags.items()]
            if matching:
                return [f"{m.address[0]}:{m.address[1]}" for m in matching]
        return []

    def run(
        self,
        database: str,
        command: Mapping[str, Any],
        *,
        doing: str,
        session: ClientSession | None = None,
    ) -> RawBSONDocument:
        """Run *command* on the primary and return the answer, not decoded."""
        with errors.translated(f"{self.identity}: {doing}"):
            reply = self._asked(database, command, session)
        time = reply.get("operationTime")
        if isinstance(time, Timestamp):
            with self._lock:
                self._seen = max(self._seen, time)
        return reply

    def _asked(
        self, database: str, command: Mapping[str, Any], session: ClientSession | None
    ) -> RawBSONDocument:
        if not _BUILDS.isdisjoint(command):
            return self._built(database, command)
        try:
            return self._client[database].command(dict(command), codec_options=RAW, session=session)
        except (ConfigurationError, NotPrimaryError):
            forget_connections(self._client)
            raise

    def _built(self, database: str, command: Mapping[str, Any]) -> RawBSONDocument:
        """
        Return the answer of a command that may take hours.

        Its connection may be forgotten by something in between that goes on taking what is sent.
        So it is asked anew after a while: the server goes on by itself, and whoever asks for the
        same joins. (The driver's own time-out would have the server end it.)
        """
        while True:
            try:
                return self._builder[database].command(dict(command), codec_options=RAW)
            except NetworkTimeout:
                continue

    @cached_property
    def _builder(self) -> MongoClient[RawBSONDocument]:
        return connected(self.uri, answer_ms=_BUILD_PATIENCE * answer_ms(self.uri))

    def decoded(self, database: str, command: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        """Run *command* and return the whole answer decoded."""
        return bson.decode(self.run(database, command, doing=doing).raw, PLAIN)

    def batches(
        self,
        database: str,
        command: Mapping[str, Any],
        *,
        doing: str,
        batch_size: int,
        collection: Collection | None = None,
    ) -> Iterator[Batch]:
        """
        Yield the batches of a command that answers with a cursor.

        With *collection* an address by name is checked after each batch: what was read may
        be another collection of that name.
        """
        with self._client.start_session(causal_consistency=False) as session:
            cursor = Cursor.of(self.run(database, command, doing=doing, session=session))
            try:
                while True:
                    if collection is not None:
                        self._check_address(collection, cursor)
                    if len(cursor.array) > EMPTY_ARRAY:
                        yield Batch(cursor.array)
                    if not cursor.id:
                        return
                    more = cursor.more(batch_size)
                    del cursor  # its bytes: two batches at a time are one too many
                    reply = self.run(database, more, doing=doing, session=session)
                    cursor = Cursor.of(reply)
                    del reply
            except GeneratorExit:
                self.close_cursor(database, cursor, session)
                raise

    def close_cursor(self, database: str, cursor: Cursor, session: ClientSession) -> None:
        """Have the server forget *cursor*."""
        command = {"killCursors": cursor.collection, "cursors": [cursor.id]}
        # The server drops it by itself after ten minutes; and an iterator that nobody exhausts
        # may be closed after the connections were.
        with suppress(LimosaError):
            self.run(database, command, doing="close a cursor", session=session)

    def start_session(self) -> ClientSession:
        """Return a session for a cursor that outlives one call."""
        return self._client.start_session(causal_consistency=False)

    def majority(self) -> dict[str, Any]:
        """
        Return a read concern: majority, and not older than any answer seen so far.

        Majority alone may be older: a position taken from the primary's clock could then lie
        after writes that the copy does not see.
        """
        if not self._seen.time:
            self.now()
        return {"level": "majority", "afterClusterTime": self._seen}

    def now(self) -> Timestamp:
        """
        Return the present operation time of the primary.

        Raises:
            TransientError: it has just started, and knows none yet.
        """
        # A router knows what passed through itself; asking all shards tells it of the rest.
        command = {"listDatabases": 1, "nameOnly": True} if self.is_router else {"ping": 1}
        reply = self.run("admin", command, doing="read the operation time")
        time = reply.get("operationTime")
        if not isinstance(time, Timestamp) or not time.time:
            msg = f"{self.identity}: read the operation time: the server does not know it yet"
            raise TransientError(msg)
        return time

    @cached_property
    def is_router(self) -> bool:
        """Whether this is a sharded cluster, reached through a router (``mongos``)."""
        hello = self.decoded("admin", {"hello": 1}, doing="ask what kind of server it is")
        return is_router(hello)

    def databases(self) -> list[str]:
        """Return the names of all user databases on which this user has any right."""
        # The others are no concern of his, and this way no right on the cluster is needed.
        command = {"listDatabases": 1, "nameOnly": True, "authorizedDatabases": True}
        reply = self.decoded("admin", command, doing="list the databases")
        return sorted(d["name"] for d in reply["databases"] if is_migrated(d["name"]))

    def address(self, collection: Collection) -> str | Binary:
        """
        Return what commands may put in place of the collection's name: its UUID where we may.

        Raises:
            CollectionGone: it was dropped, or moved to another database.
        """
        if not collection.id:
            return collection.namespace.collection
        if self.finds_by_uuid:
            return Binary(bytes.fromhex(collection.id), bson.binary.UUID_SUBTYPE)
        return self.name_of(collection)

    @cached_property
    def finds_by_uuid(self) -> bool:
        """Whether this user may name a collection by its UUID (privilege ``useUUID``)."""
        if self.is_router:
            return False  # routers take names only
        probe = {"find": Binary.from_uuid(uuid4()), "limit": 1}
        try:
            self.run("admin", probe, doing="find by UUID")
        except CollectionGone:
            return True
        except AccessDenied:
            return False
        return True

    def name_of(self, collection: Collection) -> str:
        """
        Return the present name of the collection with this id in its database.

        Raises:
            CollectionGone: it was dropped, or moved to another database.
        """
        uuid = Binary(bytes.fromhex(collection.id), bson.binary.UUID_SUBTYPE)
        command = {"listCollections": 1, "filter": {"info.uuid": uuid}, "nameOnly": False}
        reply = self.decoded(
            collection.namespace.database, command, doing=f"find the name of {collection}"
        )
        found = reply["cursor"]["firstBatch"]
        if not found:
            msg = f"{collection} was dropped or moved to another database"
            raise CollectionGone(msg)
        name: str = found[0]["name"]
        return name

    def _check_address(self, collection: Collection, cursor: Cursor) -> None:
        if not collection.id or self.finds_by_uuid:
            return
        if self.name_of(collection) != cursor.collection:
            msg = f"{collection} was renamed while it was read"
            raise TransientError(msg)


#: An empty BSON document or array: its length and the terminating zero.
EMPTY_ARRAY = 5


@dataclass(frozen=True, slots=True)
class Cursor:
    """What an answer says of a cursor, sliced: decoding it would decode the documents."""

    id: Int64
    collection: str
    array: bytes  # of the batch
    token: bytes = b""  # of a change stream: right after the batch

    @classmethod
    def of(cls, reply: RawBSONDocument) -> Cursor:
        """Take the cursor out of *reply*."""
        # Found within the whole answer: each part that is cut out for itself is a copy of it.
        raw = reply.raw if isinstance(reply.raw, bytes) else bytes(reply.raw)
        cursor = next(start for _, name, start, _ in elements(raw) if name == b"cursor")
        found = {name: (start, end) for _, name, start, end in elements(raw, start=cursor)}

        def part(name: bytes) -> bytes:
            start, end = found.get(name, (0, 0))
            return raw[start:end]

        namespace = part(b"ns")[4:-1].decode()
        return cls(
            Int64(int.from_bytes(part(b"id"), "little", signed=True)),
            namespace.partition(".")[2],
            part(b"nextBatch") or part(b"firstBatch"),
            part(b"postBatchResumeToken"),
        )

    def more(self, batch_size: int, **options: Any) -> dict[str, Any]:
        """Return the command for the next batch."""
        return {
            "getMore": self.id,
            "collection": self.collection,
            "batchSize": batch_size,
            **options,
        }


def as_datetime(time: Timestamp, *, up: bool = False) -> datetime:
    """
    Return *time* with the increment in the microseconds.

    An increment too large for them is rounded down, or up on request, so that "applied to"
    never claims too much and "commit at" never asks for too little.
    """
    base = datetime.fromtimestamp(time.time, UTC)
    if time.inc < 1_000_000:
        return base + timedelta(microseconds=time.inc)
    return base + (timedelta(seconds=1) if up else timedelta(microseconds=999_999))
