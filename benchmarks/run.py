"""
Benchmarks on embedded servers: what Limosa does, beside what the machine can.

Prints ratios of figures measured side by side in one run; absolute ones depend on the machine.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from answers import answering
from backlog import restarting, waiting
from changing import KEYS, changes, committing
from copying import copying, copying_shapes, verifying
from guest import guesting
from hot import hot_document
from many import many_collections
from running import (
    Child,
    fill,
    folder,
    servers,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for on the command line."""

    documents: int
    rounds: int
    tools: dict[str, str]
    keys: list[str]


def main() -> None:
    """Run the parts that were chosen."""
    parts: dict[str, Callable[[Settings], dict[str, object]]] = {
        "copy": lambda chosen: copying(chosen.documents, chosen.rounds, chosen.tools),
        "shapes": lambda chosen: copying_shapes(
            min(200_000, chosen.documents), chosen.rounds, chosen.tools
        ),
        "changes": lambda chosen: changes(
            min(300_000, chosen.documents), chosen.rounds, chosen.keys
        ),
        "verify": lambda chosen: verifying(chosen.documents, chosen.rounds),
        "backlog": lambda chosen: waiting(chosen.documents),
        "resume": lambda chosen: restarting(chosen.rounds),
        "commit": lambda chosen: committing(chosen.rounds),
        "memory": memory,
        "start": starting,
        "guest": lambda chosen: guesting(chosen.documents),
        "many": lambda _: many_collections(),
        "hot": lambda _: hot_document(),
        "answers": lambda chosen: answering(chosen.documents),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="default: all")
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", nargs="+", choices=KEYS, default=["uniform"])
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
    settings = Settings(chosen.documents, chosen.rounds, tools, chosen.keys)
    for name in chosen.parts or parts:
        for figure, value in parts[name](settings).items():
            print(f"{name:8} {figure:58} {value}", flush=True)


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


if __name__ == "__main__":
    main()
