"""How soon a server tells the progress while a copy has the machine: 20 clients that poll."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvloop
from running import Ends, fill, folder, servers

CLIENTS = 20
#: Seconds of each measurement; it ends before if the copy does.
SECONDS = 15.0
#: What the sleeper asks for: its delay is what the machine does to any process that waits.
NAP = 0.001
PROGRESS = "/api/v1/progress"


@dataclass(frozen=True, slots=True)
class Polling:
    """How the clients ask."""

    name: str
    every: float  # seconds; 0: again as soon as there is an answer
    is_kept: bool  # the connection


POLLINGS = (
    Polling("each once a second, connections kept", 1.0, True),
    Polling("each once a second, a connection each time", 1.0, False),
    Polling("each ten times a second, connections kept", 0.1, True),
    Polling("each ten times a second, a connection each time", 0.1, False),
    Polling("back to back, connections kept", 0.0, True),
    Polling("back to back, a connection each time", 0.0, False),
)


@dataclass
class Seen:
    """What the clients of one measurement have seen, in seconds."""

    taken: list[float] = field(default_factory=list)
    refused: int = 0
    naps: list[float] = field(default_factory=list)  # beyond what was asked for
    cpu: float = 0.0  # of the server, for each answer
    seconds: float = 0.0
    stolen: float = 0.0  # of the machine's time, taken by others on the same hardware

    def __str__(self) -> str:
        refused = f", {self.refused} refused" if self.refused else ""
        return (
            f"{_percentiles(self.taken)}   sleeper {_percentiles(self.naps)}   "
            f"{self.cpu * 1e6:5.0f} us CPU   {len(self.taken) / self.seconds:6.0f}/s   "
            f"{self.stolen:4.1%} stolen{refused}"
        )


def answering(documents: int) -> dict[str, object]:
    """Poll a server without a migration, during a copy and while it rests."""
    found: dict[str, object] = {"(median p99 in ms, the same of a sleeper beside it)": ""}
    with servers() as ends:
        with folder() as state, serving(ends, state) as server:
            found |= {f"idle, {each.name}": server.measured(each, 5.0) for each in POLLINGS}
        fill(ends.source, documents)
        for each in POLLINGS:
            ends.clear_target()
            with folder() as state, serving(ends, state) as server:
                server.post("start", {"source": "cluster0", "destination": "cluster1"})
                found[f"copy, {each.name}"] = server.measured(each, SECONDS, during=_COPYING)
        with folder() as state, serving(ends, state) as server:
            ends.clear_target()
            server.post("start", {"source": "cluster0", "destination": "cluster1"})
            server.post("pause", {})
            found[f"paused, {POLLINGS[0].name}"] = server.measured(POLLINGS[0], 5.0)
    return found


#: Only answers with this in them count during a copy.
_COPYING = b'"info":"collection copy"'


@dataclass
class Server:
    """A server process, and who asks it."""

    port: int
    pid: int

    def post(self, verb: str, body: dict[str, Any]) -> None:
        """Call a verb; a refusal is an error."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", f"/api/v1/{verb}", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        if not answer["success"]:
            raise RuntimeError(answer)

    def measured(self, polling: Polling, seconds: float, *, during: bytes = b"") -> Seen:
        """Have clients poll, in a process of their own, beside one that sleeps."""
        found: multiprocessing.Queue[Any] = multiprocessing.Queue()
        over = multiprocessing.Event()
        sleeper = multiprocessing.Process(target=_sleep, args=(over, found))
        clients = multiprocessing.Process(
            target=_poll, args=(self.port, polling, seconds, during, found)
        )
        before, stolen = self._cpu(), _stolen()
        for each in (sleeper, clients):
            each.start()
        results = dict([found.get(timeout=seconds + 60)])
        over.set()
        results |= [found.get(timeout=60)]
        for each in (sleeper, clients):
            each.join()
        taken, refused, took = results["polls"]
        cpu = (self._cpu() - before) / max(1, len(taken) + refused)
        share = (_stolen() - stolen) / took / (os.cpu_count() or 1)
        return Seen(taken, refused, results["naps"], cpu, took, share)

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _stolen() -> float:
    """Return for how many seconds a core of this machine was not to be had, since it began."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(ends: Ends, state: Path) -> Iterator[Server]:
    """Run ``limosa serve`` and lend it once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "limosa", "serve", "--port", str(port), "--state", str(state)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"LIMOSA_CLUSTER0": ends.source, "LIMOSA_CLUSTER1": ends.target},
    )
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                msg = "the server does not answer"
                raise RuntimeError(msg)
            time.sleep(0.05)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _sleep(over: Any, found: Any) -> None:
    naps = []
    while not over.is_set():
        began = time.perf_counter()
        time.sleep(NAP)
        naps.append(time.perf_counter() - began - NAP)
    found.put(("naps", naps))


def _poll(port: int, polling: Polling, seconds: float, during: bytes, found: Any) -> None:
    began = time.monotonic()
    polls = _Polls(port, polling, began + seconds, during)
    uvloop.run(polls.run())
    found.put(("polls", (polls.taken, polls.refused, time.monotonic() - began)))


class _Polls:
    """Twenty clients of one process, each with at most one request under way."""

    def __init__(self, port: int, polling: Polling, until: float, during: bytes) -> None:
        self._port = port
        self._polling = polling
        self._until = until
        self._during = during
        self._request = (
            f"GET {PROGRESS} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"{'' if polling.is_kept else 'Connection: close' + chr(13) + chr(10)}\r\n"
        ).encode()
        self.taken: list[float] = []
        self.refused = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._client(n) for n in range(CLIENTS)))

    async def _client(self, number: int) -> None:
        # Clients do not ask in step.
        await asyncio.sleep(number / CLIENTS * self._polling.every)
        streams = None
        due = time.monotonic()
        while due < self._until:
            began = time.perf_counter()
            if streams is None or not self._polling.is_kept:
                streams = await asyncio.open_connection("127.0.0.1", self._port)
            status, body = await self._asked(*streams)
            took = time.perf_counter() - began
            if not self._polling.is_kept:
                streams[1].close()
            if status != 200:
                self.refused += 1
            elif self._during in body:
                self.taken.append(took)
            elif self.taken:
                return  # the copy is over
            due = max(due + self._polling.every, time.monotonic())
            await asyncio.sleep(due - time.monotonic() if self._polling.every else 0)

    async def _asked(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, bytes]:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head.split(None, 2)[1]), await reader.readexactly(length)


def _percentiles(taken: list[float]) -> str:
    if len(taken) < 2:
        return "none"
    return f"{statistics.median(taken) * 1e3:6.2f} {_p99(taken) * 1e3:7.2f}"


def _p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100, method="inclusive")[98]
