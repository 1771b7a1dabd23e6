"""Changes of collections and indexes: carried over one at a time, between batches."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from .events import SchemaChanged, Warned
from .model import Collection, CollectionSpec, Namespace, SchemaChange, SchemaVerb
from .plan import evolved, planned
from .state import CollectionProgress
from .work import Work

#: The server fills such a collection without telling, then renames it over the original.
_FILLED_SILENTLY = re.compile(r"tmp\w+\.convertToCapped\.")


class SchemaChanges:
    """
    Knows under which name each of the source's collections stands on the target.

    What is carried over is recorded after it is done; one that is met again after a crash
    finds its work done and records it.
    """

    def __init__(self, work: Work, adopt: Callable[[CollectionSpec], None]) -> None:
        self._work = work
        self._adopt = adopt
        self._known: dict[str, CollectionProgress] | None = None
        #: Odd while a change is being carried over. Whoever compares both ends looks at it
        #: before and after: in between, names may have meant something else.
        self.epoch = 0

    def known(self, collection_id: str) -> CollectionProgress | None:
        """Return the collection with this id, if it is part of the migration."""
        return self._all().get(collection_id)

    def carry_over(self, change: SchemaChange) -> None:
        """Do to the target what was done to the source."""
        self.epoch += 1
        try:
            self._dispatch(change)
        finally:
            self.epoch += 1

    def _dispatch(self, change: SchemaChange) -> None:
        known = self.known(change.collection.id)
        match change.verb:
            case SchemaVerb.CREATE:
                self._create(change, known)
            case SchemaVerb.RENAME:
                self._rename(change, known)
            case SchemaVerb.DROP:
                if known is not None and not known.is_dropped:
                    self._drop(known)
            case SchemaVerb.CREATE_INDEXES | SchemaVerb.DROP_INDEXES | SchemaVerb.MODIFY:
                if known is not None and not known.is_dropped:
                    self._evolve(change, known)
                    self._save(replace(known, spec=evolved(known.spec, change)))

    def _create(self, change: SchemaChange, known: CollectionProgress | None) -> None:
        namespace = change.collection.namespace
        if known is not None or not self._work.settings.namespaces.includes(namespace):
            return  # planned already, or filtered
        new = planned(CollectionSpec(change.collection, options=change.detail))
        self._evolve(change, new)
        self._save(replace(new, is_indexed=True))

    def _rename(self, change: SchemaChange, known: CollectionProgress | None) -> None:
        assert change.to is not None
        is_included = self._work.settings.namespaces.includes(change.to)
        silently = _FILLED_SILENTLY.match(change.collection.namespace.collection)
        is_whole = known is not None and known.is_indexed and not known.is_dropped
        if known is not None and known.target == change.to and is_whole:
            return  # renamed before the plan was made, or carried over before a crash
        if is_included and (not is_whole or silently):
            self._take_in(change, known)
        elif known is not None and not known.is_dropped:
            self._move(change, change.to, known, is_included=is_included)

    def _move(
        self,
        change: SchemaChange,
        to: Namespace,
        known: CollectionProgress,
        *,
        is_included: bool,
    ) -> None:
        if not is_included:
            self._drop(known)
            return
        self._replace_at(to)
        self._evolve(change, known)
        spec = evolved(known.spec, change)
        self._save(replace(known, spec=spec, target=to))

    def _take_in(self, change: SchemaChange, known: CollectionProgress | None) -> None:
        """Copy a collection that came under the filter by a rename, as it is now."""
        if known is not None and not known.is_dropped:
            self._drop(known)
        assert change.to is not None
        self._replace_at(change.to)
        self._work.bus.emit(
            Warned(f"{change.collection} became {change.to} on the source: copying it whole")
        )
        found = [
            s for s in self._work.source.collections() if s.collection.id == change.collection.id
        ]
        for spec in found:  # none: gone already, as the change stream will say
            here = replace(spec, collection=Collection(change.to, spec.collection.id))
            self._save(planned(here))
            self._adopt(here)
            self._save(replace(planned(here), is_indexed=True))
        self._tell(change, change.to)

    def _replace_at(self, namespace: Namespace) -> None:
        for other in list(self._all().values()):
            if other.target == namespace and not other.is_dropped:
                self._drop(other)

    def _drop(self, known: CollectionProgress) -> None:
        change = SchemaChange(SchemaVerb.DROP, known.spec.collection)
        self._evolve(change, known)
        self._save(replace(known, is_dropped=True))

    def _evolve(self, change: SchemaChange, known: CollectionProgress) -> None:
        here = replace(change, collection=Collection(known.target))
        self._work.pace.retrying(
            f"carry over {change.verb} of {change.collection}",
            lambda: self._work.target.evolve(here),
        )
        self._tell(change, known.target)

    def _tell(self, change: SchemaChange, namespace: Namespace) -> None:
        detail = f"to {change.to}" if change.to else ""
        if "indexes" in change.detail:
            detail = ", ".join(i["name"] for i in change.detail["indexes"])
        self._work.bus.emit(SchemaChanged(change.verb, namespace, detail))

    def _save(self, progress: CollectionProgress) -> None:
        self._work.store.save_collection(progress)
        self._all()[progress.spec.collection.id] = progress

    def _all(self) -> dict[str, CollectionProgress]:
        if self._known is None:
            self._known = {c.spec.collection.id: c for c in self._work.store.collections()}
        return self._known
