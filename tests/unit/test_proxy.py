"""The network that fails on request, before a server that repeats what it hears."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from limosa.testing.proxy import HOST, Fate, Proxy, Way

LARGE = b"x" * 10_000


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(ConnectionError):
            while heard := self.request.recv(65_536):
                self.request.sendall(heard)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A network before such a server."""
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Proxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def _connected(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.partition(":")
    return socket.create_connection((host, int(port)), timeout=0.5)


def _answer(proxy: Proxy) -> bytes:
    with _connected(proxy) as link:
        link.sendall(b"hello")
        return _heard(link, 5)


def _heard(link: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count and (piece := link.recv(count)):
        heard += piece
    return heard


def test_passes_on(proxy: Proxy) -> None:
    """What is sent arrives, on several connections."""
    with _connected(proxy) as one, _connected(proxy) as other:
        one.sendall(b"one")
        other.sendall(LARGE)

        assert _heard(one, 3) == b"one"
        assert _heard(other, len(LARGE)) == LARGE


@pytest.mark.parametrize("way", Way)
def test_cut(proxy: Proxy, way: Way) -> None:
    """A piece that is large enough arrives in part, and the connection is reset; others go on."""
    proxy.strike(Fate.CUT, way, larger_than=100)
    with _connected(proxy) as link, _connected(proxy) as other:
        link.sendall(b"small")
        assert _heard(link, 5) == b"small"
        link.sendall(LARGE)
        with pytest.raises(ConnectionResetError):
            _heard(link, len(LARGE))
        other.sendall(LARGE)

        assert _heard(other, len(LARGE)) == LARGE
        assert proxy.struck == 1


def test_mute(proxy: Proxy) -> None:
    """A muted connection stays open and silent, also after the network is healed."""
    proxy.strike(Fate.MUTE, Way.TO_CLIENT)
    with _connected(proxy) as link:
        for _ in range(2):
            link.sendall(b"anybody there?")
            with pytest.raises(TimeoutError):
                link.recv(1)
            proxy.heal()
    with _connected(proxy) as link:
        link.sendall(b"and now?")

        assert _heard(link, 8) == b"and now?"


def test_silence_and_refusal(proxy: Proxy) -> None:
    """A silent network takes connections, one that refuses resets them; both can be healed."""
    proxy.silence()
    with _connected(proxy) as link:
        link.sendall(b"hello")
        with pytest.raises(TimeoutError):
            link.recv(1)
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        _answer(proxy)
    proxy.heal()

    assert _answer(proxy) == b"hello"


def test_slow(proxy: Proxy) -> None:
    """Delay and throttling take the time that they say."""
    proxy.delay(0.05)
    proxy.throttle(100_000)
    with _connected(proxy) as link:
        began = time.monotonic()
        link.sendall(LARGE)

        assert _heard(link, len(LARGE)) == LARGE
        assert time.monotonic() - began >= 2 * (0.05 + 0.1)
