"""The installed command against real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from limosa.cli import run

if TYPE_CHECKING:
    from conftest import Ends

DOCUMENTS = 300
DEADLINE = 60.0


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ends: Ends) -> Path:
    """The folder of all migrations; both ends stand in the environment."""
    monkeypatch.setenv("LIMOSA_HOME", str(tmp_path))
    monkeypatch.setenv("LIMOSA_SOURCE", ends.source.uri)
    monkeypatch.setenv("LIMOSA_TARGET", ends.target.uri)
    people = ends.source.client.shop.people
    people.insert_many([{"_id": i, "name": f"name {i}"} for i in range(DOCUMENTS)])
    people.create_index("name")
    return tmp_path


class Process:
    """A `limosa migrate` that runs, and what it has written."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "limosa", "migrate", "--name", "m", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        self.lines: list[str] = []
        self.results: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect, args=pair)
            for pair in ((self.process.stderr, self.lines), (self.process.stdout, self.results))
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, stream: IO[str], lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))

    @property
    def story(self) -> str:
        return "".join(self.lines)

    @property
    def result(self) -> str:
        return "".join(self.results)

    def until(self, text: str) -> None:
        """Wait until the story has *text*."""
        eventually(lambda: text in self.story, self)

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(DEADLINE)
        for thread in self._threads:
            thread.join()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.end()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def eventually(condition: Callable[[], bool], process: Process) -> None:
    """Wait until *condition* holds, while *process* lives."""
    deadline, waiting = time.monotonic() + DEADLINE, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, process.story
        if process.process.poll() is not None:
            process.end()
            assert condition(), process.story
        waiting.wait(0.02)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start a migration that does not outlive the test."""
    started: list[Process] = []

    def begin(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def status(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["status", "m", "--json"]) == 0
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    return body


def test_one_command(start: Callable[..., Process], ends: Ends) -> None:
    """One command migrates, verifies and commits; the same again finds it done."""
    process = start("--commit", "when-ready")

    assert process.end() == 0, process.story
    assert "is committed: 300 documents" in process.result
    assert "0 mismatches" in process.result
    assert ends.target.client.shop.people.count_documents({}) == DOCUMENTS
    assert start("--commit", "when-ready").end() == 0


def test_json(start: Callable[..., Process]) -> None:
    """With JSON wanted, each line of the story and the result is an object."""
    process = start("--commit", "when-ready", "--json", "--log-format", "json")

    assert process.end() == 0, process.story
    told = [json.loads(line) for line in process.lines]
    assert told[0]["event"] == "migrationStarted"
    assert "committed" in [each["event"] for each in told]
    body = json.loads(process.result)
    assert body["state"] == "COMMITTED"
    assert body["verification"]["comparedDocuments"] == DOCUMENTS


def test_steered(
    start: Callable[..., Process], ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process sees how far the migration is, pauses, resumes, verifies and commits it."""
    process = start()
    process.until("ready to commit")
    assert status(capsys)["canCommit"]

    assert run(["pause", "m"]) == 0
    process.until("PAUSED")
    ends.source.client.shop.people.insert_one({"_id": "late"})
    assert run(["resume", "m"]) == 0
    assert run(["verify", "m", "--again"]) == 0
    assert run(["commit", "m"]) == 0

    assert process.end() == 0, process.story
    assert ends.target.client.shop.people.count_documents({}) == DOCUMENTS + 1


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_stopped(
    number: signal.Signals,
    code: int,
    start: Callable[..., Process],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A signal stops cleanly, says how to go on, and the same command goes on."""
    process = start()
    process.until("ready to commit")
    process.process.send_signal(number)

    assert process.end() == code, process.story
    assert "stopping cleanly" in process.story
    assert "run the same command to go on" in process.story
    found = status(capsys)
    assert (found["state"], found["isDriven"]) == ("RUNNING", False)

    again = start("--commit", "when-ready")
    assert again.end() == 0, again.story
    assert "copied 300" not in again.story


def test_two_processes(start: Callable[..., Process]) -> None:
    """A second process on the same migration is refused; the first goes on."""
    first = start()
    first.until("ready to commit")

    second = start()
    assert second.end() == 5
    assert "error: " in second.story
    assert first.process.poll() is None


def test_other_settings(start: Callable[..., Process]) -> None:
    """A command line that differs from that of the state is refused, with the difference."""
    first = start()
    first.until("ready to commit")
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 130

    second = start("--exclude", "shop.people")
    assert second.end() == 2
    assert "shop.people" in second.story


def test_plan(home: Path, ends: Ends, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan shows what there is to migrate and touches nothing."""
    assert run(["plan"]) == 0
    assert "shop.people" in capsys.readouterr().out
    ends_ = [os.environ["LIMOSA_SOURCE"], os.environ["LIMOSA_TARGET"]]
    assert run(["migrate", *ends_, "--dry-run", "--json"]) == 0

    body = json.loads(capsys.readouterr().out)
    assert body["estimatedDocuments"] == DOCUMENTS
    assert body["collections"][0]["indexes"] == ["name_1"]
    assert "shop" not in ends.target.client.list_database_names()
    assert not list(home.iterdir())


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    """Two fit ends are found fit."""
    assert run(["doctor", "--json"]) == 0, capsys.readouterr().out

    assert json.loads(capsys.readouterr().out)["isFit"]


def test_target_not_empty(ends: Ends, capsys: pytest.CaptureFixture[str]) -> None:
    """A target that holds what is to be migrated is refused and left as it is."""
    ends.target.client.shop.people.insert_one({"_id": "mine"})

    assert run(["migrate", "--name", "m"]) == 2
    assert "shop.people" in capsys.readouterr().err
    assert ends.target.client.shop.people.count_documents({}) == 1


def test_unreachable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that cannot be reached is an error without the password in it."""
    monkeypatch.setenv(
        "LIMOSA_SOURCE", "mongodb://me:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=100"
    )

    assert run(["migrate", "--name", "m", "--retry-for", "0s"]) == 3
    assert "s3cret" not in capsys.readouterr().err
