"""What an application changes during a migration: captured, applied, and over at the commit."""

from __future__ import annotations

import math
import multiprocessing
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, MongoClient, UpdateOne
from running import (
    COLLECTION,
    DATABASE,
    Child,
    Ends,
    document,
    fill,
    folder,
    in_processes,
    insert_limit,
    server_cpu,
    servers,
    stream_limit,
    stream_position,
    write_limit,
)

from limosa.state import Migration, State

#: How the keys of updates are drawn: each as often as any other; a few very often, as people
#: and products are; nine of ten changes on a single one.
KEYS = ("uniform", "zipf", "hot")
#: Changes in a command of the application.
STEP = 1_000


@dataclass(frozen=True, slots=True)
class Applied:
    """A backlog that was applied by a process that was running already."""

    events: float  # a second, of the change stream
    writes: float  # a second, after coalescing
    count: int  # writes
    #: Microseconds of CPU for a write.
    client: float
    source: float
    target: float


def changes(documents: int, rounds: int, kinds: Sequence[str]) -> dict[str, object]:
    """Capture and application of a backlog, beside what the servers do by themselves."""
    found: dict[str, object] = {}
    with servers() as ends:
        found["inserting encoded documents alone, documents/s"] = round(
            insert_limit(ends.target, documents)
        )
        for kind in kinds:
            ends.clear()
            fill(ends.source, documents)
            found |= {f"{k}, {kind} keys": v for k, v in _of(ends, documents, rounds, kind).items()}
    return found


def _of(ends: Ends, events: int, rounds: int, kind: str) -> dict[str, object]:
    captured, drained, written = list[float](), list[float](), list[float]()
    applied, started, least = list[Applied](), list[float](), list[float]()
    for seed in range(rounds):
        ends.clear_target()
        with folder() as state:
            with Child(ends, state, ["--no-verify"]) as child:
                child.wait_for("ReadyToCommit")
            position = stream_position(ends.source)
            change(ends.source, events, kind, seed=10 * seed + 1)
            drained.append(stream_limit(ends.source, position)[0])
            rate, backlog = _captured_and_applied(ends, state)
            captured.append(rate)
            applied.append(backlog)
            change(ends.source, events, kind, seed=10 * seed + 5)
            started.append(_stream_to_target(ends, state))
            count, before = min(backlog.count, events // 2), server_cpu(ends.target)
            written.append(write_limit(ends.target, count))
            least.append((server_cpu(ends.target) - before) / count * 1e6)
    writes = [a.writes for a in applied]
    return {
        "capture alone, changes/s": _rates(captured),
        "draining the change stream without storing, changes/s": _rates(drained),
        "capture / draining": _ratios(captured, drained),
        "backlog to target, changes/s": _rates([a.events for a in applied]),
        "backlog to target, writes/s": _rates(writes),
        "the target's writes alone, made beforehand, writes/s": _rates(written),
        "backlog to target / writes alone": _ratios(writes, written),
        "CPU of client, source, target, microseconds a write": "; ".join(
            f"{a.client:.1f} {a.source:.1f} {a.target:.1f}" for a in applied
        ),
        "CPU of the target for the writes alone, microseconds a write": _rates(least),
        "CPU of the writes alone / all CPU of backlog to target": _ratios(
            least, [a.client + a.source + a.target for a in applied]
        ),
        "from the start of the process to the target, changes/s": _rates(started),
    }


def _captured_and_applied(ends: Ends, state: Path) -> tuple[float, Applied]:
    """Capture a backlog while paused, then have it applied by the same process."""
    with Child(ends, state, ["--no-verify"]) as child:
        child.wait_for("MigrationStarted")
    child = Child(ends, state, ["--no-verify"])
    child.steer(lambda m: m.moved_to(State.PAUSED))
    end = _now(ends)
    with child:
        first = child.wait_for("ChangesCaptured")
        child.wait_until(lambda m: m.captured_to is not None and m.captured_to >= end)
        batches = child.all("ChangesCaptured")
        took = batches[-1]["at"] - first["at"]  # none, if all came in one batch
        rate = sum(e["events"] for e in batches[1:]) / took if took else math.nan
        events = sum(e["events"] for e in batches)
        before = len(child.all("StateChanged"))
        servers_before = [server_cpu(uri) for uri in (ends.source, ends.target)]
        child.steer(lambda m: m.moved_to(State.RUNNING))
        child.wait_until(lambda m: m.applied_to is not None and m.applied_to >= end)
        begun = child.all("StateChanged")[before]
        parts = child.all("ChangesApplied")
        servers_after = [server_cpu(uri) for uri in (ends.source, ends.target)]
    seconds, count = parts[-1]["at"] - begun["at"], sum(p["changes"] for p in parts)
    client = parts[-1]["cpu"] - begun["cpu"]
    source, target = (b - a for a, b in zip(servers_before, servers_after, strict=True))
    each = (used / count * 1e6 for used in (client, source, target))
    return rate, Applied(events / seconds, count / seconds, count, *each)


def _stream_to_target(ends: Ends, state: Path) -> float:
    end = _now(ends)
    with Child(ends, state, ["--no-verify"]) as child:
        begun = child.wait_for("MigrationStarted")
        child.wait_until(lambda m: m.applied_to is not None and m.applied_to >= end)
        events = sum(e["events"] for e in child.all("ChangesCaptured"))
        last = child.all("ChangesApplied")[-1]
    rate: float = events / (last["at"] - begun["at"])
    return rate


def change(uri: str, events: int, kind: str, *, seed: int) -> None:
    """
    Make *events* changes.

    Of uniform keys a third each are inserts, updates and deletes; of others all are updates.
    """
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    with closing(client):
        ids = [d["_id"] for d in client[DATABASE][COLLECTION].find({}, {"_id": 1})]
    random.Random(seed).shuffle(ids)
    half = len(ids) // 2
    in_processes(
        [
            (_change, uri, ids[i * half : (i + 1) * half], events // 2, kind, seed + i)
            for i in (0, 1)
        ]
    )


def _change(uri: str, ids: list[Any], events: int, kind: str, seed: int) -> None:
    makes = _mixed(ids, seed, events) if kind == "uniform" else _updates(ids, seed, kind)
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    with closing(client):
        for at in range(0, events, STEP):
            some = [next(makes) for _ in range(min(STEP, events - at))]
            client[DATABASE][COLLECTION].bulk_write(some, ordered=False)


def _mixed(ids: list[Any], seed: int, events: int) -> Iterator[Any]:
    chance, doomed, kept = random.Random(seed), iter(ids), ids[len(ids) // 2 :]
    number = 10_000_000 + seed * events
    while True:
        number += 1
        yield InsertOne(document(number, 942))
        yield UpdateOne({"_id": chance.choice(kept)}, {"$set": {"amount": number}})
        yield DeleteOne({"_id": next(doomed, None)})


def _updates(ids: list[Any], seed: int, kind: str) -> Iterator[Any]:
    chance = random.Random(seed)
    # By Zipf's law the second most frequent is half as frequent as the first, and so on.
    weights = list(accumulate(1 / n for n in range(1, len(ids) + 1)))
    while True:
        if kind == "zipf":
            chosen = chance.choices(ids, cum_weights=weights, k=STEP)
        else:
            chosen = [ids[0] if chance.random() < 0.9 else chance.choice(ids) for _ in range(STEP)]
        for key in chosen:
            yield UpdateOne({"_id": key}, {"$set": {"amount": chance.random()}})


def committing(rounds: int) -> dict[str, object]:
    """From the last write of an application to a writable target."""
    seconds = []
    with servers() as ends:
        fill(ends.source, 50_000)
        for _ in range(max(5, rounds)):
            ends.clear_target()
            with folder() as state, Child(ends, state) as child:
                child.wait_for("ReadyToCommit")
                last, rate = _written(ends.source)
                child.steer(Migration.committing)
                seconds.append(child.wait_for("TargetWritable")["at"] - last)
                child.wait()
    seconds.sort()
    return {
        "writes/s until the last write": round(rate),
        "last write to writable, seconds: median": round(statistics.median(seconds), 2),
        f"last write to writable, seconds: p95 of {len(seconds)}": round(
            seconds[math.ceil(0.95 * len(seconds)) - 1], 2
        ),
        "last write to writable, seconds: longest": round(seconds[-1], 2),
    }


def _written(uri: str, *, rate: int = 10_000, seconds: int = 5) -> tuple[float, float]:
    """Write at *rate* for *seconds*; return the time of the last acknowledgement and the rate."""
    queue: multiprocessing.Queue[tuple[float, float]] = multiprocessing.Queue()
    process = multiprocessing.Process(target=_write, args=(uri, rate, seconds, queue))
    process.start()
    found = queue.get(timeout=120)
    process.join()
    return found


def _write(uri: str, rate: int, seconds: int, queue: Any) -> None:
    # Encoded beforehand: the application must not be slowed down by being on the same cores.
    encoded = [RawBSONDocument(bson.encode(document(i, 300))) for i in range(rate * seconds)]
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    with closing(client):
        started, written = time.monotonic(), 0
        while written < rate * seconds:
            part = encoded[written : written + 200]
            client[DATABASE].command({"insert": COLLECTION, "documents": part, "ordered": False})
            written += len(part)
            ahead = written / rate - (time.monotonic() - started)
            if ahead > 0:
                time.sleep(ahead)
        took = time.monotonic() - started
    queue.put((time.time(), written / took))


def _now(ends: Ends) -> datetime:
    from limosa.connectors.mongodb import CONNECTOR

    with closing(CONNECTOR.open_source(ends.source)) as source:
        return source.clock()


def _rates(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({', '.join(f'{v:.0f}' for v in values)})"


def _ratios(some: list[float], others: list[float]) -> str:
    values = [a / b for a, b in zip(some, others, strict=True)]
    return f"{statistics.median(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})"
