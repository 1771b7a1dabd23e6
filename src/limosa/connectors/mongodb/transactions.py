"""
Many changes at once, in a transaction.

A target takes them with far less work so, as it writes one entry of its oplog for all of them;
and a transaction has a number, so that one which arrives too late is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bson import Int64

from ...errors import ConnectionLost, LimosaError
from ...model import Document, Key, Namespace, Slice
from . import errors
from .clients import APP_NAME
from .commands import DURABLE, code_of
from .deployment import Deployment
from .empty_times import has_empty_time
from .numbering import Numbered, Numbering

#: Fewer are written as well one command after the other: a commit is a command of its own.
_WORTHWHILE = 8
#: The changes of one transaction lie in the server's cache until it is committed.
_MOST = 10_000
_MOST_BYTES = 12_000_000
_LARGE = 1024 * 1024
#: Bytes of an operation besides its key and document.
_OPERATION = 64
#: Seconds in which a collection is left alone after a transaction that failed: what it met may
#: pass, as a build of an index, or not, as a value that is unique.
_PAUSE = 10.0
#: A process that lives does not leave a transaction alone for so many microseconds between two
#: commands; one that was killed leaves it until the server ends it after a minute.
_LEFT_BEHIND = 200_000
_WRITE_CONFLICT = 112


class Transactions:
    """Applies changes in transactions where the server takes them so, a thread one at a time."""

    def __init__(self, deployment: Deployment, numbering: Numbering) -> None:
        self._deployment = deployment
        self._numbering = numbering
        self._left_alone: dict[Namespace, float] = {}  # until when
        self._is_cleared = False

    def clear(self) -> None:
        """End, once, what a process that was killed has left: it locks documents and names."""
        if not self._is_cleared:
            self._is_cleared = True
            self._end_left_behind()

    def apply(
        self,
        namespace: Namespace,
        deleted: Sequence[Key],
        written: Sequence[tuple[Key, Document]],
    ) -> bool:
        """
        Delete, then replace or insert, all of it or nothing; return whether it was done.

        If not, it is to be done one by one: there it shows what stands against it, if anything.

        Raises:
            ConnectionLost: perhaps it was done; the same thread has to try it again.
        """
        numbered = self._numbering.own()
        if numbered.is_open:  # the server is not to keep what this thread gave up
            self._abort(numbered)
        if not self._takes(namespace, deleted, written):
            return False
        commands: list[dict[str, Any]] = []
        if deleted:
            deletes = [{"q": Slice(key), "limit": 1} for key in deleted]
            commands.append({"delete": namespace.collection, "deletes": deletes})
        if written:
            # From the last to the first: where a key is missing, the server looks for the next
            # one that this transaction sees, past all that others have not committed yet, which
            # took half a millisecond for each key at the end of a collection that grows.
            updates = [{"q": Slice(k), "u": d, "upsert": True} for k, d in reversed(written)]
            rules = {"bypassDocumentValidation": True}
            commands.append({"update": namespace.collection, "updates": updates, **rules})
        number = numbered.next()
        is_done = False
        numbered.is_open = True
        try:
            is_done = self._run(namespace, numbered, number, commands)
        except ConnectionLost:
            raise
        except LimosaError as error:
            if code_of(error) == _WRITE_CONFLICT:
                self._end_left_behind()
        if is_done:
            numbered.is_open = False
        else:
            self._left_alone[namespace] = time.monotonic() + _PAUSE
            self._abort(numbered)
        return is_done

    def _takes(
        self,
        namespace: Namespace,
        deleted: Sequence[Key],
        written: Sequence[tuple[Key, Document]],
    ) -> bool:
        count = len(deleted) + len(written)
        if not _WORTHWHILE <= count <= _MOST or self._deployment.is_router:
            return False
        if self._left_alone.get(namespace, 0.0) > time.monotonic():
            return False
        sizes = [len(d.raw) for _, d in written]
        total = sum(map(len, deleted)) + sum(sizes) + count * _OPERATION
        if total > _MOST_BYTES or max(sizes, default=0) > _LARGE:
            return False
        return not any(has_empty_time(d.raw) for _, d in written)

    def _run(
        self,
        namespace: Namespace,
        numbered: Numbered,
        number: Int64,
        commands: Sequence[Mapping[str, Any]],
    ) -> bool:
        doing = f"write {namespace}"
        part = {"txnNumber": number, "autocommit": False}
        begin = {"startTransaction": True}
        for command in commands:
            reply = self._deployment.run(
                namespace.database,
                {**command, "ordered": False, **part, **begin},
                doing=doing,
                session=numbered.session,
            )
            if errors.write_errors(reply, doing):
                return False
            begin = {}
        reply = self._deployment.run(
            "admin",
            {"commitTransaction": 1, **part, "writeConcern": DURABLE},
            doing=doing,
            session=numbered.session,
        )
        errors.write_errors(reply, doing)
        return True

    def _abort(self, numbered: Numbered) -> None:
        """
        Have the server forget the transaction that this thread was in, if it did not already.

        Raises:
            ConnectionLost: the server could not be told.
        """
        command = {"abortTransaction": 1, "txnNumber": Int64(numbered.last), "autocommit": False}
        try:
            self._deployment.run(
                "admin", command, doing="end a transaction", session=numbered.session
            )
        except ConnectionLost:
            raise
        except LimosaError:
            pass  # it is over: ended with its error, or committed
        numbered.is_open = False

    def _end_left_behind(self) -> None:
        idle = {"type": "idleSession", "appName": APP_NAME}
        old = {"transaction.timeInactiveMicros": {"$gte": _LEFT_BEHIND}}
        command = {
            "aggregate": 1,
            "pipeline": [
                {"$currentOp": {"allUsers": False, "idleSessions": True}},
                {"$match": idle | old},
                {"$project": {"lsid.id": 1}},
            ],
            "cursor": {},
        }
        doing = "look for transactions that were left behind"
        # Without it they end after a minute.
        with suppress(LimosaError):
            reply = self._deployment.decoded("admin", command, doing=doing)
            sessions = [found["lsid"] for found in reply["cursor"]["firstBatch"]]
            if sessions:
                self._deployment.run("admin", {"killSessions": sessions}, doing=doing)
