"""The port: one thread that answers, and connections that cannot be held open for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import ConfigError

#: Connections at once; the next ones are told to come back.
MAX_CONNECTIONS = 512
#: Bytes of a request's line and headers.
_MAX_HEADERS = 16 * 1024
#: Seconds from the opening of a connection, or the first byte of a request, to its last header.
HEADER_SECONDS = 10.0
#: Seconds that an idle connection is kept.
_IDLE_SECONDS = 30
#: Seconds for answers under way when the server stops.
_STOP_SECONDS = 2


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
            app,
            http=_Patient,
            ws="none",
            lifespan="off",
            log_config=None,
            # Who sends nonsense must not fill the log.
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=_MAX_HEADERS,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
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
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Have `run` return; answers under way are given two seconds."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the program, which also has an engine to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Patient(H11Protocol):
    """Closes a connection whose request is late; the body has a limit of its own."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self._is_idle():
            self._set_deadline()
        super().data_received(data)
        if not self._is_idle():
            self._clear_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        """Whether no request is under way, so that what comes begins one."""
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._is_idle():
            self.transport.abort()


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
