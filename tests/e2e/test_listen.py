"""`--listen` of the installed command: the page is there as long as the migration is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from answering import Caller, free_port
from judge import differences
from managed import Managed
from program import Program
from waiting import until

from limosa.workload import Traffic, fill

API = "/api/limosa/v1"


class Installed(Program):
    """``limosa migrate`` by the script that was installed."""

    @property
    def command(self) -> list[str]:
        return script(super().command)


class InstalledRun(Managed):
    """``limosa run`` by the script that was installed."""

    @property
    def command(self) -> list[str]:
        return script(super().command)


def script(command: list[str]) -> list[str]:
    """Return *command* without ``python -m``."""
    return [str(Path(sys.executable).with_name("limosa")), *command[3:]]


@pytest.fixture(params=["migrate", "run"])
def program(request: pytest.FixtureRequest, ends: Any, tmp_path: Path) -> Any:
    """A migration with a page, not started yet."""
    fill(ends.source.uri, documents=600)
    options = ("--listen", str(free_port()), "--log-format", "json")
    given = (ends.source.uri, ends.target.uri, tmp_path / "shown", options)
    found: Program = Installed(*given)
    if request.param == "run":
        found = InstalledRun(*given, plan="cutover: manual\nafter: [{run: 'true'}]\n")
    with found:
        yield found


def test_the_page_comes_back(program: Program, ends: Any) -> None:
    """A kill of the process that answers harms no migration, and it answers again, as before."""
    caller = Caller(f"http://127.0.0.1:{program.options[1]}")
    with Traffic(ends.source.uri, rate=50) as traffic:
        program.start()
        until(lambda: status(caller), "answer")
        kill_the_server_of(program)
        told = until(lambda: program.lines("message"), "word of the restart")
        until(lambda: status(caller).get("canCommit"), "end of the copy")
        assert caller.call("GET", "/migrate/result").json["status"] == "running"
        traffic.hold()
        asked = caller.call("POST", f"{API}/actions/commit", b"{}")
        assert asked.status == 200, asked.body
        assert program.end() == 0, program.log()

    assert told[0]["message"] == "the dashboard had ended; it was started again"
    assert differences(ends.source.client, ends.target.client) == []


def status(caller: Caller) -> dict[str, Any]:
    """Return the status, nothing while nobody answers."""
    try:
        found: dict[str, Any] = caller.call("GET", f"{API}/status").json
    except OSError:
        return {}
    return found


def kill_the_server_of(program: Program) -> None:
    """End the only child of the process that drives as a power cut would."""
    assert program.process is not None
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(program.process.pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in listed.stdout.splitlines() if "limosa.server.beside" in line]
    os.kill(int(line.split()[0]), signal.SIGKILL)
