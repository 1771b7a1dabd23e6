"""What others write to the target while it is compared, and after it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from .connector import Moved, SeesOthers, Written, sees_others
from .errors import PermanentError, PositionLost
from .events import Warned
from .model import Key, Namespace, ResumeToken
from .registry import Registry
from .schema_changes import Own
from .state import CollectionProgress, Migration, State
from .work import Work

#: How often the target is asked, unless a commit waits.
_LOOK_SECONDS = 1.0
#: How often it is noted that nothing was found; a process that begins again reads so much anew.
_NOTE_SECONDS = 10.0
#: Keys that are compared in one step.
_KEYS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What others have written: documents and collections to compare, or to copy anew."""

    keys: Sequence[tuple[CollectionProgress, tuple[Key, ...]]] = ()
    replaced: Sequence[CollectionProgress] = ()
    lost: Sequence[CollectionProgress] = ()

    def __bool__(self) -> bool:
        return bool(self.keys or self.replaced or self.lost)


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen, but not compared yet."""

    until: bytes
    is_all: bool
    is_note: bool  # worth being stored at once
    commit_at: datetime | None


class OtherWriters:
    """
    Finds the documents of the target that others have written, and collections they took away.

    Whoever compares them, or copies them anew, says so by `looked`: until then they are found
    again.
    """

    def __init__(self, work: Work, registry: Registry, own: Callable[[], Own]) -> None:
        self._work = work
        self._registry = registry
        self._done = own
        self._own = Own()
        self._mark: bytes | None = None
        self._look: _Look | None = None
        self._looked = self._noted = 0.0
        self._commit_looked_for: datetime | None = None

    def begin(self) -> None:
        """Go on where the last process has come to, or begin here; where that can be seen."""
        self._mark = self._work.store.migration().target_mark
        if self._mark is None:
            self._begin_here()

    def look(self, migration: Migration) -> Seen:
        """Return what is to be compared, and what is to be copied anew."""
        target = self._work.target
        if self._mark is None or not sees_others(target):
            return Seen()
        # What was copied whole as a part of a change is limosa's own, and compared in any case.
        own = self._done()
        self._own |= own
        waits = migration.state is State.COMMITTING and not self.is_complete(migration)
        if not (own or waits) and time.monotonic() - self._looked < _LOOK_SECONDS:
            return Seen()
        try:
            written = self._written(target, self._mark)
        except PermanentError as error:
            self._work.bus.emit(Warned(f"{error}{error.hint and ': '}{error.hint}"))
            self._mark = None  # a right that was taken away: no more is seen
            if isinstance(error, PositionLost):
                self._begin_here()
            return Seen()
        self._looked = time.monotonic()
        found = self._seen(written)
        if not found.lost:
            commit_at = migration.commit_at if migration.state is State.COMMITTING else None
            # A process after this one would not know what is limosa's own.
            is_note = bool(found or self._own)
            self._look = _Look(written.until, written.is_all, is_note, commit_at)
        return found

    def _seen(self, written: Written) -> Seen:
        def of(how: Moved) -> list[CollectionProgress]:
            names = (n for n, moved in written.moved.items() if moved is how)
            return [c for n in names for c in self._registry.on_target(n)]

        if lost := of(Moved.AWAY):
            return Seen(lost=lost)
        keys = [(c, tuple(k)) for n, k in written.keys.items() for c in self._registry.on_target(n)]
        return Seen(keys, replaced=of(Moved.REPLACED))

    def looked(self) -> None:
        """Take what was found last for compared, and that for stored."""
        look, self._look = self._look, None
        if look is None:
            return
        is_news = look.until != self._mark
        self._mark = look.until
        if look.is_all:
            self._own = Own()
            self._commit_looked_for = look.commit_at
        is_time = look.is_note or time.monotonic() - self._noted > _NOTE_SECONDS
        if is_news and is_time:
            self._note(look.until)

    def is_complete(self, migration: Migration) -> bool:
        """Whether all that was written before the commit was asked for has been looked at."""
        return self._mark is None or self._commit_looked_for == migration.commit_at

    def _written(self, target: SeesOthers, mark: bytes) -> Written:
        """
        Return some of what others have written, or all that they have moved if they have.

        What was moved last counts: somebody may have moved it back, or out of the way. Documents
        of collections that have moved are compared or copied with them.
        """
        found: dict[Namespace, dict[Key, None]] = {}
        moved: dict[Namespace, Moved] = {}
        written = Written({}, mark, is_all=False)
        while not written.is_all and (moved or sum(map(len, found.values())) < _KEYS_AT_ONCE):
            written = self._asked(target, written.until)
            moved |= {n: how for n, how in written.moved.items() if self._is_taken(n)}
            for namespace, keys in written.keys.items():
                if namespace not in self._own.copied and namespace not in moved:
                    found.setdefault(namespace, {}).update(dict.fromkeys(keys))
        return replace(written, keys={n: tuple(k) for n, k in found.items()}, moved=moved)

    def _is_taken(self, namespace: Namespace) -> bool:
        """Whether something of the migration that others have moved had this name."""
        return namespace not in self._own.moved and bool(self._registry.on_target(namespace))

    def _asked(self, target: SeesOthers, after: bytes) -> Written:
        self._work.pace.check()
        return self._work.pace.retrying(
            "look at what others write to the target", lambda: target.written_by_others(after)
        )

    def _begin_here(self) -> None:
        target = self._work.target
        if not sees_others(target):
            return
        self._mark = self._work.pace.retrying("look at what the target does", target.present)
        if self._mark is not None:
            self._note(self._mark)

    def _note(self, mark: bytes) -> None:
        self._noted = time.monotonic()
        self._work.store.update(lambda m: replace(m, target_mark=ResumeToken(mark)))
