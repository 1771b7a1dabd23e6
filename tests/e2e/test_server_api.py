"""The faces of a server over HTTP, beside a migration that this test drives."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest
from answering import Caller, answering
from waiting import PATIENCE

from limosa.model import Collection, CollectionSpec, Namespace, ResumeToken
from limosa.model import Partition as Part
from limosa.server import connections, routing
from limosa.server.guard import Rules, Tokens
from limosa.server.service import Service
from limosa.state import CollectionProgress, Failure, Migration, State
from limosa.storage.sqlite import SqliteStore

NOW = datetime.now(UTC)
PEOPLE = Collection(Namespace("shop", "people"), "c1")
START = {"source": "cluster0", "destination": "cluster1"}
VERBS = ("start", "pause", "resume", "commit", "reverse")
#: What each state allows, as long as the process that drives it is another one's.
LEGAL = {
    "IDLE": set(),
    "RUNNING": {"pause", "commit"},
    "PAUSED": {"resume"},
    "COMMITTING": set(),
    "COMMITTED": {"reverse"},
    "REVERSING": set(),
    "FAILED": set(),
}


def ready(migration: Migration) -> Migration:
    """A migration that is consistent, verified, reversible and may be committed."""
    return replace(
        migration,
        state=State.RUNNING,
        source="mongodb://a:1",
        target="mongodb://b:1",
        started_at=NOW,
        planned_at=NOW,
        copied_at=NOW,
        indexed_at=NOW,
        captured_to=NOW + timedelta(hours=1),
        applied_to=NOW + timedelta(hours=1),
        verified_at=NOW,
        return_position=ResumeToken(b"x"),
    )


def into(migration: Migration, state: State) -> Migration:
    failure = Failure("write_refused", "write: no", "correct it") if state is State.FAILED else None
    committed = NOW if state in (State.COMMITTED, State.REVERSING) else None
    return replace(ready(migration), state=state, failure=failure, committed_at=committed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """The state of a migration that this process drives."""
    driven = SqliteStore.drive(tmp_path / "m", "m")
    part = Part("c1/0", PEOPLE, b"", 10)
    driven.save_plan([CollectionProgress(CollectionSpec(PEOPLE), PEOPLE.namespace)], [part], NOW)
    driven.update(ready)
    yield driven
    driven.close()


@pytest.fixture
def served(store: SqliteStore, tmp_path: Path) -> Iterator[tuple[Caller, Service]]:
    with answering(tmp_path / "m") as found:
        yield found


@pytest.fixture
def caller(served: tuple[Caller, Service]) -> Caller:
    return served[0]


@pytest.mark.parametrize("state", [s.value for s in State])
def test_legality(store: SqliteStore, caller: Caller, state: str) -> None:
    """In each state each call is done or refused as the table says, and a refusal does nothing."""
    for verb in VERBS:
        store.update(lambda m: into(m, State(state)))
        answer = caller.post(verb, START if verb == "start" else {})

        assert answer["success"] == (verb in LEGAL[state]), (verb, answer)
        if not answer["success"]:
            assert set(answer) == {"success", "error", "errorDescription"}
            assert answer["error"] == "IllegalTransition"
            assert verb in answer["errorDescription"]
            assert caller.state() == state
        else:
            assert answer == {"success": True}


def test_commit_is_refused_while_behind(store: SqliteStore, caller: Caller) -> None:
    """A commit is neither offered nor accepted while the target is far behind."""
    store.update(lambda m: replace(m, applied_to=NOW + timedelta(minutes=55)))

    answer = caller.post("commit")

    assert answer["error"] == "LagTooLarge"
    assert caller.progress()["progress"]["canCommit"] is False
    assert store.migration().state is State.RUNNING


def test_nothing_was_started(tmp_path: Path) -> None:
    """Without a migration the state is IDLE, and every call but a start is refused."""
    with answering(tmp_path / "none") as (caller, _):
        assert caller.state() == "IDLE"
        for verb in ("pause", "resume", "commit", "reverse"):
            assert caller.post(verb)["error"] == "IllegalTransition"
        assert caller.call("GET", "/metrics").status == 200
        assert not (tmp_path / "none").exists()


BODIES = [
    (b"", "JSON object"),
    (b"nonsense", "JSON object"),
    (b"[]", "JSON object"),
    (b'{"a": NaN}', "JSON"),
    (b'{"source": "\\ud800"}', "JSON object"),
    (b"[" * 50_000, "JSON object"),
    (b'{"source": "cluster0", "source": "cluster1"}', "twice"),
    (b'{"source": "cluster0", "Source": "cluster1"}', "source"),
    (b'{"source": "cluster0"}', "destination"),
    (b'{"source": "cluster2", "destination": "cluster1"}', "source"),
    (b'{"source": "cluster0", "destination": "cluster0"}', "destination"),
]
FIELDS = [
    ({"unknownField": 1}, "unknownField"),
    ({"reversible": "yes"}, "reversible"),
    ({"reversible": 1}, "reversible"),
    ({"reversible": True, "buildIndexes": "never"}, "buildIndexes"),
    ({"buildIndexes": "sometimes"}, "buildIndexes"),
    ({"verification": {"enabled": "no"}}, "verification.enabled"),
    ({"verification": {"on": True}}, "verification.on"),
    ({"includeNamespaces": [{"collections": ["a"]}]}, "includeNamespaces.0"),
    ({"includeNamespaces": [{"databaseRegex": {"pattern": "("}}]}, "("),
    ({"excludeNamespaces": {"database": "a"}}, "excludeNamespaces"),
    ({"copyInNaturalOrder": [{"database": "a"}]}, "copyInNaturalOrder"),
    ({"sharding": {}}, "sharding.shardingEntries"),
    ({"sharding": {"shardingEntries": [{"database": "a", "collection": "b"}]}}, "shardCollection"),
    ({"documentFilter": {"field": "a.b", "matchValues": [1]}}, "documentFilter.field"),
    ({"documentFilter": {"field": "a", "matchValues": []}}, "documentFilter.matchValues"),
    ({"documentFilter": {"field": "a", "matchValues": [{"$oid": "x"}]}}, "matchValues"),
    ({"namespaceRemap": [{"from": {"database": "a"}}]}, "namespaceRemap.0.to"),
    ({"enableUserWriteBlocking": "some"}, "enableUserWriteBlocking"),
    ({"destinationDataHandling": "drop"}, "destinationDataHandling"),
]


@pytest.mark.parametrize(
    ("body", "named"), BODIES + [(json.dumps({**START, **f}).encode(), n) for f, n in FIELDS]
)
def test_bad_start(caller: Caller, body: bytes, named: str) -> None:
    """A start that is not understood is refused with 200, and the answer names the field."""
    answer = caller.call("POST", "/api/v1/start", body)

    assert answer.status == 200
    assert answer.json["success"] is False
    assert answer.json["error"] in {"BadRequest", "UnsupportedField", "ConfigError"}
    assert named in answer.json["errorDescription"]


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b'{"now": true}'])
def test_bad_call(store: SqliteStore, caller: Caller, body: bytes) -> None:
    """The other calls take an empty object and nothing else."""
    answer = caller.call("POST", "/api/v1/pause", body)

    assert answer.status == 200
    assert answer.json["error"] == "BadRequest"
    assert store.migration().state is State.RUNNING


def test_large_body(store: SqliteStore, caller: Caller) -> None:
    """A body of more than 64 kB is refused, whatever it holds."""
    answer = caller.call("POST", "/api/v1/pause", b" " * routing.MAX_BODY + b"{}")

    assert answer.status == 200
    assert "too large" in answer.json["errorDescription"]
    assert store.migration().state is State.RUNNING


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/api/v1/nothing", 404, "UnknownPath"),
        ("GET", "/nothing", 404, "UnknownPath"),
        ("GET", "/docs/../../etc/passwd", 404, "UnknownPath"),
        ("GET", "/api/v1/start", 405, "UnknownMethod"),
        ("POST", "/api/v1/progress", 405, "UnknownMethod"),
        ("PUT", "/api/v1/pause", 405, "UnknownMethod"),
    ],
)
def test_unknown(caller: Caller, method: str, path: str, status: int, error: str) -> None:
    """An unknown path is 404 and an unknown method 405, in the form of all errors."""
    answer = caller.call(method, path, b"{}")

    assert (answer.status, answer.json["error"]) == (status, error)


def test_slashes(store: SqliteStore, caller: Caller) -> None:
    """Slashes that are doubled count once."""
    answer = caller.call("POST", "/api/v1//pause", b"{}")

    assert answer.json == {"success": True}
    assert store.migration().state is State.PAUSED


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:27182"},
        {"Host": "localhost.evil.example"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_foreign(store: SqliteStore, caller: Caller, headers: dict[str, str]) -> None:
    """A page of another site can do nothing, directly or by a name of its own."""
    answer = caller.call("POST", "/api/v1/pause", b"{}", **headers)

    assert answer.status in (400, 403)
    assert store.migration().state is State.RUNNING


def test_own_page(store: SqliteStore, caller: Caller) -> None:
    """The server's own page can."""
    own = f"127.0.0.1:{caller.port}"

    answer = caller.call("POST", "/api/v1/pause", b"{}", Host=own, Origin=f"http://{own}")

    assert answer.json == {"success": True}


def test_tokens(store: SqliteStore, tmp_path: Path) -> None:
    """A reader's token looks, an operator's steers, and without one there is nothing."""
    file = tmp_path / "tokens"
    file.write_text("# who may\noperator " + "o" * 32 + "\nreader " + "r" * 32 + "\n")
    with answering(tmp_path / "m", rules=Rules.of(tokens=Tokens.read(file))) as (caller, _):

        def status(method: str, path: str, token: str = "") -> int:
            given = {"Authorization": f"Bearer {token}"} if token else {}
            return caller.call(method, path, b"{}" if method == "POST" else None, **given).status

        looks = [status("GET", "/api/v1/progress", t) for t in ("", "x" * 32, "r" * 32, "o" * 32)]
        pauses = [status("POST", "/api/v1/pause", t) for t in ("", "x" * 32, "r" * 32)]
        others = [status("GET", p) for p in ("/metrics", "/migrate/result", "/readyz")]

        assert looks == [401, 401, 200, 200]
        assert pauses == [401, 401, 401]
        assert others == [401, 401, 401]
        assert [status("GET", p) for p in ("/healthz", "/openapi.json", "/docs")] == [200] * 3
        assert store.migration().state is State.RUNNING
        assert status("POST", "/api/v1/pause", "o" * 32) == 200
        assert store.migration().state is State.PAUSED


def test_rate(store: SqliteStore, tmp_path: Path) -> None:
    """Who asks too often is told so with 429."""
    rules = Rules(rate=0.001, burst=5)
    with answering(tmp_path / "m", rules=rules) as (caller, _):
        seen = [caller.call("GET", "/api/v1/progress").status for _ in range(6)]

    assert seen == [200] * 5 + [429]


def test_slow_clients(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that never finish their headers hold nobody up, and are dropped."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    slow = [socket.create_connection(("127.0.0.1", caller.port)) for _ in range(50)]
    for each in slow:
        each.sendall(b"GET /api/v1/progress HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")

    assert caller.state() == "RUNNING"
    for each in slow:
        each.settimeout(PATIENCE)
        assert each.recv(1) == b""
        each.close()


def test_large_headers(caller: Caller) -> None:
    """Headers without an end are cut off."""
    with socket.create_connection(("127.0.0.1", caller.port), PATIENCE) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"a" * 100_000)
        got = endless.recv(100)

    assert got.startswith(b"HTTP/1.1 4") or got == b""


def test_many_clients(caller: Caller) -> None:
    """A hundred clients at once are all answered."""
    with ThreadPoolExecutor(100) as pool:
        states = list(pool.map(lambda _: caller.state(), range(300)))

    assert states == ["RUNNING"] * 300


def test_kept_connection(caller: Caller) -> None:
    """Answers over a connection that is kept do not wait for acknowledgements."""
    connection = HTTPConnection("127.0.0.1", caller.port, timeout=PATIENCE)
    taken = []
    with closing(connection):
        for _ in range(50):
            began = time.perf_counter()
            connection.request("GET", "/api/v1/progress")
            connection.getresponse().read()
            taken.append(time.perf_counter() - began)

    # A wait for an acknowledgement takes 40 ms, each time.
    assert min(taken) < 0.03


def test_requests_are_recorded(served: tuple[Caller, Service]) -> None:
    """Each call that may change something is in the history, with its origin and outcome."""
    caller, service = served
    caller.post("pause")
    caller.post("pause")

    with service.history() as history:
        found = [e for e in history.entries() if e.kind == "Request"]

    assert [e.fields["verb"] for e in found] == ["pause", "pause"]
    assert [e.fields["success"] for e in found] == [True, False]
    assert all(e.fields["origin"].startswith("127.0.0.1:") for e in found)


def test_headers(caller: Caller) -> None:
    """No answer can be framed, kept or taken for another type."""
    for path in ("/", "/docs", "/api/v1/progress"):
        headers = caller.call("GET", path).headers
        policy = next(v for k, v in headers.items() if k.lower() == "content-security-policy")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        lower = {k.lower(): v for k, v in headers.items()}
        assert lower["x-content-type-options"] == "nosniff"
        assert "server" not in lower


def test_damaged_state(store: SqliteStore, served: tuple[Caller, Service]) -> None:
    """A state that cannot be read is shown as a failure with the last figures."""
    caller, service = served
    assert caller.state() == "RUNNING"
    store.close()
    with sqlite3.connect(service.folder.state_file) as db:
        db.execute("UPDATE migration SET state = 'NONSENSE'")

    caller.await_state("FAILED")

    answer = caller.progress()
    assert answer["error"] == "StateCorrupt"
    assert answer["progress"]["directionMapping"]["Source"] == "cluster0: a:1"


def test_documentation_is_offline(caller: Caller) -> None:
    """The page of the documentation needs nothing from elsewhere, and the document is complete."""
    page = caller.call("GET", "/docs").body.decode()
    document = caller.call("GET", "/openapi.json").json

    assert "//" not in page.replace("<!doctype", "").replace("</", "")
    for part in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert caller.call("GET", f"/docs/{part}").status == 200
    assert {f"/api/v1/{verb}" for verb in (*VERBS, "progress")} <= set(document["paths"])
    body = document["paths"]["/api/v1/start"]["post"]["requestBody"]["content"]
    assert "includeNamespaces" in body["application/json"]["schema"]["properties"]


def test_fuzzing(store: SqliteStore, caller: Caller) -> None:
    """Whatever is sent that the document allows or forbids, there is no 5xx and no harm."""
    store.update(lambda m: into(m, State.IDLE))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{caller.url}/openapi.json"),
        *("--checks", "not_a_server_error", "--max-examples", "8", "--seed", "1"),
        *("--exclude-path-regex", "events$", "--request-timeout", "10"),
        *("--phases", "fuzzing", "--no-color", "--max-failures", "1"),
    ]

    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert caller.state() == "IDLE"
