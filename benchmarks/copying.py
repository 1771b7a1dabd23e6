"""Copying and verifying beside what the servers, and a bare loop, do by themselves."""

from __future__ import annotations

import multiprocessing
import resource
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import bson
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo import MongoClient
from running import (
    BATCH,
    DATABASE,
    DURABLE,
    Child,
    Ends,
    at_once,
    document,
    drain_limit,
    fill,
    folder,
    in_processes,
    in_threads,
    servers,
)

#: Bytes of a command: well below the 16 MB that the driver sends at most.
COMMAND_BYTES = 8_000_000
#: What a limit inserts is encoded beforehand and held in memory: so much of it, in bytes.
ENCODED_BYTES = 300_000_000
THREADS = 4
#: Secondary indexes, in the order in which they are added to a shape.
INDEXES = (
    "number",
    "name",
    "amount",
    "tags",
    (("tags", 1), ("number", -1)),
    (("name", 1), ("amount", 1)),
    (("amount", -1), ("number", 1)),
    (("number", 1), ("name", 1), ("amount", 1)),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Documents of one size, in some collections with some indexes."""

    name: str
    documents: int
    size: int = 942
    collections: int = 1
    indexes: int = 0

    @property
    def names(self) -> list[str]:
        return [f"documents{i}" for i in range(self.collections)]

    @property
    def encoded(self) -> int:
        """How many of the documents a limit holds at once."""
        return max(THREADS, min(self.documents, ENCODED_BYTES // self.size))


def shapes(documents: int) -> list[Shape]:
    """Return the shapes that are copied, none much larger than *documents* of 942 bytes."""
    size = documents * 942
    return [
        Shape("0.2 kB", 2 * documents, 200),
        Shape("20 kB", max(100, size // 20_000), 20_000),
        Shape("1 MB", max(40, size // 1_000_000), 1_000_000),
        Shape("1,000 collections", documents, collections=1_000),
        Shape("3 indexes", documents, indexes=3),
        Shape("8 indexes", documents, indexes=8),
    ]


@dataclass(slots=True)
class Seen:
    """What the rounds of one shape have given, in documents/s unless named otherwise."""

    ours: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # microseconds a document
    bare_cpu: list[float] = field(default_factory=list)
    indexing: list[float] = field(default_factory=list)  # seconds
    others: dict[str, list[float]] = field(default_factory=dict)


def copying(documents: int, rounds: int, tools: Mapping[str, str]) -> dict[str, object]:
    """Copy documents of 942 bytes beside three limits, and other tools beside them."""
    shape, seen = Shape("942 B", documents), Seen()
    with servers() as ends:
        _fill(ends.source, shape)
        for _ in range(rounds):
            _round(ends, shape, seen, tools)
            rate, microseconds = _bare(ends, shape)
            seen.bare.append(rate)
            seen.bare_cpu.append(microseconds)
    return {
        "limosa, documents/s": rates(seen.ours),
        "pre-encoded inserts alone, documents/s": rates(seen.alone),
        "limosa / inserts alone": ratios(seen.ours, seen.alone),
        "drain and pre-encoded inserts at once, documents/s": rates(seen.limits),
        "limosa / both at once": ratios(seen.ours, seen.limits),
        "a bare loop of the driver's raw batches, documents/s": rates(seen.bare),
        "limosa / bare loop": ratios(seen.ours, seen.bare),
        "client CPU, microseconds a document": _amounts(seen.cpu),
        "the bare loop's CPU, microseconds a document": _amounts(seen.bare_cpu),
        **{f"limosa / {n}": ratios(seen.ours, r) for n, r in seen.others.items()},
    }


def copying_shapes(documents: int, rounds: int, tools: Mapping[str, str]) -> dict[str, object]:
    """Copy other sizes, many collections and indexes beside pre-encoded inserts alone."""
    found: dict[str, object] = {}
    for shape in shapes(documents):
        seen = Seen()
        with servers() as ends:
            _fill(ends.source, shape)
            for _ in range(rounds):
                _round(ends, shape, seen, tools)
        found[f"{shape.name}, documents/s"] = rates(seen.ours)
        found[f"{shape.name}, limosa / inserts alone"] = ratios(seen.ours, seen.alone)
        found[f"{shape.name}, limosa / both at once"] = ratios(seen.ours, seen.limits)
        found[f"{shape.name}, client CPU, microseconds a document"] = _amounts(seen.cpu)
        if shape.indexes:
            found[f"{shape.name}, building them after it, seconds"] = _amounts(seen.indexing)
        for name, others in seen.others.items():
            found[f"{shape.name}, limosa / {name}"] = ratios(seen.ours, others)
    return found


def verifying(documents: int, rounds: int) -> dict[str, object]:
    """The first verification of everything, beside draining both sides at once."""
    found: list[float] = []
    drained: list[float] = []
    cpu: list[float] = []
    with servers() as ends:
        fill(ends.source, documents)
        for _ in range(rounds):
            ends.clear_target()
            with folder() as state, Child(ends, state, ["--commit", "when-ready"]) as child:
                child.wait()
                begun = child.wait_for("BecameConsistent")
                done = child.wait_for("VerificationCompleted")
            found.append(done["compared"] / (done["at"] - begun["at"]))
            cpu.append((done["cpu"] - begun["cpu"]) / done["compared"] * 1e6)
            drained.append(drain_limit(ends, documents))
    return {
        "verification, documents/s": rates(found),
        "draining both sides at once, documents/s": rates(drained),
        "verification / draining": ratios(found, drained),
        "client CPU, microseconds a document": _amounts(cpu),
    }


def rates(values: Sequence[float]) -> str:
    """Return the median and all of *values*, without decimals."""
    return f"{statistics.median(values):.0f} ({', '.join(f'{v:.0f}' for v in values)})"


def ratios(values: Sequence[float], others: Sequence[float]) -> str:
    """Return each value divided by the other of its round, and the median."""
    return _amounts([v / o for v, o in zip(values, others, strict=True)])


def _amounts(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})"


def _round(ends: Ends, shape: Shape, seen: Seen, tools: Mapping[str, str]) -> None:
    """Measure what is measured of every shape, one after the other."""
    seen.alone.append(_inserted_alone(ends, shape))
    seen.limits.append(_both_at_once(ends, shape))
    rate, microseconds, seconds = _copied(ends, shape)
    seen.ours.append(rate)
    seen.cpu.append(microseconds)
    seen.indexing.append(seconds)
    if not shape.indexes:  # another tool's time would have that of its indexes in it
        for name, command in tools.items():
            seen.others.setdefault(name, []).append(_tool(ends, command, shape.documents))


def _copied(ends: Ends, shape: Shape) -> tuple[float, float, float]:
    """Return documents/s, microseconds of CPU a document, and seconds of building indexes."""
    ends.clear_target()
    with folder() as state, Child(ends, state, ["--no-verify", "--commit", "when-ready"]) as child:
        child.wait()
        begun, done = child.wait_for("Planned"), child.wait_for("CopyCompleted")
        built = child.all("IndexesBuilt")
    rate = shape.documents / (done["at"] - begun["at"])
    cpu = (done["cpu"] - begun["cpu"]) / shape.documents * 1e6
    return rate, cpu, built[-1]["at"] - done["at"] if built else 0.0


def _tool(ends: Ends, command: str, documents: int) -> float:
    ends.clear_target()
    started = time.monotonic()
    subprocess.run(shlex.split(command.format(source=ends.source, target=ends.target)), check=True)
    return documents / (time.monotonic() - started)


# Data and limits of a shape.


def _fill(uri: str, shape: Shape) -> None:
    names = shape.names
    half = -(-len(names) // 2)
    if len(names) == 1:
        fill(uri, shape.documents, size=shape.size)
    else:
        in_processes([(_fill_some, uri, n, shape) for n in (names[:half], names[half:])])
    with closing(MongoClient[Any](uri)) as client:
        for collection in client[DATABASE].list_collection_names():
            for keys in INDEXES[: shape.indexes]:
                client[DATABASE][collection].create_index(keys)


def _fill_some(uri: str, names: Sequence[str], shape: Shape) -> None:
    each = shape.documents // shape.collections
    with closing(MongoClient[Any](uri)) as client:
        for name in names:
            some = [document(i, shape.size) for i in range(each)]
            client[DATABASE][name].insert_many(some, ordered=False)


def _inserted_alone(ends: Ends, shape: Shape) -> float:
    """Return documents/s of inserting encoded documents while nothing else runs."""
    ends.clear_target()
    return _in_process(_insert_encoded, ends.target, shape)[0]


def _both_at_once(ends: Ends, shape: Shape) -> float:
    """
    Return documents/s of the machine's own limit.

    One process drains the source's raw batches and throws them away, another inserts as many
    documents that are encoded already; both at once, on the same cores, in four threads each.
    """
    ends.clear_target()
    works = ((_drain, ends.source), (_insert_encoded, ends.target))
    return shape.encoded / at_once(*((_together, prepare, uri, shape) for prepare, uri in works))


def _together(prepare: Callable[..., Any], uri: str, shape: Shape, ready: Any) -> None:
    _, work = prepare(uri, shape)
    ready.wait(300)
    work()


def _drain(uri: str, shape: Shape) -> tuple[int, Callable[[], None]]:
    client: MongoClient[Any] = MongoClient(uri)
    database = client[DATABASE]
    parts: list[tuple[str, dict[str, Any]]] = [
        (name, {}) for name in database.list_collection_names()
    ]
    if len(parts) == 1:
        ((name, _),) = parts
        cuts = _cuts(client, name)
        parts = [(name, _between(*bounds)) for bounds in pairwise(cuts)]
    # Of a collection as much as is inserted meanwhile.
    most = shape.encoded * shape.size // len(parts)

    def drain(number: int) -> None:
        for name, bounds in parts[number::THREADS]:
            left = most
            for batch in _raw_batches(client, name, bounds):
                left -= len(batch)
                if left <= 0:
                    break

    return shape.encoded, lambda: in_threads([(drain, i) for i in range(THREADS)])


def _insert_encoded(uri: str, shape: Shape) -> tuple[int, Callable[[], None]]:
    each = -(-shape.encoded // shape.collections)
    step = max(1, min(BATCH, COMMAND_BYTES // shape.size))
    commands = []
    for name in shape.names:
        encoded = [RawBSONDocument(bson.encode(document(i, shape.size))) for i in range(each)]
        for at in range(0, each, step):
            part = encoded[at : at + step]
            commands.append({"insert": name, "documents": part, "ordered": False})
    client: MongoClient[Any] = MongoClient(uri)

    def insert(number: int) -> None:
        for command in commands[number::THREADS]:
            client[DATABASE].command({**command, "writeConcern": DURABLE})

    return each * shape.collections, lambda: in_threads([(insert, i) for i in range(THREADS)])


def _bare(ends: Ends, shape: Shape) -> tuple[float, float]:
    """Return documents/s and microseconds of CPU a document of the plainest loop there is."""
    ends.clear_target()
    return _in_process(_copy_barely, ends.source, ends.target, shape)


def _copy_barely(source: str, target: str, shape: Shape) -> tuple[int, Callable[[], None]]:
    reading, writing = MongoClient[Any](source), MongoClient[Any](target)
    (name,) = reading[DATABASE].list_collection_names()
    cuts = _cuts(reading, name)

    def copy(low: Any, high: Any) -> None:
        for batch in _raw_batches(reading, name, _between(low, high)):
            documents = bson.decode_all(batch, DEFAULT_RAW_BSON_OPTIONS)
            command = {"insert": name, "documents": documents, "ordered": False}
            writing[DATABASE].command({**command, "writeConcern": DURABLE})

    return shape.documents, lambda: in_threads([(copy, *bounds) for bounds in pairwise(cuts)])


def _cuts(client: MongoClient[Any], name: str) -> list[Any]:
    """Return bounds of parts of about equal size, one for each thread."""
    # So many that one thread is not left alone at the end: that would be no limit.
    sample = [{"$sample": {"size": 100 * THREADS}}, {"$project": {"_id": 1}}, {"$sort": {"_id": 1}}]
    keys = [d["_id"] for d in client[DATABASE][name].aggregate(sample)]
    each = len(keys) // THREADS
    return [None, *keys[each::each][: THREADS - 1], None]


def _between(low: Any, high: Any) -> dict[str, Any]:
    return {k: v for k, v in (("$gte", low), ("$lt", high)) if v is not None}


def _raw_batches(client: MongoClient[Any], name: str, bounds: Mapping[str, Any]) -> Iterator[bytes]:
    query = {"_id": bounds} if bounds else {}
    return client[DATABASE][name].find_raw_batches(query, batch_size=BATCH)


def _in_process(prepare: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Return documents/s and microseconds of CPU a document of what *prepare* returns."""
    queue: multiprocessing.Queue[tuple[float, float]] = multiprocessing.Queue()
    process = multiprocessing.Process(target=_measured, args=(queue, prepare, *arguments))
    process.start()
    found = queue.get(timeout=900)
    process.join()
    return found


def _measured(queue: Any, prepare: Callable[..., Any], *arguments: Any) -> None:
    documents, work = prepare(*arguments)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    work()
    took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    queue.put((documents / took, cpu / documents * 1e6))
