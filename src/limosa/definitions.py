"""What is not a collection: views always, roles and users on request."""

from __future__ import annotations

from collections.abc import Sequence

from .connector import holds_definitions, takes_definitions
from .events import DefinitionsCarried
from .model import Definition, DefinitionKind, Namespace, Unfinished
from .plan import still_occupied
from .work import Work

#: Accounts of these are not those of one database: administrators, and users known elsewhere.
_OF_ALL_DATABASES = frozenset({"admin", "$external"})


def carry_over(work: Work) -> Sequence[Unfinished]:
    """
    Define on the target what is defined on the source now; return what could not be done.

    Called when the application has stopped writing, it needs to be told of no change.
    """
    if not (holds_definitions(work.source) and takes_definitions(work.target)):
        return []
    kinds = [DefinitionKind.VIEW]
    # On the way back they are where they came from.
    if work.settings.accounts and not work.settings.is_way_back:
        kinds += [DefinitionKind.ROLE, DefinitionKind.USER]  # a user has roles
    unfinished: list[Unfinished] = []
    for kind in kinds:
        unfinished += _carry_over(work, kind)
    return unfinished


def _carry_over(work: Work, kind: DefinitionKind) -> Sequence[Unfinished]:
    source, target = work.source, work.target
    assert holds_definitions(source)
    assert takes_definitions(target)
    wanted = work.pace.retrying(
        f"list the {kind}s",
        lambda: [d for d in source.definitions(kind) if _is_wanted(work, d)],
    )
    obstructed = _obstructed(work, wanted) if kind is DefinitionKind.VIEW else []
    wanted = [d for d in wanted if d not in obstructed]
    unfinished = [
        Unfinished(_place(work, d), "view", "the target had something of that name before")
        for d in obstructed
    ]
    if not wanted:
        return unfinished
    failed = work.pace.retrying(
        f"create the {kind}s",
        lambda: target.define(wanted, target_of=work.settings.target_of),
    )
    work.bus.emit(DefinitionsCarried(kind, len(wanted) - len(failed)))
    return [*unfinished, *failed]


def _obstructed(work: Work, views: Sequence[Definition]) -> list[Definition]:
    """Return those whose place on the target was taken before the migration, and is yet."""
    occupied = frozenset() if work.settings.is_way_back else work.store.occupied()
    if not any(_place(work, d) in occupied for d in views):
        return []
    occupied = still_occupied(work)
    return [d for d in views if _place(work, d) in occupied]


def _place(work: Work, view: Definition) -> Namespace:
    return work.settings.target_of(Namespace(view.database, view.name))


def _is_wanted(work: Work, definition: Definition) -> bool:
    namespaces = work.settings.namespaces
    if definition.kind is DefinitionKind.VIEW:
        return work.settings.includes(Namespace(definition.database, definition.name))
    if definition.database in _OF_ALL_DATABASES:
        return True
    # By the database as a whole: an account is not of one collection.
    collections = (c.spec.collection.namespace for c in work.store.collections())
    migrated = {n.database for n in collections}
    return definition.database in migrated or not (namespaces.include or namespaces.exclude)
