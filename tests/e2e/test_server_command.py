"""What `limosa serve` refuses, and how it listens."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from answering import free_port
from program import COMMAND, Ended, limosa
from serving import Serving
from waiting import until

from limosa.state import State
from limosa.storage.sqlite import SqliteStore

#: Nobody listens there; a server that only waits for a start asks nobody.
ENDS = ("mongodb://127.0.0.1:1", "mongodb://127.0.0.1:2")


def serve(*options: str | Path, ends: tuple[str, str] = ENDS) -> Ended:
    return limosa("serve", "--cluster0", ends[0], "--cluster1", ends[1], "--port", "0", *options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--bind", "0.0.0.0"), "--token-file"),
        (("--loadLevel", "5"), "loadLevel"),
        (("--verbosity", "loud"), "verbosity"),
        (("--token-file", "missing"), "missing"),
        (("--acceptDisclaimer=perhaps",), "acceptDisclaimer"),
    ],
)
def test_refused(options: tuple[str, ...], named: str, tmp_path: Path) -> None:
    """A wrong option ends the command at once, with exit code 2 and its name."""
    ended = serve(*options, "--state", tmp_path / "state")

    assert ended.code == 2
    assert named in ended.err
    assert "Traceback" not in ended.err


def test_configuration_file(tmp_path: Path) -> None:
    """Keys of the file count where the command line says nothing; a wrong one is named."""
    file = tmp_path / "mongosync.yaml"
    file.write_text(f"cluster0: {ENDS[0]}\ncluster1: {ENDS[1]}\nloadLevel: 9\n")
    wrong = limosa("serve", "--config", file, "--port", "0")
    file.write_text("cluster0: 'mongodb://me:hunter2secret@h:1'\n  port: [\n")
    broken = limosa("serve", "--config", file)

    assert (wrong.code, broken.code) == (2, 2)
    assert "loadLevel" in wrong.err
    assert "line 2" in broken.err
    assert "hunter2secret" not in broken.err


def test_taken_port(tmp_path: Path) -> None:
    """A second server on the port is refused, and the first goes on."""
    with Serving(*ENDS, tmp_path / "state") as first:
        second = limosa(
            *("serve", "--cluster0", ENDS[0], "--cluster1", ENDS[1], "--state", tmp_path / "other"),
            *("--port", str(first.port)),
        )

        assert second.code == 2
        assert str(first.port) in second.err
        assert first.caller.state() == "IDLE"


def test_other_ends(tmp_path: Path) -> None:
    """A state that was begun with other ends is refused, and both are named."""
    store = SqliteStore.drive(tmp_path / "state", "m")
    store.update(
        lambda m: replace(
            m,
            state=State.PAUSED,
            source="mongodb://a:1",
            target="mongodb://b:1",
            started_at=datetime.now(UTC),
        )
    )
    store.close()

    ended = serve("--state", tmp_path / "state")

    assert ended.code == 2
    assert "mongodb://a:1" in ended.err
    assert "127.0.0.1:1" in ended.err


def test_unreachable_ends(tmp_path: Path) -> None:
    """With both ends out of reach progress answers, and a start says what is wrong."""
    with Serving(*ENDS, tmp_path / "state") as serving:
        serving.caller.await_state("IDLE")
        answer = serving.caller.post("start", {"source": "cluster0", "destination": "cluster1"})

        assert answer["error"] == "ConnectionLost"
        assert serving.caller.state() == "IDLE"


def test_tls(tmp_path: Path) -> None:
    """With a certificate the port speaks TLS."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl to make a certificate")
    port, context = free_port(), ssl.create_default_context(cafile=certificate)
    command = [
        *(*COMMAND, "serve", "--cluster0", ENDS[0], "--cluster1", ENDS[1], "--port", str(port)),
        *("--state", str(tmp_path / "s"), "--tls-cert", str(certificate), "--tls-key", str(key)),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    url = f"https://localhost:{port}/api/v1/progress"

    def asked() -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=10, context=context) as response:
                return bytes(response.read())
        except OSError:
            assert process.poll() is None
            return b""

    try:
        body = until(asked, "answer over TLS")
    finally:
        process.terminate()
        process.wait(30)

    assert json.loads(body)["progress"]["state"] in {"INITIALIZING", "IDLE"}
