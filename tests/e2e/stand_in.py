"""
A stand-in for a router (``mongos``) before one ordinary server.

It says that it is one, keeps the cluster's catalogue, and refuses what a router refuses as far as
Limosa could ask for it. Everything else is the server's own work; there are no shards.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import bson
from bson import Binary

_HEADER = struct.Struct("<iiii")
_MESSAGE, _QUERY, _REPLY = 2013, 2004, 1
_HELLO = {"hello", "ismaster", "isMaster"}
#: Of a member of a replica set alone.
_OF_MEMBERS = ("setName", "setVersion", "hosts", "primary", "me", "electionId", "topologyVersion")
_SHARDS = [{"_id": name, "host": f"{name}/h:1", "state": 1} for name in ("one", "two")]


class StandIn:
    """Listens between ``with`` and its end; what it was told is in `told`."""

    def __init__(self, port: int) -> None:
        self.told: list[dict[str, Any]] = []
        #: ``config`` as routers show it: collection to documents.
        self.catalogue: dict[str, list[dict[str, Any]]] = {"collections": [], "chunks": []}
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/"

    def shard(self, name: str, key: dict[str, Any]) -> None:
        """Have a collection listed as sharded."""
        self.catalogue["collections"].append({"_id": name, "key": key, "unique": False})

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), socket.create_connection(self._server) as server:
            self._open.append(server)
            while True:
                header, body = _received(client)
                command, sections = _command_in(header[3], body)
                own = self._answer(command, sections) if command else None
                if own is not None:
                    payload = struct.pack("<IB", 0, 0) + bson.encode({"ok": 1.0, **own})
                    client.sendall(
                        _HEADER.pack(16 + len(payload), 0, header[1], _MESSAGE) + payload
                    )
                    continue
                server.sendall(_HEADER.pack(*header) + body)
                header, body = _received(server)
                if _HELLO & command.keys():
                    header, body = _disguised(header, body)
                client.sendall(_HEADER.pack(*header) + body)

    def _answer(self, command: dict[str, Any], sections: list[Any]) -> dict[str, Any] | None:
        """Return what a router answers by itself, None where the server is to be asked."""
        name = next(iter(command))
        if name in {"enableSharding", "shardCollection", "split", "moveChunk"}:
            self.told.append(command)
            if name == "shardCollection":
                self.shard(command[name], command["key"])
            return {}
        if name == "listShards":
            return {"shards": _SHARDS}
        if name == "balancerStatus":
            return {"mode": "full"}
        if name == "getParameter":
            return _refusal(72, "no option found to get")
        if name == "find" and isinstance(command["find"], Binary):
            return _refusal(73, "collection name has invalid type binData")
        if name == "find" and command["$db"] == "config":
            found = self.catalogue.get(command["find"], [])
            return _cursor(command["find"], [d for d in found if _matches(d, command["filter"])])
        if name == "update":
            return self._missing_key(command, sections)
        return None

    def _missing_key(self, command: dict[str, Any], updates: list[Any]) -> dict[str, Any] | None:
        """Refuse an upsert without the full shard key, as routers of 6.0 do."""
        place = f"{command['$db']}.{command['update']}"
        keys = [e["key"] for e in self.catalogue["collections"] if e["_id"] == place]
        for number, update in enumerate(updates):
            if keys and update.get("upsert") and not keys[0].keys() <= update["q"].keys():
                error = {"index": number, "code": 61, "errmsg": "expected the full shard key"}
                return {"n": 0, "writeErrors": [error]}
        return None


def _received(sender: socket.socket) -> tuple[tuple[int, ...], bytes]:
    header = _HEADER.unpack(_exactly(sender, 16))
    return header, _exactly(sender, header[0] - 16)


def _exactly(sender: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = sender.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def _command_in(kind: int, body: bytes) -> tuple[dict[str, Any], list[Any]]:
    """Return a message's command, and the documents that are sent beside it."""
    if kind == _QUERY:
        return {"hello": 1}, []  # drivers send nothing else in the old form
    at, command, beside = 4, {}, []
    while at < len(body):
        (size,) = struct.unpack_from("<i", body, at + 1)
        part = body[at + 1 : at + 1 + size]
        if body[at] == 0:
            command = bson.decode(part)
        else:
            beside = bson.decode_all(part[part.index(0, 4) + 1 :])
        at += 1 + size
    return command, beside or command.get("updates", [])


def _disguised(header: tuple[int, ...], body: bytes) -> tuple[tuple[int, ...], bytes]:
    start = 20 if header[3] == _REPLY else 5
    hello = bson.decode(body[start:])
    hello = {k: v for k, v in hello.items() if k not in _OF_MEMBERS} | {"msg": "isdbgrid"}
    body = body[:start] + bson.encode(hello)
    return (16 + len(body), *header[1:]), body


def _refusal(code: int, message: str) -> dict[str, Any]:
    return {"ok": 0.0, "code": code, "errmsg": message}


def _cursor(name: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cursor": {"id": bson.Int64(0), "ns": f"config.{name}", "firstBatch": documents}}


def _matches(document: dict[str, Any], query: dict[str, Any]) -> bool:
    return all(document.get(name) == value for name, value in query.items())
