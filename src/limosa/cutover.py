"""The cut-over: what makes the target the place to write to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from . import definitions
from .canonical import readable
from .connector import Readiness, measures_memory
from .constraints import constrained, finished
from .errors import LimosaError, PermanentError, VerificationFailed, WriteRefused
from .events import Committed, TargetWritable, Warned
from .model import CollectionSpec, Unfinished
from .state import Migration, State
from .work import Work
from .write_blocking import WriteGuard

#: Mismatches and conflicts that an error names; the rest is in `limosa verify`.
_NAMED = 5
_HINT = (
    "correct on the target, or on the source, what the message names; then run the same command "
    "again and commit again"
)


class Cutover:
    """Brings a drained, verified target from "complete" to "in charge"."""

    def __init__(self, work: Work, guard: WriteGuard) -> None:
        self._work = work
        self._guard = guard

    def run(self, *, started: float) -> Migration:
        """
        Make the target writable, then complete, and call the migration committed.

        *started* is ``time.monotonic()`` of the moment the commit was seen. A migration that
        was made writable before a crash is only completed.

        Raises:
            VerificationFailed: documents differ; nothing was made writable.
            WriteRefused: a constraint does not hold; the message names it.
        """
        migration = self._work.store.migration()
        if not migration.can_write:
            self._refuse_mismatches()
            self._constrain()
            self._prepare_way_back()
            self._guard.open_target()
            self._work.store.update(lambda m: replace(m, writable_at=datetime.now(UTC)))
            took = timedelta(seconds=time.monotonic() - started)
            self._work.bus.emit(TargetWritable(took))
        self._finish(Readiness.COMPLETE, finished(self._work))
        until = self._reversible_until()
        migration = self._work.store.update(
            lambda m: replace(
                m.moved_to(State.COMMITTED), committed_at=datetime.now(UTC), return_lost_at=until
            )
        )
        self._work.bus.emit(Committed(timedelta(seconds=time.monotonic() - started)))
        return migration

    def _prepare_way_back(self) -> None:
        """
        Note from where on the target's changes would flow back, and its identities by name.

        Nobody writes there yet. A commit that has to be asked for again notes them anew.
        """
        way_back = self._work.way_back
        if way_back is None:
            return
        retrying = self._work.pace.retrying
        position = retrying("take the target's position", way_back.position)
        ids = retrying("list the target's collections", way_back.identities)
        self._work.store.remember_target(ids, lambda m: replace(m, return_position=position))

    def _reversible_until(self) -> datetime | None:
        """Return about when the target forgets where the way back begins, None if unknown."""
        way_back = self._work.way_back
        if way_back is None:
            return None
        try:
            now = way_back.clock()
            memory = way_back.remembers(now) if measures_memory(way_back) else None
        except LimosaError as error:  # a figure for people is no reason to fail a commit
            self._work.bus.emit(Warned(f"how long a reversal is possible is unknown: {error}"))
            return None
        return None if memory is None else datetime.now(UTC) + memory.left

    def take_back(self) -> None:
        """Let changes be applied again after a commit that failed, for whatever reason."""
        for spec in constrained(self._work):
            self._work.pace.retrying(
                f"relax {spec.collection}", partial(self._work.target.relax, spec)
            )

    def _constrain(self) -> None:
        """Have all constraints hold from now on, and all that is not a collection be there."""
        try:
            self._finish(Readiness.WRITABLE, constrained(self._work))
            _refuse(definitions.carry_over(self._work))
        except PermanentError:
            # The source goes on: what was constrained would be in the way of its changes.
            self.take_back()
            raise

    def _refuse_mismatches(self) -> None:
        found = self._work.store.mismatches(limit=_NAMED)
        if not found:
            return
        count = self._work.store.totals().mismatches
        named = ", ".join(f"{m.kind} {m.namespace} {readable(m.key)}" for m in found)
        more = ", …" if count > len(found) else ""
        msg = f"{count} documents differ between source and target: {named}{more}"
        raise VerificationFailed(msg)

    def _finish(self, readiness: Readiness, specs: Iterable[CollectionSpec]) -> None:
        def finish(spec: CollectionSpec) -> Sequence[Unfinished]:
            self._work.pace.check()
            return self._work.pace.retrying(
                f"finish {spec.collection}", lambda: self._work.target.finish(spec, readiness)
            )

        _refuse([u for some in self._work.workers.map_unordered(finish, specs) for u in some])


def _refuse(unfinished: Sequence[Unfinished]) -> None:
    if unfinished:
        named = "; ".join(f"{u.namespace} {u.what}: {u.reason}" for u in unfinished[:_NAMED])
        msg = f"commit: {len(unfinished)} constraints cannot be established: {named}"
        raise WriteRefused(msg, hint=_HINT)
