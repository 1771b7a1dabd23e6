"""A server in this process, and requests as any client would send them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from waiting import PATIENCE, until

from limosa.catalog import Folder
from limosa.server.app import create_app
from limosa.server.guard import Rules
from limosa.server.listening import Address, Server
from limosa.server.service import Service


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Caller:
    """Sends requests to a server, each over a connection of its own."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request; underscores in the names of *headers* stand for dashes."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = {**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        with closing(connection):
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))

    def progress(self) -> dict[str, Any]:
        """Return the whole answer."""
        found: dict[str, Any] = self.call("GET", "/api/v1/progress").json
        return found

    def state(self) -> str:
        """Return the state that is shown."""
        return str(self.progress()["progress"]["state"])

    def post(self, verb: str, body: Any = None) -> dict[str, Any]:
        """Call a verb as ``curl --data`` does: JSON with the type of a form."""
        form = "application/x-www-form-urlencoded"
        raw = json.dumps({} if body is None else body).encode()
        answer = self.call("POST", f"/api/v1/{verb}", raw, Content_Type=form)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    def await_state(self, *states: str) -> str:
        """Return the first of *states* that is shown."""
        return until(
            lambda: found if (found := self.state()) in states else "", " or ".join(states)
        )


@contextmanager
def answering(
    folder: Path, *, rules: Rules | None = None, address: Address | None = None
) -> Iterator[tuple[Caller, Service]]:
    """Serve the migration in *folder*, which another process drives."""
    service = Service(Folder(folder))
    with closing(service):
        server = Server(create_app(service, rules=rules), address or Address(port=0))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        service.begin()
        try:
            caller = Caller(server.url)
            until(lambda: not service.snapshot().is_initializing, "state")
            yield caller, service
        finally:
            server.stop()
            thread.join(PATIENCE)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
