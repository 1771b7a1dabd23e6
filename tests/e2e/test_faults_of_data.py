"""Documents altered, removed and added behind Limosa's back are found, whenever that happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import EVERYTHING, SIDES, fill
from in_process import Running
from judge import differences
from waiting import until

from limosa.connectors.mongodb.deployment import Deployment, as_datetime
from limosa.connectors.mongodb.stream import ChangeStream, time_of
from limosa.model import MismatchKind
from limosa.state import Migration, State
from limosa.storage.buffer import SqliteBuffer

#: When a partition is already compared, only a comparison of everything finds what was done on
#: the source without capture seeing it; what is done on the target is seen in its oplog.
BEFORE_COMPARISON = ("copy", "index build", "application")
AFTER_COMPARISON = ("verification", "following")
PHASES = (*BEFORE_COMPARISON, *AFTER_COMPARISON)
DEEDS = ("alter", "remove", "add")
#: What a deed at an end makes of the document, as seen from the source.
KINDS = {
    ("alter", "source"): MismatchKind.DIFFERENT,
    ("alter", "target"): MismatchKind.DIFFERENT,
    ("remove", "source"): MismatchKind.EXTRA,
    ("remove", "target"): MismatchKind.MISSING,
    ("add", "source"): MismatchKind.MISSING,
    ("add", "target"): MismatchKind.EXTRA,
}


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody does to one document, and how it is mended."""

    what: str
    people: Any  # the collection it is done to

    def do(self) -> None:
        match self.what:
            case "alter":
                self.people.update_one({"_id": 7}, {"$set": {"number": 7.0}})
            case "remove":
                self.people.delete_one({"_id": 7})
            case "add":
                self.people.insert_one({"_id": "added", "number": "added"})

    def mend(self) -> None:
        if self.what == "add":
            self.people.delete_one({"_id": "added"})
        else:
            self.people.replace_one({"_id": 7}, {"_id": 7, "number": 7}, upsert=True)


def _cases() -> Iterator[Any]:
    pairs = [(deed, side) for side in SIDES for deed in DEEDS]
    for number, (deed, side) in enumerate(pairs):
        # On the source the copy would see it: what is not copied again is copied as it is then.
        phases = [p for p in PHASES if side == "target" or p != "copy"]
        for phase in phases if EVERYTHING else [phases[number % len(phases)]]:
            yield pytest.param(deed, side, phase, id=f"{deed}-{side}-{phase}")


@pytest.fixture
def running(ends: Any, tmp_path: Path) -> Iterator[Running]:
    """A migration from a filled source, not started yet."""
    fill(ends.source.client)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        yield running


@pytest.mark.parametrize(("deed", "side", "phase"), list(_cases()))
def test_found(ends: Any, running: Running, deed: str, side: str, phase: str) -> None:
    """Such a document is named, stops the commit, and once it is mended no more."""
    done = Deed(deed, getattr(ends, side).client.shop.people)
    _reach(running, phase)
    if side == "target":
        done.do()
        running.release()
    else:
        running.stop()
        _unseen(ends.source.uri, running, done.do)
        running.start()
    running.await_ready()
    if phase in AFTER_COMPARISON and side == "source":
        _verify_again(running)
    found = until(lambda: _mismatches(running), "mismatch")

    assert [kind for kind, _ in found] == [KINDS[deed, side]]
    assert [str(namespace) for _, namespace in found] == ["shop.people"]

    running.update(Migration.committing)
    failed = running.end()

    assert failed.failure is not None
    assert failed.failure.code == "verification_failed"

    if side == "target":
        done.mend()
    else:  # as it was on the source: from there it is unseen, too
        _unseen(ends.source.uri, running, done.mend)
    running.start()
    running.committed()
    assert differences(ends.source.client, ends.target.client) == []


def _reach(running: Running, phase: str) -> None:
    """Hold the migration in *phase*; while it follows nothing has to be held."""
    if phase == "following":
        running.start()
        running.await_ready()
        return
    running.hold_at(phase)
    running.start()
    running.await_held()


def _unseen(source: str, running: Running, act: Callable[[], None]) -> None:
    """Have it done on the source without capture ever seeing it: it goes on behind it."""
    act()
    with closing(Deployment(source)) as deployment:
        token = ChangeStream(deployment).position()
    with closing(SqliteBuffer(running.folder / "buffer.db")) as buffer:
        buffer.mark(token, as_datetime(time_of(token)))


def _verify_again(running: Running) -> None:
    with running.store() as store:
        store.reset_verification()
        until(lambda: store.migration().verified_at, "verification")


def _mismatches(running: Running) -> list[tuple[MismatchKind, Any]]:
    with running.store() as store:
        assert store.migration().state is State.RUNNING
        return [(m.kind, m.namespace) for m in store.mismatches()]
