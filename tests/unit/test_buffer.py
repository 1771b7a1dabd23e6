"""The buffer: captured changes come back in order, joined, and none is lost or seen twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bson
import pytest
from bson import Int64
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from limosa.canonical import key_for
from limosa.errors import StateCorrupt
from limosa.model import (
    ChangeBatch,
    Collection,
    Document,
    Key,
    Namespace,
    ResumeToken,
    SchemaChange,
    SchemaVerb,
)
from limosa.storage import buffer as buffer_module
from limosa.storage.buffer import SqliteBuffer
from limosa.storage.encoding import decoded_changes, encoded_changes, joined, size_of

NOW = datetime(2024, 5, 1, 12, 0, 0, 7, tzinfo=UTC)
PEOPLE = Collection(Namespace("shop", "people.all"), "b2")
CARTS = Collection(Namespace("shop", "carts"), "a1")


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[SqliteBuffer]:
    with closing(SqliteBuffer(tmp_path / "buffer.db")) as buffer:
        yield buffer


def state(value: int, **fields: object) -> Document:
    return RawBSONDocument(bson.encode({"_id": value, **fields}))


def batch(*values: int, at: int = 0, collection: Collection = PEOPLE) -> ChangeBatch:
    keys = dict.fromkeys(map(key_for, values))
    time = NOW + timedelta(seconds=at)
    return ChangeBatch(ResumeToken(b"%d" % at), time, {collection: keys}, events=len(values))


def barrier(at: int = 0) -> ChangeBatch:
    change = SchemaChange(SchemaVerb.DROP, CARTS)
    return ChangeBatch(ResumeToken(b"%d" % at), NOW, schema=change, events=1)


def values(found: tuple[int, ChangeBatch] | None) -> list[int]:
    assert found is not None
    return [bson.decode(k)["_id"] for states in found[1].changes.values() for k in states]


def test_empty(buffer: SqliteBuffer) -> None:
    """A new buffer has no position, no number and nothing to read."""
    assert buffer.position() is None
    assert (buffer.last_seq(), buffer.waiting(after=0)) == (0, 0)
    assert buffer.read(after=0, limit=10) is None


def test_round_trip(buffer: SqliteBuffer) -> None:
    """A batch comes back with its keys in order, known states, token, time and events."""
    stored = ChangeBatch(
        ResumeToken(b"\0token\xff"),
        NOW,
        {
            PEOPLE: {key_for(2): None, key_for(1): state(1, n=Int64(5)), key_for("x"): None},
            CARTS: {key_for(None): None},
        },
        events=9,
    )

    seq = buffer.append(stored)

    found = buffer.read(after=0, limit=100)
    assert found == (seq, stored)
    assert [list(s) for s in found[1].changes.values()] == [
        list(s) for s in stored.changes.values()
    ]
    assert buffer.position() == (b"\0token\xff", NOW)


@pytest.mark.parametrize(
    "change",
    [
        SchemaChange(SchemaVerb.RENAME, PEOPLE, to=Namespace("shop", "a.b")),
        SchemaChange(
            SchemaVerb.CREATE_INDEXES,
            PEOPLE,
            {"indexes": [{"key": {"b": 1, "a": -1}, "name": "b_a", "n": Int64(1)}]},
        ),
        SchemaChange(SchemaVerb.CREATE, CARTS, {"validator": {"n": {"$regex": "^a"}}}),
    ],
)
def test_schema_change(buffer: SqliteBuffer, change: SchemaChange) -> None:
    """A schema change comes back with every value of its detail."""
    stored = ChangeBatch(ResumeToken(b"t"), NOW, schema=change, events=1)

    buffer.append(stored)

    found = buffer.read(after=0, limit=1)
    assert found == (1, stored)
    assert found[1].schema is not None
    assert bson.encode(found[1].schema.detail) == bson.encode(change.detail)


def test_join(buffer: SqliteBuffer) -> None:
    """Joined batches keep the place of a key's first touch and its latest state."""
    for n in range(3):
        keys = {key_for(0): state(0, version=n), key_for(n + 1): None}
        buffer.append(ChangeBatch(ResumeToken(b"%d" % n), NOW, {PEOPLE: keys}, events=2))

    found = buffer.read(after=0, limit=100)

    assert values(found) == [0, 1, 2, 3]
    assert found is not None
    seq, joined_batch = found
    assert (seq, joined_batch.events, joined_batch.resume_token) == (3, 6, b"2")
    assert joined_batch.changes[PEOPLE][key_for(0)] == state(0, version=2)


def test_unknown_replaces_known(buffer: SqliteBuffer) -> None:
    """A key captured later without its state is looked up, whatever was known before."""
    buffer.append(ChangeBatch(ResumeToken(b"1"), NOW, {PEOPLE: {key_for(1): state(1)}}))
    buffer.append(batch(1))

    found = buffer.read(after=0, limit=100)

    assert found is not None
    assert found[1].changes == {PEOPLE: {key_for(1): None}}


def test_limit(buffer: SqliteBuffer) -> None:
    """No more batches are joined than are needed to reach the limit, and at least one."""
    for n in range(4):
        buffer.append(batch(*range(n * 10, n * 10 + 10), at=n))

    assert [buffer.read(after=0, limit=limit)[0] for limit in (1, 10, 11, 20, 99)] == [  # type: ignore[index]  # none is None
        1,
        1,
        2,
        2,
        4,
    ]
    assert values(buffer.read(after=2, limit=10)) == list(range(20, 30))


def test_through(buffer: SqliteBuffer) -> None:
    """Nothing past *through* is read."""
    for n in range(4):
        buffer.append(batch(n, at=n))

    found = buffer.read(after=1, limit=100, through=3)

    assert found is not None
    assert (found[0], found[1].source_time, values(found)) == (
        3,
        NOW + timedelta(seconds=2),
        [1, 2],
    )
    assert buffer.read(after=3, limit=100, through=3) is None


def test_large_states(buffer: SqliteBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of large documents are joined only up to a size."""
    monkeypatch.setattr(buffer_module, "READ_LIMIT", 3000)
    for n in range(5):
        keys = {key_for(n): state(n, payload="x" * 2000)}
        buffer.append(ChangeBatch(ResumeToken(b"t"), NOW, {PEOPLE: keys}))

    assert values(buffer.read(after=0, limit=100)) == [0, 1]


def test_barrier(buffer: SqliteBuffer) -> None:
    """A schema change comes alone, after all before it and before all after it."""
    for stored in (batch(1), batch(2), barrier(), barrier(), batch(3)):
        buffer.append(stored)

    seen, after = [], 0
    while found := buffer.read(after=after, limit=100):
        after = found[0]
        seen.append("barrier" if found[1].schema else values(found))

    assert seen == [[1, 2], "barrier", "barrier", [3]]


def test_mark(buffer: SqliteBuffer) -> None:
    """An idle stream moves the position, not the numbers, and has nothing read."""
    buffer.append(batch(1))

    buffer.mark(ResumeToken(b"idle"), NOW + timedelta(seconds=60))

    assert buffer.position() == (b"idle", NOW + timedelta(seconds=60))
    assert buffer.last_seq() == 1
    assert buffer.read(after=1, limit=100) is None


def test_waiting(buffer: SqliteBuffer) -> None:
    """The changes that wait are those of the batches not yet applied, trimmed or not."""
    for n in range(1, 5):
        buffer.append(batch(*range(n)))

    assert [buffer.waiting(after=n) for n in range(5)] == [10, 9, 7, 4, 0]
    buffer.trim(through=2)
    assert [buffer.waiting(after=n) for n in (0, 2, 3)] == [7, 7, 4]
    buffer.trim(through=4)
    buffer.append(batch(1, 2))
    assert buffer.waiting(after=4) == 2


def test_numbers_survive(tmp_path: Path) -> None:
    """Numbers go on and the position stays after all was trimmed and the file opened again."""
    path = tmp_path / "buffer.db"
    with closing(SqliteBuffer(path)) as buffer:
        buffer.append(batch(1))
        buffer.append(batch(2, at=5))
        buffer.trim(through=2)

    with closing(SqliteBuffer(path)) as buffer:
        assert buffer.last_seq() == 2
        assert buffer.position() == (b"5", NOW + timedelta(seconds=5))
        assert buffer.append(batch(3)) == 3


def test_space_comes_back(
    buffer: SqliteBuffer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer that was long shrinks once it is applied, and still works."""
    monkeypatch.setattr(buffer_module, "SHRINK_ABOVE", 1024 * 1024)
    for n in range(30):
        keys = {key_for(n): state(n, payload="x" * 100_000)}
        buffer.append(ChangeBatch(ResumeToken(b"t"), NOW, {PEOPLE: keys}))

    buffer.trim(through=29)

    with closing(sqlite3.connect(tmp_path / "buffer.db")) as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    assert pages * 16 * 1024 < 500_000
    assert values(buffer.read(after=0, limit=100)) == [29]
    assert buffer.append(batch(30)) == 31


def test_damaged_batch(buffer: SqliteBuffer, tmp_path: Path) -> None:
    """One changed bit in a stored batch is noticed instead of losing a change."""
    buffer.append(batch(1))
    with closing(sqlite3.connect(tmp_path / "buffer.db")) as db:
        ((body,),) = db.execute("SELECT body FROM batches").fetchall()
        at = body.index(key_for(1)) + 9
        db.execute("UPDATE batches SET body = ?", (body[:at] + b"\2" + body[at + 1 :],))
        db.commit()

    with pytest.raises(StateCorrupt, match="batch 1 is damaged"):
        buffer.read(after=0, limit=1)


def test_threads(buffer: SqliteBuffer) -> None:
    """While one thread appends and two read, each sees every change once and in order."""
    total = 200
    seen: dict[str, list[int]] = {"apply": [], "verify": []}
    applied = 0

    def append() -> None:
        for n in range(total):
            buffer.append(batch(n, at=n))

    def follow(name: str) -> None:
        nonlocal applied
        after = 0
        while after < total:
            through = applied if name == "verify" else None
            found = buffer.read(after=after, limit=7, through=through)
            if found is not None:
                after = found[0]
                seen[name] += values(found)
                if name == "apply":
                    applied = after
                else:
                    buffer.trim(through=after)

    threads = [
        threading.Thread(target=append, daemon=True),
        threading.Thread(target=follow, args=("apply",), daemon=True),
        threading.Thread(target=follow, args=("verify",), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert seen == {"apply": list(range(total)), "verify": list(range(total))}
    assert buffer.waiting(after=total) == 0


KEYS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.text("ab", max_size=5), st.binary(max_size=5)
).map(key_for)
STATES = st.none() | st.integers(0, 9).map(state)
CHANGES = st.dictionaries(
    st.sampled_from([PEOPLE, CARTS]), st.dictionaries(KEYS, STATES, min_size=1), max_size=2
)


@given(CHANGES)
def test_encoding(changes: dict[Collection, dict[Key, Document | None]]) -> None:
    """Changes are the same, in the same order, after they were encoded."""
    decoded = decoded_changes(encoded_changes(changes))

    assert decoded == changes
    assert [list(states) for states in decoded.values()] == [list(s) for s in changes.values()]


def test_packed() -> None:
    """Many keys take a fraction of their bytes, come back in order, and tell their size."""
    keys = [key_for(bson.ObjectId()) for _ in range(1_000)]

    body = encoded_changes({PEOPLE: dict.fromkeys(keys)})

    assert len(body) < 10 * len(keys)
    assert size_of(body) > 22 * len(keys)
    assert list(decoded_changes(body)[PEOPLE]) == keys


def test_states_are_not_packed() -> None:
    """A body with documents is as large as it says."""
    body = encoded_changes({PEOPLE: {key_for(1): state(1, text="x" * 2_000)}})

    assert size_of(body) == len(body) > 2_000


def test_large_keys(buffer: SqliteBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are joined up to a size in memory, however small they are on disk."""
    monkeypatch.setattr(buffer_module, "READ_LIMIT", 3_000)
    for n in range(5):
        keys = dict.fromkeys([key_for(f"{n}{'x' * 2_000}")])
        buffer.append(ChangeBatch(ResumeToken(b"t"), NOW, {PEOPLE: keys}))

    found = buffer.read(after=0, limit=100)

    assert found is not None
    assert found[0] == 2


@given(st.lists(CHANGES))
def test_joined(batches: list[dict[Collection, dict[Key, Document | None]]]) -> None:
    """Joining is the same as taking each change one after the other."""
    expected: dict[Collection, dict[Key, Document | None]] = {}
    for changes in batches:
        for collection, states in changes.items():
            for key, document in states.items():
                expected.setdefault(collection, {})[key] = document

    assert joined(batches) == expected
