"""A password appears nowhere but in the command line that it was given in."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote_plus

import pytest
from program import Program, limosa
from serving import Serving

from limosa.embedded import Options, ReplicaSet

PASSWORD = "s3cr€t:/?#p@ss word"
#: However it is spelled: a part of it is enough to find it.
SPELLINGS = ("s3cr", "p@ss", "p%40ss", "ss word", "ss+word")


class Guarded(NamedTuple):
    """A replica set with access control."""

    servers: ReplicaSet

    @property
    def uri(self) -> str:
        return self.servers.uri

    def uri_with(self, password: str) -> str:
        """Return an address with another password, written as it is given."""
        hosts = self.uri.partition("@")[2]
        return f"mongodb://ann:{password}@{hosts}"


@pytest.fixture(scope="module")
def guarded(mongod_options: Options) -> Iterator[tuple[Guarded, Guarded]]:
    """A source and a target that both ask for a password."""
    options = Options(user="ann", password=PASSWORD, parameters=mongod_options.parameters)
    with ReplicaSet(options) as source, ReplicaSet(options) as target:
        source.primary().client.shop.people.insert_many({"_id": i} for i in range(50))
        yield Guarded(source), Guarded(target)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_whole_migration(guarded: tuple[Guarded, Guarded], tmp_path: Path, log_format: str) -> None:
    """No command, log or state of a migration that goes well tells a password."""
    source, target = guarded
    target.servers.primary().client.drop_database("shop")
    state = ("--state", tmp_path / "state")
    options = ("--log-format", log_format, "--verbose")
    said = []
    with Program(source.uri, target.uri, tmp_path / "state", options) as program:
        for command in ("doctor", "plan"):
            said.append(limosa(command, source.uri, target.uri))
        program.start()
        program.await_phase("following")
        for command in ("status", "verify"):
            said += [limosa(command, *state), limosa(command, *state, "--json")]
        said.append(limosa("list", LIMOSA_HOME=str(tmp_path)))
        # While it runs: what is in the write-ahead logs counts too.
        files = _files(tmp_path)
        said.append(limosa("commit", *state))
        code = program.end()

    assert code == 0, program.log()
    assert [s.err for s in said if s.code not in (0, 6)] == []
    texts = [*files, program.log().encode(), *(f"{s.out}{s.err}".encode() for s in said)]
    assert _found([*texts, *_files(tmp_path)]) == []


@pytest.mark.parametrize("command", [("migrate",), ("migrate", "--verbose"), ("doctor",)], ids=str)
@pytest.mark.parametrize(
    "password",
    [quote_plus(PASSWORD + "wrong"), "s3cr%zzp@ss", "s3cr/p@ss", "s3cr:p@ss:x"],
    ids=["wrong", "badly escaped", "with a slash", "not escaped"],
)
def test_refused(
    guarded: tuple[Guarded, Guarded],
    tmp_path: Path,
    command: tuple[str, ...],
    password: str,
) -> None:
    """No error about a password that is wrong or badly spelled tells it."""
    source, target = guarded
    uri = source.uri_with(password)
    home = {"LIMOSA_HOME": str(tmp_path / "home")}

    for ends in ((uri, target.uri), (target.uri, uri)):
        ended = limosa(*command, *ends, **home)

        assert ended.code in (2, 3, 7), ended.err
        assert _found([ended.out.encode(), ended.err.encode(), *_files(tmp_path)]) == []


def test_from_the_environment(guarded: tuple[Guarded, Guarded], tmp_path: Path) -> None:
    """Addresses in the environment keep passwords out of the list of processes."""
    source, target = guarded
    ends = {"LIMOSA_SOURCE": source.uri, "LIMOSA_TARGET": target.uri}
    ended = limosa("plan", **ends)

    assert ended.code == 0, ended.err
    assert "shop.people" in ended.out


def test_every_answer_of_a_server(guarded: tuple[Guarded, Guarded], tmp_path: Path) -> None:
    """Whatever a server is asked, before, during and after a migration, it tells no password."""
    source, target = guarded
    target.servers.primary().client.drop_database("shop")
    options = ("--logPath", str(tmp_path), "--verbosity", "DEBUG")
    with Serving(source.uri, target.uri, tmp_path / "state", options) as serving:
        caller = serving.caller
        caller.await_state("IDLE")
        told = _asked(serving)
        start = {"source": "cluster0", "destination": "cluster1", "includeNamespaces": []}
        # It stands in a body, too, for who takes an address for a name.
        told.append(_told(caller.post("start", {**start, "source": source.uri})))
        told.append(_told(caller.post("start", start)))
        serving.await_progress(canCommit=True)
        told += _asked(serving)
        told.append(_told(caller.post("commit")))
        caller.await_state("COMMITTED")
        told += _asked(serving)

    assert _found([*told, serving.log.read_bytes(), *_files(tmp_path)]) == []


def _asked(serving: Serving) -> list[bytes]:
    """Return all that the server answers: to each question that its OpenAPI document knows."""
    caller = serving.caller
    described = caller.call("GET", "/openapi.json")
    paths = [path for path, how in described.json["paths"].items() if "get" in how]
    answers = [described.body]
    for path in ("/", "/docs", "/migrate/nothing", *paths):
        if not path.endswith("/events"):
            answers.append(caller.call("GET", path).body)
    assert len(answers) > 12
    with urllib.request.urlopen(f"{caller.url}/api/limosa/v1/events", timeout=60) as stream:
        answers.append(b"".join(stream.readline() for _ in range(2)))
    verbs = ("pause", "resume", "commit", "reverse", "throttle", "start", "fly")
    odd = (("POST", f"/api/limosa/v1/actions/{verb}", b'{"x": 1}') for verb in verbs)
    return [*answers, *(caller.call(*each).body for each in odd)]


def _told(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode()


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def _found(texts: list[Any]) -> list[bytes]:
    """Return the surroundings of each spelling that is found."""
    return [
        text[max(0, at - 60) : at + 60]
        for text in texts
        for spelling in SPELLINGS
        if (at := text.find(spelling.encode())) >= 0
    ]
