"""``limosa serve`` as a user runs it, with one command line, as often as one likes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from answering import Caller, free_port
from program import COMMAND
from waiting import PATIENCE, until


@dataclass
class Serving:
    """A server process and who calls it."""

    source: str
    target: str
    folder: Path  # of the state
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    log: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.log = self.folder.with_name(f"{self.folder.name}.log")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def caller(self) -> Caller:
        return Caller(f"http://127.0.0.1:{self.port}")

    def start(self) -> None:
        """Run the command and return once it answers."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    *(*COMMAND, "serve", "--port", str(self.port), "--state", str(self.folder)),
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | {"LIMOSA_CLUSTER0": self.source, "LIMOSA_CLUSTER1": self.target},
            )
        until(self._answers, "server that answers")

    def kill(self) -> None:
        """End the server as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def await_progress(self, **wanted: Any) -> dict[str, Any]:
        """Return the first progress in which all fields are as *wanted*."""
        seen: dict[str, Any] = {}

        def look() -> dict[str, Any] | None:
            seen.update(self.caller.progress())
            found: dict[str, Any] = seen["progress"]
            assert wanted.get("state") == "FAILED" or found["state"] != "FAILED", "it has failed"
            return found if all(found.get(k) == v for k, v in wanted.items()) else None

        try:
            return until(look, f"progress with {wanted}") or {}
        except AssertionError as error:
            raise AssertionError(f"{error}; last was {seen}; {self.log.read_text()}") from error

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.caller.call("GET", "/healthz").status == 200
        except OSError:
            return False
