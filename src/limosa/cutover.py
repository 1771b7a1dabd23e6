"""The cut-over: what makes the target the place to write to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from .canonical import readable
from .connector import Readiness
from .errors import VerificationFailed, WriteRefused
from .events import Committed, TargetWritable
from .model import Collection, CollectionSpec, Unfinished
from .state import CollectionProgress, Migration, State
from .work import Work

#: Mismatches and conflicts that an error names; the rest is in `limosa verify`.
_NAMED = 5


class Cutover:
    """Brings a drained, verified target from "complete" to "in charge"."""

    def __init__(self, work: Work) -> None:
        self._work = work

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
            self._finish(Readiness.WRITABLE, [s for s in self._specs() if _is_constrained(s)])
            self._work.store.update(lambda m: replace(m, writable_at=datetime.now(UTC)))
            took = timedelta(seconds=time.monotonic() - started)
            self._work.bus.emit(TargetWritable(took))
        self._finish(Readiness.COMPLETE, self._specs())
        migration = self._work.store.update(
            lambda m: replace(m.moved_to(State.COMMITTED), committed_at=datetime.now(UTC))
        )
        self._work.bus.emit(Committed(timedelta(seconds=time.monotonic() - started)))
        return migration

    def _refuse_mismatches(self) -> None:
        found = self._work.store.mismatches(limit=_NAMED)
        if not found:
            return
        count = self._work.store.totals().mismatches
        named = ", ".join(f"{m.kind} {m.namespace} {readable(m.key)}" for m in found)
        more = ", …" if count > len(found) else ""
        msg = f"{count} documents differ between source and target: {named}{more}"
        raise VerificationFailed(msg)

    def _specs(self) -> list[CollectionSpec]:
        return [_at_target(c) for c in self._work.store.collections() if not c.is_dropped]

    def _finish(self, readiness: Readiness, specs: Sequence[CollectionSpec]) -> None:
        def finish(spec: CollectionSpec) -> Sequence[Unfinished]:
            self._work.pace.check()
            return self._work.pace.retrying(
                f"finish {spec.collection}", lambda: self._work.target.finish(spec, readiness)
            )

        unfinished = [u for some in self._work.workers.map_unordered(finish, specs) for u in some]
        if unfinished:
            named = "; ".join(f"{u.namespace} {u.what}: {u.reason}" for u in unfinished[:_NAMED])
            msg = f"commit: {len(unfinished)} constraints cannot be established: {named}"
            raise WriteRefused(msg)


def _at_target(collection: CollectionProgress) -> CollectionSpec:
    here = Collection(collection.target, collection.spec.collection.id)
    return replace(collection.spec, collection=here)


def _is_constrained(spec: CollectionSpec) -> bool:
    return any(i.get("unique") for i in spec.indexes)
