"""Clients that are slow, greedy or many, against a server that shows a migration."""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from answering import Caller, answering
from serving import Serving
from waiting import PATIENCE, until

from limosa.server import connections, listening, routing
from limosa.server.listening import Address
from limosa.state import Failure, State
from limosa.storage.sqlite import SqliteStore

PROGRESS = b"GET /api/v1/progress HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /api/v1/pause HTTP/1.1\r\nHost: 127.0.0.1\r\n"
#: The largest answer, more than any buffer between the two takes.
LARGE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore.drive(tmp_path / "m", "m")) as driven:
        yield driven


@pytest.fixture
def caller(store: SqliteStore, tmp_path: Path) -> Iterator[Caller]:
    with answering(tmp_path / "m") as (found, _):
        yield found


def connected(caller: Caller, *parts: bytes) -> socket.socket:
    """Connect and send *parts*, each as a packet of its own."""
    found = socket.create_connection(("127.0.0.1", caller.port), PATIENCE)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for part in parts:
        found.sendall(part)
    return found


def told(client: socket.socket) -> bytes:
    """Return all that is sent until the other side closes."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while part := client.recv(65536):
            found += part
    return bytes(found)


def is_dropped(client: socket.socket) -> bool:
    """Whether the other side does not know the connection any more."""
    try:
        client.send(b"x")
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    "parts",
    [
        [PROGRESS, b"X-A: " + b"a" * 20_000, b"a" * 20_000],
        [PROGRESS, b"X-A: " + b"a" * 20_000 + b"\r\n\r\n"],
        [PROGRESS, *[b"X-A: " + b"a" * 1_000 + b"\r\n"] * 40, b"\r\n"],
        [b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n"],
    ],
    ids=["endless", "one", "many", "path"],
)
def test_huge_head(caller: Caller, parts: list[bytes]) -> None:
    """Line and headers of more than 16 kB are not read further, however they come."""
    with suppress(ConnectionError), connected(caller, *parts) as client:
        answer = told(client)

        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert caller.state() == "IDLE"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        POST + b"Content-Length: -1\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    ],
)
def test_nonsense(caller: Caller, request_: bytes) -> None:
    """What is no request gets at most an error of the client's."""
    with connected(caller, request_) as client:
        client.shutdown(socket.SHUT_WR)
        answer = told(client)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
    assert caller.state() == "IDLE"


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"],
    ids=["length", "chunks"],
)
def test_late_body(caller: Caller, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """A body that does not come is refused with the reason, and its connection closed."""
    monkeypatch.setattr(routing, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(connections, "REST_SECONDS", 0.5)
    with connected(caller, POST + head) as client:
        answer = told(client)

    assert b"did not arrive within" in answer


def test_body_for_a_question(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is answered before having sent all is answered once, and closed if it never comes."""
    monkeypatch.setattr(connections, "REST_SECONDS", 0.5)
    with connected(caller, PROGRESS + b"Content-Length: 1000\r\n\r\n") as client:
        answer = told(client)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_endless_body(caller: Caller) -> None:
    """A body without an end is cut off."""
    with connected(caller, POST + b"Transfer-Encoding: chunked\r\n\r\n") as client:
        with suppress(ConnectionError):
            for _ in range(2 * connections.MAX_REQUEST // 65536):
                client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")

        until(lambda: is_dropped(client), "end of the connection")
    assert caller.state() == "IDLE"


def test_empty_lines(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines, which may precede a request, do not keep a connection for ever."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    with connected(caller, PROGRESS + b"\r\n") as client:
        until(lambda: is_dropped_by(client, b"\r\n"), "end of the connection")


def is_dropped_by(client: socket.socket, sent: bytes) -> bool:
    try:
        client.sendall(sent)
    except OSError:
        return True
    return False


def test_who_does_not_read(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that ask for much and take nothing are dropped."""
    monkeypatch.setattr(connections, "TAKING_SECONDS", 0.5)
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(caller, LARGE)) for _ in range(20)]
        for client in clients:
            until(lambda client=client: is_dropped(client), "end of the connection")  # type: ignore[misc]

    assert caller.state() == "IDLE"


def test_pipelining(caller: Caller) -> None:
    """Requests that are sent at once are answered one after the other."""
    last = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with connected(caller, (PROGRESS + b"\r\n") * 5 + last) as client:
        answer = told(client)

    assert answer.count(b"HTTP/1.1 200 OK") == 6
    assert answer.endswith(b'{"status":"ok"}')


def test_flood_of_requests(caller: Caller) -> None:
    """Thousands of requests at once in one connection are not kept."""
    with connected(caller) as client:
        with suppress(ConnectionError):
            client.sendall((PROGRESS + b"\r\n") * 5_000)

        answer = told(client)
    assert answer.count(b"HTTP/1.1 ") <= 5_000
    assert caller.state() == "IDLE"


def test_http_1_0(caller: Caller) -> None:
    """HTTP/1.0 is answered, and the connection closed."""
    with connected(caller, b"GET /api/v1/progress HTTP/1.0\r\n\r\n") as client:
        answer = told(client)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize("request_", [PROGRESS + b"\r\n", POST + b"Content-Length: 2\r\n\r\n{}"])
def test_half_closed(caller: Caller, request_: bytes) -> None:
    """Who asks and then closes the own half is answered all the same."""
    with connected(caller, request_) as client:
        client.shutdown(socket.SHUT_WR)
        answer = told(client)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"}")


def test_upgrade(caller: Caller) -> None:
    """Who offers another protocol is answered in this one."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with connected(caller, PROGRESS + offer + b"\r\n") as client:
        answer = told(client)

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_too_many(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections beyond the most are closed at once, until there is room again."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 5)
    monkeypatch.setattr(connections, "TURNED_AWAY", 0)
    with ExitStack() as stack:
        kept = [HTTPConnection("127.0.0.1", caller.port, timeout=PATIENCE) for _ in range(5)]
        for each in kept:
            stack.enter_context(closing(each))
            each.request("GET", "/healthz")
            each.getresponse().read()
        with connected(caller) as further:
            assert told(further) == b""
        kept[0].request("GET", "/healthz")
        assert kept[0].getresponse().read()

    until(lambda: _is_answered(caller), "room")


def _is_answered(caller: Caller) -> bool:
    try:
        return caller.call("GET", "/healthz").status == 200
    except OSError:
        return False


def test_streams(caller: Caller) -> None:
    """Fifty pages that look on at once all see what happens, and questions are answered."""
    with ExitStack() as stack:
        pages = [
            stack.enter_context(
                connected(caller, b"GET /api/limosa/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            )
            for _ in range(50)
        ]
        for page in pages:
            seen = b""
            while seen.count(b"event: status") < 2:
                part = page.recv(65536)
                assert part, seen
                seen += part

        assert caller.state() == "IDLE"


def test_streams_end_with_the_server(
    store: SqliteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pages that look on when the server stops see that, and nothing is complained of."""
    with ExitStack() as stack:
        with answering(tmp_path / "m") as (caller, _):
            pages = [
                stack.enter_context(
                    connected(
                        caller, b"GET /api/limosa/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                    )
                )
                for _ in range(3)
            ]
            for page in pages:
                assert page.recv(65536)

        for page in pages:
            told(page)
        assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []


def test_hundred_clients(caller: Caller) -> None:
    """A hundred clients that keep their connections are all answered, again and again."""

    def ask(_number: int) -> set[int]:
        connection = HTTPConnection("127.0.0.1", caller.port, timeout=PATIENCE)
        seen = set()
        with closing(connection):
            for _ in range(5):
                connection.request("GET", "/api/v1/progress")
                answer = connection.getresponse()
                answer.read()
                seen.add(answer.status)
        return seen

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(ask, range(100))) == [{200}] * 100


def test_silent_handshake(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens a connection for TLS and says nothing is dropped; others are answered meanwhile."""
    monkeypatch.setattr(listening, "HEADER_SECONDS", 0.5)
    with answering(tmp_path / "m", address=_with_certificate(tmp_path)) as (caller, _):
        context = ssl.create_default_context(cafile=tmp_path / "certificate")
        with connected(caller) as silent, connected(caller) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
                client.sendall(PROGRESS + b"Connection: close\r\n\r\n")
                answer = told(client)

            assert answer.startswith(b"HTTP/1.1 200 ")
            assert told(silent) == b""


def _with_certificate(folder: Path) -> Address:
    certificate, key = folder / "certificate", folder / "key"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
        *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate")
    return Address(port=0, certificate=certificate, key=key)


def test_engine_stands_back(ends: Any, tmp_path: Path) -> None:
    """The process that migrates is as nice as it was told to be, the one that answers is not."""
    ends.source.client.shop.people.insert_one({"_id": 1})
    options = ("--engine-nice", "7")
    with Serving(ends.source.uri, ends.target.uri, tmp_path / "state", options) as serving:
        serving.caller.await_state("IDLE")
        started = serving.caller.post("start", {"source": "cluster0", "destination": "cluster1"})
        assert started == {"success": True}
        assert serving.process is not None
        server = serving.process.pid
        (engine,) = _children(server)
        nice = [os.getpriority(os.PRIO_PROCESS, pid) for pid in (os.getpid(), server, engine)]

    assert nice == [nice[0], nice[0], min(19, nice[0] + 7)]


def _children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def median(ask: Callable[[], object], times: int = 50) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@pytest.mark.parametrize("state", list(State))
def test_answers_are_quick_in_every_state(store: SqliteStore, caller: Caller, state: State) -> None:
    """Whatever the migration is at, its progress is told at once."""
    failure = Failure("write_refused", "write: no") if state is State.FAILED else None
    store.update(lambda m: replace(m, state=state, failure=failure))
    caller.await_state(state.value)

    # Far more than is promised: the machine of a test has other things to do.
    assert median(caller.state) < 0.5


def test_answers_are_quick_while_no_end_is_reached(tmp_path: Path) -> None:
    """A start that waits for ends which do not answer makes nobody else wait."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        uri = f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=500&connectTimeoutMS=500"
        other = uri.replace("127.0.0.1", "localhost")
        with Serving(uri, other, tmp_path / "state") as serving, ThreadPoolExecutor(1) as pool:
            caller = serving.caller
            caller.await_state("IDLE")
            start = {"source": "cluster0", "destination": "cluster1"}
            refused = pool.submit(caller.post, "start", start)

            assert median(caller.state) < 0.5
            assert refused.result(PATIENCE)["success"] is False
