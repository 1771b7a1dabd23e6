"""What cannot end well is refused at once, clearly, and nothing is changed."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge import described
from program import COMMAND, Ended, limosa

from limosa.embedded import Mongod, Options, ReplicaSet

#: Exit codes.
USAGE, FAILED, STATE = 2, 3, 5
#: Nobody waits for a server that is not there.
SOON = "serverSelectionTimeoutMS=500"


@pytest.fixture
def filled(ends: Any) -> Iterator[Any]:
    """Both ends; afterwards neither is changed."""
    ends.source.client.shop.people.insert_many({"_id": i} for i in range(10))
    ends.target.client.other.things.insert_one({"_id": 1})
    before = [_content(end) for end in ends]
    yield ends
    assert [_content(end) for end in ends] == before


def _content(end: Any) -> Any:
    names = described(end.client)
    counts = {n: end.client[n.partition(".")[0]][n.partition(".")[2]] for n in names}
    return names, {n: c.count_documents({}) for n, c in counts.items()}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("localhost:27017", "mongodb://"),
        ("postgres://localhost/shop", "mongodb://"),
        ("mongodb://", "read the connection string"),
        ("mongodb://localhost:port", "read the connection string"),
        ("mongodb://localhost/?replicaSet", "read the connection string"),
        ("mongodb://localhost/?nosuch=1&tls=perhaps", "connect"),
        ("mongodb+srv://a.b", "read the connection string"),
    ],
)
def test_no_address(filled: Any, tmp_path: Path, source: str, says: str) -> None:
    """What is not an address of a database is said to be none."""
    ended = _migrate(source, filled.target.uri, tmp_path)

    _assert_refused(ended, USAGE)
    assert says in ended.err


def test_nobody_there(filled: Any, tmp_path: Path) -> None:
    """A server that does not answer is named."""
    nobody = f"mongodb://127.0.0.1:9/?{SOON}"
    for ends in ((nobody, filled.target.uri), (filled.source.uri, nobody)):
        ended = _migrate(ends[0], ends[1], tmp_path, "--retry-for", "1s")

        _assert_refused(ended, FAILED)
        assert "127.0.0.1:9" in ended.err


@pytest.mark.parametrize("end", ["source", "target"])
def test_wrong_password(filled: Any, tmp_path: Path, mongod_options: Options, end: str) -> None:
    """A wrong password is called that, at either end."""
    options = Options(user="ann", password="right", parameters=mongod_options.parameters)
    with ReplicaSet(options) as guarded:
        wrong = guarded.uri.replace("ann:right", "ann:wrong")
        ends = (wrong, filled.target.uri) if end == "source" else (filled.source.uri, wrong)
        ended = _migrate(ends[0], ends[1], tmp_path)

    _assert_refused(ended, FAILED)
    assert "Authentication failed" in ended.err
    assert "password" in ended.err


def test_no_oplog(filled: Any, tmp_path: Path, mongod_options: Options) -> None:
    """A standalone source, which nobody can follow, is refused."""
    with Mongod(mongod_options) as alone:
        alone.client.shop.people.insert_one({})
        ended = _migrate(alone.uri, filled.target.uri, tmp_path)

    _assert_refused(ended, USAGE)
    assert "standalone" in ended.err
    assert "replica set" in ended.err


def test_same_ends(filled: Any, tmp_path: Path) -> None:
    """One deployment is no source and target, however it is spelled."""
    uri = filled.source.uri
    (member,) = filled.source.replica_set.members
    for other in (
        uri,
        f"mongodb://LOCALHOST:{member.port}/",
        f"mongodb://{member.address}/shop?directConnection=true",
        f"mongodb://{member.address},localhost:{member.port}/?replicaSet=rs0",
    ):
        ended = _migrate(uri, other, tmp_path)

        _assert_refused(ended, USAGE)
        assert "source and target are" in ended.err


@pytest.mark.parametrize("pattern", ["shop.nobody", "nobody", "n*.x?"])
def test_no_such_namespace(filled: Any, tmp_path: Path, pattern: str) -> None:
    """A pattern that chooses nothing is a mistake."""
    ended = _migrate(*_uris(filled), tmp_path, "--include", "shop", "--include", pattern)

    _assert_refused(ended, USAGE)
    assert repr(pattern) in ended.err


def test_target_not_empty(filled: Any, tmp_path: Path) -> None:
    """A namespace that is on the target already is named."""
    filled.source.client.other.things.insert_one({"_id": 2})
    try:
        ended = _migrate(*_uris(filled), tmp_path)
    finally:
        filled.source.client.drop_database("other")

    _assert_refused(ended, USAGE)
    assert "other.things" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workers", "0"],
        ["--commit", "sometime"],
        ["--retry-for", "soon"],
        ["--include", "."],
        ["--name", "../elsewhere"],
        ["--nosuch"],
    ],
    ids=lambda a: a[0],
)
def test_bad_option(filled: Any, tmp_path: Path, arguments: list[str]) -> None:
    """A setting that makes no sense is refused before anything is looked at."""
    ended = _migrate(*_uris(filled), tmp_path, *arguments)

    _assert_refused(ended, USAGE)
    assert not (tmp_path / "state" / "state.db").exists()


def test_corrupt_state(filled: Any, tmp_path: Path) -> None:
    """A damaged state file is left as it is."""
    folder = tmp_path / "state"
    folder.mkdir()
    for content in (b"not a database at all" * 500, b"SQLite format 3\0" + b"\x13" * 4096):
        (folder / "state.db").write_bytes(content)
        ended = _migrate(*_uris(filled), tmp_path)

        _assert_refused(ended, STATE)
        assert "state.db" in ended.err
        assert (folder / "state.db").read_bytes() == content


def test_newer_state(filled: Any, tmp_path: Path) -> None:
    """A state that a newer version wrote is left alone."""
    refused = _migrate(*_uris(filled), tmp_path, "--include", "nobody")
    assert refused.code == USAGE
    with sqlite3.connect(tmp_path / "state" / "state.db") as db:
        db.execute("PRAGMA user_version = 1000")
    db.close()
    ended = _migrate(*_uris(filled), tmp_path)

    _assert_refused(ended, STATE)
    assert "1000" in ended.err
    assert "version" in ended.err


def test_unwritable_state(filled: Any, tmp_path: Path) -> None:
    """A state folder that cannot be made is named."""
    (tmp_path / "file").touch()
    ended = limosa("migrate", *_uris(filled), "--state", tmp_path / "file" / "state")

    _assert_refused(ended, STATE)
    assert "file" in ended.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_forbidden_state(filled: Any, tmp_path: Path) -> None:
    """A state folder without the right to write is named."""
    tmp_path.chmod(0o500)
    ended = _migrate(*_uris(filled), tmp_path)
    tmp_path.chmod(0o700)

    _assert_refused(ended, STATE)


def test_no_space_for_state(filled: Any, tmp_path: Path) -> None:
    """A full disk is called that at the start."""
    ended = _migrate_with_file_limit(filled, tmp_path, size=6_000)

    _assert_refused(ended, STATE)
    assert "free some space" in ended.err


def test_no_space_later(ends: Any, tmp_path: Path) -> None:
    """A disk that is full in the midst stops the migration; with space it goes on."""
    ends.source.client.shop.people.insert_many({"_id": i} for i in range(10))
    ended = _migrate_with_file_limit(ends, tmp_path, size=90_000)

    _assert_refused(ended, STATE)
    assert "free some space" in ended.err

    ended = _migrate(*_uris(ends), tmp_path, "--commit", "when-ready")

    assert ended.code == 0, ended.err
    assert ends.target.client.shop.people.count_documents({}) == 10


def _migrate_with_file_limit(ends: Any, folder: Path, *, size: int) -> Ended:
    """Migrate, in a process that can make no file larger than *size* bytes."""
    command = ["migrate", *_uris(ends), "--state", str(folder / "state"), "--commit", "manual"]
    with subprocess.Popen(
        [*COMMAND, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
        try:
            out, err = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Ended(process.returncode, out, err)


def _migrate(source: str, target: str, folder: Path, *options: str) -> Ended:
    return limosa("migrate", source, target, "--state", folder / "state", *options)


def _uris(ends: Any) -> tuple[str, str]:
    return ends.source.uri, ends.target.uri


def _assert_refused(ended: Ended, code: int) -> None:
    """One line says what is wrong and one what to do, without any traceback."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    error, hint = [x for x in ended.err.splitlines() if x.startswith(("error: ", "hint: "))]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert "Traceback" not in ended.err
