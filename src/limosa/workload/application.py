"""
The application behind `Traffic`: a program of its own that writes until it is told not to.

It takes one JSON array per line from standard input and answers each by a report of what it
has done so far: ``["start", SETTINGS]``, ``["hold"]``, ``["release"]``, ``["switch", URI]``
and ``["report"]``. Once the input or the time ends, it gives a last report.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from pymongo import DeleteOne, InsertOne, MongoClient, UpdateOne
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError
from pymongo.results import BulkWriteResult

from ..embedded.watcher import requests
from .dice import EPOCH, Dice
from .shapes import COUNTERS, HOT_DOCUMENTS, SHAPES, Shape, count_up

Operation: TypeAlias = InsertOne[dict[str, Any]] | UpdateOne | DeleteOne

#: Keys read from each collection when the application starts, for it to update and delete.
KNOWN_KEYS = 2_000

#: Operations of one request at most; more become due when requests take long.
LARGEST_REQUEST = 200

#: Parts of all writes.
INSERTS, UPDATES, DELETES = 0.4, 0.3, 0.1  # the rest are updates of hot documents

#: Seconds until the next try when no server takes writes.
PAUSE = 0.05
#: The code of an operation that somebody has killed; an application tries another.
_INTERRUPTED = 11601


def main() -> None:
    """Serve the owner, whose process id is the first argument."""
    owner = int(sys.argv[1])
    (_, settings) = next(requests(owner))
    application = Application(settings)
    application.start()
    application.tell()
    until = time.monotonic() + settings["seconds"]
    for action, *arguments in requests(owner, until=until):
        match action:
            case "hold":
                application.gate.hold()
            case "release":
                application.gate.release()
            case "switch":
                application.switch(*arguments)
        application.tell()
    application.gate.end()
    application.gate.hold()  # the last request counts too
    application.tell()


class Application:
    """Some workers and what they have done."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.gate = Gate()
        self.client: MongoClient[dict[str, Any]] = MongoClient(settings["uri"])
        self._counts: Counter[str] = Counter()
        self._last: float | None = None
        self._error = ""
        self._lock = threading.Lock()
        shapes = [s for s in SHAPES if s.share and str(s.namespace) in settings["namespaces"]] or [
            s for s in SHAPES if s.share
        ]
        # Numbers that no other run has used, below 2**51.
        numbers = itertools.count((int(time.time()) - EPOCH) % 2**28 << 23)
        workers = settings["workers"]
        known = [self._known_keys(s) for s in shapes]
        self._workers = [
            Worker(
                self,
                rate=settings["rate"] / workers,
                dice=Dice(f"{settings['seed']}/{index}"),
                keys={s: k[index::workers] for s, k in zip(shapes, known, strict=True)},
                numbers=numbers,
            )
            for index in range(workers)
        ]

    def start(self) -> None:
        """Let the workers go."""
        for index, worker in enumerate(self._workers):
            threading.Thread(target=worker.run, name=f"worker-{index}", daemon=True).start()

    def switch(self, uri: str) -> None:
        """Write elsewhere; the workers are held."""
        self.client.close()
        self.client = MongoClient(uri)

    def acknowledged(self, **counts: int) -> None:
        """Count writes that the server has just acknowledged."""
        with self._lock:
            self._last = time.time()
            self._counts.update(counts)

    def gave_up(self) -> None:
        """Count a request that got no answer."""
        with self._lock:
            self._counts["failed"] += 1

    def fail(self, error: Exception) -> None:
        """Take note of an error that ends it all."""
        self._error = f"{type(error).__name__}: {error}"
        self.gate.end()

    def tell(self) -> None:
        """Write a report."""
        with self._lock:  # or the counters could change under the copy
            report = {"counters": dict(self._counts), "last": self._last, "error": self._error}
        print(json.dumps(report), flush=True)  # noqa: T201 - the report is the interface

    def _known_keys(self, shape: Shape) -> list[Any]:
        namespace = shape.namespace
        collection = self.client[namespace.database][namespace.collection]
        return [d["_id"] for d in collection.find({}, {"_id": 1}).limit(KNOWN_KEYS)]


class Worker:
    """One thread that makes requests at its own rate, with keys that no other one uses."""

    def __init__(
        self,
        application: Application,
        *,
        rate: float,
        dice: Dice,
        keys: dict[Shape, list[Any]],
        numbers: Iterator[int],
    ) -> None:
        self._application = application
        self._rate = rate
        self._dice = dice
        self._keys = keys
        self._shapes = tuple(keys)
        self._shares = tuple(s.share for s in keys)
        self._numbers = numbers

    def run(self) -> None:
        """Write until the gate is closed for good."""
        gate = self._application.gate
        due = 1.0
        while gate.enter():
            began = time.monotonic()
            size = max(1, min(int(due), LARGEST_REQUEST))
            try:
                self._request(size)
            finally:
                gate.leave()
            due -= size
            gate.wait((1 - due) / self._rate)
            # Whoever falls behind by more than a second never makes up for it.
            due = min(due + (time.monotonic() - began) * self._rate, self._rate + 1)

    def _request(self, size: int) -> None:
        """Make one request of *size* operations on one collection."""
        try:
            if self._dice.random() < 1 - INSERTS - UPDATES - DELETES:
                self._write_hot(size)
            else:
                self._write(self._dice.choices(self._shapes, self._shares)[0], size)
        except ConnectionFailure:
            self._application.gave_up()
            self._application.gate.wait(PAUSE)
        except PyMongoError as error:
            if _may_pass(error):
                self._application.gave_up()
            else:
                self._application.fail(error)

    def _write_hot(self, size: int) -> None:
        keys = (f"counter-{self._dice.below(HOT_DOCUMENTS)}" for _ in range(size))
        updates = [UpdateOne({"_id": k}, count_up(self._dice), upsert=True) for k in keys]
        self._bulk_write(COUNTERS, updates)
        self._application.acknowledged(hot=size)

    def _write(self, shape: Shape, size: int) -> None:
        keys, new_keys = self._keys[shape], []
        operations: list[Operation] = []
        for _ in range(size):
            roll = self._dice.random() * (INSERTS + UPDATES + DELETES)
            if roll < INSERTS or shape.change is None or not keys:
                document = shape.document(self._dice, next(self._numbers))
                new_keys.append(document["_id"])
                operations.append(InsertOne(document))
            elif roll < INSERTS + UPDATES:
                key = keys[self._dice.below(len(keys))]
                operations.append(UpdateOne({"_id": key}, shape.change(self._dice)))
            else:
                operations.append(DeleteOne({"_id": self._taken(keys)}))
        result = self._bulk_write(shape, operations)
        keys += new_keys
        self._application.acknowledged(
            inserted=result.inserted_count,
            updated=result.matched_count,
            deleted=result.deleted_count,
        )

    def _taken(self, keys: list[Any]) -> Any:
        """Remove any key, at a cost that does not grow with their number."""
        index = self._dice.below(len(keys))
        keys[index], keys[-1] = keys[-1], keys[index]
        return keys.pop()

    def _bulk_write(self, shape: Shape, operations: Sequence[Operation]) -> BulkWriteResult:
        database, collection = shape.namespace.database, shape.namespace.collection
        return self._application.client[database][collection].bulk_write(operations, ordered=False)


class Gate:
    """Lets the workers pass, holds them, or ends them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._is_held = False
        self._inside = 0

    def enter(self) -> bool:
        """Return True once a request may be made, False if none may be made any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_held or self._ended.is_set())
            if self._ended.is_set():
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """Say that the request is over."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def hold(self) -> None:
        """Let nobody in; return once nobody is inside."""
        with self._changed:
            self._is_held = True
            self._changed.wait_for(lambda: self._inside == 0)

    def release(self) -> None:
        """Let them in again."""
        with self._changed:
            self._is_held = False
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody in, for good."""
        with self._changed:
            self._ended.set()
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Return after a while, at once when the end has come."""
        if seconds > 0:
            self._ended.wait(seconds)


def _may_pass(error: PyMongoError) -> bool:
    if isinstance(error, BulkWriteError):
        # Without any, its write concern was not met, as in an election.
        return all(each["code"] == _INTERRUPTED for each in error.details["writeErrors"])
    if isinstance(error, OperationFailure) and error.code == _INTERRUPTED:
        return True
    return error.has_error_label("RetryableWriteError")


if __name__ == "__main__":
    main()
