"""
The server beside a migration that another process drives, as a process of its own.

So a page is answered at once while a copy saturates the process that drives; both meet in the
migration's folder only. Whoever starts ``python -m limosa.server.beside`` writes one request to
its standard input and keeps that open: its end, as when the owner is killed, has the server
stop. On its standard output it says in one line of JSON where it listens, or why not.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .. import catalog
from ..errors import ConfigError, LimosaError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Seconds for a clean stop.
_STOP_SECONDS = 5.0
#: Seconds that pages have to learn how it ended, at one look a second.
_LAST_LOOK = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to listen."""

    host: str = "127.0.0.1"
    port: int = 27182
    #: Whether any other port will do if this one is taken.
    may_move: bool = False
    #: Whether nobody may steer: the owner does it by itself.
    looks_only: bool = False


class Beside:
    """While entered, a process shows the migration in *folder* under `url` and steers it."""

    def __init__(self, folder: catalog.Folder, place: Place) -> None:
        self._request = {"folder": str(folder.path), **asdict(place)}
        self._process: subprocess.Popen[bytes] | None = None
        #: Where to find it, once entered.
        self.url = ""

    def __enter__(self) -> Self:
        """
        Return once it listens.

        Raises:
            ConfigError: it cannot listen there.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "limosa.server.beside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the owner, which ends this one when it has ended itself.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._request).encode() + b"\n")
        self._process.stdin.flush()
        told = _parsed(self._process.stdout.readline())
        if "url" not in told:
            self._stop()
            msg = told.get("error") or "open the dashboard: its process ended without a word"
            raise ConfigError(msg, hint=told.get("hint") or "go on without --listen")
        self.url = told["url"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            time.sleep(_LAST_LOOK)
        self._stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._stop()

    def _stop(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class LookOnly:
    """Passes on what only looks, as if a reader's token had come with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from .errors import Unauthorized
        from .guard import Role
        from .routing import Json, refusal

        scope["limosa.role"] = Role.READER
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        error = Unauthorized("this page may only look", hint="what it shows is steered elsewhere")
        await Json(refusal(error), status_code=403)(scope, receive, send)


def main() -> int:
    """Serve what standard input asks for, until that ends; return the exit code."""
    asked = json.loads(sys.stdin.buffer.readline())
    try:
        _serve(catalog.Folder(Path(asked["folder"])), asked)
    except LimosaError as error:
        _tell({"error": str(error), "hint": error.hint})
        return 1
    return 0


def _serve(folder: catalog.Folder, asked: dict[str, Any]) -> None:
    from .app import faces
    from .guard import Guard, Rules
    from .listening import Address, Server
    from .service import Service

    service = Service(folder)
    try:
        app: ASGIApp = faces(service)
        app = Guard(LookOnly(app) if asked["looks_only"] else app, Rules.of())
        try:
            server = Server(app, Address(host=asked["host"], port=asked["port"]))
        except ConfigError:
            if not asked["may_move"]:
                raise
            server = Server(app, Address(host=asked["host"], port=0))
        service.begin()
        threading.Thread(target=_await_end, args=(server.stop,), name="owner", daemon=True).start()
        _tell({"url": server.url})
        server.run()
    finally:
        service.close()


def _await_end(stop: Callable[[], None]) -> None:
    """Stop when the owner has closed its end or is gone; for good if that takes too long."""
    sys.stdin.buffer.read()
    stop()
    time.sleep(_STOP_SECONDS)
    os._exit(1)


def _tell(what: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _parsed(line: bytes) -> dict[str, str]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}  # it has ended, and its standard error says why
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
