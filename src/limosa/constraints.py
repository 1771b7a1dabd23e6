"""Unique values that are enforced while changes are still applied, so that a commit is quick."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from .connector import ConstrainsAhead, constrains_ahead
from .errors import LimosaError, Stopped, TransientError
from .events import Retrying, Warned
from .index_build import unless_stopped
from .model import Collection, CollectionSpec, Namespace, Unfinished
from .settings import IndexMode
from .state import CollectionProgress, State
from .work import Work

#: How often what was taken back meanwhile is looked for.
_LOOK_SECONDS = 1.0
#: Looking at very many collections takes no more than this share of the time.
_LOOK_SHARE = 0.02
_POLL_SECONDS = 0.2


class Constraints:
    """Has the target enforce its unique indexes before the commit, where it can."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._told: set[Unfinished] = set()
        self._failures: Counter[Namespace] = Counter()

    def run(self) -> None:
        """
        Try from the moment when the target is consistent until a commit is asked for.

        What contradicts is told, and no more: a commit asked for finds it again and refuses.
        """
        target = self._work.target
        if not constrains_ahead(target):
            return
        while (migration := self._work.store.migration()).state in {State.RUNNING, State.PAUSED}:
            seconds = _POLL_SECONDS
            if migration.is_consistent:
                seconds = max(_LOOK_SECONDS, self._try_all(target) / _LOOK_SHARE)
            self._wait(seconds)

    def _try_all(self, target: ConstrainsAhead) -> float:
        """Return how many seconds it took to see what there is to be done."""
        started = time.monotonic()
        specs = sorted(constrained(self._work), key=lambda s: s.size, reverse=True)
        took = time.monotonic() - started
        for spec in specs:
            self._work.pace.check()
            if self._work.store.migration().state is State.COMMITTING:
                break
            self._tell(self._tried(target, spec))
        return took

    def _tried(self, target: ConstrainsAhead, spec: CollectionSpec) -> Sequence[Unfinished]:
        namespace = spec.collection.namespace
        try:
            found = unless_stopped(self._work.pace, partial(target.constrain, spec))
        except Stopped:
            raise
        except TransientError as exc:
            self._failures[namespace] += 1
            what, wait = (
                f"check the unique indexes of {namespace}",
                timedelta(seconds=_LOOK_SECONDS),
            )
            self._work.bus.emit(Retrying(what, str(exc), self._failures[namespace], wait))
            return []
        except LimosaError:
            # It would have saved the commit some time, which does the same and says what fails.
            return []
        self._failures.pop(namespace, None)
        return found

    def _tell(self, unfinished: Sequence[Unfinished]) -> None:
        for each in unfinished:
            if each not in self._told:
                self._told.add(each)
                what = f"{each.namespace} {each.what}: {each.reason}"
                self._work.bus.emit(Warned(f"a commit would be refused as it stands: {what}"))

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._work.pace.wait(min(left, _POLL_SECONDS))
            if self._work.store.migration().state is State.COMMITTING:
                return


def constrained(work: Work) -> Iterator[CollectionSpec]:
    """Yield the collections of the target with unique values, as `Target.finish` wants them."""
    return (s for s in finished(work) if not s.leaves_indexes and _is_unique(s))


def finished(work: Work) -> Iterator[CollectionSpec]:
    """Yield all collections of the target, as `Target.finish` wants them."""
    mode = work.settings.indexes
    leaves = mode is IndexMode.NEVER
    for progress in work.store.collections():
        if not progress.is_dropped:
            spec = replace(_at_target(progress), leaves_indexes=leaves)
            yield replace(spec, leaves_hashed=mode.leaves_hashed)


def _at_target(progress: CollectionProgress) -> CollectionSpec:
    here = Collection(progress.target, progress.spec.collection.id)
    return replace(progress.spec, collection=here)


def _is_unique(spec: CollectionSpec) -> bool:
    return any(i.get("unique") for i in spec.indexes)
