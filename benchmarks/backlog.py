"""Changes that wait in the buffer: their size, the memory they take, and a start with them."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import bson
from running import Child, Ends, fill, folder, servers

from limosa import catalog
from limosa.canonical import key_for
from limosa.model import (
    ChangeBatch,
    Collection,
    CollectionSpec,
    Key,
    Namespace,
    Partition,
    ResumeToken,
)
from limosa.plan import planned
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.sqlite import SqliteStore

#: Changes in a batch, as in an answer of a source that has much to tell.
BATCH = 5_000
#: Collections in the plan, besides the one that changes, and changes that wait, at a restart.
STARTS = ((0, 0), (0, 1_000_000), (1_000, 1_000_000), (4_000, 1_000_000))


def waiting(count: int) -> dict[str, object]:
    """Fill a buffer with *count* changes, open it, and read it to the end."""
    keys = _random_keys()
    collection = Collection(Namespace("bench", "documents"), uuid4().hex)
    found: dict[str, object] = {}
    with folder() as state:
        state.mkdir()
        path = state / "buffer.db"
        with closing(SqliteBuffer(path, keep_free=0)) as buffer:
            started = time.monotonic()
            for _ in range(0, count, BATCH):
                changes = {collection: dict.fromkeys(next(keys) for _ in range(BATCH))}
                buffer.append(_batch(changes))
            found["appended with their making, changes/s"] = _rate(count, started)
            found["on disk, bytes a change"] = round(_size(path) / count, 1)
        started = time.monotonic()
        with closing(SqliteBuffer(path, keep_free=0)) as buffer:
            assert buffer.waiting(after=0) == count
            found["opened and counted, milliseconds"] = round((time.monotonic() - started) * 1e3, 1)
            started, after = time.monotonic(), 0
            while part := buffer.read(after=after, limit=80_000):
                after = part[0]
                buffer.trim(through=after)
            found["read and trimmed, changes/s"] = _rate(count, started)
        found["left on disk, MB"] = round(_size(path) / 1e6)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["peak memory of all that, MB"] = round(peak)
    return {f"{k}, {count:,} changes": v for k, v in found.items()}


def restarting(rounds: int) -> dict[str, object]:
    """From the start of a process to the first change that it has applied, or its phase."""
    found: dict[str, object] = {}
    with servers() as ends:
        fill(ends.source, 20_000)
        for collections, changes in STARTS:
            ends.clear_target()
            with folder() as state:
                with Child(ends, state, ["--no-verify"]) as child:
                    child.wait_for("ReadyToCommit")
                _plan_more(state, collections)
                _have_wait(state, changes)
                seen = [_restarted(ends, state, changes) for _ in range(rounds)]
            name = f"{collections:,} more collections, {changes:,} changes waiting"
            found[f"{name}: seconds, of CPU"] = "; ".join(f"{a:.2f} {b:.2f}" for a, b in seen)
    return found


def _restarted(ends: Ends, state: Path, changes: int) -> tuple[float, float]:
    started = time.time()
    with Child(ends, state, ["--no-verify"]) as child:
        event = child.wait_for("ChangesApplied" if changes else "PhaseChanged")
    return event["at"] - started, event["cpu"]


def _plan_more(state: Path, count: int) -> None:
    """Have the plan hold *count* more collections that are copied."""
    with closing(SqliteStore.drive(state, "bench")) as store:
        for number in range(count):
            collection = Collection(Namespace("many", f"c{number}"), uuid4().hex)
            spec = CollectionSpec(collection, documents=10, size=500)
            store.save_collection(replace(planned(spec), is_indexed=True))
            part = Partition(f"{collection.id}/0", collection, b"", 10)
            store.cut(collection.id, [part])
            store.partition_copied(part.id, documents=10, size=500)


def _have_wait(state: Path, count: int) -> None:
    """Have *count* changes of what is there wait to be applied."""
    with closing(catalog.watch(catalog.Folder(state))) as store:
        collection = next(iter(store.collections())).spec.collection
    keys = [key_for(bson.ObjectId()) for _ in range(20_000)]
    with closing(SqliteBuffer(state / "buffer.db")) as buffer:
        position = buffer.position()
        assert position is not None
        for at in range(0, count, BATCH):
            some = dict.fromkeys(keys[at % len(keys) :][:BATCH])
            buffer.append(ChangeBatch(*position, {collection: some}, events=BATCH))


def _batch(changes: dict[Collection, dict[Key, None]]) -> ChangeBatch:
    token = bson.encode({"_data": os.urandom(80).hex()})  # about as long as the server's
    return ChangeBatch(ResumeToken(token), datetime.now(UTC), changes, events=BATCH)


def _random_keys() -> Iterator[Key]:
    """Yield keys of documents that many processes made within a day."""
    dice = random.Random(1)
    made = [dice.randbytes(5) for _ in range(64)]
    counter = dice.randrange(1 << 24)
    while True:
        counter = (counter + 1) % (1 << 24)
        second = (1_700_000_000 + dice.randrange(86_400)).to_bytes(4, "big")
        value = second + dice.choice(made) + counter.to_bytes(3, "big")
        yield Key(b"\x16\0\0\0\x07_id\0" + value + b"\0")


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def _rate(count: int, started: float) -> int:
    return round(count / (time.monotonic() - started))
