"""`limosa run`: a migration driven to its end, whatever comes in between."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import HURRIED
from judge import differences
from managed import Managed, Sink, events
from program import limosa
from waiting import until

from limosa.testing.proxy import Proxy

STEPS = """
steps:
  - {name: user, include: [chat.users]}
  - {name: channel, include: [chat.channels]}
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def managed(ends: Any, tmp_path: Path) -> Iterator[Managed]:
    """A run of a small chat, with a folder that its hooks can use."""
    for name in ("users", "channels", "messages"):
        ends.source.client.chat[name].insert_many({"_id": i, "text": name} for i in range(200))
    environment = {"WORK": str(tmp_path)}
    with Managed(
        ends.source.uri, ends.target.uri, tmp_path / "state", environment=environment
    ) as managed:
        yield managed


def test_everything(managed: Managed, ends: Any, sink: Sink, tmp_path: Path) -> None:
    """Steps, hooks, the commit, tasks and notifications come in their order, and all arrives."""
    managed.environment |= {"KEY": "k3y-of-the-hook", "PASSWORD": "quiet-now"}
    managed.plan = STEPS + (
        "hooks:\n"
        '  - {before: "*", run: "echo before $LIMOSA_STEP >> $WORK/said"}\n'
        '  - {after: "*", run: "echo after $LIMOSA_STEP $LIMOSA_STATE >> $WORK/said"}\n'
        "after:\n"
        "  - verify: full\n"
        f"  - http: {{url: 'http://127.0.0.1:{sink.port}/hook?key=${{KEY}}',\n"
        "           headers: {X-Key: '${KEY}'}}\n"
        "  - run: [/bin/sh, -c, 'cat > $WORK/result; echo $LIMOSA_MOMENT >> $WORK/said']\n"
        "  - notify: everything is done\n"
        f"notify: [{{url: 'json://bob:${{PASSWORD}}@127.0.0.1:{sink.port}/notice'}}]\n"
    )

    ended = managed.run("--json")

    assert ended.code == 0, ended.err
    assert differences(ends.source.client, ends.target.client) == []
    assert (tmp_path / "said").read_text().split("\n") == [
        "before user",
        "after user RUNNING",
        "before channel",
        "after channel RUNNING",
        "before other",
        "after other RUNNING",
        "before cleanup",
        "task",
        "after cleanup COMMITTED",
        "",
    ]
    completed = {"status": "completed", "step": "cleanup", "last_err": None, "try_count": 1}
    assert ended.json["result"] == completed
    assert ended.json["migration"]["state"] == "COMMITTED"
    (call,) = sink.to("/hook")
    assert call.headers["X-Key"] == "k3y-of-the-hook"
    assert call.body["result"] == completed
    assert call.body["success"] is True
    assert json.loads((tmp_path / "result").read_text())["migration"]["state"] == "COMMITTED"
    titles = [post.body["title"].rpartition(": ")[2] for post in sink.to("/notice")]
    assert titles == ["started", "copied", "ready", "committed", "state"]
    assert sink.to("/notice")[-1].body["message"] == "everything is done"
    assert list(managed.steps()) == ["user", "channel", "other", "cleanup"]
    assert_hidden(managed, ended.err + ended.out, "k3y-of-the-hook", "quiet-now", managed.source)

    again = managed.run("--json")
    assert again.code == 0
    assert again.json["result"] == {**completed, "status": "migrated"}
    assert len(sink.posts) == 6


def assert_hidden(managed: Managed, said: str, *secrets: str) -> None:
    kept = b"".join(p.read_bytes() for p in managed.folder.iterdir() if p.is_file())
    for secret in secrets:
        assert secret not in said
        assert secret.encode() not in kept


def script(folder: Path, *lines: str) -> str:
    """Return a line for the shell that runs Python *lines*; ``target`` is the target's chat."""
    head = ("import os", "from pymongo import MongoClient")
    opened = "target = MongoClient(os.environ['TARGET_URI']).chat"
    (folder / "script.py").write_text("\n".join((*head, opened, *lines)))
    return f"{sys.executable} {folder}/script.py"


def test_copied_in_order(managed: Managed, tmp_path: Path) -> None:
    """A step's copy is begun when the one before is copied."""
    counts = "[target[name].count_documents({}) for name in ('users', 'channels', 'messages')]"
    look = script(tmp_path, f"open('{tmp_path}/seen', 'w').write(str({counts}))")
    managed.plan = f"{STEPS}hooks: [{{before: channel, run: '{look}'}}]\n"

    ended = managed.run()

    assert ended.code == 0, ended.err
    assert (tmp_path / "seen").read_text() == "[200, 0, 0]"


def test_second_attempt(managed: Managed, tmp_path: Path) -> None:
    """A hook that fails is a failed attempt of its step; the next attempt goes on there."""
    managed.plan = STEPS + (
        "delay: 0s\n"
        "hooks: [{before: channel, run: 'test -e $WORK/tried || { touch $WORK/tried; exit 9; }'}]\n"
    )

    ended = managed.run()

    assert ended.code == 0, ended.err
    attempts = {name: step["attempts"] for name, step in managed.steps().items()}
    assert attempts == {"user": 1, "channel": 2, "other": 1, "cleanup": 1}
    (failed,) = [e for e in events(ended.err) if e.get("event") == "attemptFailed"]
    assert failed["step"] == "channel"
    assert "exit code 9" in failed["message"]


def test_limits(managed: Managed, ends: Any) -> None:
    """Limits of the file hold from each start on; what a person changes meanwhile does, too."""
    managed.plan = (
        "cutover: manual\nlimits: {documents_per_second: 100000, max_latency: 700ms}\n"
        "attempts: 2\ndelay: 0s\n"
        "hooks: [{before: cleanup, run: 'test -e $WORK/tried || { touch $WORK/tried; exit 9; }'}]\n"
    )
    managed.start()
    until(lambda: managed.lines("readyToCommit"), "offer")
    by_file = limosa("throttle", "--state", managed.folder, "--json").json["limits"]
    assert limosa("throttle", "--state", managed.folder, "--load-level", "2").code == 0
    assert limosa("throttle", "--state", managed.folder, "--documents-per-second", "0").code == 0
    limosa("commit", "--state", managed.folder)
    assert managed.end() == 0, managed.log()
    steps = limosa("status", "--state", managed.folder, "--json").json["steps"]
    shown = limosa("throttle", "--state", managed.folder, "--json").json["limits"]

    assert (by_file["documentsPerSecond"], by_file["maxLatencyMilliseconds"]) == (100_000, 700)
    assert (steps[-1]["name"], steps[-1]["attempts"]) == ("cleanup", 2)
    assert (shown["loadLevel"], shown["documentsPerSecond"]) == (2, None), "over the attempts"


def test_changed_limits(managed: Managed) -> None:
    """A file that is changed changes the limits of the next start, and no others."""
    managed.plan = (
        "limits: {load_level: 1, max_queue: 7}\nhooks: [{before: message, run: exit 9}]\n"
    )
    managed.plan += "attempts: 1\n"
    assert managed.run().code == 3

    managed.plan = "limits: {load_level: 4}\n"
    told = managed.run("--dry-run", "--json").json["limits"]
    ended = managed.run("--json")

    assert ended.code == 0, ended.err
    assert ended.json["migration"]["limits"] == told
    assert (told["loadLevel"], told["maxQueue"]) == (4, 7)


def test_attempts_used_up(managed: Managed, sink: Sink, tmp_path: Path) -> None:
    """After its attempts the run fails, says so once, and goes on when the cause is gone."""
    managed.plan = (
        "attempts: 2\ndelay: 0s\n"
        "hooks: [{before: message, run: 'test -e $WORK/fixed || { echo alas; exit 1; }'}]\n"
        f"notify: [{{url: 'json://127.0.0.1:{sink.port}/notice', on: [failed]}}]\n"
    )

    ended = managed.run("--json")

    assert ended.code == 3
    assert ended.json["result"]["status"] == "failed"
    assert ended.json["result"]["step"] == "message"
    assert ended.json["result"]["try_count"] == 2
    assert "alas [hook_failed]" in ended.json["result"]["last_err"]
    assert json.loads(ended.err.splitlines()[-1])["error"]["code"] == "hook_failed"
    assert len(sink.to("/notice")) == 1

    (tmp_path / "fixed").touch()
    assert managed.run().code == 0
    assert managed.steps()["message"]["attempts"] == 1


def test_error_that_no_retry_cures(managed: Managed, ends: Any) -> None:
    """Such an error uses up all attempts at once, each of them made."""
    ends.target.client.chat.users.insert_one({"_id": "mine"})
    managed.plan = "delay: 60s\n"

    ended = managed.run("--json")

    assert ended.code == 2
    assert ended.json["result"]["status"] == "failed"
    assert ended.json["result"]["try_count"] == 3
    assert "[target_not_empty]" in ended.json["result"]["last_err"]
    failed = [e["attempt"] for e in events(ended.err) if e.get("event") == "attemptFailed"]
    assert failed == [1, 2, 3]


def test_wrong_password(managed: Managed, tmp_path: Path) -> None:
    """A refused password ends the run after its attempts, and is told and kept nowhere."""
    hosts = managed.target.partition("://")[2]
    managed.target = f"mongodb://ann:not-th3-0ne@{hosts}"
    managed.plan = "delay: 60s\nnotify: [{url: 'json://ann:not-e1ther@127.0.0.1:1/'}]\n"

    ended = managed.run("--json", "--verbose")

    assert ended.code == 3
    assert ended.json["result"]["try_count"] == 3
    assert "[access_denied]" in ended.json["result"]["last_err"]
    warned = [e["message"] for e in events(ended.err) if e.get("event") == "warned"]
    assert warned == ["notify[0] of the plan file was not reached: 'limosa: state: failed'"]
    assert_hidden(managed, ended.err + ended.out, "not-th3-0ne", "not-e1ther")


def test_failing_task(managed: Managed, sink: Sink, tmp_path: Path) -> None:
    """A task that fails is tried again; those before it are not, and the commit stands."""
    sink.answers = [503, 302]
    managed.plan = (
        "delay: 0s\nafter:\n  - run: echo once >> $WORK/said\n"
        f"  - http: {{url: 'http://127.0.0.1:{sink.port}/hook', method: PUT}}\n"
    )

    ended = managed.run("--json")

    assert ended.code == 0, ended.err
    assert ended.json["result"]["try_count"] == 3
    assert [post.method for post in sink.to("/hook")] == ["PUT"] * 3
    assert not sink.to("/elsewhere")
    assert (tmp_path / "said").read_text() == "once\n"


def test_verification_that_fails(managed: Managed, tmp_path: Path) -> None:
    """The full verification finds what was changed on the target after the commit."""
    change = script(tmp_path, "target.users.update_one({'_id': 7}, {'$set': {'text': 'x'}})")
    managed.plan = f"attempts: 1\nafter:\n  - run: {change}\n  - verify: full\n"

    ended = managed.run()

    assert ended.code == 4
    error = json.loads(ended.err.splitlines()[-1])["error"]
    assert error["code"] == "integrity_failed"
    assert "different chat.users" in error["message"]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_interruption(managed: Managed, ends: Any, tmp_path: Path, ending: signal.Signals) -> None:
    """A run that was killed or stopped goes on with the same attempt, and nothing is lost."""
    managed.plan = STEPS + (
        "hooks: [{before: channel, run: 'touch $WORK/there; while ! test -e $WORK/go; do "
        "sleep 0.05; done'}]\n"
    )
    managed.start()
    until(lambda: (tmp_path / "there").exists(), "hook")
    assert managed.process is not None
    managed.process.send_signal(ending)
    code = managed.end()
    (tmp_path / "go").touch()  # also the end of the hook that was left alone

    ends.source.client.chat.users.update_many({}, {"$set": {"seen": True}})
    ended = managed.run("--json")

    assert code == (130 if ending is signal.SIGINT else -signal.SIGKILL)
    assert ended.code == 0, ended.err
    assert {step["attempts"] for step in managed.steps().values()} == {1}
    assert differences(ends.source.client, ends.target.client) == []


def test_person_commits(managed: Managed, ends: Any) -> None:
    """With a manual cut-over the run waits, beyond its time limit, until a person commits."""
    managed.plan = "cutover: manual\ntimeout: 12s\n"
    managed.start()
    managed.await_phase("following")
    until(lambda: managed.lines("readyToCommit"), "offer")

    commit = limosa("commit", "--state", managed.folder)

    assert commit.code == 0, commit.err
    assert managed.end() == 0, managed.log()
    assert differences(ends.source.client, ends.target.client) == []


def test_out_of_time(managed: Managed) -> None:
    """A run that takes too long ends what it does, has failed, and can go on later."""
    plan = "hooks: [{before: message, run: 'sleep 300'}]\n"
    managed.plan = plan + "timeout: 4s\n"

    ended = managed.run("--json")

    assert ended.code == 3
    assert ended.json["result"]["status"] == "failed"
    assert "[out_of_time]" in ended.json["result"]["last_err"]
    assert ended.json["migration"]["state"] == "FAILED"

    managed.plan = ""
    assert managed.run().code == 0


def test_driven_elsewhere(managed: Managed, tmp_path: Path) -> None:
    """A second run beside the first is refused, and harms nothing."""
    managed.plan = "cutover: manual\n"
    managed.start()
    managed.await_start()

    second = managed.run()

    assert second.code == 5
    assert json.loads(second.err.splitlines()[-1])["error"]["code"] == "lease_held"
    until(lambda: managed.lines("readyToCommit"), "offer")
    assert limosa("commit", "--state", managed.folder).code == 0
    assert managed.end() == 0
    assert {step["attempts"] for step in managed.steps().values()} == {1}


def test_health(managed: Managed, ends: Any) -> None:
    """A server that does not answer is told of, and that it does again."""
    with Proxy(ends.target.replica_set.members[0].port) as proxy:
        managed.target = f"mongodb://{proxy.address}/?{HURRIED}"
        managed.plan = "cutover: manual\nhealth: {every: 1s}\n"
        managed.start()
        until(lambda: managed.lines("readyToCommit"), "offer")
        proxy.refuse()
        proxy.cut()
        until(lambda: managed.lines("endUnreachable"), "warning")
        proxy.heal()
        until(lambda: managed.lines("endReachable"), "all-clear")
        assert limosa("commit", "--state", managed.folder).code == 0
        assert managed.end() == 0, managed.log()

    assert [line["side"] for line in managed.lines("endUnreachable")] == ["target"]
    assert [line["side"] for line in managed.lines("endReachable")] == ["target"]
    assert managed.steps()["conversation"]["attempts"] == 1


def test_dry_run(managed: Managed, ends: Any) -> None:
    """A dry run tells the order of everything, and touches nothing."""
    managed.plan = STEPS + "hooks: [{before: user, run: 'touch $WORK/touched'}]\n"

    told = managed.run("--dry-run", "--json")
    text = managed.run("--dry-run").out

    assert [(s["name"], s["collections"]) for s in told.json["steps"]] == [
        ("user", ["chat.users"]),
        ("channel", ["chat.channels"]),
        ("other", ["chat.messages"]),
        ("cleanup", []),
    ]
    assert told.json["after"] == ["verify everything again"]
    assert "copy chat.users; 1 hook before" in text
    assert not managed.folder.exists()
    assert not (managed.folder.parent / "touched").exists()
    assert "chat" not in ends.target.client.list_database_names()


def test_wrong_plan(managed: Managed) -> None:
    """A wrong plan file is told with lines and columns, before anything is begun."""
    managed.plan = "attemps: 3\ndelay: soon\n"

    ended = managed.run()

    assert ended.code == 2
    error = json.loads(ended.err.splitlines()[-1])["error"]
    assert error["code"] == "plan_invalid"
    assert error["message"].split("\n") == [
        f"{managed.file}:4:1: attemps: is unknown; did you mean 'attempts'?",
        f"{managed.file}:5:1: delay: expected a span such as 90s, 10m or 1h30m",
    ]
    assert not managed.folder.exists()


def test_schema() -> None:
    """The schema is printed without any file."""
    printed: dict[str, Any] = limosa("run", "--schema").json

    assert {"source", "target", "steps", "after"} <= set(printed["properties"])
