"""
What others write to a target, as its oplog tells.

Whatever Limosa applies has a session and a number (see `numbering`), and so has its entry in the
oplog; a transaction of thousands of changes is one entry. Entries without one of our sessions are
of others. Some few are Limosa's own all the same: what it may not number, and what a process
before this one wrote. They are told with the rest, so whoever asks has to look at the documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import bson
from bson import Timestamp
from bson.raw_bson import RawBSONDocument

from ...canonical import key_of
from ...connector import Moved, Written
from ...errors import PermanentError, PositionLost
from ...model import Key, Namespace
from . import timeseries
from .deployment import Deployment
from .numbering import Numbering

#: Entries that are looked at in one go.
_MOST = 5_000
#: And the bytes after which no more are: the entry of a transaction has up to 16 MB.
_MOST_BYTES = 32 * 1024 * 1024
_OPLOG = "oplog.rs"
_HINT = "have everything compared once more before the commit: `limosa verify --again`"
#: Of an entry, all that a key is found in; of a transaction, whose documents are in it, the whole.
_FIELDS = {"ts": 1, "op": 1, "ns": 1, "o2": 1, "o._id": 1, "o.applyOps": 1} | dict.fromkeys(
    ("o.drop", "o.renameCollection", "o.to"), 1
)
_WRITES = {"$in": ["i", "u", "d"]}
_COMMANDS = ("applyOps", "drop", "renameCollection")


class Others:
    """Tells what others than this process have written to a replica set."""

    def __init__(self, deployment: Deployment, numbering: Numbering) -> None:
        self._deployment = deployment
        self._numbering = numbering

    def present(self) -> bytes | None:
        """Return where the oplog ends now; None where it cannot be read."""
        if self._deployment.is_router:
            return None
        try:
            return self._mark(self._end(-1))
        except PermanentError:  # no right to it, or a service that has none
            return None

    def after(self, mark: bytes) -> Written:
        """
        Return what others have written since *mark*, as far as can be told in one go.

        Raises:
            PositionLost: the oplog no longer reaches back so far.
        """
        since = bson.decode(mark)["ts"]
        end = self._end(-1)
        if end <= since:
            return Written({}, mark, is_all=True)
        entries, is_all = self._entries(since, end)
        if self._end(1) > since:  # looked at last: what was read was there
            when = since.as_datetime().isoformat()
            msg = (
                f"{self._deployment.identity}: its oplog no longer tells what was written at {when}"
            )
            raise PositionLost(msg, hint=_HINT)
        found: dict[Namespace, dict[Key, None]] = {}
        moved: dict[Namespace, Moved] = {}
        for entry in entries:
            moved |= _moves_in(entry)
            for namespace, key in _keys_in(entry):
                found.setdefault(namespace, {})[key] = None
        until = end if is_all else entries[-1]["ts"]
        keys = {namespace: tuple(some) for namespace, some in found.items()}
        return Written(keys, self._mark(until), is_all=is_all, moved=moved)

    def _entries(self, since: Timestamp, end: Timestamp) -> tuple[list[RawBSONDocument], bool]:
        """
        Return the first entries of others between the two, and whether these are all.

        A write may be in the oplog before an earlier one is: a primary that is asked for entries
        in order waits for those, from the end to the beginning it does not.
        """
        command = {
            "find": _OPLOG,
            "filter": {
                "ts": {"$gt": since, "$lte": end},
                "lsid.id": {"$nin": self._numbering.sessions()},
                "$or": [
                    {"op": _WRITES},
                    *({"op": "c", f"o.{name}": {"$exists": True}} for name in _COMMANDS),
                ],
            },
            "projection": _FIELDS,
            "limit": _MOST,
        }
        doing = "read what others have written"
        found: list[RawBSONDocument] = []
        size = 0
        for batch in self._deployment.batches("local", command, doing=doing, batch_size=_MOST):
            found += map(RawBSONDocument, batch.raw)
            size += batch.size
            if size > _MOST_BYTES:
                return found, False
        return found, len(found) < _MOST

    def _end(self, direction: int) -> Timestamp:
        command = end_of_oplog(direction)
        reply = self._deployment.decoded("local", command, doing="read the oplog's ends")
        found = reply["cursor"]["firstBatch"]
        return found[0]["ts"] if found else Timestamp(0, 0)

    @staticmethod
    def _mark(time: Timestamp) -> bytes:
        return bson.encode({"ts": time})


def end_of_oplog(direction: int) -> dict[str, Any]:
    """Return the command on ``local`` that answers with the ``ts`` of the last entry, or first."""
    return {
        "find": _OPLOG,
        "sort": {"$natural": direction},
        "projection": {"ts": 1},
        "limit": 1,
        "singleBatch": True,
    }


def _keys_in(entry: Mapping[str, Any]) -> Iterator[tuple[Namespace, Key]]:
    """Yield what *entry*, of one write or of a transaction, has changed."""
    if entry["op"] == "c":
        for part in entry["o"].get("applyOps", ()):  # a part may create a collection
            yield from _keys_in(part)
        return
    if entry["op"] not in _WRITES["$in"]:
        return  # such as "n", which changes nothing
    for field in ("o2", "o"):
        document = entry.get(field)
        if document is not None and "_id" in document:
            database, _, collection = entry["ns"].partition(".")
            yield _known(database, collection), key_of(document.raw)
            return


def _moves_in(entry: Mapping[str, Any]) -> dict[Namespace, Moved]:
    """Return the names that *entry* has taken a collection from, or given another one."""
    if entry["op"] != "c":
        return {}
    done = entry["o"]
    if "drop" in done:
        return {_known(entry["ns"].partition(".")[0], done["drop"]): Moved.AWAY}
    if "renameCollection" in done:
        before, after = (done[end].partition(".") for end in ("renameCollection", "to"))
        return {_known(*before[::2]): Moved.AWAY, _known(*after[::2]): Moved.REPLACED}
    return {}


def _known(database: str, collection: str) -> Namespace:
    return Namespace(database, timeseries.known_as(collection))
