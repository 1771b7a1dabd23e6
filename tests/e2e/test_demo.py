from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from limosa.embedded import Options
from limosa.workload import Comparison

COMMAND = [sys.executable, "-m", "limosa", "demo", "--documents=1000", "--rate=200", "--follow=0"]


def test_demo(mongod_options: Options, tmp_path: Path) -> None:
    """The demo migrates under load, finds both servers equal and leaves nothing behind."""
    ended = subprocess.run(
        COMMAND, capture_output=True, text=True, timeout=90, env=_environment(tmp_path)
    )

    assert ended.returncode == 0, ended.stderr
    assert "nothing was lost" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_interrupted_demo(mongod_options: Options, tmp_path: Path) -> None:
    """Ctrl-C ends the demo and all that it started."""
    with subprocess.Popen(
        [*COMMAND[:-1], "--follow=60"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(tmp_path),
        # A shell has what it starts in the background ignore Ctrl-C, and so had these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as demo:
        assert demo.stderr is not None
        said = next(line for line in demo.stderr if "following" in line)
        demo.send_signal(signal.SIGINT)
        rest = demo.stderr.read()

    assert said
    assert demo.returncode == 130
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_demo_tells_a_difference(
    mongod_options: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo's exit code tells that the independent comparison found something."""
    from limosa.cli import demonstration, run

    found = Comparison(collections=1, documents=1, differences=("shop.orders: 1 is missing",))
    monkeypatch.setattr(demonstration, "compare", lambda *_: found)

    assert run(["demo", "--documents=100", "--rate=50", "--follow=0", "--quiet"]) == 4
    assert "shop.orders: 1 is missing" in capsys.readouterr().out


def _environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), "LIMOSA_HOME": str(temporary / "home")}
