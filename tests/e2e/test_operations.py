"""What an operator does to a migration, and what somebody does behind its back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Int64
from failing import FailPoint
from in_process import Running
from judge import differences
from program import Ended, Program, limosa
from waiting import until

from limosa.events import ChangesApplied, StateChanged
from limosa.state import Migration, State
from limosa.workload import Traffic, fill

#: Exit codes.
DONE, USAGE, MISMATCHES, STATE, ILLEGAL, INTERRUPTED = 0, 2, 4, 5, 6, 130
DOCUMENTS = 300


@pytest.fixture
def program(ends: Any, tmp_path: Path) -> Iterator[Program]:
    """A command line for a small source and an empty target."""
    people = ends.source.client.shop.people
    people.insert_many({"_id": i, "number": i} for i in range(DOCUMENTS))
    people.create_index("number", unique=True)
    with Program(ends.source.uri, ends.target.uri, tmp_path / "state") as program:
        yield program
    for end in ends:
        FailPoint(end.client).off()


def test_pause_under_load(ends: Any, tmp_path: Path) -> None:
    """A paused migration applies nothing but captures everything, and loses nothing."""
    fill(ends.source.uri, documents=2_000)
    uris = (ends.source.uri, ends.target.uri)
    traffic = Traffic(ends.source.uri, rate=150, workers=2, lasting=timedelta(minutes=2))
    with traffic, Running(*uris, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        running.update(lambda m: m.moved_to(State.PAUSED))
        running.await_event(StateChanged)
        _await_stillness(running)
        paused = _migration(running)
        writes = traffic.counters.writes
        until(lambda: traffic.counters.writes > writes + 200, "traffic")
        running.await_captured(ends.source.client)

        assert _migration(running).applied_seq == paused.applied_seq
        assert _migration(running).phase == paused.phase

        running.update(lambda m: m.moved_to(State.RUNNING))
        running.await_event(ChangesApplied, since=len(running.events))
        traffic.hold()
        running.committed()

        assert differences(ends.source.client, ends.target.client) == []


@pytest.mark.parametrize("slowed", ["insert", "find"], ids=["copy", "verification"])
def test_pause_by_commands(ends: Any, program: Program, slowed: str) -> None:
    """A pause holds copy and verification, until `resume`, also across a restart."""
    _slow_down(ends, slowed)
    program.start()
    program.await_phase("copy" if slowed == "insert" else "verification")

    assert _steer(program, "pause").code == DONE
    assert program.phase() == "paused"
    assert _steer(program, "commit").code == ILLEGAL

    program.kill()
    program.start()
    program.await_start()

    assert program.phase() == "paused"
    assert _steer(program, "resume").code == DONE
    assert _steer(program, "resume").code == ILLEGAL

    FailPoint(ends.target.client).off()
    _commit(program)
    assert differences(ends.source.client, ends.target.client) == []


def test_second_process(ends: Any, program: Program) -> None:
    """A second process for the same migration is refused, and says who drives it."""
    program.start()
    program.await_start()
    assert program.process is not None
    second = limosa(*program.command[3:])

    assert second.code == STATE
    assert str(program.process.pid) in second.err
    assert "hint:" in second.err

    program.await_phase("following")
    _commit(program)


def test_changed_command_line(ends: Any, program: Program) -> None:
    """Another command line for the same state is refused, and shows the difference."""
    program.start()
    program.await_phase("following")
    program.kill()
    uris = (program.source, program.target)
    state = ("--state", program.folder)
    ended = [
        limosa("migrate", *uris, *state, "--include", "shop.people"),
        limosa("migrate", *uris, *state, "--no-verify"),
        limosa("migrate", program.target, program.source, *state),
    ]

    assert [e.code for e in ended] == [USAGE] * 3
    assert "include was [], is ['shop.people']" in ended[0].err
    assert "verify was True, is False" in ended[1].err
    assert "source was 'mongodb://127.0.0.1:" in ended[2].err

    program.options = ("--workers", "2", "--retry-for", "1m")  # these may differ
    program.start()
    _commit(program)


@pytest.mark.parametrize("phase", ["copy", "catching up", "verification", "following"])
def test_interrupt(ends: Any, program: Program, phase: str) -> None:
    """Ctrl-C ends cleanly and says how to go on; the same command does."""
    _slow_down(ends, "insert", "find", "update")
    program.start()
    if phase == "catching up":
        program.await_phase("copy")
        ends.source.client.shop.people.update_many({}, {"$set": {"changed": True}})
    program.await_phase(phase)
    assert program.process is not None
    program.process.send_signal(signal.SIGINT)

    assert program.end() == INTERRUPTED
    assert "same command" in program.log()
    assert "Traceback" not in program.log()

    FailPoint(ends.target.client).off()
    ends.source.client.shop.people.delete_many({"_id": {"$gt": 290}})
    program.start()
    _commit(program)
    assert differences(ends.source.client, ends.target.client) == []


def test_second_interrupt(ends: Any, program: Program) -> None:
    """Ctrl-C twice ends at once, and still loses nothing."""
    point = FailPoint(ends.target.client)
    point.slow_down(["insert"], milliseconds=30_000)
    program.start()
    until(lambda: point.hits, "insert")
    assert program.process is not None
    program.process.send_signal(signal.SIGINT)
    until(lambda: "once more" in program.log(), "announcement")
    program.process.send_signal(signal.SIGINT)

    assert program.end(seconds=25) == INTERRUPTED

    point.off()
    ends.target.interrupt()
    program.start()
    _commit(program)
    assert differences(ends.source.client, ends.target.client) == []


def test_mismatches(ends: Any, program: Program) -> None:
    """What differs behind Limosa's back is found and named, and blocks until it is mended."""
    people = ends.target.client.shop.people
    program.start()
    program.await_phase("following")
    changed = people.find_one_and_update({"_id": 7}, {"$set": {"number": 7.0}})
    removed = people.find_one_and_delete({"_id": 8})
    people.insert_one({"_id": "extra", "number": -1})
    state = ("--state", str(program.folder))
    found = limosa("verify", "--again", "--json", *state)

    assert found.code == MISMATCHES
    assert {m["kind"]: m["key"] for m in found.json["mismatchedKeys"]} == {
        "different": {"$numberInt": "7"},
        "missing": {"$numberInt": "8"},
        "extra": "extra",
    }

    refused = _steer(program, "commit")

    assert refused.code == MISMATCHES, refused.err
    assert program.end() == MISMATCHES
    for text in ("3 documents", "different shop.people", "missing shop.people", "extra shop"):
        assert text in refused.err
        assert text in program.log()
    assert limosa("status", "--json", *state).json["canWrite"] is False

    people.replace_one({"_id": 7}, changed)
    people.insert_one(removed)
    people.delete_one({"_id": "extra"})
    program.start()
    _commit(program)
    assert limosa("verify", *state).code == DONE
    assert differences(ends.source.client, ends.target.client) == []


def test_mismatch_settles_by_itself(ends: Any, program: Program) -> None:
    """A mismatch goes away when the document is written again on the source."""
    program.start()
    program.await_phase("following")
    ends.target.client.shop.people.delete_many({"_id": {"$lt": 3}})
    state = ("--state", str(program.folder))
    assert limosa("verify", "--again", *state).code == MISMATCHES
    ends.source.client.shop.people.update_many({"_id": {"$lt": 3}}, {"$set": {"again": 1}})
    until(lambda: not program.rows("SELECT 1 FROM mismatches"), "settled mismatches")

    _commit(program)
    assert differences(ends.source.client, ends.target.client) == []


def test_duplicates_at_commit(ends: Any, program: Program) -> None:
    """Documents that break a unique index at the commit are named."""
    program.options = ("--no-verify",)
    program.start()
    until(
        lambda: program.rows("SELECT 1 FROM migration WHERE applied_to > copied_at"), "consistency"
    )
    # Once it holds there ahead of the commit, the index would refuse the double.
    ends.target.client.shop.people.drop_index("number_1")
    ends.target.client.shop.people.insert_one({"_id": "double", "number": 5})
    refused = _steer(program, "commit")

    assert refused.code == 3, refused.err
    assert "number_1" in refused.err
    assert "double" in refused.err
    assert "hint:" in refused.err

    ends.target.client.shop.people.delete_one({"_id": "double"})
    program.end()
    program.start()
    going_on = "SELECT 1 FROM migration WHERE state = 'RUNNING'"
    until(lambda: program.rows(going_on), "migration that goes on")

    assert _steer(program, "commit").code == DONE
    assert program.end() == DONE
    assert differences(ends.source.client, ends.target.client) == []


@pytest.mark.parametrize("moment", ["plan", "copy", "application", "commit"])
def test_equal_numbers(ends: Any, tmp_path: Path, moment: str) -> None:
    """A key that turns from 1 into 1.0 or long 1 while it is migrated keeps its new type."""
    source = ends.source.client.shop
    for name in ("a", "b", "c"):
        source[name].insert_many({"_id": i} for i in range(1_100))
    uris = (ends.source.uri, ends.target.uri)
    with Running(*uris, tmp_path / "state") as running:
        if moment == "commit":
            running.start()
            running.await_ready()
        running.hold_at(moment)
        if moment == "commit":
            source.a.insert_one({"_id": "waited for"})
        else:
            running.start()
        running.await_held()
        for name, kind in (("a", float), ("b", Int64)):
            for number in range(20):
                source[name].delete_one({"_id": number})
                source[name].insert_one({"_id": kind(number), "again": True})
        for later in (float, Int64, int):
            source.c.delete_many({"_id": {"$lt": 20}})
            source.c.insert_many({"_id": later(number)} for number in range(20))
        running.release()
        running.committed()

    assert differences(ends.source.client, ends.target.client) == []


def test_equal_by_collation_and_in_order(ends: Any, tmp_path: Path) -> None:
    """Thousands of keys that change into their equals by collation, or come in order, arrive."""
    shop = ends.source.client.shop
    shop.create_collection("words", collation={"locale": "en", "strength": 2})
    shop.create_collection("log", capped=True, size=64 * 1024 * 1024)
    shop.words.insert_many({"_id": f"word {i}"} for i in range(3_000))
    shop.log.insert_one({"_id": "first"})
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        with running.held_at("application"):
            for at in range(0, 3_000, 500):
                these = [f"word {i}" for i in range(at, at + 500)]
                shop.words.delete_many({"_id": {"$in": these}})
                shop.words.insert_many({"_id": w.upper()} for w in reversed(these))
            shop.log.insert_many({"_id": i} for i in range(3_000))
        running.committed()

    assert ends.target.client.shop.words.count_documents({}) == 3_000
    assert differences(ends.source.client, ends.target.client) == []


def _slow_down(ends: Any, *commands: str) -> None:
    FailPoint(ends.target.client).slow_down(commands, milliseconds=500)


def _steer(program: Program, verb: str) -> Ended:
    return limosa(verb, "--state", program.folder)


def _commit(program: Program) -> None:
    program.await_start()
    program.await_phase("following")
    asked = _steer(program, "commit")
    assert asked.code == DONE, asked.err
    assert program.end() == DONE, program.log()


def _migration(running: Running) -> Migration:
    with running.store() as store:
        return store.migration()


def _await_stillness(running: Running) -> None:
    """Wait until what was under way when the pause came is done."""
    seen = [-1, -2]

    def look() -> bool:
        seen.append(_migration(running).applied_seq)
        return len(set(seen[-20:])) == 1

    until(look, "pause")
