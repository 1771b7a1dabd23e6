"""Units of work in threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class LocalExecutor:
    """
    Runs units in *threads* threads.

    Threads are enough for what only hands bytes on: the driver leaves the interpreter to
    others while it waits for a server.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        self.width = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def map_unordered(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield results as they come; a few items wait, the rest are not taken yet."""
        left = iter(items)
        running: set[Future[R]] = set()
        try:
            while True:
                for item in islice(left, self.width + 1 - len(running)):
                    running.add(self._pool.submit(function, item))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:  # one failed, or nobody wants the rest: do not begin the others
            for future in running:
                future.cancel()
            wait(running)

    def close(self) -> None:
        """End the threads once what they do is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)
