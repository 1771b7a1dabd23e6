"""
A network between a client and a server that fails where a test wants it to.

    with Proxy(server.port) as proxy:
        client = MongoClient(f"mongodb://{proxy.address}/?directConnection=true")
        proxy.strike(Fate.CUT, Way.TO_CLIENT, larger_than=10_000)

It knows nothing of what passes through. For a replica set either connect directly, as above,
or name the proxy's port as the member's host in the set's configuration.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"

_PIECE_BYTES = 64 * 1024
#: Close without a farewell: the peer finds its connection reset.
_ABRUPTLY = struct.pack("ii", 1, 0)
_PATIENCE_SECONDS = 10.0


class Way(Enum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class Fate(Enum):
    """What becomes of a connection that is struck."""

    CUT = "cut"  # half of the piece arrives, then both ends find it reset
    MUTE = "mute"  # it stays open, but nothing arrives any more, either way
    LATE = "late"  # mute; but what was sent arrives on `deliver`, whether its sender waits or not


@dataclass(frozen=True, slots=True)
class Weather:
    """What all connections suffer."""

    delay: float = 0.0  # seconds by which each piece is late
    rate: float = 0.0  # bytes a second and connection, each way; 0 is no limit
    is_refusing: bool = False  # new connections are reset at once
    is_silent: bool = False  # new connections are taken, and never answered


@dataclass(slots=True)
class _Strike:
    fate: Fate
    way: Way
    larger_than: int
    times: int


class Proxy:
    """
    Passes on what comes in at a free port of 127.0.0.1 to *port* there, between start and stop.

    Everything may be changed at any time from any thread, and takes effect with the next piece
    (at most 64 kB) of each connection.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._port = 0
        self._weather = Weather()
        self._strikes: list[_Strike] = []
        self._struck = 0
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Host and port to connect to."""
        return f"{HOST}:{self._port}"

    @property
    def struck(self) -> int:
        """How many connections met their `strike` since the start."""
        return self._struck

    def start(self) -> None:
        """Listen."""
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="proxy")
        self._thread.daemon = True
        self._thread.start()
        if not self._ready.wait(_PATIENCE_SECONDS):
            msg = "the proxy does not listen"
            raise TimeoutError(msg)

    def stop(self) -> None:
        """Reset all connections and listen no more; done already is done."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(_PATIENCE_SECONDS)
            self._thread = None

    def strike(self, fate: Fate, way: Way, *, larger_than: int = 0, times: int = 1) -> None:
        """
        Have the next *times* pieces of more than *larger_than* bytes meet *fate*.

        A driver's monitoring is smaller than 2 kB, so that what is larger strikes data alone.
        """
        with self._lock:
            self._strikes.append(_Strike(fate, way, larger_than, times))

    def delay(self, seconds: float) -> None:
        """Have every piece arrive so much later."""
        self._weather = replace(self._weather, delay=seconds)

    def throttle(self, bytes_per_second: float) -> None:
        """Let no more than that pass on a connection, each way."""
        self._weather = replace(self._weather, rate=bytes_per_second)

    def refuse(self) -> None:
        """Reset all connections, new ones too, until `heal`."""
        self._weather = replace(self._weather, is_refusing=True)
        self.cut()

    def silence(self) -> None:
        """Answer nothing on any connection, new ones included; those stay so after `heal`."""
        self._weather = replace(self._weather, is_silent=True)
        self._on_all(_Link.mute)

    def cut(self) -> None:
        """Reset the connections there are."""
        self._on_all(_Link.cut)

    def deliver(self) -> None:
        """Have what is late arrive now; return once it was answered."""
        assert self._loop is not None
        arriving = asyncio.run_coroutine_threadsafe(self._deliver(), self._loop)
        arriving.result(_PATIENCE_SECONDS)

    def heal(self) -> None:
        """Let everything pass from now on; what was cut or muted stays so."""
        with self._lock:
            self._strikes.clear()
        self._weather = Weather()

    def _on_all(self, action: Callable[[_Link], None]) -> None:
        def act() -> None:
            for link in list(self._links):
                action(link)

        if self._loop is not None:
            self._loop.call_soon_threadsafe(act)

    async def _deliver(self) -> None:
        late = [link for link in self._links if link.is_late]
        for link in late:
            link.arriving.set()
        for link in late:
            await link.answered.wait()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accept, HOST, 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ending.wait()
        server.close()
        while self._links:  # those that were just accepted included
            for link in list(self._links):
                link.end()
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run(self._upstream)
        finally:
            self._links.discard(link)

    def fate_of(self, piece: bytes, way: Way) -> Fate | None:
        """Return what *piece* meets, if it is to meet anything."""
        with self._lock:
            for strike in self._strikes:
                if strike.way is way and len(piece) > strike.larger_than:
                    strike.times -= 1
                    if not strike.times:
                        self._strikes.remove(strike)
                    self._struck += 1
                    return strike.fate
        return None

    @property
    def weather(self) -> Weather:
        return self._weather


class _Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writers = [writer]
        self._ways: list[asyncio.Task[None]] = []
        self._is_mute = proxy.weather.is_silent
        self.is_late = False
        self.arriving, self.answered = asyncio.Event(), asyncio.Event()

    async def run(self, port: int) -> None:
        if self._proxy.weather.is_refusing:
            self.cut()
            return
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            self.cut()  # the server is down: the client has to find that out
            return
        self._writers.append(writer)
        client, server = self._writers
        self._ways = [
            asyncio.create_task(self._pass_on(self._reader, server, Way.TO_SERVER)),
            asyncio.create_task(self._pass_on(reader, client, Way.TO_CLIENT)),
        ]
        await asyncio.wait(self._ways, return_when=asyncio.FIRST_COMPLETED)
        self.end()
        await asyncio.wait(self._ways)

    def mute(self) -> None:
        self._is_mute = True

    def cut(self) -> None:
        for writer in self._writers:
            peer = writer.get_extra_info("socket")
            if peer is not None:
                with suppress(OSError):  # closed already
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)
            writer.transport.abort()

    def end(self) -> None:
        self.answered.set()  # or never
        for way in self._ways:
            way.cancel()
        self.cut()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        with suppress(ConnectionError):  # either end is gone, so the link is
            while piece := await reader.read(_PIECE_BYTES):
                weather = self._proxy.weather
                seconds = weather.delay + (len(piece) / weather.rate if weather.rate else 0)
                if seconds:
                    await asyncio.sleep(seconds)
                match None if self._is_mute else self._proxy.fate_of(piece, way):
                    case Fate.CUT:
                        writer.write(piece[: len(piece) // 2])
                        await writer.drain()
                        return
                    case Fate.MUTE:
                        self._is_mute = True
                    case Fate.LATE:
                        await self._arrive_late(piece, reader, writer)
                        return
                if self.arriving.is_set():
                    self.answered.set()
                if not self._is_mute:
                    writer.write(piece)
                    await writer.drain()

    async def _arrive_late(
        self, piece: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Hold what is sent, as a network may for minutes, also when the sender has hung up."""
        self._is_mute = self.is_late = True
        sent = bytearray(piece)
        gathering = asyncio.create_task(_gather(reader, sent))
        try:
            await self.arriving.wait()
        finally:
            gathering.cancel()
        writer.write(bytes(sent))
        await writer.drain()
        await self.answered.wait()


async def _gather(reader: asyncio.StreamReader, sent: bytearray) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(_PIECE_BYTES):
            sent += piece
