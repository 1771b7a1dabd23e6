"""The way back: what was written to the target after the commit flows back to the source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pair import (
    CARTS,
    ORDERS,
    PEOPLE,
    UNIQUE,
    Application,
    Pair,
    committed,
    raw,
)

from limosa.canonical import key_for
from limosa.connectors.memory import MemoryDatabase
from limosa.errors import IllegalTransition, WriteRefused
from limosa.model import CollectionSpec, Document, Key, Mismatch, MismatchKind, Namespace
from limosa.reversal import Reversal
from limosa.state import Migration, State


def test_ends_change_places(tmp_path: Path) -> None:
    """A reversal swaps source and target, begins with a clean slate and counts itself."""
    pair = committed(tmp_path, 0)
    before = pair.migration()
    assert (before.source, before.target, before.can_write) == ("first", "second", True)

    pair.update(Migration.reversing)
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)
    after = drive.stop()

    assert after.state is State.RUNNING
    assert (after.source, after.target, after.reversals) == ("second", "first", 1)
    assert not after.can_write
    assert after.position == before.return_position


@pytest.mark.parametrize("seed", range(5))
def test_there_and_back(tmp_path: Path, seed: int) -> None:
    """What is written after a commit flows back, and there again, however often it dies."""
    pair = committed(tmp_path, seed)

    for number, database in enumerate((pair.second, pair.first, pair.second)):
        application = Application(database, seed + number)
        application.start()
        pair.update(Migration.reversing)
        pair.dice.crashes_left = 4
        drive = pair.start()
        pair.wait_until(lambda m: m.can_commit and not pair.dice.crashes_left)
        application.stop()
        end = pair.commit(drive)

        assert end.failure is None
        assert end.state is State.COMMITTED
        assert end.reversals == number + 1
        assert pair.differences() == []
    assert pair.starts > 4


def test_values_change_places(tmp_path: Path) -> None:
    """Unique values may be swapped by the application: no unique index of the target objects."""
    pair = committed(tmp_path, 0)
    pair.second.put(PEOPLE, {"_id": 1, "email": -1})
    pair.second.put(PEOPLE, {"_id": 2, "email": 1}, {"_id": 1, "email": 2})
    pair.update(Migration.reversing)
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)

    assert all("unique" not in i for s in pair.first.collections() for i in s.indexes)
    assert all("expireAfterSeconds" not in i for s in pair.first.collections() for i in s.indexes)
    assert pair.commit(drive).state is State.COMMITTED
    assert UNIQUE in next(s.indexes for s in pair.first.collections() if s.indexes[0] == UNIQUE)
    assert pair.differences() == []


def test_renamed_and_dropped_before(tmp_path: Path) -> None:
    """Collections that were renamed, dropped or made since the commit are known by identity."""
    pair = committed(tmp_path, 0)
    pair.second.put(PEOPLE, {"_id": "late"})
    pair.second.rename(PEOPLE, CARTS)
    pair.second.put(PEOPLE, {"_id": "another one"})
    pair.second.drop(ORDERS)

    pair.update(Migration.reversing)
    assert pair.commit(pair.start()).state is State.COMMITTED

    assert pair.differences() == []
    assert len(raw(pair.first, CARTS)) == 61
    assert len(raw(pair.first, PEOPLE)) == 1


def test_new_collection_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was lost of a collection that was made since the commit is found."""
    pair = committed(tmp_path, 0)
    pair.second.put(CARTS, *({"_id": i} for i in range(20)))
    apply = MemoryDatabase.apply

    def lose(
        self: MemoryDatabase, namespace: Namespace, states: Mapping[Key, Document | None]
    ) -> None:
        apply(self, namespace, {k: d for k, d in states.items() if k != key_for(7)})

    monkeypatch.setattr(MemoryDatabase, "apply", lose)
    pair.update(Migration.reversing)
    drive = pair.start()
    with pair.store() as store:
        pair.wait_until(lambda m: m.verified_at is not None and bool(store.mismatches()))
        mismatches = store.mismatches()
    drive.stop()

    assert mismatches == [Mismatch(MismatchKind.MISSING, CARTS, key_for(7))]


def test_outlived_expiry(tmp_path: Path) -> None:
    """A document that expired on the old source alone is copied back."""
    pair = committed(tmp_path, 0)
    pair.first.delete(ORDERS, 7)

    pair.update(Migration.reversing)
    assert pair.commit(pair.start()).state is State.COMMITTED

    assert pair.differences() == []


def test_failed_reversal_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reversal that has failed is still one: the same command again ends it."""
    pair = committed(tmp_path, 0)
    pair.update(Migration.reversing)

    def refuse(_self: object, _spec: CollectionSpec) -> None:
        msg = "no"
        raise WriteRefused(msg)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryDatabase, "relax", refuse)
        failed = pair.start().end()
    assert failed.state is State.FAILED
    assert failed.is_reversing
    assert failed.is_way_back
    assert failed.source == "first"
    with pytest.raises(IllegalTransition):
        failed.moved_to(State.RUNNING)

    assert pair.commit(pair.start()).state is State.COMMITTED
    assert pair.differences() == []


@pytest.mark.parametrize("reversible", [True, False])
def test_refused(tmp_path: Path, *, reversible: bool) -> None:
    """A reversal is refused before the commit, and for who has not asked for it in time."""
    pair = Pair(tmp_path, 0, reversible=reversible)
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)
    with pytest.raises(IllegalTransition, match="from RUNNING to REVERSING"):
        pair.update(Migration.reversing)
    end = pair.commit(drive)

    if reversible:
        assert end.can_reverse
    else:
        pair_end = replace(end, return_position=None)
        with pytest.raises(IllegalTransition, match="not begun as a reversible one"):
            pair_end.reversing()


def capture_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back begins at the present, not where the target became writable."""
    turned = Migration.turned

    def mutant(self: Migration, **given: Any) -> Migration:
        return replace(turned(self, **given), position=None)

    monkeypatch.setattr(Migration, "turned", mutant)


def keep_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old source is made a target as it is."""
    monkeypatch.setattr(Reversal, "_relax", lambda _self, _collection: None)


@pytest.mark.parametrize("mistake", [capture_from_now, keep_constraints])
def test_mistake_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Two deliberate mistakes turn the tests above red."""
    pair = committed(tmp_path, 0)
    pair.second.put(PEOPLE, {"_id": 1, "email": "new"})
    mistake(monkeypatch)
    pair.update(Migration.reversing)
    drive = pair.start()
    pair.wait_until(lambda m: m.verified_at is not None)
    drive.stop()

    red = pair.differences() != []
    inert = all("unique" not in i for s in pair.first.collections() for i in s.indexes)
    assert red or not inert
