"""Other writers are kept out of an end while they must not write there, and let in again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import Running
from judge import differences
from program import Program, limosa
from pymongo import MongoClient
from pymongo.errors import WriteError
from waiting import until

from limosa.connector import connector_for
from limosa.embedded import Options, ReplicaSet
from limosa.settings import Settings, WriteBlocking
from limosa.state import Migration, State

SECRET = "s3cret"
BLOCKED = 371  # UserWritesBlocked
BOTH = Settings.of(include=["shop"], write_blocking=WriteBlocking.BOTH)


class End:
    """A replica set with access control and one user of each kind."""

    def __init__(self, servers: ReplicaSet) -> None:
        self.uri = servers.uri  # of root, who may bypass the block
        self.root: MongoClient[dict[str, Any]] = MongoClient(servers.uri)
        self._host = servers.members[0].address
        self.root.admin.command("createUser", "app", pwd=SECRET, roles=["readWriteAnyDatabase"])
        self.app: MongoClient[dict[str, Any]] = MongoClient(self.uri_of("app"))

    def uri_of(self, user: str) -> str:
        return f"mongodb://{user}:{SECRET}@{self._host}/?replicaSet=rs0"

    def clear(self) -> None:
        self.root.admin.command("setUserWriteBlockMode", 1, **{"global": False})
        for name in set(self.root.list_database_names()) - {"admin", "local", "config"}:
            self.root.drop_database(name)

    @property
    def is_blocked(self) -> bool:
        """Whether the application is kept out."""
        try:
            self.app.probe.probe.insert_one({})
        except WriteError as error:
            if error.code != BLOCKED:
                raise
            return True
        return False

    def close(self) -> None:
        self.app.close()
        self.root.close()


@contextmanager
def end_of(options: Options) -> Iterator[End]:
    with ReplicaSet(replace(options, user="admin", password=SECRET)) as servers:
        end = End(servers)
        try:
            yield end
        finally:
            end.close()


@pytest.fixture(scope="module")
def guarded(mongod_options: Options) -> Iterator[tuple[End, End]]:
    """Two replica sets with access control."""
    with end_of(mongod_options) as source, end_of(mongod_options) as target:
        yield source, target


@pytest.fixture
def pair(guarded: tuple[End, End]) -> tuple[End, End]:
    """Two empty ones that take everybody's writes."""
    for end in guarded:
        end.clear()
    source, _ = guarded
    source.root.shop.people.insert_many({"_id": i} for i in range(100))
    return guarded


def migration(pair: tuple[End, End], folder: Path, settings: Settings = BOTH) -> Running:
    return Running(pair[0].uri, pair[1].uri, folder, settings)


def blocked(pair: tuple[End, End]) -> tuple[bool, bool]:
    return pair[0].is_blocked, pair[1].is_blocked


@pytest.mark.parametrize("mode", WriteBlocking)
def test_until_the_commit(pair: tuple[End, End], tmp_path: Path, mode: WriteBlocking) -> None:
    """The target is closed until it is writable; from the commit on the source is, for `both`."""
    has_target, has_both = mode is not WriteBlocking.NONE, mode is WriteBlocking.BOTH
    with migration(pair, tmp_path / "state", replace(BOTH, write_blocking=mode)) as running:
        running.start().await_ready()
        assert blocked(pair) == (False, has_target)
        running.committed()

    assert blocked(pair) == (has_both, False)
    assert differences(pair[0].root, pair[1].root, included=lambda n: n == "shop.people") == [
        "probe.probe: extra"
    ]


def test_stop_and_go_on(pair: tuple[End, End], tmp_path: Path) -> None:
    """A stop lifts the block, and whoever goes on sets it again."""
    with migration(pair, tmp_path / "state") as running:
        running.start().await_ready()
        assert pair[1].is_blocked
        running.stop()
        assert blocked(pair) == (False, False)

        running.start()
        until(lambda: pair[1].is_blocked, "block")
        running.committed()


def test_failed_commit(pair: tuple[End, End], tmp_path: Path) -> None:
    """A commit that fails lets the application go on at the source; the next one closes it."""
    source, target = pair
    source.root.shop.people.create_index("email", unique=True, sparse=True)
    with migration(pair, tmp_path / "state", replace(BOTH, verify=False)) as running:
        running.start().await_ready()
        target.root.shop.people.drop_index("email_1")  # it may hold ahead of the commit
        target.root.shop.people.insert_many([{"_id": -1, "email": 1}, {"_id": -2, "email": 1}])
        running.commit()
        assert running.end().state is State.FAILED
        assert blocked(pair) == (False, False)

        source.app.shop.people.insert_one({"_id": "goes on", "email": 7})
        target.root.shop.people.delete_many({"_id": {"$in": [-1, -2]}})
        running.start().committed()

    assert blocked(pair) == (True, False)
    assert target.root.shop.people.count_documents({"_id": "goes on"}) == 1


def test_killed(pair: tuple[End, End], tmp_path: Path) -> None:
    """What a killed process has left closed is opened by the next one, or by `cleanup`."""
    source, target = pair
    state = tmp_path / "state"
    options = ("--block-writes", "both", "--include", "shop", "--log-format", "json")
    with Program(source.uri, target.uri, state, options) as program:
        program.start()
        program.await_phase("following")
        program.kill()
        assert target.is_blocked
        assert program.rows("SELECT blocked FROM migration") == [{"blocked": "target"}]

        program.start()
        program.await_start()
        program.await_phase("following")
        assert target.is_blocked
        program.process.terminate()  # type: ignore[union-attr] # was started
        program.end()
        assert not target.is_blocked

        program.start()
        program.await_start()
        until(lambda: target.is_blocked, "block")
        program.kill()
    refused = limosa("cleanup", "--state", state, "--force", "--yes", "--target", target.uri)

    assert refused.code == 0, refused.err
    assert "writes to the target" in refused.out
    assert not target.is_blocked
    assert not state.exists()
    assert SECRET not in program.log() + refused.out + refused.err


def test_way_back(pair: tuple[End, End], tmp_path: Path) -> None:
    """The old source stays closed while it is the target of the way back, and opens at its end."""
    source, target = pair
    source.root.shop.people.create_index("email", unique=True, sparse=True)
    with migration(pair, tmp_path / "state", replace(BOTH, reversible=True)) as running:
        running.start().committed()
        target.app.shop.people.insert_one({"_id": "since", "email": 1})
        running.update(Migration.reversing)
        running.start().await_ready()
        assert blocked(pair) == (True, False)
        running.committed()

    assert blocked(pair) == (False, True)
    assert source.root.shop.people.count_documents({"_id": "since"}) == 1


def test_cleanup_after_the_commit(pair: tuple[End, End], tmp_path: Path) -> None:
    """The source stays closed after the commit until `cleanup`, which needs to log in for that."""
    with migration(pair, tmp_path / "state") as running:
        running.start().committed()
    assert pair[0].is_blocked

    arguments = ("cleanup", "--state", tmp_path / "state", "--yes")
    without = limosa(*arguments)
    assert without.code != 0
    assert "--source" in without.err
    assert pair[0].is_blocked
    done = limosa(*arguments, LIMOSA_SOURCE=pair[0].uri, LIMOSA_TARGET=pair[1].uri)

    assert done.code == 0, done.err
    assert blocked(pair) == (False, False)


def test_no_access_control(source_server: Any, target_server: Any, tmp_path: Path) -> None:
    """Without access control limosa would be kept out itself: refused before anything is done."""
    source_server.clear()
    target_server.clear()
    source_server.client.shop.people.insert_one({})
    ended = limosa(
        *("migrate", source_server.uri, target_server.uri),
        *("--state", tmp_path / "state", "--block-writes", "target"),
    )

    assert ended.code == 2
    assert "would keep limosa out" in ended.err
    assert target_server.client.list_database_names() == ["admin", "config", "local"]


def test_missing_privilege(pair: tuple[End, End], tmp_path: Path) -> None:
    """Who may not block is told so before anything is done, with exactly what is missing."""
    source, target = pair
    options = ("--block-writes", "target")
    ended = limosa(
        *("migrate", source.uri, target.uri_of("app"), "--state", tmp_path / "state", *options)
    )
    found = limosa("doctor", source.uri, target.uri_of("app"), *options, "--json")

    assert ended.code == 3
    assert "lacks setUserWriteBlockMode, bypassWriteBlockingMode" in ended.err
    messages = [f["message"] for f in found.json["findings"] if f["check"] == "block_writes"]
    assert messages == [
        "app@admin lacks setUserWriteBlockMode, bypassWriteBlockingMode on the cluster, "
        "which --block-writes needs"
    ]


def test_doctor_shows_what_was_left_on(pair: tuple[End, End]) -> None:
    """A block that somebody has left on is a warning of `doctor`, at the end where it is."""
    pair[1].root.admin.command("setUserWriteBlockMode", 1, **{"global": True})
    ends = connector_for("mongodb://")

    found = [list(ends.examine(end.uri, "target", ())) for end in pair]

    checks = [[f.level for f in each if f.check == "write_blocking"] for each in found]
    assert checks == [[], ["warning"]]


def test_commit_drains_what_was_written_before_the_source_is_closed(
    pair: tuple[End, End], tmp_path: Path
) -> None:
    """An application that never stops by itself is stopped by the block, and loses nothing."""
    source, target = pair
    acknowledged: list[int] = []

    def write() -> None:
        for i in range(1_000, 50_000):
            try:
                source.app.shop.people.insert_one({"_id": i})
            except WriteError:
                return
            acknowledged.append(i)

    with migration(pair, tmp_path / "state") as running:
        running.start().await_ready()
        application = threading.Thread(target=write, daemon=True)
        application.start()
        until(lambda: len(acknowledged) > 50, "writes")
        running.committed()
        application.join(30)

    assert not application.is_alive()
    there = {d["_id"] for d in target.root.shop.people.find({"_id": {"$gte": 1_000}})}
    assert there == set(acknowledged)
