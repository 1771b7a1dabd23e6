"""
Connections that no client can hold for ever, or fill.

A request must arrive within its time and size, and what is sent must be taken. `look`, once a
second, is what ends the connection of who keeps it waiting: cheaper than a timer for each request.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Connections at once; the next ones are told to come back.
MAX_CONNECTIONS = 512
#: Connections beyond, which are told so; still further ones are closed without a word.
TURNED_AWAY = 128
#: Bytes of a request's line and headers.
MAX_HEADERS = 16 * 1024
#: Bytes of a request that are read so that its sender sees that it was refused.
MAX_REQUEST = 4 * 1024 * 1024
#: Requests that may wait behind one another in one connection.
MAX_PIPELINED = 64
#: Seconds from the opening of a connection, or the first byte of a request, to its last header.
HEADER_SECONDS = 10.0
#: Seconds from there to its end. Whoever reads the body gives up before, and says so.
REST_SECONDS = 15.0
#: Seconds for a client to take at least so many bytes of an answer.
TAKING_SECONDS = 30.0
TAKEN_BYTES = 32 * 1024
#: Seconds for answers under way when the server stops.
STOP_SECONDS = 2.0


class _Awaited(Enum):
    """What of a request has not arrived."""

    NOTHING = auto()
    HEAD = auto()
    REST = auto()


class TooLarge(ValueError):
    """Line and headers of a request, or the requests behind it, are too large or too many."""


class Connection(HttpToolsProtocol):
    """Answers one request after the other; `look` drops it when its client is too slow."""

    _awaited = _Awaited.HEAD
    _since = 0.0  # when that began
    _received = 0  # bytes since then
    _head = 0  # bytes of line and headers that were complete
    _left: tuple[int, float] | None = None  # bytes of the answer that were not taken, and when

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await(_Awaited.HEAD)
        if len(self.connections) > MAX_CONNECTIONS + TURNED_AWAY:
            transport.abort()

    def look(self) -> None:
        """Drop the connection if its client keeps it waiting."""
        now = self.loop.time()
        if self._is_late(now) or self._is_not_taking(now):
            self.transport.abort()

    def shutdown(self) -> None:
        """Close the connection once what is under way is answered, or takes too long."""
        super().shutdown()
        self.loop.call_later(STOP_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._awaited is _Awaited.NOTHING:
            self._await(_Awaited.HEAD)
        self._received += len(data)
        super().data_received(data)
        if self._awaited is _Awaited.HEAD and self._received > MAX_HEADERS:
            self.send_400_response("the headers are too large")
        elif self._awaited is _Awaited.REST and self._received > MAX_REQUEST:
            self.transport.abort()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Still answer who has asked and then closed its half; TLS has no such thing."""
        if self.scheme == "https" or self._awaited is _Awaited.REST or self._is_idle():
            return None
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._awaited is not _Awaited.HEAD:  # behind another one
            self._await(_Awaited.HEAD)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            msg = "too many requests wait"
            raise TooLarge(msg)
        super().on_headers_complete()
        self._await(_Awaited.REST)
        if self.parser.should_upgrade():
            # It does not become another protocol, and what follows is not to be understood.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaited = _Awaited.NOTHING

    def _await(self, what: _Awaited) -> None:
        self._awaited, self._since, self._received = what, self.loop.time(), 0
        if what is _Awaited.HEAD:
            self._head = 0

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEADERS:
            msg = f"the headers are larger than {MAX_HEADERS} bytes"
            raise TooLarge(msg)

    def _is_idle(self) -> bool:
        """Whether no answer is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _is_late(self, now: float) -> bool:
        """Whether a request has not arrived in time; while another is answered it may wait."""
        if self._awaited is _Awaited.NOTHING or not self._is_idle():
            return False
        seconds = HEADER_SECONDS if self._awaited is _Awaited.HEAD else REST_SECONDS
        return now - self._since > seconds

    def _is_not_taking(self, now: float) -> bool:
        """Whether the client has asked, and does not read."""
        left = self.transport.get_write_buffer_size()
        if not left:
            self._left = None
        elif self._left is None or left <= self._left[0] - TAKEN_BYTES:
            self._left = (left, now)
        return self._left is not None and now - self._left[1] > TAKING_SECONDS
