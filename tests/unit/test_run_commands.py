"""Commands of the operator: what they are told, and how they end."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from limosa.errors import Stopped
from limosa.run.commands import Commands
from limosa.run.secrecy import Secrets

LONG = timedelta(seconds=60)


def shell(
    line: str,
    *,
    timeout: timedelta = LONG,
    text: str = "",
    stop: threading.Event | None = None,
    **variables: str,
) -> str:
    commands = Commands(
        stop=stop or threading.Event(), secrets=Secrets.of(["mongodb://ann:topsecret@host"])
    )
    return commands.run(["/bin/sh", "-c", line], variables=variables, timeout=timeout, text=text)


def test_success(tmp_path: Path) -> None:
    """A command reads its text and its variables, beside those of this process."""
    line = f'cat > {tmp_path}/in; echo "$LIMOSA_STEP $HOME" > {tmp_path}/out; echo much'

    assert shell(line, text="a line\n", LIMOSA_STEP="user") == ""
    assert (tmp_path / "in").read_text() == "a line\n"
    assert (tmp_path / "out").read_text() == f"user {os.environ['HOME']}\n"


def test_failure() -> None:
    """A failure names the exit code and the last line, without secrets."""
    line = "echo first; echo 'url mongodb://ann:topsecret@host' >&2; echo; exit 3"

    told = shell(line)

    assert told == "it ended with exit code 3: url ***"


def test_silent_failure() -> None:
    """A command that said nothing is told by its exit code alone."""
    assert shell("exit 4") == "it ended with exit code 4"


def test_long_output() -> None:
    """Of what it wrote only the end is told, in a line of bounded length."""
    told = shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 1")

    assert told.startswith("it ended with exit code 1: xxx")
    assert len(told) < 300


def test_unknown_command() -> None:
    """A command that is not there is a failure, not a crash."""
    commands = Commands(stop=threading.Event(), secrets=Secrets())

    told = commands.run(["/nowhere/to/be-found"], variables={}, timeout=LONG)

    assert told == "it cannot be started: No such file or directory"


def test_timeout(tmp_path: Path) -> None:
    """A command that takes too long is ended, with all that it has started."""
    told = shell(f"sleep 300 & echo $! > {tmp_path}/pid; wait", timeout=timedelta(seconds=0.3))

    assert told.startswith("it had not ended after 0.3 s")
    assert_ended(int((tmp_path / "pid").read_text()))


def test_stop(tmp_path: Path) -> None:
    """A stop ends the command and what it has started."""
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()

    with pytest.raises(Stopped):
        shell(f"echo $$ > {tmp_path}/pid; sleep 300; true", stop=stop)

    timer.join()
    assert_ended(int((tmp_path / "pid").read_text()))


def assert_ended(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
