"""What the users of the source notice of a migration: the latency of their operations."""

from __future__ import annotations

import multiprocessing
import random
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from pymongo import MongoClient
from running import COLLECTION, DATABASE, Child, Ends, fill, folder, servers

from limosa.limits import UNLIMITED

#: Seconds of each measurement, which must be shorter than the copy is at full speed.
SECONDS = 8.0
#: Operations a second: as many as do not load a small machine by themselves.
RATE = 250
#: Operations before the measurement: connections are open and pages in the cache then.
WARM_UP = 200


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of one measurement, in milliseconds."""

    median: float
    p99: float
    operations: int

    def __str__(self) -> str:
        return f"{self.median:6.2f} {self.p99:8.2f}"


def guesting(documents: int) -> dict[str, object]:
    """Compare an application's latencies without a migration and during a copy, by load level."""
    found: dict[str, object] = {}
    with servers() as ends:
        fill(ends.source, documents)
        alone = measured(ends)
        found["application alone: median, p99 in ms"] = alone
        for level in (1, 2, 3, 4):
            ends.clear_target()
            arguments = ("--load-level", str(level), "--no-verify", "--commit", "when-ready")
            with folder() as state, Child(ends, state, arguments) as child:
                child.wait_for("Planned")
                latencies = measured(ends)
                copied = len(child.all("CopyCompleted"))
                child.steer(lambda m: replace(m, limits=UNLIMITED))
                child.wait()  # killed, it would leave writes behind that are under way
            note = "  (the copy was over before)" if copied else ""
            ratio = latencies.p99 / alone.p99
            found[f"beside a copy at load level {level}: median, p99 in ms; p99 over alone"] = (
                f"{latencies} {ratio:8.1f}{note}"
            )
    return found


def measured(ends: Ends) -> Latencies:
    """Have an application in another process read and update for a while."""
    queue: multiprocessing.Queue[Latencies] = multiprocessing.Queue()
    process = multiprocessing.Process(target=_apply, args=(ends.source, queue))
    process.start()
    found = queue.get(timeout=120)
    process.join()
    return found


def _apply(uri: str, queue: multiprocessing.Queue[Latencies]) -> None:
    dice = random.Random(1)
    took = []
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    with closing(client):
        collection = client[DATABASE][COLLECTION]
        ids = [d["_id"] for d in collection.find({}, {"_id": 1}).limit(5_000)]
        began = time.monotonic()
        for number in range(WARM_UP + int(RATE * SECONDS)):
            started = time.monotonic()
            if number % 2:
                collection.find_one({"_id": dice.choice(ids)})
            else:
                collection.update_one({"_id": dice.choice(ids)}, {"$inc": {"number": 1}})
            took.append(time.monotonic() - started)
            ahead = began + number / RATE - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
    counted = sorted(took[WARM_UP:])
    at = counted[int(len(counted) * 0.99)]
    queue.put(Latencies(counted[len(counted) // 2] * 1e3, at * 1e3, len(counted)))
