"""
Unique indexes that are enforced before the commit, so that the commit has nothing to look for.

To tell whether an index holds a value twice takes the server a second for every one or two
million documents. So a unique index is prepared (nothing new may break it) and then checked
while changes are still applied. Should a change break one in passing, the guard is lifted, the
change goes in, and some time later all is tried again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...errors import CollectionGone, WriteRefused
from ...model import Namespace, Unfinished
from .commands import code_of
from .conversion import NOT_CONVERTIBLE, conflict, modify
from .deployment import Deployment
from .indexes import Index, listed

#: Seconds for which a guard that was lifted, or could not be set, is not tried again; doubled
#: with each time, so that values that change hands all day long cost little.
_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 1_800.0
#: The target is busy with checks for no more than a twentieth of the time.
_REST_SHARE = 20.0


@dataclass(slots=True)
class _Guard:
    """What is known of one collection."""

    checking: threading.Lock = field(default_factory=threading.Lock)
    lifting: threading.Lock = field(default_factory=threading.Lock)
    held: frozenset[str] = frozenset()  # prepared, and checked after that
    tried: frozenset[str] = frozenset()  # nothing more can be done about these
    suspects: frozenset[Unfinished] = frozenset()  # seen once: it may have been in passing
    changes: int = 0  # how often what is held was given up
    failures: int = 0
    rests_until: float = 0.0

    def give_up(self) -> None:
        self.held = self.tried = frozenset()
        self.changes += 1

    def rest(self, *, took: float = 0.0) -> None:
        doubled = _REST_SECONDS * 2 ** min(self.failures, 10)
        self.failures += 1
        seconds = min(_LONGEST_REST_SECONDS, max(doubled, took * _REST_SHARE))
        self.rests_until = time.monotonic() + seconds


class Guards:
    """The unique indexes of a target that are enforced ahead, as far as this process knows."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._guards: dict[Namespace, _Guard] = {}
        self._lock = threading.Lock()

    def constrain(self, namespace: Namespace, indexes: Iterable[Index]) -> list[Unfinished]:
        """
        Have the unique *indexes* enforced, if they can be; return what contradicts for longer.

        Returns at once where they are, and for some time after a guard had to be lifted.
        """
        wanted = frozenset(i["name"] for i in indexes if i.get("unique"))
        guard = self._of(namespace)
        with guard.checking:
            if wanted == guard.tried or time.monotonic() < guard.rests_until:
                return []
            changes, started = guard.changes, time.monotonic()
            try:
                held, found = self._constrained(namespace, wanted)
            except CollectionGone:
                return []
            with self._lock:
                if found:
                    guard.rest(took=time.monotonic() - started)
                elif guard.changes == changes:
                    guard.held, guard.tried = held, wanted
                confirmed = [u for u in found if u in guard.suspects]
                guard.suspects = frozenset(found)
            return confirmed

    @contextmanager
    def settled(self, namespace: Namespace) -> Iterator[frozenset[str]]:
        """Lend the names of the indexes that are enforced and hold; none is tried meanwhile."""
        guard = self._of(namespace)
        with guard.checking:
            yield guard.held

    def changes(self, namespace: Namespace) -> int:
        """Return a number for `lift` to tell whether anything was lifted since."""
        return self._of(namespace).changes

    def lift(self, namespace: Namespace, *, since: int) -> bool:
        """
        Have no index refuse what it did not before it was prepared; return whether one did.

        Also one that was prepared by a process that is no more; and True as well if another
        thread has done it *since*.
        """
        guard = self._of(namespace)
        with guard.lifting:
            if guard.changes != since:
                return True
            try:
                prepared = [i for i in listed(self._deployment, namespace) if _is_prepared(i)]
            except CollectionGone:
                return False
            for index in prepared:
                modify(self._deployment, namespace, index["name"], prepareUnique=False)
            if prepared:
                # Not before: until here others are refused, too, and have to ask again.
                with self._lock:
                    guard.give_up()
                    guard.rest()
            return bool(prepared)

    def forget(self, *namespaces: Namespace) -> None:
        """Take nothing for granted any more: indexes or the collections were changed."""
        for namespace in namespaces:
            guard = self._of(namespace)
            with self._lock:
                guard.give_up()

    def _constrained(
        self, namespace: Namespace, wanted: frozenset[str]
    ) -> tuple[frozenset[str], list[Unfinished]]:
        present = listed(self._deployment, namespace)
        plain = [i for i in present if i["name"] in wanted and not i.get("unique")]
        held: set[str] = set()
        found: list[Unfinished] = []
        for index in plain:
            name = index["name"]
            try:
                if not index.get("prepareUnique"):
                    modify(self._deployment, namespace, name, prepareUnique=True)
            except WriteRefused as exc:
                if code_of(exc) in NOT_CONVERTIBLE:  # an old target: built anew at commit
                    return frozenset(), []
                raise
            contradiction = conflict(self._deployment, namespace, name)
            if contradiction is None:
                held.add(name)
            else:
                modify(self._deployment, namespace, name, prepareUnique=False)
                found.append(contradiction)
        return frozenset(held), found

    def _of(self, namespace: Namespace) -> _Guard:
        with self._lock:
            return self._guards.setdefault(namespace, _Guard())


def _is_prepared(index: Index) -> bool:
    return bool(index.get("prepareUnique")) and not index.get("unique")
