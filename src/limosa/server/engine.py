"""The process that drives the migration: launched, watched, and launched again if it breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from .. import catalog
from ..errors import LeaseHeld, LimosaError
from ..process import STOP_SECONDS, Report, Request
from ..state import Failure, State
from .errors import EngineEnded

#: Seconds before a broken engine is launched again: doubled each time up to the last.
_PAUSES = (0.5, 1, 2, 4, 8, 15, 30)
#: One that ran for so many seconds was well; pauses and tries start anew.
_WELL = 60.0
#: A process that was killed, or whose owner was, is gone after this.
_GONE_SECONDS = STOP_SECONDS + 5.0
_LOOK_EVERY = 0.05
#: States in which no process is needed.
_OVER = {State.COMMITTED, State.FAILED}


class Refused(LimosaError):
    """The engine could not be started, for the reason that its process gave."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, hint=failure.hint)
        self.code = failure.code
        self.failure = failure


class Engine:
    """
    At most one engine process at a time, which ends with this one.

    It is launched again when it breaks, with growing pauses, until it has ended by itself or
    the tries are used up; why is then in `failure`.
    """

    def __init__(self, folder: catalog.Folder, *, told: Callable[[str], None]) -> None:
        self._folder = folder
        self._told = told
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        #: Why no process drives the migration, although one should.
        self.failure: Failure | None = None

    @property
    def is_kept(self) -> bool:
        """Whether a process runs, or is about to be launched again."""
        return self._thread is not None and self._thread.is_alive()

    def launch(self, request: Request) -> None:
        """
        Return once the migration runs; it is kept running from then on.

        Raises:
            Refused: it could not be started, and is not tried again.
        """
        self._begin(request, is_first=True).result()

    def restore(self, request: Request) -> Future[None]:
        """
        Have a migration go on that was left running; the future is done once it does.

        What may pass is tried again, and another process that drives it is waited for: it may
        be the one that an owner which was killed has left.
        """
        return self._begin(request, is_first=False)

    def close(self) -> None:
        """Stop the process cleanly and return once it is gone."""
        self._stopping.set()
        with self._lock:
            process = self._process
            if process is not None and process.stdin is not None:
                process.stdin.close()
        if self._thread is not None:
            self._thread.join(timeout=_GONE_SECONDS)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def _begin(self, request: Request, *, is_first: bool) -> Future[None]:
        began: Future[None] = Future()
        former, self.failure = self._thread, None
        if former is not None:
            former.join(timeout=_GONE_SECONDS)
        self._thread = threading.Thread(
            target=self._keep, args=(request, began, is_first), name="engine", daemon=True
        )
        self._thread.start()
        return began

    def _keep(self, request: Request, began: Future[None], is_first: bool) -> None:
        try:
            self._run(request, began, is_first=is_first)
        except Exception as error:  # noqa: BLE001 - told to whoever waits, and shown
            self._give_up(began, Failure(LimosaError.code, f"{type(error).__name__}: {error}"))
        finally:
            if not began.done():
                began.set_result(None)

    def _run(self, request: Request, began: Future[None], *, is_first: bool) -> None:
        tries = 0
        while not self._stopping.is_set():
            if not is_first:
                self._await_lease()
            started = time.monotonic()
            report = self._run_once(request, began)
            if _is_over(report) or self._stopping.is_set():
                return
            if is_first and not began.done():
                self._give_up(began, _failure(report), is_shown=False)
                return
            if report is not None and report.failure and report.failure.code == LeaseHeld.code:
                return  # somebody else drives it, which can be watched and steered all the same
            tries = 1 if time.monotonic() - started > _WELL else tries + 1
            is_hopeless = report is not None and report.what == "refused" and not report.may_pass
            if is_hopeless or tries > len(_PAUSES):
                self._give_up(began, _failure(report))
                return
            self._told(f"the engine ended: {_failure(report).message}; it is started again")
            self._stopping.wait(_PAUSES[tries - 1])

    def _run_once(self, request: Request, began: Future[None]) -> Report | None:
        """Run one process to its end; return what it said last, None if that was nothing."""
        with self._lock:
            if self._stopping.is_set():
                return Report("ended")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "limosa.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C is for the server, which has it stopped cleanly.
                start_new_session=True,
            )
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(request.line())
            process.stdin.flush()
        last = None
        for line in process.stdout:
            report = Report.parse(line)
            if report is not None and report.what == "began":
                if not began.done():
                    began.set_result(None)
            elif report is not None:
                last = report
        process.wait()
        return last

    def _await_lease(self) -> None:
        deadline = time.monotonic() + _GONE_SECONDS
        while catalog.is_driven(self._folder) and time.monotonic() < deadline:
            self._stopping.wait(_LOOK_EVERY)

    def _give_up(self, began: Future[None], failure: Failure, *, is_shown: bool = True) -> None:
        if is_shown:
            self.failure = failure
        if not began.done():
            began.set_exception(Refused(failure))


def _is_over(report: Report | None) -> bool:
    """Whether the process has ended because nothing is left to do for it."""
    return report is not None and report.what == "ended" and report.state in _OVER


def _failure(report: Report | None) -> Failure:
    if report is None or report.failure is None:
        message = "the process that drives the migration ended without a word"
        return Failure(EngineEnded.code, message, EngineEnded.hint)
    return report.failure
