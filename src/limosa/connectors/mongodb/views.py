"""Views: they hold no documents, so what counts is that the last definition arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from ...errors import CollectionGone, WriteRefused
from ...model import Definition, DefinitionKind, Namespace, Unfinished
from . import errors
from .commands import alter, code_of
from .deployment import PLAIN, Deployment
from .options import listed as listed_options
from .options import without_version

_LISTED_AT_ONCE = 1_000
#: Stages that read another collection or view, and the field that names it.
_READING_STAGES = {
    "$lookup": "from",
    "$graphLookup": "from",
    "$unionWith": "coll",
}


def listed(deployment: Deployment, databases: Sequence[str]) -> Iterator[Definition]:
    """Yield the views of *databases*, each with its options as the server lists them."""
    for database in databases:
        command = {"listCollections": 1, "filter": {"type": "view"}, "cursor": {}}
        doing = f"list the views of {database}"
        for batch in deployment.batches(database, command, doing=doing, batch_size=_LISTED_AT_ONCE):
            for entry in batch.documents:
                yield Definition(
                    DefinitionKind.VIEW, database, entry["name"], bytes(entry["options"].raw)
                )


def define(
    deployment: Deployment,
    views: Sequence[Definition],
    *,
    target_of: Callable[[Namespace], Namespace],
) -> list[Unfinished]:
    """
    Create *views*, those that others are made of first; return what cannot be done.

    They and what they read stand under the names that *target_of* gives theirs.
    """
    unfinished = []
    for view in _in_order(views):
        namespace = target_of(Namespace(view.database, view.name))
        try:
            options = _renamed(view, namespace, target_of)
            _define(deployment, namespace, options)
        except WriteRefused as exc:
            unfinished.append(Unfinished(namespace, "view", str(exc)))
    return unfinished


def _renamed(
    view: Definition, namespace: Namespace, target_of: Callable[[Namespace], Namespace]
) -> dict[str, Any]:
    """Return the options of *view* with the target's names for all that it reads."""

    def name_of(name: str) -> str:
        there = target_of(Namespace(view.database, name))
        if there.database != namespace.database:
            msg = f"view {view.database}.{view.name} would have to read {there} of another database"
            raise WriteRefused(msg, hint="rename both into one database, or exclude the view")
        return there.collection

    raw = RawBSONDocument(view.content)
    names = {name: name_of(name) for name in _read_by(view)}
    if all(old == new for old, new in names.items()):
        return dict(raw)  # as it came, to the byte
    options = bson.decode(view.content, PLAIN)
    return {
        **options,
        "viewOn": names[options["viewOn"]],
        "pipeline": _with_names(options.get("pipeline", []), names),
    }


def _define(deployment: Deployment, view: Namespace, options: dict[str, Any]) -> None:
    if "collation" in options:
        options["collation"] = without_version(options["collation"])
    command = {"create": view.collection, **options}
    doing = f"create view {view}"
    try:
        alter(deployment, view.database, command, doing=doing)
    except WriteRefused as exc:
        if code_of(exc) != errors.NAMESPACE_EXISTS or not _is_view(deployment, view):
            raise
        # There with another definition, as after a commit that was refused.
        with suppress(CollectionGone):
            alter(deployment, view.database, {"drop": view.collection}, doing=doing)
        alter(deployment, view.database, command, doing=doing)


def _is_view(deployment: Deployment, view: Namespace) -> bool:
    entry = listed_options(deployment, view)
    return entry is not None and entry.get("type") == "view"


def _in_order(views: Sequence[Definition]) -> list[Definition]:
    known = {(v.database, v.name): v for v in views}
    graph = {
        key: {(v.database, name) for name in _read_by(v)} & known.keys() for key, v in known.items()
    }
    try:
        return [known[key] for key in TopologicalSorter(graph).static_order()]
    except CycleError:
        return list(views)  # the server refuses one of them, and says why


def _read_by(view: Definition) -> Iterator[str]:
    options = bson.decode(view.content, PLAIN)
    yield str(options["viewOn"])
    yield from _named_in(options.get("pipeline", []))


def _named_in(value: Any) -> Iterator[str]:
    """Yield what the stages in *value*, at whatever depth, read."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            field = _READING_STAGES.get(name)
            if field and isinstance(inner, str):
                yield inner
            elif field and isinstance(inner, Mapping) and isinstance(inner.get(field), str):
                yield inner[field]
            yield from _named_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named_in(inner)


def _with_names(value: Any, names: Mapping[str, str]) -> Any:
    """Return *value* with what its stages read under other *names*."""
    if isinstance(value, list):
        return [_with_names(inner, names) for inner in value]
    if not isinstance(value, Mapping):
        return value
    changed = {}
    for name, inner in value.items():
        field = _READING_STAGES.get(name)
        new = _with_names(inner, names)
        if field and isinstance(new, str):
            new = names[new]
        elif field and isinstance(new, dict) and isinstance(new.get(field), str):
            new[field] = names[new[field]]
        changed[name] = new
    return changed
