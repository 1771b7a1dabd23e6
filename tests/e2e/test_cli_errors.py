"""What goes wrong is one clear message and the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limosa import migrations
from limosa.cli import run
from limosa.cli.exits import redacted
from limosa.connector import Finding
from limosa.errors import ConnectionLost, LeaseHeld, LimosaError

SECRET = "s3cret"
SOURCE = f"mongodb://user:{SECRET}@127.0.0.1:1/"
TARGET = f"mongodb://user:{SECRET}@127.0.0.1:2/"


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMOSA_HOME", str(tmp_path))
    monkeypatch.delenv("LIMOSA_SOURCE", raising=False)
    monkeypatch.delenv("LIMOSA_TARGET", raising=False)


def raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def migrate(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(migrations, "migrate", migrate)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["migrate"],
        ["migrate", SOURCE],
        ["migrate", SOURCE, TARGET, "more"],
        ["migrate", SOURCE, TARGET, "--no-such-option"],
        ["migrate", SOURCE, TARGET, "--workers", "0"],
        ["migrate", SOURCE, TARGET, "--workers", "many"],
        ["migrate", SOURCE, TARGET, "--retry-for", "soon"],
        ["migrate", SOURCE, TARGET, "--commit", "never"],
        ["migrate", SOURCE, TARGET, "--quiet", "--verbose"],
        ["migrate", SOURCE, TARGET, "--include", ".x"],
        ["migrate", SOURCE, TARGET, "--name", "../x"],
        ["migrate", SOURCE, SOURCE],
        ["migrate", "nonsense", TARGET],
        ["migrate", f"oracle://user:{SECRET}@host/", TARGET],
        ["migrate", TARGET, SOURCE, SOURCE],
    ],
    ids=" ".join,
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is exit code 2, an error and no traceback; no password is shown."""
    assert run(arguments) == 2

    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    assert SECRET not in shown.err + shown.out


def test_usage_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is told as JSON where JSON is wanted."""
    assert run(["status", "--json", "--no-such-option"]) == 2

    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["exitCode"]) == ("usage", 2)


@pytest.mark.parametrize("wanted", [["--json"], ["--log-format", "json"], ["--log-format=json"]])
def test_error_as_json(
    wanted: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error is an object with code, message and hint where JSON is wanted."""
    raising(monkeypatch, LeaseHeld("driven by host:7"))

    assert run(["migrate", SOURCE, TARGET, *wanted]) == 5
    error = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
    assert error["code"] == "lease_held"
    assert error["message"] == "driven by host:7"
    assert error["hint"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LeaseHeld("held"), 5),
        (ConnectionLost("lost"), 3),
        (LimosaError("odd"), 1),
        (RuntimeError("odd"), 1),
    ],
)
def test_exit_codes(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each kind of error ends the command with its exit code."""
    raising(monkeypatch, error)

    assert run(["migrate", SOURCE, TARGET]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_internal_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect is one line; the traceback comes with --verbose, the password never."""
    raising(monkeypatch, RuntimeError(f"cannot parse {SOURCE}"))

    assert run(["migrate", SOURCE, TARGET]) == 1
    brief = capsys.readouterr().err
    assert "internal error: RuntimeError" in brief
    assert "Traceback" not in brief
    assert run(["migrate", SOURCE, TARGET, "--verbose"]) == 1
    whole = capsys.readouterr().err
    assert "Traceback" in whole
    assert SECRET not in brief + whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at mongodb://u:p@h:1/x now", "at mongodb://***@h:1/x now"),
        ("mongodb+srv://u:p@ss@w/rd@h/", "mongodb+srv://***@h/"),
        ("'mongodb://h:1/' and 'mongodb://u:p@h/'", "'mongodb://h:1/' and 'mongodb://***@h/'"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_redacted(text: str, expected: str) -> None:
    """User and password of a URI are taken out of any message, escaped or not."""
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("level", "code"), [("ok", 0), ("warning", 0), ("error", 7)], ids=lambda x: str(x)
)
def test_doctor(
    level: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The doctor's exit code says whether something stands in the way."""
    finding = Finding("oplog_window", level, "it is short", "make it longer")
    monkeypatch.setattr(migrations, "examine", lambda *_, **__: [("source", finding)])

    assert run(["doctor", SOURCE, TARGET]) == code
    assert "make it longer" in capsys.readouterr().out
    assert run(["doctor", SOURCE, TARGET, "--json"]) == code
    body = json.loads(capsys.readouterr().out)
    assert body["isFit"] == (code == 0)
    assert body["findings"][0]["check"] == "oplog_window"


def test_ends_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ends may come from the environment."""
    monkeypatch.setenv("LIMOSA_SOURCE", SOURCE)
    monkeypatch.setenv("LIMOSA_TARGET", TARGET)
    seen: list[object] = []
    monkeypatch.setattr(migrations, "examine", lambda *ends, **_: list(seen.extend(ends) or []))

    assert run(["doctor"]) == 0
    assert seen == [SOURCE, TARGET]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["migrate", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to standard output and is a success."""
    assert run(arguments) == 0

    assert "Usage: limosa" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version can be asked for."""
    assert run(["--version"]) == 0

    assert capsys.readouterr().out.startswith("limosa 0.")


def test_help_loads_little() -> None:
    """Help does not load the drivers, the bars or the engine, so that it comes at once."""
    code = (
        "import sys; from limosa.cli import run; run(['--help']);"
        "heavy = ['pymongo', 'bson', 'rich', 'tenacity', 'limosa.engine', 'sqlite3'];"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or None)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_module() -> None:
    """The program runs as a module too."""
    command = [sys.executable, "-m", "limosa", "list"]

    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dict(os.environ)
    )

    assert (done.returncode, done.stderr) == (0, "")
