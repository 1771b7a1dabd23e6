"""`GET /migrate/result`, watched from the first request to the last."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from answering import Caller, answering, free_port
from managed import Managed
from program import COMMAND
from waiting import PATIENCE, until

FIELDS = ["status", "step", "last_err", "try_count"]

#: Holds a step, or has it fail once, for as long as a file is there or not.
HELD = "touch $WORK/{0}.there; while ! test -e $WORK/{0}.go; do sleep 0.05; done"


@pytest.fixture
def managed(ends: Any, tmp_path: Path) -> Iterator[Managed]:
    """A run of a few documents, with a folder that its hooks can use."""
    ends.source.client.chat.users.insert_many({"_id": i} for i in range(100))
    with Managed(
        ends.source.uri, ends.target.uri, tmp_path / "state", environment={"WORK": str(tmp_path)}
    ) as managed:
        yield managed


def result(caller: Caller) -> dict[str, Any]:
    answer = caller.call("GET", "/migrate/result")
    assert answer.status == 200
    body: dict[str, Any] = answer.json
    assert list(body) == FIELDS
    return body


def await_result(caller: Caller, **wanted: object) -> dict[str, Any]:
    """Return the first result that has these fields."""

    def look() -> dict[str, Any] | None:
        body = result(caller)
        return body if wanted.items() <= body.items() else None

    found = until(look, f"result with {wanted}")
    assert found is not None
    return found


def test_way_through(managed: Managed, tmp_path: Path) -> None:
    """A monitor sees each step, each attempt, the error between them, and the end."""
    hooks = [
        f"  - {{before: {step}, run: '{HELD.format(step)}'}}\n"
        for step in ("channel", "message", "conversation", "cleanup")
    ]
    managed.plan = (
        "delay: 2s\nhooks:\n" + "".join(hooks) + "  - {after: message, "
        "run: 'test -e $WORK/failed || { touch $WORK/failed; exit 7; }'}\n"
        f"after: [{{run: '{HELD.format('task')}'}}]\n"
    )
    with answering(managed.folder) as (caller, _):
        seen = [result(caller)]
        managed.start()
        for name in ("channel", "message"):
            until((tmp_path / f"{name}.there").exists, name)
            seen.append(await_result(caller, step=name))
            (tmp_path / f"{name}.go").touch()
        failed = await_result(caller, step="message", status="running", try_count=1)
        failed = until(lambda: body if (body := result(caller))["last_err"] else None, "error")
        for name in ("conversation", "cleanup"):
            until((tmp_path / f"{name}.there").exists, name)
            seen.append(await_result(caller, step=name))
            (tmp_path / f"{name}.go").touch()
        until((tmp_path / "task.there").exists, "task")
        tasks = result(caller)
        (tmp_path / "task.go").touch()
        end = await_result(caller, status="completed")
        assert managed.end() == 0, managed.log()

    one = {"status": "running", "last_err": None, "try_count": 1}
    assert seen[0] == {"status": "running", "step": "user", "last_err": None, "try_count": 0}
    assert seen[1:] == [
        {**one, "step": step} for step in ("channel", "message", "conversation", "cleanup")
    ]
    assert failed["status"] == "running"
    assert failed["last_err"].startswith("hook after message: it ended with exit code 7")
    assert "[hook_failed]" in failed["last_err"]
    assert "\n" not in failed["last_err"]
    assert tasks == {**one, "step": "cleanup"}
    assert end == {**one, "status": "completed", "step": "cleanup"}
    assert managed.steps()["message"]["attempts"] == 2


def test_beside_the_run(managed: Managed, tmp_path: Path) -> None:
    """`limosa run --listen` answers while it runs, from a process of its own."""
    url = f"http://127.0.0.1:{free_port()}/migrate/result"
    # An answer may be a moment old, from before the attempt began.
    ask = f"""
import json, time, urllib.request
until = time.monotonic() + 30
while True:
    told = urllib.request.urlopen('{url}').read().decode()
    if json.loads(told)["try_count"] or time.monotonic() > until:
        break
    time.sleep(0.1)
print(told)
"""
    (tmp_path / "ask.py").write_text(ask)
    managed.plan = (
        f"hooks: [{{before: message, run: '{sys.executable} $WORK/ask.py > $WORK/told'}}]\n"
    )

    ended = managed.run("--listen", url.split(":")[2].split("/")[0])

    assert ended.code == 0, ended.err
    told = json.loads((tmp_path / "told").read_text())
    assert list(told) == FIELDS
    assert (told["status"], told["try_count"]) == ("running", 1)


def test_head_and_caches(tmp_path: Path) -> None:
    """HEAD answers like GET without a body; no cache keeps either; nothing can be sent."""
    with answering(tmp_path) as (caller, _):
        get, head = (caller.call(verb, "/migrate/result") for verb in ("GET", "HEAD"))
        post = caller.call("POST", "/migrate/result")

    assert (get.status, head.status, post.status) == (200, 200, 405)
    assert head.body == b""
    for answer in (get, head):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(get.body)


def test_failed(managed: Managed, ends: Any) -> None:
    """What no attempt can cure is failed at the third, with a cause and without credentials."""
    ends.target.client.chat.users.insert_one({"_id": "mine"})
    managed.plan = "delay: 60s\n"
    assert managed.run().code == 2

    with answering(managed.folder) as (caller, _):
        body = result(caller)

    assert (body["status"], body["try_count"]) == ("failed", 3)
    assert "[target_not_empty]" in body["last_err"]


def test_found_complete(managed: Managed) -> None:
    """A server that finds the migration complete says so; its own port knows nothing else."""
    assert managed.run().code == 0

    with served(managed) as (caller, own):
        found = [result(caller), result(own)]
        others = [own.call("GET", p).status for p in ("/", "/api/v1/progress", "/metrics")]

    migrated = {"status": "migrated", "step": "cleanup", "last_err": None, "try_count": 1}
    assert found == [migrated, migrated]
    assert others == [404, 404, 404]


@contextmanager
def served(managed: Managed) -> Iterator[tuple[Caller, Caller]]:
    """Run `limosa serve` on the state, with a port for the result alone."""
    port, own = free_port(), free_port()
    ends = ["--cluster0", managed.source, "--cluster1", managed.target]
    ports = ["--port", str(port), "--result-port", str(own)]
    process = subprocess.Popen(
        [*COMMAND, "serve", *ends, *ports, "--state", str(managed.folder)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        callers = (Caller(f"http://127.0.0.1:{port}"), Caller(f"http://127.0.0.1:{own}"))
        until(lambda: all(map(is_there, callers)), "server")
        yield callers
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def is_there(caller: Caller) -> bool:
    try:
        return caller.call("GET", "/migrate/result").status == 200
    except OSError:
        return False
