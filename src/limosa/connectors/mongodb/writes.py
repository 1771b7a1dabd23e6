"""Insert, replace and delete documents, byte for byte and within the server's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import bson
from bson.raw_bson import RawBSONDocument

from ...canonical import id_in, key_of, readable
from ...errors import LimosaError, PermanentError, TransientError, WriteRefused
from ...model import Batch, Document, Key, Namespace, Slice
from . import errors
from .arrays import DurableWith
from .commands import DURABLE
from .deployment import Deployment
from .empty_times import has_empty_time, may_have_empty_time
from .numbering import Numbering
from .sharding import is_by_id, key_at

T = TypeVar("T")

#: An answer names the key of every document that was there already, and a server whose
#: answer would exceed 16 MB drops the connection, each time anew (seen on 6.0.5). Keys are
#: no longer than documents, an error takes 180 bytes besides, all texts together 1 MB:
#: within these limits an answer stays below 15 MB.
_MAX_COMMAND_BYTES = 12_000_000
_MAX_OPERATIONS = 10_000
#: Bytes of an operation besides its key and document.
_OPERATION = 64
#: The server's ``maxBsonObjectSize``.
_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
#: The driver sends no command above ``maxBsonObjectSize`` and 16 kB, all of it counted.
_MAX_REPLACEMENT_BYTES = _MAX_DOCUMENT_BYTES + 8_000
#: A server whose cache is small (0.25 GB) refuses a numbered write of 16 MB for good, as "too
#: large for the cache" (388); without a number it makes room and tries again (seen on 6.0.5).
_MAX_NUMBERED_BYTES = 1024 * 1024
#: Two upserts of one key can collide; the second then finds the document.
_ATTEMPTS = 5

_TAKEN_ONLY_BY_INSERT = frozenset(
    {
        9,  # FailedToParse: begins with "$", so it was taken for operators
        52,  # DollarPrefixedFieldName
        54,  # NotSingleValueField: an _id that only an insert takes
        66,  # ImmutableField: what is there is equal to the database, with another _id
        10003,  # CannotGrowDocumentInCappedNamespace
    }
)
_DUPLICATE_HINT = (
    "drop this unique index on the target: limosa builds the unique indexes itself; "
    "then run the same command again"
)


class Writer:
    """Writes documents as they are: nothing is decoded, checked against a validator or lost."""

    def __init__(self, deployment: Deployment, numbering: Numbering) -> None:
        self._deployment = deployment
        self._numbering = numbering
        # Where most of the last batch was there already, as after a restart. An insert that
        # finds a duplicate takes the server 95 µs, to ask for a key takes 4 µs.
        self._repeated: set[Namespace] = set()
        self._keys: dict[Namespace, Mapping[str, Any]] = {}

    def insert(self, namespace: Namespace, batch: Batch) -> None:
        """
        Insert the documents that are not there yet; leave those that are.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        documents: Sequence[bytes] = _Whole(batch)
        if namespace in self._repeated:
            documents = self._missing(namespace, documents)
        if may_have_empty_time(batch.array):
            timed = [d for d in documents if has_empty_time(d)]
            self._insert_timed(namespace, timed)
            if timed:
                documents = [d for d in documents if not has_empty_time(d)]
        if batch.size <= _MAX_COMMAND_BYTES and len(documents) <= _MAX_OPERATIONS:
            self._insert(namespace, documents)
            return
        for part in _bounded(documents, len):
            self._insert(namespace, part)

    def delete(self, namespace: Namespace, keys: Iterable[Key]) -> None:
        """Delete the documents with *keys*; missing ones are fine."""
        limit = 1 if is_by_id(self.shard_key(namespace)) else 0  # else it may be on any shard
        for part in _bounded(keys, len):
            operations = [{"q": Slice(key), "limit": limit} for key in part]
            for error in self._run(namespace, "delete", operations, _deletes):
                raise self._refusal(namespace, part[error["index"]], error)

    def replace(self, namespace: Namespace, states: Iterable[tuple[Key, Document]]) -> None:
        """
        Make each key's document what is given, whether there is one or not.

        Raises:
            WriteRefused: a document is too large, or another one has its unique value.
        """
        is_by_key = is_by_id(self.shard_key(namespace))
        for part in _bounded(states, _size_of_replacement):
            if not is_by_key:
                # What is there may be on another shard than where it belongs now.
                self.delete(namespace, [key for key, _ in part])
                self.insert(namespace, Batch.of([document for _, document in part]))
                continue
            waiting = part
            for _ in range(_ATTEMPTS):
                waiting = self._replace(namespace, waiting)
                if not waiting:
                    break
            else:
                msg = f"{self._doing(namespace)}: other writers insert the same keys"
                raise TransientError(msg)

    def shard_key(self, namespace: Namespace) -> Mapping[str, Any]:
        """Return by what the collection is spread over shards; empty if it is not."""
        if not self._deployment.is_router:
            return {}
        found = self._keys.get(namespace)
        if found is None:
            found = self._keys[namespace] = key_at(self._deployment, namespace)
        return found

    def forget_keys(self) -> None:
        """Ask anew by what each collection is spread: a change may have sharded or renamed it."""
        self._keys.clear()

    def _insert(self, namespace: Namespace, documents: Sequence[bytes]) -> None:
        if not documents:
            return
        self._check_size(namespace, documents)
        try:
            found = self._run(
                namespace, "insert", documents, _documents, bypassDocumentValidation=True
            )
        except TransientError:
            self._repeated.add(namespace)  # some may be there: only the others are tried again
            raise
        for error in found:
            if not _is_same_key(error):
                key = key_of(documents[error["index"]])
                raise self._refusal(namespace, key, error)
        if 2 * len(found) > len(documents):
            self._repeated.add(namespace)

    def _missing(self, namespace: Namespace, documents: Sequence[bytes]) -> list[bytes]:
        keys = [key_of(d) for d in documents]
        command = {
            "find": namespace.collection,
            "filter": id_in(keys),
            "projection": {"_id": 1},
            "batchSize": len(keys) + 1,
        }
        doing = f"look up {len(keys)} keys of {namespace}"
        there = {
            key_of(found)
            for answer in self._deployment.batches(
                namespace.database, command, doing=doing, batch_size=_MAX_OPERATIONS
            )
            for found in answer.raw
        }
        if 2 * len(there) < len(keys):
            self._repeated.discard(namespace)
        return [d for k, d in zip(keys, documents, strict=True) if k not in there]

    def _insert_timed(self, namespace: Namespace, documents: Iterable[bytes]) -> None:
        # An update by pipeline keeps timestamps of zero. The upsert makes a document of the
        # key alone, by which a new one is known.
        for document in documents:
            key = key_of(document)
            is_new = {"$eq": ["$$ROOT", {"$literal": RawBSONDocument(key)}]}
            kept = {"$cond": [is_new, {"$literal": Slice(document)}, "$$ROOT"]}
            update = {"q": RawBSONDocument(key), "u": [{"$replaceWith": kept}], "upsert": True}
            for error in self._update(namespace, [update]):
                if not _is_same_key(error):
                    raise self._refusal(namespace, key, error)

    def _replace(
        self, namespace: Namespace, states: Sequence[tuple[Key, Document]]
    ) -> list[tuple[Key, Document]]:
        """Return what collided with another writer."""
        if len(states) == 1 and _size_of_replacement(states[0]) > _MAX_REPLACEMENT_BYTES:
            self._reinsert(namespace, *states[0])
            return []
        timed = [(k, d) for k, d in states if has_empty_time(d.raw)]
        if timed:
            # Only a pipeline keeps timestamps of zero, and one that changes a document in which a
            # name is repeated kills the server (seen on 6.0.5): it must find none.
            self.delete(namespace, [k for k, _ in timed])
            self._insert_timed(namespace, [bytes(d.raw) for _, d in timed])
            states = [(k, d) for k, d in states if not has_empty_time(d.raw)]
        again = []
        for error in self._update(namespace, [_upsert(k, d) for k, d in states]) if states else ():
            key, document = states[error["index"]]
            if error["code"] in _TAKEN_ONLY_BY_INSERT:
                self._reinsert(namespace, key, document)
            elif _is_same_key(error):
                again.append((key, document))
            else:
                raise self._refusal(namespace, key, error)
        return again

    def _reinsert(self, namespace: Namespace, key: Key, document: Document) -> None:
        self.delete(namespace, [key])
        self.insert(namespace, Batch.of([document]))

    def _update(
        self, namespace: Namespace, updates: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        return self._run(namespace, "update", updates, _updates, bypassDocumentValidation=True)

    def _run(
        self,
        namespace: Namespace,
        verb: str,
        operations: Sequence[T],
        fields: Callable[[Sequence[T]], Mapping[str, Any]],
        **options: bool,
    ) -> list[Mapping[str, Any]]:
        """
        Return the documents' own errors.

        Those that may pass are tried again as long as others of the same command succeed: a
        command of thousands that has to succeed at once may never do so.

        Raises:
            TransientError: none of those that were left succeeded.
        """
        command = {verb: namespace.collection, **options, "ordered": False, "writeConcern": DURABLE}
        numbers: Sequence[int] = range(len(operations))
        found: list[Mapping[str, Any]] = []
        while True:
            reply = self._send(namespace, {**command, **fields(operations)})
            passing = errors.passing_errors(reply)
            if not passing or len(passing) == len(operations):
                last = errors.write_errors(reply, self._doing(namespace))
                return found + [{**e, "index": numbers[e["index"]]} for e in last]
            found += [
                {**e, "index": numbers[e["index"]]}
                for e in reply["writeErrors"]
                if e["index"] not in passing
            ]
            numbers = [numbers[i] for i in passing]
            operations = [operations[i] for i in passing]

    def _send(self, namespace: Namespace, command: dict[str, Any]) -> RawBSONDocument:
        session = None
        if _is_numbered(command):
            numbered = self._numbering.own()
            session, command["txnNumber"] = numbered.session, numbered.next()
        doing = f"write {namespace}"
        return self._deployment.run(namespace.database, command, doing=doing, session=session)

    def _check_size(self, namespace: Namespace, documents: Sequence[bytes]) -> None:
        # What is so large stands alone in its command.
        if len(documents) == 1 and len(raw := documents[0]) > _MAX_DOCUMENT_BYTES:
            msg = (
                f"{self._doing(namespace)}: document {readable(key_of(raw))} of {len(raw):,} bytes "
                f"is larger than {_MAX_DOCUMENT_BYTES:,} bytes"
            )
            raise WriteRefused(msg)

    def _refusal(self, namespace: Namespace, key: Key, error: Mapping[str, Any]) -> LimosaError:
        doing = f"{self._doing(namespace)}: document {readable(key)}"
        code = error["code"]
        meaning = errors.of_answer(code, error.get("errmsg") or _values(error), doing)
        if type(meaning) is not PermanentError:
            return meaning
        return WriteRefused(
            str(meaning), hint=_DUPLICATE_HINT if code == errors.DUPLICATE_KEY else ""
        )

    def _doing(self, namespace: Namespace) -> str:
        return f"{self._deployment.identity}: write {namespace}"


def _is_numbered(command: Mapping[str, Any]) -> bool:
    """
    Whether *command* would undo later ones if it arrived after them.

    An insert leaves what is there. It could bring back what was deleted since, but a number
    costs a server a quarter more for it; those of the copy are minutes old by then, or hours.
    """
    if "delete" in command:  # of several documents at once none is taken with a number
        return all(d["limit"] == 1 for d in command["deletes"])
    # A pipeline leaves what is there, too.
    return "update" in command and not any(
        isinstance(u["u"], list) or len(u["u"].raw) > _MAX_NUMBERED_BYTES
        for u in command["updates"]
    )


def _upsert(key: Key, document: Document) -> dict[str, Any]:
    return {"q": Slice(key), "u": document, "upsert": True}


class _Whole(Sequence[bytes]):
    """The documents of a batch, which are cut out of it only if one of them is looked at."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return self.batch.count

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        return self.batch.raw[index]


def _deletes(operations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return {"deletes": operations}


def _updates(operations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return {"updates": operations}


def _documents(documents: Sequence[bytes]) -> Mapping[str, Any]:
    """
    Return what has the driver send *documents*: a batch as it came, others in a row.

    Documents stand one after the other in the message, so they may as well come as one: 5,000
    objects less to make, to ask for their bytes and to collect.
    """
    if isinstance(documents, _Whole):
        return {"writeConcern": DurableWith(documents.batch)}
    return {"documents": [Slice(b"".join(documents))]}


def _is_same_key(error: Mapping[str, Any]) -> bool:
    """Whether there is a document with this very key already."""
    if error["code"] != errors.DUPLICATE_KEY:
        return False
    pattern = error.get("keyPattern")
    return list(pattern) == ["_id"] if pattern is not None else " index: _id_ " in error["errmsg"]


def _values(error: Mapping[str, Any]) -> str:
    # Of very many errors the server leaves the later texts out.
    value = error.get("keyValue")
    return f"duplicate of {bson.decode(value.raw)!r}" if value is not None else "no reason given"


def _size_of_replacement(state: tuple[Key, Document]) -> int:
    return len(state[0]) + len(state[1].raw) + _OPERATION


def _bounded(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield *items* in parts that a command takes; one that is too large stands alone."""
    part: list[T] = []
    total = 0
    for item in items:
        more = size(item)
        if part and (total + more > _MAX_COMMAND_BYTES or len(part) >= _MAX_OPERATIONS):
            yield part
            part, total = [], 0
        part.append(item)
        total += more
    if part:
        yield part
