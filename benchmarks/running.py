"""Servers, data and migrations for the benchmarks."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from limosa import catalog
from limosa.embedded import Options, ReplicaSet
from limosa.state import Migration

DATABASE, COLLECTION = "bench", "documents"
BATCH = 5_000
#: Words that do not compress much better than those of people.
TEXT = " ".join(
    f"{random.Random(7).getrandbits(32) ^ i * 2654435761 % 2**32:08x}" for i in range(20_000)
)
DURABLE = {"w": "majority", "j": True}


@dataclass(frozen=True, slots=True)
class Ends:
    """Two throwaway replica sets."""

    source: str
    target: str

    def clear(self) -> None:
        """Drop what is at either end."""
        for uri in (self.source, self.target):
            with closing(MongoClient(uri)) as client:
                client.drop_database(DATABASE)

    def clear_target(self) -> None:
        """Drop what an earlier round has copied."""
        with closing(MongoClient(self.target)) as client:
            client.drop_database(DATABASE)


@contextmanager
def servers() -> Iterator[Ends]:
    """Start both ends."""
    options = Options(cache_gb=4.0, oplog_mb=4096)
    with ReplicaSet(options=options) as source, ReplicaSet(options=options) as target:
        yield Ends(source.uri, target.uri)


def document(number: int, size: int) -> dict[str, Any]:
    """Return a document of about *size* bytes, mostly text, as an order or a profile is."""
    length = max(10, size - 140)
    at = number * 7919 % (len(TEXT) - length) if length < len(TEXT) else 0
    return {
        "_id": bson.ObjectId(),
        "number": number,
        "name": f"customer {number}",
        "amount": number * 0.37,
        "tags": ["a", "b", number % 10],
        "text": (TEXT if length < len(TEXT) else TEXT * (1 + length // len(TEXT)))[
            at : at + length
        ],
    }


def fill(uri: str, count: int, *, size: int = 942) -> None:
    """Put *count* documents of *size* bytes there, from two processes."""
    half = (count + 1) // 2
    in_processes([(_fill, uri, first, min(count, first + half), size) for first in (0, half)])


def _fill(uri: str, first: int, last: int, size: int) -> None:
    step = max(1, min(BATCH, 32_000_000 // size))
    with closing(MongoClient(uri)) as client:
        for at in range(first, last, step):
            batch = [document(i, size) for i in range(at, min(last, at + step))]
            client[DATABASE][COLLECTION].insert_many(batch, ordered=False)


def drain_limit(ends: Ends, count: int) -> float:
    """Return documents/s of draining both ends at once, each in a process with four threads."""
    return count / at_once((_drain, ends.source, count), (_drain, ends.target, count))


def insert_limit(uri: str, count: int) -> float:
    """Return documents/s of inserting encoded documents while nothing else runs."""
    return count / at_once((_insert_encoded, uri, count))


def at_once(*works: tuple[Any, ...]) -> float:
    """
    Return the seconds that *works* take, each in its own process, begun when all are ready.

    Each is a function and its arguments; it is given a barrier besides, to wait at.
    """
    ready = multiprocessing.Barrier(len(works) + 1)
    processes = [multiprocessing.Process(target=work[0], args=(*work[1:], ready)) for work in works]
    for process in processes:
        process.start()
    ready.wait(300)
    started = time.monotonic()
    for process in processes:
        process.join()
    return time.monotonic() - started


def _drain(uri: str, count: int, ready: Any) -> None:
    client: MongoClient[Any] = MongoClient(uri)
    collection = client[DATABASE][COLLECTION]
    # So many that the four parts are of nearly the same size: one thread left alone is no limit.
    sample = [{"$sample": {"size": 400}}, {"$project": {"_id": 1}}, {"$sort": {"_id": 1}}]
    cuts = [d["_id"] for d in collection.aggregate(sample)][100::100][:3]
    total = collection.estimated_document_count()

    def drain(low: Any, high: Any) -> None:
        bounds = {k: v for k, v in (("$gte", low), ("$lt", high)) if v is not None}
        query = {"_id": bounds} if bounds else {}
        left = count // 4 if count < total else total
        for _ in collection.find_raw_batches(query, batch_size=BATCH):
            left -= BATCH
            if left <= 0:
                return

    ready.wait(300)
    in_threads([(drain, low, high) for low, high in zip([None, *cuts], [*cuts, None], strict=True)])


def _insert_encoded(uri: str, count: int, ready: Any) -> None:
    client: MongoClient[Any] = MongoClient(uri)
    encoded = [RawBSONDocument(bson.encode(document(i, 942))) for i in range(count)]
    quarter = -(-count // 4)

    def insert(first: int) -> None:
        for at in range(first, min(count, first + quarter), BATCH):
            part = encoded[at : min(at + BATCH, first + quarter)]
            command = {"insert": COLLECTION, "documents": part, "ordered": False}
            client[DATABASE].command({**command, "writeConcern": DURABLE})

    ready.wait(300)
    in_threads([(insert, i * quarter) for i in range(4)])


def write_limit(uri: str, count: int) -> float:
    """
    Return changes/s that the server takes from plain commands made beforehand, in four threads.

    A third are deletes, the rest replacements with upsert, as changes are after coalescing;
    in the order of the index, which the server takes twice as fast as a random one.
    """
    client: MongoClient[Any] = MongoClient(uri)
    ids = [d["_id"] for d in client[DATABASE][COLLECTION].find({}, {"_id": 1})]
    ids = sorted(random.Random(3).sample(ids, min(count, len(ids))))
    commands: list[list[dict[str, Any]]] = [[], [], [], []]
    for number, at in enumerate(range(0, len(ids), 1_000)):
        part = ids[at : at + 1_000]
        deletes = [{"q": {"_id": i}, "limit": 1} for i in part[::3]]
        updates = [
            {"q": {"_id": i}, "u": RawBSONDocument(bson.encode({**document(n, 942), "_id": i}))}
            | {"upsert": True}
            for n, i in enumerate(part)
            if n % 3
        ]
        commands[number % 4] += [
            {"delete": COLLECTION, "deletes": deletes, "ordered": False, "writeConcern": DURABLE},
            {"update": COLLECTION, "updates": updates, "ordered": False, "writeConcern": DURABLE},
        ]

    def write(some: list[dict[str, Any]]) -> None:
        for command in some:
            client[DATABASE].command(command)

    started = time.monotonic()
    in_threads([(write, some) for some in commands])
    return len(ids) / (time.monotonic() - started)


def stream_limit(uri: str, after: Any) -> tuple[float, int]:
    """Return changes/s of draining the change stream without storing it, and their number."""
    client: MongoClient[Any] = MongoClient(uri, document_class=RawBSONDocument)
    pipeline = [{"$project": {"documentKey": 1, "operationType": 1, "ns": 1, "clusterTime": 1}}]
    started, events = time.monotonic(), 0
    with client.watch(pipeline, resume_after=after, batch_size=10_000) as stream:
        while stream.try_next() is not None:
            events += 1
            last = time.monotonic()
    return events / (last - started), events


def server_cpu(uri: str) -> float:
    """Return the seconds of CPU that the server has used; Linux only."""
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    with closing(client):
        pid = client.admin.command("serverStatus")["pid"]
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stream_position(uri: str) -> Any:
    """Return the present end of the change stream."""
    with closing(MongoClient(uri)) as client, client.watch() as stream:
        stream.try_next()
        return stream.resume_token


@dataclass
class Child:
    """A migration in a process of its own."""

    ends: Ends
    state: Path
    arguments: Sequence[str] = ()
    events: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Child:
        program = Path(__file__).with_name("child.py")
        command = [sys.executable, program, self.ends.source, self.ends.target, self.state]
        self._seen = threading.Condition()
        self._process = subprocess.Popen(
            [*map(str, command), *self.arguments], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def wait_for(self, event: str, *, seconds: float = 900) -> dict[str, Any]:
        """Return the first event of that name."""
        with self._seen:
            self._seen.wait_for(
                lambda: self.all(event) or self._process.poll() is not None, seconds
            )
            found = self.all(event)
            if not found:
                msg = f"no {event}: {self.events[-1:]}"
                raise RuntimeError(msg)
            return found[0]

    def all(self, event: str) -> list[dict[str, Any]]:
        """Return all events of that name so far."""
        return [e for e in self.events if e["event"] == event]

    def wait(self) -> None:
        """Wait until the migration is over."""
        if self._process.wait(900):
            msg = f"the migration failed: {self.events[-1:]}"
            raise RuntimeError(msg)
        self._reader.join()

    def steer(self, move: Callable[[Migration], Migration]) -> None:
        """Change the state, as the commands do."""
        with closing(catalog.watch(catalog.Folder(self.state))) as store:
            store.update(move)

    def wait_until(self, condition: Callable[[Migration], bool], *, seconds: float = 900) -> None:
        """Wait until the stored migration fulfils *condition*."""
        deadline = time.monotonic() + seconds
        with closing(catalog.watch(catalog.Folder(self.state))) as store:
            while not condition(store.migration()):
                if time.monotonic() > deadline:
                    raise TimeoutError(store.migration())
                threading.Event().wait(0.02)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._seen:
                self.events.append(json.loads(line))
                self._seen.notify_all()
        with self._seen:
            self._seen.notify_all()


@contextmanager
def folder() -> Iterator[Path]:
    """A place for a migration's state."""
    path = Path(tempfile.mkdtemp(prefix="limosa-bench-"))
    try:
        yield path / "state"
    finally:
        shutil.rmtree(path, ignore_errors=True)


def in_processes(calls: Sequence[tuple[Any, ...]]) -> None:
    """Make *calls*, each a function and its arguments, in a process of its own."""
    running = [multiprocessing.Process(target=c[0], args=c[1:]) for c in calls]
    for process in running:
        process.start()
    for process in running:
        process.join()


def in_threads(calls: Sequence[tuple[Any, ...]]) -> None:
    """Make *calls*, each a function and its arguments, in a thread of its own."""
    running = [threading.Thread(target=c[0], args=c[1:]) for c in calls]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
