"""Both ends of a migration, with a watch on how long they take to answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Collection as Some
from typing import Protocol, TypeVar, cast

from .connector import Readable, Source, Target
from .errors import LimosaError, Throttled, TransientError
from .model import Batch, Collection, Document, Key, Namespace, Partition

T = TypeVar("T")
End = TypeVar("End", Source, Target)

#: Seconds between two pings of one end; whoever looks, looks every 10 s or so.
PING_EVERY = 5.0


class Watch(Protocol):
    """Is told what the ends do. Called from any thread; must be quick."""

    def took(self, what: str, side: str, seconds: float) -> None:
        """Take into account that *what* was answered by "source" or "target"."""
        ...

    def broke(self, side: str) -> None:
        """Take into account that a call failed in a way that may pass."""
        ...

    def answers(self, side: str, *, is_there: bool) -> None:
        """Take into account whether a ping was answered."""
        ...


def timed(end: End, side: str, watch: Watch) -> End:
    """Return *end* with *watch* told of every read, write, lookup and apply."""
    # What an end can do beyond the four is passed on whatever it is, so that this need not
    # change with the contract; hence no class that implements it.
    return cast("End", _Timed(end, side, watch))


class Pings:
    """Pings an end for as long as it is open, in a thread of its own: an answer may not come."""

    def __init__(self, end: Readable, side: str, watch: Watch, *, every: float = PING_EVERY):
        self._end = end
        self._side = side
        self._watch = watch
        self._every = every
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ping {side}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ping no more; a ping that is not answered is not waited for."""
        self._closed.set()
        self._thread.join(timeout=0.2)

    def _run(self) -> None:
        while not self._closed.is_set():
            started = time.monotonic()
            try:
                self._end.ping()
            except LimosaError as error:
                # A refusal is an answer. After the end it is closed, and says nothing of it.
                is_there = not isinstance(error, TransientError) or isinstance(error, Throttled)
                if not self._closed.is_set():
                    self._watch.answers(self._side, is_there=is_there)
            else:
                self._watch.took("ping", self._side, time.monotonic() - started)
                self._watch.answers(self._side, is_there=True)
            self._closed.wait(self._every)


class _Timed:
    """An end whose four ways of moving documents are timed."""

    def __init__(self, end: Source | Target, side: str, watch: Watch) -> None:
        self._end = end
        self._side = side
        self._watch = watch

    def __getattr__(self, name: str) -> object:
        return getattr(self._end, name)

    def read(self, partition: Partition) -> Iterator[Batch]:
        batches = iter(self._end.read(partition))
        try:
            while True:
                batch = self._call("read", lambda: next(batches, None))
                if batch is None:
                    return
                yield batch
                del batch  # or it would be held while the next one is read
        finally:
            if close := getattr(batches, "close", None):
                close()

    def lookup(self, collection: Collection, keys: Some[Key]) -> Mapping[Key, Document]:
        return self._call("lookup", lambda: self._end.lookup(collection, keys))

    def write(self, namespace: Namespace, batch: Batch) -> None:
        target = cast("Target", self._end)
        return self._call("write", lambda: target.write(namespace, batch))

    def apply(self, namespace: Namespace, states: Mapping[Key, Document | None]) -> None:
        target = cast("Target", self._end)
        return self._call("apply", lambda: target.apply(namespace, states))

    def _call(self, what: str, call: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            answer = call()
        except TransientError:
            self._watch.broke(self._side)
            raise
        self._watch.took(what, self._side, time.monotonic() - started)
        return answer
