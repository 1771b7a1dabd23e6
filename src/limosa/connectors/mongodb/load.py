"""How busy a replica set is, and how long its oplog remembers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bson import Timestamp
from bson.datetime_ms import DatetimeMS
from pymongo import timeout

from ...errors import PermanentError
from ...limits import Load, Memory
from .deployment import Deployment, as_datetime

#: Who watches must not hang with what he watches.
_ANSWER_SECONDS = 3.0
#: An oplog this full has its present reach; a newer one is still growing.
_FULL = 0.9
#: The oplog of a server on which nothing is written reaches back for ever.
_MOST = timedelta(days=366)
_SECONDARY = 2  # ``state`` of a member that replicates
#: Left out, because they take time to be gathered and are not looked at.
_SECTIONS = (
    *("metrics", "wiredTiger", "locks", "tcmalloc", "transactions", "network", "repl"),
    *("opcounters", "opcountersRepl", "asserts", "connections", "flowControl", "mem"),
    *("logicalSessionRecordCache", "electionMetrics", "twoPhaseCommitCoordinator"),
    *("extra_info", "indexStats", "shardingStatistics", "catalogStats", "security"),
)
_LEAN = dict.fromkeys(_SECTIONS, 0)


class LoadMeter:
    """
    Asks a deployment how it is, by commands that are no work for it.

    What this user may not ask is not asked again: servers write refusals down.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._denied: set[str] = set()
        self._delays: dict[int, float] = {}  # seconds, by member
        self._config = 0

    def load(self) -> Load:
        """Return latency, queue and replication lag, as far as they may be known."""
        with timeout(_ANSWER_SECONDS):
            began = time.monotonic()
            hello = self._ask({"hello": 1})
            latency = timedelta(seconds=time.monotonic() - began)
            stats = self._ask({"serverStatus": 1, **_LEAN})
            queue = stats.get("globalLock", {}).get("currentQueue", {}).get("total")
            return Load(latency, queue, self._lag(hello))

    def remembers(self, since: datetime) -> Memory | None:
        """
        Return how long the oplog will hold what comes after *since*.

        From an oplog that is still growing follows how far it will reach.
        """
        with timeout(_ANSWER_SECONDS):
            found = self._ask({"serverStatus": 1, **_LEAN, "oplog": 1}).get("oplog", {})
            ends = found.get("earliestOptime"), found.get("latestOptime")
            if not (isinstance(ends[0], Timestamp) and isinstance(ends[1], Timestamp)):
                return None
            share = self._share()
        first, last = (as_datetime(end) for end in ends)
        if since < first:
            return Memory(timedelta())
        reach = min(_MOST, (last - first) / min(1.0, share / _FULL)) if share else _MOST
        left = max(timedelta(), reach - max(timedelta(), last - since))
        return Memory(left, is_growing=share < _FULL)

    def _share(self) -> float:
        """Return how full the oplog is; 1 if that may not be known."""
        stats = self._ask({"collStats": "oplog.rs"}, database="local")
        most = stats.get("maxSize", 0)
        return float(stats["size"] / most) if most else 1.0

    def _lag(self, hello: Mapping[str, Any]) -> timedelta | None:
        """Return how far the slowest member is behind, else how far the majority is."""
        status = self._ask({"replSetGetStatus": 1})
        members = status.get("members", ())
        primary = next((m for m in members if m["state"] == 1), None)
        if primary is None:
            writes = hello.get("lastWrite", {})
            return _between(writes.get("majorityWriteDate"), writes.get("lastWriteDate"))
        self._note_delays(primary["configVersion"])
        end = _applied(primary)
        # Who is down, or is being filled, is not waited for by anyone.
        lags = [
            _between(_applied(m), end) - timedelta(seconds=self._delays.get(m["_id"], 0.0))
            for m in members
            if m["state"] == _SECONDARY
        ]
        return max(timedelta(), *lags) if lags else None

    def _note_delays(self, version: int) -> None:
        """Learn which members are meant to be behind."""
        if version != self._config:
            self._config = version
            config = self._ask({"replSetGetConfig": 1}).get("config", {})
            self._delays = {
                m["_id"]: float(m.get("secondaryDelaySecs", 0)) for m in config.get("members", ())
            }

    def _ask(self, command: Mapping[str, Any], *, database: str = "admin") -> dict[str, Any]:
        """Return the answer, nothing if this user may not have it."""
        asked = f"{next(iter(command))} {'oplog' in command}"
        if asked in self._denied:
            return {}
        try:
            return self._deployment.decoded(database, command, doing="ask how busy it is")
        except PermanentError:  # no right to, or nothing that is replicated
            self._denied.add(asked)
            return {}


def _applied(member: Mapping[str, Any]) -> Any:
    return member.get("lastAppliedWallTime") or member["optimeDate"]


def _between(earlier: Any, later: Any) -> timedelta:
    """Return how much *later* is, never less than nothing; both as the server says times."""
    if not (isinstance(earlier, DatetimeMS) and isinstance(later, DatetimeMS)):
        return timedelta()
    return timedelta(milliseconds=max(0, int(later) - int(earlier)))
