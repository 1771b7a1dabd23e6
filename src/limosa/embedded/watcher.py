"""
Keeps one server alive exactly as long as its owner: a program of its own.

    python watcher.py OWNER_PID FOLDER

It takes one JSON array per line from standard input and answers each by one JSON value:

    ["start", COMMAND...]   start the server in FOLDER        -> its process id
    ["kill"]                end it, and wait until it is gone -> its exit code
    ["status"]              -> its exit code, null while it runs

Once the input ends or the owner is gone, the server is killed and FOLDER removed. The owner
cannot do this itself: a process that is killed runs no code of its own. Standard library
only, and started without site-packages, so that it is up in some 50 ms.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Seconds between two looks at whether the owner still lives. Its end of the pipe is not
#: enough: children that it forked hold copies.
LOOK_EVERY = 0.2

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>

Server = subprocess.Popen[bytes]


def main(owner: int, folder: Path) -> None:
    """Serve requests until the owner is gone, then clean up."""
    server: Server | None = None
    try:
        for action, *command in requests(owner):
            if action == "start":
                server = _started(command, folder)
                answer = server.pid
            elif server is None:
                answer = None
            else:
                answer = server.poll() if action == "status" else _killed(server)
            print(json.dumps(answer), flush=True)  # noqa: T201 - the answer is the interface
    finally:
        if server is not None:
            _killed(server)
        shutil.rmtree(folder, ignore_errors=True)


def requests(owner: int, *, until: float = math.inf) -> Iterator[list[Any]]:
    """Yield what the owner asks for, as long as it lives; *until* is of the monotonic clock."""
    pending = b""
    while os.getppid() == owner and time.monotonic() < until:
        readable, _, _ = select.select([0], [], [], LOOK_EVERY)
        if readable:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            yield from map(json.loads, lines)


def _started(command: list[str], folder: Path) -> Server:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_the_watcher() -> None:
        # Should the watcher be killed too, the kernel ends the server. The signal goes with
        # the thread that started it; the watcher has but one.
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    with (folder / "output").open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - the command is our owner's
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_the_watcher,
        )


def _killed(server: Server) -> int:
    server.kill()  # it is a throwaway: nothing needs to be flushed
    return server.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
