"""
The engine as a process of its own, for a face that must answer while a copy saturates it.

Whoever starts ``python -m limosa.process`` writes one request to its standard input and keeps
that open: its end, as when the owner is killed, has the migration stop cleanly. So no address
is ever seen in a list of processes. On its standard output it reports one JSON object a line:
``began``, once the migration runs; ``refused``, with an error, if it could not be driven on;
``ended``, with the state in which it was left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from .ends import Ends
from .errors import ConfigError, LimosaError, TransientError
from .events import Event, MigrationStarted
from .limits import LimitChange
from .settings import Settings, WriteBlocking
from .state import Failure

#: Of the size of what is to be copied, as much has to be free on the target; mongosync's measure.
DISK_SHARE = 1.25

#: Seconds for a clean stop. All that counts is durable, so what hangs after that may be cut.
STOP_SECONDS = 15.0


class InsufficientDestinationDiskSpace(ConfigError):
    """The target has no room for what is to be copied."""

    code = "insufficient_destination_disk_space"
    hint = "free some space on the target, or start with `skipDiskSpaceCheck: true`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the process is to drive."""

    source: str
    target: str
    folder: str  # of the state
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # as `Settings.stored` returns
    options: Mapping[str, Any] = field(default_factory=dict)  # further ones of `migrate`

    def line(self) -> bytes:
        """Return what the process reads first."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Report:
    """What the process says of itself."""

    what: Literal["began", "refused", "ended"]
    failure: Failure | None = None
    #: Whether another try may go better without anybody doing anything.
    may_pass: bool = False
    state: str = ""

    def line(self) -> str:
        """Return the line in which it is told."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, line: bytes) -> Report | None:
        """Return what *line* tells; None if it is no report."""
        try:
            found = json.loads(line)
            failure = found.pop("failure")
            return cls(failure=failure and Failure(**failure), **found)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # a library that prints


def main() -> int:
    """Drive the migration that standard input asks for; return the exit code."""
    # Unbuffered: a thread that waits in a buffered read would not let the process end.
    owner = os.fdopen(sys.stdin.fileno(), "rb", buffering=0)
    request = Request(**json.loads(owner.readline()))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    threading.Thread(target=_await_end, args=(owner, stop), name="owner", daemon=True).start()
    try:
        report = _driven(request, stop)
    except LimosaError as error:
        report = Report("refused", Failure.of(error), may_pass=isinstance(error, TransientError))
    except Exception as error:  # noqa: BLE001 - the owner is told, whatever it is
        message = f"{type(error).__name__}: {error}"
        report = Report("refused", Failure(LimosaError.code, message))
    _tell(report)
    return 0 if report.what == "ended" else 1


def _driven(request: Request, stop: threading.Event) -> Report:
    from .migrations import migrate

    def on_event(event: Event) -> None:
        if isinstance(event, MigrationStarted):
            _tell(Report("began"))

    options = dict(request.options)
    os.nice(options.pop("nice", 0))
    limits = LimitChange.of(options.pop("limits", {}))
    settings = Settings.restored(request.settings)
    if "check_disk" in options:
        _reach(request, settings)
    if options.pop("check_disk", False):
        _check_disk(request, settings)
    if options.pop("block_target_if_possible", False) and _can_block(request, settings):
        settings = replace(settings, write_blocking=WriteBlocking.TARGET)
    migration = migrate(
        request.source,
        request.target,
        settings=settings,
        limits=limits,
        name=request.name,
        state=Path(request.folder),
        on_event=on_event,
        stop=stop,
        **options,
    )
    return Report("ended", migration.failure, state=migration.state.value)


def _reach(request: Request, settings: Settings) -> None:
    """
    Return if both ends answer: all that follows would try each of them for long.

    Raises:
        TransientError, AccessDenied: one does not.
    """
    with ExitStack() as stack:
        for end in Ends.of(request.source, request.target).open(stack, settings):
            end.ping()


def _check_disk(request: Request, settings: Settings) -> None:
    """
    Return if the target has room for what is to be copied, or nobody knows.

    Raises:
        InsufficientDestinationDiskSpace: it has not.
    """
    from .migrations import examine

    for _end, finding in examine(request.source, request.target, settings=settings):
        if finding.check == "disk" and not has_room(finding.figures):
            msg = (
                f"look at the target's disk: {finding.message}, "
                f"expected {DISK_SHARE:.2f} times as much"
            )
            raise InsufficientDestinationDiskSpace(msg)


def has_room(figures: Mapping[str, int]) -> bool:
    """Whether a target with these *figures* of its disk takes what is to be copied, if known."""
    return not figures or figures["free"] >= figures["needed"] * DISK_SHARE


def _can_block(request: Request, settings: Settings) -> bool:
    """Whether both ends let the target be blocked; without access control they do not."""
    from .ends import check_abilities
    from .events import EventBus
    from .pacing import Pace

    ends = Ends.of(request.source, request.target)
    wanted = replace(settings, write_blocking=WriteBlocking.TARGET)
    with ExitStack() as stack:
        source, target = ends.open(stack, wanted)
        way_back = ends.swapped().open_source(stack, wanted.way_back())
        pace = Pace(EventBus(), retry_for=timedelta())
        try:
            check_abilities(ends, source, target, way_back, wanted, pace)
        except LimosaError:
            return False  # what else ails the ends is found when the migration begins
    return True


def _await_end(owner: FileIO, stop: threading.Event) -> None:
    """Stop when the owner has closed its end or is gone; for good if that takes too long."""
    owner.read()
    stop.set()
    time.sleep(STOP_SECONDS)
    os._exit(1)


def _tell(report: Report) -> None:
    try:
        sys.stdout.write(report.line() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody listens any more; the end of standard input has been seen or will be.
        return


if __name__ == "__main__":
    sys.exit(main())
