"""
Benchmarks on embedded servers: what Limosa does, beside what the machine can.

Prints ratios of figures measured side by side in one run; absolute ones depend on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import bson
from bson.raw_bson import RawBSONDocument
from guest import guesting
from pymongo import MongoClient
from running import (
    COLLECTION,
    DATABASE,
    Child,
    Ends,
    change,
    copy_limit,
    document,
    fill,
    folder,
    insert_limit,
    servers,
    stream_limit,
    stream_position,
    write_limit,
)

from limosa.state import Migration, State

#: Documents of the limit's two halves; more would only take longer to prepare.
LIMIT_DOCUMENTS = 300_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for on the command line."""

    documents: int
    rounds: int
    tools: dict[str, str]


def main() -> None:
    """Run the parts that were chosen."""
    parts: dict[str, Callable[[Settings], dict[str, object]]] = {
        "copy": copying,
        "changes": changes,
        "verify": verifying,
        "commit": committing,
        "memory": memory,
        "start": starting,
        "guest": lambda chosen: guesting(chosen.documents),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="default: all")
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--tool",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another tool; {source} and {target} stand for the connection strings",
    )
    chosen = parser.parse_args()
    tools = dict(t.split("=", 1) for t in chosen.tool)
    if shutil.which("mongodump") and shutil.which("mongorestore"):
        tools["mongodump | mongorestore"] = (
            "sh -c 'mongodump --quiet --archive --uri={source} | "
            "mongorestore --quiet --archive --numInsertionWorkersPerCollection=4 --uri={target}'"
        )
    settings = Settings(chosen.documents, chosen.rounds, tools)
    for name in chosen.parts or parts:
        for figure, value in parts[name](settings).items():
            print(f"{name:8} {figure:58} {value}", flush=True)


def copying(settings: Settings) -> dict[str, object]:
    """Copy beside the limit, and other tools beside both."""
    ours: list[float] = []
    limits: list[float] = []
    cpu: list[float] = []
    others: dict[str, list[float]] = {name: [] for name in settings.tools}
    with servers() as ends:
        fill(ends.source, settings.documents)
        for _ in range(settings.rounds):
            limits.append(copy_limit(ends, min(LIMIT_DOCUMENTS, settings.documents)))
            rate, microseconds = _copied(ends, settings.documents)
            ours.append(rate)
            cpu.append(microseconds)
            for name, command in settings.tools.items():
                others[name].append(_tool(ends, command, settings.documents))
    middle = statistics.median(ours)
    ratios = [a / b for a, b in zip(ours, limits, strict=True)]
    return {
        "limosa, documents/s": round(middle),
        "limit (drain and pre-encoded inserts at once), documents/s": round(
            statistics.median(limits)
        ),
        "limosa / limit, each round": _ratios(ratios),
        "client CPU, microseconds a document": round(statistics.median(cpu), 2),
        **{f"limosa / {n}": round(middle / statistics.median(r), 2) for n, r in others.items()},
    }


def _copied(ends: Ends, documents: int) -> tuple[float, float]:
    ends.clear_target()
    with folder() as state, Child(ends, state, ["--no-verify", "--commit", "when-ready"]) as child:
        child.wait()
        begun, done = child.wait_for("Planned"), child.wait_for("CopyCompleted")
    seconds = done["at"] - begun["at"]
    return documents / seconds, (done["cpu"] - begun["cpu"]) / documents * 1e6


def _tool(ends: Ends, command: str, documents: int) -> float:
    ends.clear_target()
    started = time.monotonic()
    subprocess.run(shlex.split(command.format(source=ends.source, target=ends.target)), check=True)
    return documents / (time.monotonic() - started)


def changes(settings: Settings) -> dict[str, object]:
    """Capture alone, and from stream to target, beside what the servers do by themselves."""
    documents = min(300_000, settings.documents)
    captured: list[float] = []
    drained: list[float] = []
    applied: list[float] = []
    written: list[float] = []
    cpu: list[float] = []
    with servers() as ends:
        machine = insert_limit(ends.target, documents)
        fill(ends.source, documents)
        for seed in range(settings.rounds):
            ends.clear_target()
            with folder() as state:
                _consistent(ends, state)
                position = stream_position(ends.source)
                change(ends.source, documents, seed=10 * seed + 1)
                drained.append(stream_limit(ends.source, position)[0])
                captured.append(_capture_alone(ends, state))
                change(ends.source, documents, seed=10 * seed + 5)
                rate, microseconds = _stream_to_target(ends, state)
                applied.append(rate)
                cpu.append(microseconds)
                written.append(write_limit(ends.target, documents // 2))
    return {
        "inserting encoded documents alone, documents/s": round(machine),
        "capture alone, changes/s": _rates(captured),
        "draining the change stream without storing, changes/s": _rates(drained),
        "capture / draining": _ratios([a / b for a, b in zip(captured, drained, strict=True)]),
        "stream to target, changes/s": _rates(applied),
        "the target's writes alone, made beforehand, changes/s": _rates(written),
        "stream to target / writes alone": _ratios(
            [a / b for a, b in zip(applied, written, strict=True)]
        ),
        "stream to target, client CPU, microseconds a change": round(statistics.median(cpu), 2),
    }


def _consistent(ends: Ends, state: object) -> None:
    with Child(ends, state, ["--no-verify"]) as child:
        child.wait_for("ReadyToCommit")


def _capture_alone(ends: Ends, state: object) -> float:
    """Capture a backlog while paused, then have it applied."""
    with Child(ends, state, ["--no-verify"]) as child:
        child.wait_for("MigrationStarted")
    child = Child(ends, state, ["--no-verify"])
    child.steer(lambda m: m.moved_to(State.PAUSED))
    end = _now(ends)
    with child:
        started = child.wait_for("ChangesCaptured")
        child.wait_until(lambda m: m.captured_to is not None and m.captured_to >= end)
        last = child.all("ChangesCaptured")
        rate = sum(e["events"] for e in last[1:]) / (last[-1]["at"] - started["at"])
        child.steer(lambda m: m.moved_to(State.RUNNING))
        child.wait_until(lambda m: m.applied_to is not None and m.applied_to >= end)
    return rate


def _stream_to_target(ends: Ends, state: object) -> tuple[float, float]:
    end = _now(ends)
    with Child(ends, state, ["--no-verify"]) as child:
        begun = child.wait_for("MigrationStarted")
        child.wait_until(lambda m: m.applied_to is not None and m.applied_to >= end)
        events = sum(e["events"] for e in child.all("ChangesCaptured"))
        last = child.all("ChangesApplied")[-1]
    return events / (last["at"] - begun["at"]), (last["cpu"] - begun["cpu"]) / events * 1e6


def verifying(settings: Settings) -> dict[str, object]:
    """The first verification of everything."""
    rates = []
    cpu = []
    with servers() as ends:
        fill(ends.source, settings.documents)
        for _ in range(settings.rounds):
            ends.clear_target()
            with folder() as state, Child(ends, state, ["--commit", "when-ready"]) as child:
                child.wait()
                begun = child.wait_for("BecameConsistent")
                done = child.wait_for("VerificationCompleted")
            rates.append(done["compared"] / (done["at"] - begun["at"]))
            cpu.append((done["cpu"] - begun["cpu"]) / done["compared"] * 1e6)
    return {
        "verification, documents/s": _rates(rates),
        "client CPU, microseconds a document": round(statistics.median(cpu), 2),
    }


def committing(settings: Settings) -> dict[str, object]:
    """From the last write of an application to a writable target."""
    seconds = []
    with servers() as ends:
        fill(ends.source, 50_000)
        for _ in range(max(5, settings.rounds)):
            ends.clear_target()
            with folder() as state, Child(ends, state) as child:
                child.wait_for("ReadyToCommit")
                last, rate = _written(ends.source)
                child.steer(Migration.committing)
                seconds.append(child.wait_for("TargetWritable")["at"] - last)
                child.wait()
    return {
        "writes/s until the last write": round(rate),
        "last write to writable, seconds": _ratios(seconds),
    }


def _written(uri: str, *, rate: int = 10_000, seconds: int = 5) -> tuple[float, float]:
    """Write at *rate* for *seconds*; return the time of the last acknowledgement and the rate."""
    queue: multiprocessing.Queue[tuple[float, float]] = multiprocessing.Queue()
    process = multiprocessing.Process(target=_write, args=(uri, rate, seconds, queue))
    process.start()
    found = queue.get(timeout=120)
    process.join()
    return found


def _write(uri: str, rate: int, seconds: int, queue: object) -> None:
    # Encoded beforehand: the application must not be slowed down by being on the same cores.
    encoded = [RawBSONDocument(bson.encode(document(i, 300))) for i in range(rate * seconds)]
    with closing(MongoClient(uri)) as client:
        started, written = time.monotonic(), 0
        while written < rate * seconds:
            part = encoded[written : written + 200]
            client[DATABASE].command({"insert": COLLECTION, "documents": part, "ordered": False})
            written += len(part)
            ahead = written / rate - (time.monotonic() - started)
            if ahead > 0:
                time.sleep(ahead)
        took = time.monotonic() - started
    queue.put((time.time(), written / took))  # type: ignore[attr-defined]


def memory(settings: Settings) -> dict[str, object]:
    """Peak memory, which must not grow with the data."""
    cases = {
        f"{settings.documents} documents of 942 B": (settings.documents, 942),
        f"{5 * settings.documents} documents of 200 B": (5 * settings.documents, 200),
        "60 documents of 16 MB": (60, 16_000_000),
    }
    found: dict[str, object] = {}
    for name, (count, size) in cases.items():
        with servers() as ends, folder() as state:
            fill(ends.source, count, size=size)
            with Child(ends, state, ["--commit", "when-ready"]) as child:
                child.wait()
                peak = max(e["rss_mb"] for e in child.events)
        found[f"peak memory, {name}"] = f"{peak:.0f} MB"
    return found


def starting(settings: Settings) -> dict[str, object]:
    """What a person waits for with next to nothing to do."""
    del settings
    limosa = [sys.executable, "-m", "limosa"]
    found: dict[str, object] = {"limosa --help, seconds": _timed([*limosa, "--help"])}
    with servers() as ends:
        fill(ends.source, 20)
        with folder() as state:
            command = [*limosa, "migrate", ends.source, ends.target, "--state", str(state)]
            found["20 documents, seconds"] = _timed([*command, "--commit", "when-ready"])
    return found


def _timed(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return round(time.monotonic() - started, 2)


def _now(ends: Ends) -> object:
    from limosa.connectors.mongodb import CONNECTOR

    with closing(CONNECTOR.open_source(ends.source)) as source:
        return source.clock()


def _rates(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({', '.join(f'{v:.0f}' for v in values)})"


def _ratios(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})"


if __name__ == "__main__":
    main()
