"""What each of many collections costs, and whether that grows with their number."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from running import Child, Ends, folder, in_processes, server_cpu, servers

#: Collections; a server opens two files for each, and often 20,000 at most.
COUNTS = (1_000, 2_000, 4_000)
DOCUMENTS = 10
DATABASE = "many"


def many_collections() -> dict[str, object]:
    """Migrate ever more collections of a few documents, to the commit."""
    found: dict[str, object] = {}
    for count in COUNTS:
        with servers() as ends, folder() as state:
            halves = (range(count // 2), range(count // 2, count))
            in_processes([(_fill, ends.source, numbers) for numbers in halves])
            found |= {f"{count:,} collections: {k}": v for k, v in _moved(ends, state).items()}
    return found


def _moved(ends: Ends, state: Path) -> dict[str, object]:
    before = [server_cpu(uri) for uri in (ends.source, ends.target)]
    started = time.time()
    with Child(ends, state) as child:
        ready = child.wait_for("ReadyToCommit")
        status = _status(state)
        asked = time.time()
        child.steer(lambda m: m.committing())
        child.wait()
    over = child.events[-1]
    after = [server_cpu(uri) for uri in (ends.source, ends.target)]
    copied = child.all("PartitionCopied")
    tenth = len(copied) // 10
    cpu = [over["cpu"], *(b - a for a, b in zip(before, after, strict=True))]
    return {
        "ms each until a commit is possible": _each(ready["at"] - started, copied),
        "ms each to plan": _each(child.wait_for("Planned")["at"] - started, copied),
        "ms each to copy, first and last tenth": " ".join(
            _each(part[-1]["at"] - part[0]["at"], part)
            for part in (copied[:tenth], copied[-tenth:])
        ),
        "ms each from the commit asked for to its end": _each(over["at"] - asked, copied),
        "CPU of client, source, target, ms each": " ".join(_each(c, copied) for c in cpu),
        "peak memory, MB": round(max(e["rss_mb"] for e in child.events)),
        "limosa status, seconds": status,
    }


def _status(state: Path) -> float:
    started = time.monotonic()
    command = [sys.executable, "-m", "limosa", "status", "--state", str(state)]
    subprocess.run(command, check=True, capture_output=True)
    return round(time.monotonic() - started, 2)


def _each(seconds: float, some: Sequence[Any]) -> str:
    return f"{seconds / len(some) * 1e3:.1f}"


def _fill(uri: str, numbers: range) -> None:
    with closing(MongoClient[dict[str, Any]](uri)) as client:
        for number in numbers:
            some = [{"_id": n, "text": "x" * 80} for n in range(DOCUMENTS)]
            client[DATABASE][f"c{number}"].insert_many(some)
