"""Others are kept out of an end while they must not write there, whatever happens."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from pair import PEOPLE, Pair

from limosa.connectors.memory import MemoryDatabase
from limosa.errors import ConnectionLost, StateGone, WriteRefused
from limosa.settings import WriteBlocking
from limosa.state import Migration, State


@pytest.mark.parametrize("mode", WriteBlocking)
def test_writes_are_blocked(tmp_path: Path, mode: WriteBlocking) -> None:
    """Others are kept out of each end exactly while they must not write there."""
    target, both = mode is not WriteBlocking.NONE, mode is WriteBlocking.BOTH
    pair = Pair(tmp_path, 0, write_blocking=mode)
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)

    assert (pair.first.writes_blocked(), pair.second.writes_blocked()) == (False, target)
    pair.commit(drive)
    assert (pair.first.writes_blocked(), pair.second.writes_blocked()) == (both, False)
    pair.update(Migration.reversing)
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)
    assert (pair.first.writes_blocked(), pair.second.writes_blocked()) == (target, False)
    pair.commit(drive)
    assert (pair.first.writes_blocked(), pair.second.writes_blocked()) == (False, both)


def test_stop_lifts_blocks(tmp_path: Path) -> None:
    """A process that ends before the commit lifts what it has blocked; the next blocks again."""
    pair = Pair(tmp_path, 0, write_blocking=WriteBlocking.BOTH)
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)
    assert pair.second.writes_blocked()

    stopped = drive.stop()

    assert not pair.second.writes_blocked()
    assert stopped.blocked == ""
    drive = pair.start()
    pair.wait_until(lambda _: pair.second.writes_blocked())
    pair.commit(drive)


def test_failure_lifts_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails lets the application go on at the source."""
    pair = Pair(tmp_path, 0, write_blocking=WriteBlocking.BOTH)
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)

    def refuse(*_given: object) -> None:
        msg = "no"
        raise WriteRefused(msg)

    monkeypatch.setattr(MemoryDatabase, "finish", refuse)
    failed = pair.commit(drive)

    assert failed.state is State.FAILED
    assert not pair.first.writes_blocked()
    assert not pair.second.writes_blocked()
    pair.first.put(PEOPLE, {"_id": "after"})
    monkeypatch.undo()
    assert pair.commit(pair.start()).state is State.COMMITTED
    assert pair.differences() == []


def test_block_of_another(tmp_path: Path) -> None:
    """A block that somebody else has set is left alone, and warned about."""
    pair = Pair(tmp_path, 0, write_blocking=WriteBlocking.TARGET)
    pair.second.block_writes()

    assert pair.commit(pair.start()).state is State.COMMITTED

    assert pair.second.writes_blocked()
    warned = [str(e) for e in pair.events if type(e).__name__ == "Warned"]
    assert any("blocked already, not by limosa" in w for w in warned)
    assert any("still blocked, not by limosa" in w for w in warned)


def test_lost_state_lifts_blocks(tmp_path: Path) -> None:
    """A process whose state is removed under it lifts what it has blocked, and then fails."""
    pair = Pair(tmp_path / "state", 0, write_blocking=WriteBlocking.BOTH)
    ended: list[BaseException] = []

    def drive() -> None:
        try:
            pair.once(threading.Event())
        except StateGone as error:
            ended.append(error)

    thread = threading.Thread(target=drive, daemon=True)
    thread.start()
    pair.wait_until(lambda m: m.can_commit)
    assert pair.second.writes_blocked()
    (pair.folder / "lock").unlink()
    pair.first.put(PEOPLE, {"_id": "one more"})
    thread.join(30)

    assert ended
    assert not pair.second.writes_blocked()


def test_block_that_cannot_be_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that a process cannot lift is remembered, and lifted by the next one."""
    pair = Pair(tmp_path, 0, write_blocking=WriteBlocking.TARGET)
    monkeypatch.setattr("limosa.write_blocking._PATIENCE", timedelta(0))
    drive = pair.start()
    pair.wait_until(lambda m: m.can_commit)

    def lost(_self: object) -> None:
        msg = "gone"
        raise ConnectionLost(msg)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryDatabase, "allow_writes", lost)
        assert drive.stop().blocks("target")

    assert pair.second.writes_blocked()
    assert any("still blocked" in str(e) for e in pair.events)
    assert pair.commit(pair.start()).state is State.COMMITTED
    assert not pair.second.writes_blocked()
