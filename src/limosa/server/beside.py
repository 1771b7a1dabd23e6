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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from .. import catalog
from ..errors import ConfigError, LimosaError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Seconds for a clean stop.
_STOP_SECONDS = 5.0
#: One that ran for so many seconds was well. Of those that did not, so many are started again,
#: after so many seconds times their number.
_WELL_SECONDS = 30.0
_TRIES = 5
_PAUSE = 0.2
#: Seconds that pages have to learn how it ended: ours look once a second, monitors of
#: ``/migrate/result`` every two.
_LAST_LOOK = 2.5


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
    """
    While entered, a process shows the migration in *folder* under `url` and steers it.

    Should that process end by itself, as when somebody kills it, it is started again at the same
    address: whoever has the page open sees it come back.
    """

    def __init__(
        self, folder: catalog.Folder, place: Place, *, say: Callable[[str], None] | None = None
    ) -> None:
        """Take where to listen, and who is told that the process was started again, or is gone."""
        self._folder = folder
        self._place = place
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # held to start or to stop the process
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="dashboard", daemon=True)
        #: Where to find it, once entered.
        self.url = ""

    def __enter__(self) -> Self:
        """
        Return once it listens.

        Raises:
            ConfigError: it cannot listen there.
        """
        with self._lock:
            self.url = self._start(self._place)
        port = urlsplit(self.url).port
        assert port is not None
        self._place = replace(self._place, port=port, may_move=False)
        self._keeper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            time.sleep(_LAST_LOOK)
        self._end()

    @property
    def pid(self) -> int:
        """The process that answers."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would, for good."""
        self._closing.set()
        with self._lock:
            assert self._process is not None
            self._process.kill()
        self._end()

    def _start(self, place: Place) -> str:
        """
        Start the process and return where it listens.

        Raises:
            ConfigError: it cannot listen there.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "limosa.server.beside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the owner, which ends this one when it has ended itself.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"folder": str(self._folder.path), **asdict(place)}
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        told = _parsed(process.stdout.readline())
        if "url" not in told:
            _stop(process)
            msg = told.get("error") or "open the dashboard: its process ended without a word"
            raise ConfigError(msg, hint=told.get("hint") or "go on without --listen")
        self._process = process
        return told["url"]

    def _keep(self) -> None:
        """Start the process again whenever it has ended, unless it never lives for long."""
        short = 0
        while True:
            process, began = self._process, time.monotonic()
            assert process is not None
            process.wait()
            short = 0 if time.monotonic() - began > _WELL_SECONDS else short + 1
            if self._closing.wait(_PAUSE * short) or not self._again(process, last=short >= _TRIES):
                return

    def _again(self, ended: subprocess.Popen[bytes], *, last: bool) -> bool:
        """Start it again, if it should be, and return whether it is."""
        with self._lock:
            if self._closing.is_set():
                return False
            _stop(ended)
            reason = "it ends again and again"
            try:
                if not last:
                    self._start(self._place)
                    self._tell("the dashboard had ended; it was started again")
                    return True
            except ConfigError as error:
                reason = str(error)
            self._tell(f"the dashboard is gone, the migration goes on: {reason}")
            return False

    def _tell(self, what: str) -> None:
        if self._say is not None:
            self._say(what)

    def _end(self) -> None:
        self._closing.set()
        with self._lock:
            if self._process is not None:
                _stop(self._process)
        self._keeper.join()


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


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Have the process end, and take back what was lent to it."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _await_end(stop: Callable[[], None]) -> None:
    """Stop when the owner has closed its end or is gone; for good if that takes too long."""
    sys.stdin.buffer.read()
    stop()
    time.sleep(_STOP_SECONDS)
    os._exit(1)


def _tell(what: dict[str, str]) -> None:
    # An owner that is gone by now is noticed where its end is waited for.
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


def _parsed(line: bytes) -> dict[str, str]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}  # it has ended, and its standard error says why
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
