"""Ctrl-C and SIGTERM, on a program that does not stop when it is asked to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from limosa.cli.interrupts import Interrupts

STUBBORN = """
import os, threading
from limosa.cli.interrupts import Interrupts

def say(text):
    os.write(1, f"{text}\\n".encode())  # whole, whichever thread says it

stop = threading.Event()
with Interrupts(stop, say):
    say("ready")
    stop.wait()
    say("asked to stop")
    threading.Event().wait()
"""


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[str]]:
    """A process that waits for ever after the first signal."""
    command = [sys.executable, "-c", STUBBORN]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait(10)
    process.stdout.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_twice(stubborn: subprocess.Popen[str], number: signal.Signals, code: int) -> None:
    """The first signal asks to stop and says so; the second ends the process at once."""
    assert stubborn.stdout is not None
    stubborn.send_signal(number)
    told = {stubborn.stdout.readline(), stubborn.stdout.readline()}
    stubborn.send_signal(number)

    assert stubborn.wait(10) == code
    assert "asked to stop\n" in told
    assert any("stopping cleanly" in line for line in told)


def test_left_as_it_was() -> None:
    """Without a signal nothing is announced, and Ctrl-C means again what it meant before."""
    before = signal.getsignal(signal.SIGINT)
    stop, told = threading.Event(), list[str]()
    with Interrupts(stop, told.append) as interrupts:
        assert signal.getsignal(signal.SIGINT) is not before

    assert signal.getsignal(signal.SIGINT) is before
    assert (interrupts.exit, stop.is_set(), told) == (None, False, [])
