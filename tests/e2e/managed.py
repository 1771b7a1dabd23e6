"""`limosa run` as a user runs it, and a place to which it sends what it has to tell."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from program import COMMAND, Ended, Program

from limosa.cli import run


@dataclass(frozen=True, slots=True)
class Post:
    """What was sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Sink:
    """An HTTP server that keeps what it is sent; it refuses what `refuse` says."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[int] = []  # of the next requests to /hook; 200 after them
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size) or b"null")
                sink.posts.append(Post(self.command, self.path, dict(self.headers), body))
                is_hook = self.path.startswith("/hook")
                code = sink.answers.pop(0) if is_hook and sink.answers else 200
                self.send_response(code)
                if code in (301, 302):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_PUT = do_POST  # noqa: N815 - the name is looked for

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def to(self, path: str) -> list[Post]:
        """Return what was sent to *path*."""
        return [post for post in self.posts if post.path.partition("?")[0] == path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Managed(Program):
    """``limosa run`` with one plan file, whose ends come from the environment."""

    plan: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder.with_name("plan.yaml")

    @property
    def command(self) -> list[str]:
        text = f"source: ${{SOURCE_URI}}\ntarget: ${{TARGET_URI}}\nstate: {self.folder}\n"
        self.file.write_text(text + self.plan, encoding="utf-8")
        return [*COMMAND, "run", str(self.file), "--log-format", "json", *self.options]

    @property
    def variables(self) -> dict[str, str]:
        ends = {"SOURCE_URI": self.source, "TARGET_URI": self.target}
        return {**os.environ, **ends, **self.environment}

    def start(self) -> None:
        log = self.folder.with_name(f"{self.folder.name}-{len(self.logs)}.log")
        self.logs.append(log)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.variables
            )

    def run(self, *more: str) -> Ended:
        """Run it to its end, in this process: starting one takes as long as a small migration."""
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.variables, clear=True),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = run([*self.command[len(COMMAND) :], *more])
        return Ended(code, out.getvalue(), err.getvalue())

    def steps(self) -> dict[str, dict[str, Any]]:
        """Return the steps that were begun, by their names, in order."""
        return {row["name"]: row for row in self.rows("SELECT * FROM steps ORDER BY position")}


def events(said: str) -> list[dict[str, Any]]:
    """Return the JSON lines that were *said*."""
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]
