"""Secondary indexes: built in parallel, largest collection first, each recorded when done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from .connector import Readiness, reports_builds
from .errors import LimosaError, Stopped
from .events import IndexesBuilding, IndexesBuilt
from .model import CollectionSpec
from .pacing import Pace
from .registry import Registry
from .settings import IndexMode
from .state import CollectionProgress
from .work import Work

T = TypeVar("T")

#: How often a target is asked how far it is with its builds.
_LOOK_SECONDS = 1.0
#: How soon a stop takes effect while one waits for a build.
_STOP_SECONDS = 0.1


class IndexBuild:
    """Gives the collections of the target their secondary indexes, inert, as the settings say."""

    def __init__(self, work: Work, registry: Registry) -> None:
        self._work = work
        self._registry = registry

    def run(self) -> None:
        """Build what is missing; a collection that is done is recorded and not looked at again."""
        collections = self._work.store.collections(largest_first=True)
        missing = (c for c in collections if not (c.is_indexed or c.is_dropped))
        with self._watched():
            for _ in self._work.workers.map_unordered(self._index, missing):
                pass

    def build(self, spec: CollectionSpec) -> None:
        """Build the indexes of *spec*, which is named as on the target, if that is wanted."""
        if not spec.indexes or self._work.settings.indexes is IndexMode.NEVER:
            return
        started = time.monotonic()
        self._work.pace.retrying(
            f"build the indexes of {spec.collection}",
            lambda: unless_stopped(
                self._work.pace, lambda: self._work.target.finish(spec, Readiness.INDEXED)
            ),
        )
        took = timedelta(seconds=time.monotonic() - started)
        self._work.bus.emit(IndexesBuilt(spec.collection.namespace, len(spec.indexes), took))

    def _index(self, collection: CollectionProgress) -> None:
        self._work.pace.check()
        spec = collection.spec
        here = replace(spec.collection, namespace=collection.target)
        if not self._work.settings.indexes.builds_before:  # then they were there first
            self.build(replace(spec, collection=here))
        self._registry.save(replace(collection, is_indexed=True))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Say now and then how far the target is, where it can be asked."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), name="index progress")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        target = self._work.target
        while reports_builds(target) and not over.wait(_LOOK_SECONDS):
            try:
                builds = target.builds()
            except LimosaError:
                # Whoever may build indexes need not be allowed to look at operations; and what
                # ails the server is told by the build itself.
                return
            for build in builds:
                told = (build.namespace, build.indexes, build.step, build.done, build.total)
                self._work.bus.emit(IndexesBuilding(*told))


def unless_stopped(pace: Pace, build: Callable[[], T]) -> T:
    """
    Return what *build* does; but a stop does not wait for it: it may take hours.

    The target goes on with it by itself, and whoever asks for the same again joins it.

    Raises:
        Stopped: the migration was asked to stop meanwhile.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(build())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, whatever it is
            outcome.set_exception(error)

    threading.Thread(target=run, name="index build", daemon=True).start()
    while not wait([outcome], timeout=_STOP_SECONDS).done:
        if pace.is_stopping:
            msg = "the migration was asked to stop while the target builds or reads indexes"
            raise Stopped(msg)
    return outcome.result()
