"""Changes of collections and indexes: carried over one at a time, between batches."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .errors import WriteRefused
from .events import SchemaChanged, Warned
from .model import Collection, CollectionSpec, Namespace, SchemaChange, SchemaVerb, is_hashed
from .plan import evolved, planned, present, refusal_to_filter, still_occupied
from .registry import Registry
from .settings import IndexMode
from .state import CollectionProgress
from .work import Work

#: The server fills such a collection without telling, then renames it over the original.
_FILLED_SILENTLY = re.compile(r"tmp\w+\.convertToCapped\.")


@dataclass(frozen=True, slots=True)
class Own:
    """Names on the target of what was copied there as a whole, and of what was moved away."""

    copied: frozenset[Namespace] = frozenset()
    moved: frozenset[Namespace] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.copied or self.moved)

    def __or__(self, other: Own) -> Own:
        return Own(self.copied | other.copied, self.moved | other.moved)


class SchemaChanges:
    """
    Knows under which name each of the source's collections stands on the target.

    What is carried over is recorded after it is done; one that is met again after a crash
    finds its work done and records it.
    """

    def __init__(
        self, work: Work, registry: Registry, adopt: Callable[[CollectionProgress], None]
    ) -> None:
        self._work = work
        self._registry = registry
        self._adopt = adopt
        # On the way back the target is where all names came from.
        self._occupied = work.store.occupied() if not work.settings.is_way_back else frozenset()
        #: Odd while a change is being carried over. Whoever compares both ends looks at it
        #: before and after: in between, names may have meant something else.
        self.epoch = 0
        self._own: deque[Own] = deque()  # taken by another thread
        self._lost: frozenset[str] = frozenset()

    def known(self, collection_id: str) -> CollectionProgress | None:
        """Return the collection with this id, if it is part of the migration."""
        return self._registry.get(collection_id)

    def own(self) -> Own:
        """Return what this has done on the target since it was last asked."""
        found = Own()
        while self._own:
            found |= self._own.popleft()
        return found

    def copy_again(self, lost: Iterable[CollectionProgress]) -> None:
        """Have `restore` copy what is *lost* on the target."""
        self._lost |= {known.spec.collection.id for known in lost}

    def restore(self) -> None:
        """Copy anew what is no longer on the target, if it is still on the source."""
        lost, self._lost = self._lost, frozenset()
        for known in filter(None, map(self.known, lost)):
            if not known.is_dropped:
                self.epoch += 1
                try:
                    self._restore(known)
                finally:
                    self.epoch += 1

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
                    change = self._less_hashed(change, known.spec)
                    if not self._is_left_alone(change):
                        self._evolve(change, known)
                    self._registry.save(replace(known, spec=evolved(known.spec, change)))

    def _less_hashed(self, change: SchemaChange, spec: CollectionSpec) -> SchemaChange:
        """Return *change* without the indexes that are left to others."""
        if not self._work.settings.indexes.leaves_hashed:
            return change
        detail = dict(change.detail)
        if "indexes" in detail:
            detail["indexes"] = [i for i in detail["indexes"] if not is_hashed(i)]
        if "index" in detail:
            name, key = detail["index"].get("name"), detail["index"].get("keyPattern")
            if not any(i["name"] == name or i["key"] == key for i in spec.indexes):
                del detail["index"]
        return replace(change, detail=detail)

    def _is_left_alone(self, change: SchemaChange) -> bool:
        mode, detail = self._work.settings.indexes, change.detail
        if mode is IndexMode.NEVER:
            return change.verb is not SchemaVerb.MODIFY or "index" in detail
        return mode.leaves_hashed and (not detail or detail.get("indexes") == [])

    def _create(self, change: SchemaChange, known: CollectionProgress | None) -> None:
        here = change.collection
        is_planned = known is not None and not known.is_dropped
        if is_planned or not self._work.settings.includes(here.namespace):
            return
        if known is not None:
            # Planned with the name it got later; what had that name before has replaced it.
            self._take_in(here, f"{here} is there again")
            return
        new = planned(CollectionSpec(here, options=change.detail), self._work.settings)
        if self._may_stand(new):
            self._evolve(replace(change, detail=new.spec.options), new)
            self._registry.save(replace(new, is_indexed=True))

    def _rename(self, change: SchemaChange, known: CollectionProgress | None) -> None:
        assert change.to is not None
        settings, to = self._work.settings, Collection(change.to, change.collection.id)
        silently = _FILLED_SILENTLY.match(change.collection.namespace.collection)
        is_there = known is not None and not known.is_dropped
        if not settings.includes(change.to):
            if known is not None and is_there:
                self._drop(known)
        elif known is None or not is_there or not known.is_indexed:
            self._take_in(to, f"{change.collection} became {to} on the source")
        elif known.spec.collection.namespace == change.to:
            return  # renamed before the plan was made, or carried over before a crash
        elif silently:
            self._take_in(to, f"{change.collection} became {to} on the source")
        elif settings.read_of(to).where != settings.read_of(known.spec.collection).where:
            self._take_in(to, f"{change.collection} became {to}, for which another filter stands")
        else:
            self._move(change, known)

    def _move(self, change: SchemaChange, known: CollectionProgress) -> None:
        assert change.to is not None
        self._replace_at(change.to, but=known)
        there = self._work.settings.target_of(change.to)
        moved = replace(known, spec=evolved(known.spec, change), target=there)
        if not self._may_stand(moved):
            self._drop(known)
            return
        if there != known.target:
            self._evolve(replace(change, to=there), known)
        self._registry.save(moved)

    def _take_in(self, here: Collection, why: str) -> None:
        """Copy a collection as it is now, under the name that it has got."""
        known = self.known(here.id)
        if known is not None and not known.is_dropped:
            self._drop(known)
        self._replace_at(here.namespace)
        self._work.bus.emit(Warned(f"{why}: copying it whole"))
        self._copy(here)

    def _restore(self, known: CollectionProgress) -> None:
        why = f"somebody has dropped or renamed {known.target} on the target"
        self._work.bus.emit(Warned(f"{why}: copying it whole again"))
        # What stands there now came with the next change, and has neither options nor indexes. It
        # is not recorded as dropped: a process that begins here has to do all of this again.
        self._evolve(SchemaChange(SchemaVerb.DROP, known.spec.collection), known)
        self._copy(known.spec.collection)

    def _copy(self, here: Collection) -> None:
        spec = self._present(here)
        if spec is None:
            return  # gone already, as the change stream will say
        new = planned(replace(spec, collection=here), self._work.settings)
        if self._may_stand(new):
            self._registry.save(new)
            self._adopt(new)
            self._own.append(Own(copied=frozenset({new.target})))
            self._registry.save(replace(new, is_indexed=True))
            self._work.bus.emit(SchemaChanged(SchemaVerb.CREATE, new.target))

    def _present(self, collection: Collection) -> CollectionSpec | None:
        return self._work.pace.retrying(
            f"look at {collection}", lambda: present(self._work.source, collection)
        )

    def _replace_at(self, namespace: Namespace, but: CollectionProgress | None = None) -> None:
        """Drop what had this name on the source: another one has it now."""
        spared = but and but.spec.collection.id
        for other in self._registry.on_source(namespace):
            if other.spec.collection.id != spared:
                self._drop(other)

    def _may_stand(self, new: CollectionProgress) -> bool:
        """
        Whether a collection may be written to where it will stand on the target.

        What the source has renamed or dropped since need not stand there; that comes later in
        the change stream.

        Raises:
            WriteRefused: something else stands there.
        """
        obstacle = self._obstacle(new)
        if not obstacle:
            return True
        here = new.spec.collection
        there = self._present(here)
        if there is None or there.collection.namespace != here.namespace:
            return False
        msg = f"carry over {here} as {new.target}: {obstacle}"
        hint = "rename or drop one of the two; then run the same command again"
        raise WriteRefused(msg, hint=hint)

    def _obstacle(self, new: CollectionProgress) -> str:
        if refusal := refusal_to_filter(new.spec, self._work.settings):
            return refusal
        # Where nothing is renamed, names are as different as they are on the source.
        renames = self._work.settings.renames.texts()
        others = self._registry.on_target(new.target) if renames else ()
        for other in others:
            if other.spec.collection.id != new.spec.collection.id:
                return f"{other.spec.collection} stands there"
        if new.target not in self._occupied:
            return ""
        self._occupied = still_occupied(self._work)
        return "that was there before the migration" if new.target in self._occupied else ""

    def _drop(self, known: CollectionProgress) -> None:
        change = SchemaChange(SchemaVerb.DROP, known.spec.collection)
        self._evolve(change, known)
        self._registry.save(replace(known, is_dropped=True))

    def _evolve(self, change: SchemaChange, known: CollectionProgress) -> None:
        here = replace(change, collection=Collection(known.target))
        if change.verb in {SchemaVerb.DROP, SchemaVerb.RENAME}:
            self._own.append(Own(moved=frozenset(filter(None, (known.target, change.to)))))
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
