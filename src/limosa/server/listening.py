"""The port: one thread that answers, and the loop in which it does."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigError
from .connections import HEADER_SECONDS, MAX_CONNECTIONS, STOP_SECONDS, Connection

#: Seconds that an idle connection is kept.
_IDLE_SECONDS = 30
#: Seconds until a request that goes on though its connection is gone is given up.
_STOP_SECONDS = 2 * int(STOP_SECONDS)
#: Seconds until a thread that looks at the state makes room for the one that answers.
_SWITCH_SECONDS = 0.001
#: Files that may be open: connections must not take those of the state and of both ends.
_DESCRIPTORS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, and under which certificate."""

    host: str = "127.0.0.1"
    port: int = 27182
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"


class Server:
    """Answers on one or several ports until it is stopped."""

    def __init__(self, app: ASGIApp, address: Address) -> None:
        """
        Take the port; requests wait until `run`.

        Raises:
            ConfigError: the port cannot be had, or the certificate cannot be used.
        """
        self.address = address
        self._socket = _bound(address)
        config = uvicorn.Config(
            _Ending(app, is_stopping=lambda: self._server.should_exit),
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            # Who sends nonsense must not fill the log.
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
            callback_notify=self._look,
            timeout_notify=0,  # once a second, that is
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
        )
        try:
            config.load()
        except OSError as exc:  # among them what is wrong with a certificate
            self._socket.close()
            msg = f"use the certificate {str(address.certificate)!r}: {exc}"
            raise ConfigError(msg) from exc
        self._server = _Uvicorn(config)

    @property
    def port(self) -> int:
        """The port, also if 0 was asked for."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The address to open on this machine."""
        host = self.address.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared
        shown = f"[{shown}]" if ":" in shown and not shown.startswith("[") else shown
        return f"{self.address.scheme}://{shown}:{self.port}"

    def run(self) -> None:
        """Answer until `stop`."""
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """Have `run` return; answers under way are given two seconds."""
        self._server.should_exit = True

    async def _look(self) -> None:
        """Drop the connections whose clients keep them waiting."""
        for connection in list(self._server.server_state.connections):
            assert isinstance(connection, Connection)
            connection.look()


def ready_process() -> None:
    """Have this process answer without pauses, and with as many files as its connections need."""
    # What was loaded stays; to look through all of it again takes longer than many answers.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Ending:
    """
    Lets streams know that the server stops, by what it puts into each scope.

    What is cut off then ends without a word: nobody is there to be told.
    """

    def __init__(self, app: ASGIApp, *, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["limosa.is_stopping"] = self._is_stopping
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_stopping():
                raise


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the program, which also has an engine to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Loop(uvloop.Loop):
    """Also gives up clients that do not finish their part of a TLS handshake."""

    async def create_server(self, *given: Any, ssl: Any = None, **named: Any) -> Any:
        if ssl is not None:
            named["ssl_handshake_timeout"] = HEADER_SECONDS
        return await super().create_server(*given, ssl=ssl, **named)


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named, answers are sent at once; else the second part of each waits for an
    # acknowledgement, which takes 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # The same command right after a kill must not wait for old connections to be forgotten.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address.host.strip("[]"), address.port))
        found.listen(MAX_CONNECTIONS)
    except OSError as exc:
        found.close()
        msg = f"listen on {address.host}:{address.port}: {exc.strerror or exc}"
        raise ConfigError(msg, hint="choose another --port or --bind") from exc
    return found
