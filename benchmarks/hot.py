"""How late the changes of other documents are while one is changed all the time."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from pymongo import MongoClient, UpdateOne
from running import COLLECTION, DATABASE, Child, Ends, fill, folder, servers

#: Seconds of each measurement.
SECONDS = 10.0
#: Updates a second of one document, and so many in one command.
RATE = 10_000
AT_ONCE = 500
#: Inserts a second whose way to the target is timed, and how often the target is asked for them.
OTHERS = 100
LOOK = 0.01
OTHER = "others"


def hot_document() -> dict[str, object]:
    """Time inserts from the source to the target, without and with a document that is hot."""
    found: dict[str, object] = {}
    with servers() as ends:
        fill(ends.source, 20_000)
        _client(ends.source)[DATABASE][OTHER].insert_one({"_id": 0, "at": time.time()})
        for rate in (0, RATE):
            ends.clear_target()
            with folder() as state, Child(ends, state) as child:
                child.wait_for("ReadyToCommit")
                updates, late = _measured(ends, rate)
            beside = f"beside {updates:,.0f} updates/s of one document" if rate else "alone"
            middle, last = late[len(late) // 2], late[int(len(late) * 0.99)]
            figures = f"{middle * 1e3:.0f} {last * 1e3:8.0f}  ({len(late)} inserts)"
            found[f"{beside}: ms to the target, median and p99"] = figures
    return found


def _client(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri)


def _measured(ends: Ends, rate: int) -> tuple[float, list[float]]:
    """Return the updates/s that came about, and in order how late each insert was, in seconds."""
    told: multiprocessing.Queue[float] = multiprocessing.Queue()
    over = threading.Event()
    late: list[float] = []
    start = int(time.time() * 1e6)  # the keys of this measurement come after it
    watcher = threading.Thread(target=_watch, args=(ends.target, start, late, over))
    processes = [multiprocessing.Process(target=_insert, args=(ends.source, start))]
    if rate:
        processes.append(multiprocessing.Process(target=_update, args=(ends.source, rate, told)))
    watcher.start()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    over.set()
    watcher.join()
    return told.get(timeout=10) if rate else 0.0, sorted(late)


def _paced(rate: float) -> Iterator[int]:
    """Yield numbers, so many a second, for as long as a measurement takes."""
    began = time.monotonic()
    number = 0
    while (passed := time.monotonic() - began) < SECONDS:
        if number > passed * rate:
            time.sleep(number / rate - passed)
        yield number
        number += 1


def _insert(uri: str, start: int) -> None:
    with closing(_client(uri)) as client:
        others = client[DATABASE][OTHER]
        for number in _paced(OTHERS):
            others.insert_one({"_id": start + 1 + number, "at": time.time()})


def _update(uri: str, rate: int, told: multiprocessing.Queue[float]) -> None:
    with closing(_client(uri)) as client:
        collection = client[DATABASE][COLLECTION]
        hot = {"_id": collection.find_one()["_id"]}  # type: ignore[index] # it was filled
        updates = [UpdateOne(hot, {"$inc": {"hits": 1}})] * AT_ONCE
        count, began = 0, time.monotonic()
        for _ in _paced(rate / AT_ONCE):
            count += collection.bulk_write(updates, ordered=False).modified_count
        told.put(count / (time.monotonic() - began))


def _watch(uri: str, last: int, late: list[float], over: threading.Event) -> None:
    """Note how late each insert is seen; at the end until none has come for a second."""
    with closing(_client(uri)) as client:
        others = client[DATABASE][OTHER]
        seen = time.monotonic()
        while not over.is_set() or time.monotonic() - seen < 1:
            for document in others.find({"_id": {"$gt": last}}).sort("_id"):
                late.append(time.time() - document["at"])
                last, seen = document["_id"], time.monotonic()
            time.sleep(LOOK)
