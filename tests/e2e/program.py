"""The installed command as a user runs it, each time in a process of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from waiting import PATIENCE, until

COMMAND = (sys.executable, "-m", "limosa")

#: In the order in which they come.
PHASES = (
    *("planning", "copy", "index build", "catching up", "verification", "following", "commit"),
    "committed",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def limosa(*arguments: str | Path, **environment: str) -> Ended:
    """Run a command to its end."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass
class Program:
    """``limosa migrate`` with one command line, started as often as one likes."""

    source: str
    target: str
    folder: Path  # of the state
    options: tuple[str, ...] = ()
    logs: list[Path] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def command(self) -> list[str]:
        ends = (self.source, self.target)
        return [*COMMAND, "migrate", *ends, "--state", str(self.folder), *self.options]

    def start(self) -> None:
        """Start the command; what it says goes to a log of its own."""
        log = self.folder.with_name(f"{self.folder.name}-{len(self.logs)}.log")
        self.logs.append(log)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def kill(self) -> None:
        """End the process as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self, *, seconds: float = PATIENCE) -> int:
        """Wait for the process; return its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def log(self) -> str:
        """Return what all starts have said."""
        return "".join(path.read_text() for path in self.logs)

    def lines(self, event: str, *, since: int = 0) -> list[dict[str, Any]]:
        """Return the JSON lines about *event*, from start number *since* on."""
        texts = "".join(p.read_text() for p in self.logs[since:]).splitlines()
        found = [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}")]
        return [line for line in found if line.get("event") == event]

    def await_start(self) -> None:
        """Return once the process that was started last drives the migration, or has ended."""
        process = self.process
        assert process is not None
        query = f"SELECT 1 FROM migration WHERE holder LIKE '%:{process.pid}'"
        until(lambda: self.rows(query) or process.poll() is not None, "process that drives")

    def await_phase(self, *phases: str) -> str:
        """
        Return the first of *phases* that the migration is seen in, while it runs, or a later one.

        One that is over before anybody looks, as on a busy machine, is not waited for in vain.
        """
        wanted = {*phases, *PHASES[min(map(PHASES.index, phases)) :]}

        def look() -> str | None:
            assert self.process is not None
            phase = self.phase()
            if phase in wanted:
                return phase
            assert self.process.poll() is None, f"ended in phase {phase}: {self.log()[-2000:]}"
            return None

        return until(look, " or ".join(phases)) or ""

    def phase(self) -> str:
        """Return what the state says that the migration is at, in the words of the tests."""
        rows = self.rows("SELECT * FROM migration")
        return _phase(rows[0]) if rows else "planning"

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return what the state answers to *query*, nothing if there is no state yet."""
        path = self.folder / "state.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "unable to open" in str(error):
                return []  # about to be made
            raise
        finally:
            connection.close()


def _phase(row: dict[str, Any]) -> str:
    if row["state"] in {"COMMITTED", "FAILED", "PAUSED"}:
        return str(row["state"]).lower()
    if row["state"] == "COMMITTING":
        return "commit"
    if row["planned_at"] is None:
        return "planning"
    if row["copied_at"] is None:
        return "copy"
    if row["indexed_at"] is None:
        return "index build"
    if row["applied_to"] is None or _time(row["applied_to"]) < _time(row["copied_at"]):
        return "catching up"
    return "following" if row["verified_at"] else "verification"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
