"""The change stream, reduced to keys."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import bson
from bson import Timestamp
from bson.raw_bson import RawBSONDocument

from ...canonical import key_of
from ...errors import PermanentError, PositionLost, TransientError
from ...model import (
    ChangeBatch,
    Collection,
    Document,
    Key,
    Namespace,
    ResumeToken,
    SchemaChange,
    SchemaVerb,
)
from ...sizing import Size
from ...slices import starts_of
from . import sharding, timeseries
from .deployment import PLAIN, Cursor, Deployment, as_datetime, is_migrated

#: How long the server holds an answer back for want of changes; also what a commit may have
#: to wait until the stream has said that nothing else came.
_AWAIT_MS = 100
_BATCH_DOCUMENTS = 10_000
#: A transaction's changes share one time. Until the stream has shown that no more of them
#: follow, only what came before that time is known to be complete.
_JUST_BEFORE = timedelta(microseconds=1)

#: Only what is needed, in an order in which it can be sliced: keys are not decoded.
_KEYS_ONLY = {
    "$replaceWith": {
        "_id": "$_id",
        "k": "$documentKey",
        "u": "$collectionUUID",
        "n": "$ns",
        "t": "$clusterTime",
        "o": "$operationType",
        "d": "$operationDescription",
        "to": "$to",
        "b": "$stateBeforeChange.collectionOptions.timeseries",
    }
}
_VERBS = {
    "create": SchemaVerb.CREATE,
    "drop": SchemaVerb.DROP,
    "rename": SchemaVerb.RENAME,
    "createIndexes": SchemaVerb.CREATE_INDEXES,
    "dropIndexes": SchemaVerb.DROP_INDEXES,
    "modify": SchemaVerb.MODIFY,
    "shardCollection": SchemaVerb.MODIFY,
}
_int32 = struct.Struct("<i").unpack_from


class ChangeStream:
    """
    Changes of a whole deployment, or of one database, in batches of keys.

    Needs a source of version 6.0 or later: events of earlier ones name no collection UUID
    and leave out the creation of collections and indexes.
    """

    def __init__(self, deployment: Deployment, *, database: str | None = None) -> None:
        self._deployment = deployment
        self._database = database
        self._size = Size(_BATCH_DOCUMENTS)

    def position(self) -> ResumeToken:
        """Return the present end of the stream."""
        with self._deployment.start_session() as session:
            reply = self._deployment.run(
                self._database or "admin",
                self._opening(None, _BATCH_DOCUMENTS),
                doing="take the position of the change stream",
                session=session,
            )
            cursor = Cursor.of(reply)
            self._deployment.close_cursor(self._database or "admin", cursor, session)
        return ResumeToken(cursor.token)

    def batches(self, after: ResumeToken) -> Iterator[ChangeBatch]:
        """
        Yield what follows *after* for ever.

        Raises:
            TransientError: among others, once the database of the stream was dropped; it goes
                on after the token of the last batch.
        """
        database = self._database or "admin"
        with self._deployment.start_session() as session:
            size = self._size.now
            with self._size.tried(size):
                reply = self._deployment.run(
                    database,
                    self._opening(after, size),
                    doing="open the change stream",
                    session=session,
                )
            while True:
                cursor = Cursor.of(reply)
                yield from _decoded(cursor, has_shard_keys=self._deployment.is_router)
                if not cursor.id:
                    msg = f"{self._deployment.identity}: the change stream was closed"
                    raise TransientError(msg)
                size = self._size.now
                more = cursor.more(size, maxTimeMS=_AWAIT_MS)
                with self._size.tried(size):
                    reply = self._deployment.run(
                        database, more, doing="read the change stream", session=session
                    )

    def _opening(self, after: ResumeToken | None, size: int) -> dict[str, Any]:
        # The buckets of time-series collections are the system's.
        stage: dict[str, Any] = {"showExpandedEvents": True, "showSystemEvents": True}
        if self._database is None:
            stage["allChangesForCluster"] = True
        if after is not None:
            stage["startAfter"] = RawBSONDocument(after)
        return {
            "aggregate": 1,
            "pipeline": [{"$changeStream": stage}, _KEYS_ONLY],
            "cursor": {"batchSize": size},
            "readConcern": {"level": "majority"},
        }


def _decoded(cursor: Cursor, *, has_shard_keys: bool = False) -> Iterator[ChangeBatch]:
    """Yield the changes of one answer: keys joined up to each schema change, then the rest."""
    token = ResumeToken(cursor.token)
    array = cursor.array
    events = starts_of(array)
    if not events:
        yield ChangeBatch(token, as_datetime(time_of(token)))
        return
    changes: dict[Collection, dict[Key, Document | None]] = {}
    collections: dict[bytes, dict[Key, Document | None]] = {}
    count, last, first = 0, 0, events[0]
    for start in events:
        at = start + 9 + _int32(array, start + 9)[0]
        if array[at : at + 3] == b"\x03k\x00":
            end = at + 3 + _int32(array, at + 3)[0]
            uuid = array[end + 8 : end + 24]
            keys = collections.get(uuid)
            if keys is None:
                collection = _event(array, start).collection
                keys = collections[uuid] = changes.setdefault(collection, {})
            if has_shard_keys:
                keys[key_of(array[at + 3 : end])] = None
            else:
                keys[array[at + 3 : end]] = None  # type: ignore[index] # a Key; calling costs
            count, last = count + 1, start
            continue
        event = _event(array, start)
        if count:
            # Not the token of this event: a reader that resumes after the batch must see it.
            token_before = _event(array, last).token
            yield ChangeBatch(
                token_before, _before(event.time), changes, events=count, size=start - first
            )
            changes, collections, count = {}, {}, 0
        first = start + _int32(array, start)[0]
        yield from _schema_change(event, size=first - start)
    if count:
        until = _before(as_datetime(time_of(token)))
        yield ChangeBatch(token, until, changes, events=count, size=len(array) - first)


@dataclass(frozen=True, slots=True)
class Event:
    """An event that is looked at as a whole."""

    token: ResumeToken
    fields: dict[str, Any]

    @property
    def time(self) -> datetime:
        return as_datetime(self.fields["t"])

    @property
    def collection(self) -> Collection:
        name = timeseries.known_as(self.fields["n"]["coll"])
        namespace = Namespace(self.fields["n"]["db"], name)
        return Collection(namespace, bytes(self.fields["u"]).hex())


def _event(array: bytes, start: int) -> Event:
    raw = array[start : start + _int32(array, start)[0]]
    # The token is the first field: four bytes of length, one of type, "_id" and zero.
    return Event(ResumeToken(raw[9 : 9 + _int32(raw, 9)[0]]), bson.decode(raw, PLAIN))


def _schema_change(event: Event, *, size: int) -> Iterator[ChangeBatch]:
    fields = event.fields
    kind = fields["o"]
    if kind == "invalidate":
        # The stream ends with its database; only after this token can it be opened again.
        yield ChangeBatch(event.token, _before(event.time))
        return
    if kind == "reshardCollection":
        # It has a new identity, under which no later change would be known.
        name = f"{fields['n']['db']}.{fields['n']['coll']}"
        msg = f"read the change stream: {name} was given another shard key, or moved, meanwhile"
        raise PermanentError(msg, hint="start anew: `limosa cleanup --force`, and drop the target")
    verb = _VERBS.get(kind)
    if verb is None or "u" not in fields:
        return  # dropDatabase: its collections were dropped one by one; views have no UUID
    stored = fields["n"]["coll"]
    if not (timeseries.is_migrated(stored) and is_migrated(fields["n"]["db"])):
        return
    detail = fields.get("d") or {}
    if timeseries.is_buckets(stored):
        detail = timeseries.own_change(verb, detail, fields.get("b") or {})
    if kind == "shardCollection":
        detail = sharding.told_by(detail)
    to = fields.get("to")
    change = SchemaChange(
        verb,
        event.collection,
        detail=detail,
        to=Namespace(to["db"], to["coll"]) if to and verb is SchemaVerb.RENAME else None,
    )
    yield ChangeBatch(event.token, _before(event.time), schema=change, events=1, size=size)


def _before(time: datetime) -> datetime:
    return time - _JUST_BEFORE


def time_of(token: ResumeToken) -> Timestamp:
    """
    Return the cluster time in a resume token.

    The server writes it first, as a sortable key: 0x82 for "timestamp", then eight bytes,
    most significant first. An idle stream says in no other way how far it has come.
    """
    data = RawBSONDocument(token).get("_data")
    if not isinstance(data, str) or not data.startswith("82") or len(data) < 18:
        msg = "the resume token holds no time: the server is of an unknown version"
        raise PositionLost(msg)
    return Timestamp(int(data[2:10], 16), int(data[10:18], 16))
