"""What a run would do, told without touching anything."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

from .. import catalog, migrations
from ..errors import UnknownMigration
from ..limits import Limits
from ..steps import APPLICATION, CAPTURE, CLEANUP, COPY, PREPARATION, in_steps
from ..views.figures import count, duration, plural, size
from ..views.limits import limit_rows
from .plan_file import PlanFile
from .tasks import named

_MEANINGS = {
    PREPARATION: "take the position, list the collections",
    CAPTURE: "follow the changes, cut the partitions",
    COPY: "copy the collections",
    APPLICATION: "apply changes, verify everything",
    CLEANUP: "commit, then what follows",
}


def outlook(plan: PlanFile) -> dict[str, Any]:
    """
    Return what a run of *plan* would do, as JSON without secrets.

    Raises:
        ConfigError: the request is wrong.
        TransientError, AccessDenied: the source could not be read.
    """
    source, target = plan.source.get_secret_value(), plan.target.get_secret_value()
    made = migrations.plan(source, target, settings=plan.as_settings(), workers=plan.workers)
    folder = migrations.folder_of(source, target, name=plan.name, state=plan.state)
    return {
        "name": folder.name,
        "stateFolder": str(folder.path),
        "collections": len(made.collections),
        "documents": made.documents,
        "bytes": made.bytes,
        "estimatedSeconds": round(made.estimated.total_seconds(), 1),
        "steps": _steps(plan, made),
        "limits": _limits(plan, folder).stored(),
        "attempts": plan.attempts,
        "delaySeconds": plan.delay.total_seconds(),
        "backoff": plan.backoff,
        "timeoutSeconds": None if plan.timeout is None else plan.timeout.total_seconds(),
        "cutover": plan.cutover,
        "after": [named(task) for task in plan.after],
        "notify": [[moment.value for moment in each.on] for each in plan.notify],
    }


def outlook_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the same for people, as names and values."""
    limit = found["timeoutSeconds"]
    rows = [
        ("migration", found["name"]),
        ("state", found["stateFolder"]),
        (
            "to copy",
            f"{plural(found['collections'], 'collection')}, about {count(found['documents'])} "
            f"documents, {size(found['bytes'])}, in about "
            f"{duration(timedelta(seconds=found['estimatedSeconds']))}",
        ),
        ("attempts", f"{found['attempts']} of each step, {found['delaySeconds']:g} s apart"),
        ("time limit", "none" if limit is None else duration(timedelta(seconds=limit))),
    ]
    rows += limit_rows(Limits.restored(found["limits"]))
    for number, step in enumerate(found["steps"], start=1):
        rows.append((f"step {number}", _step_text(step)))
    waits = "when ready" if found["cutover"] == "when-ready" else "when a person commits"
    rows.append(("cut over", waits))
    rows += [(f"task {i}", task) for i, task in enumerate(found["after"], start=1)]
    rows += [(f"notify {i}", ", ".join(on)) for i, on in enumerate(found["notify"], start=1)]
    return rows


def _limits(plan: PlanFile, folder: catalog.Folder) -> Limits:
    """Return the limits that will hold: those kept in the state, as far as the plan names none."""
    change = plan.limits.as_change()
    try:
        with closing(catalog.watch(folder)) as store:
            return change.applied_to(store.migration().limits)
    except UnknownMigration:
        return change.applied_to(Limits())


def _steps(plan: PlanFile, made: migrations.Plan) -> list[dict[str, Any]]:
    named_ones = plan.as_settings().steps
    chosen = in_steps(
        named_ones,
        ((c.spec.collection.namespace, str(c.spec.collection)) for c in made.collections),
    )
    collections = dict(chosen) if named_ones else {}
    return [
        {
            "name": name,
            "does": _MEANINGS.get(name, "copy") if not named_ones or name == CLEANUP else "copy",
            "collections": collections.get(name, []),
            "hooksBefore": sum(h.is_for(name, before=True) for h in plan.hooks),
            "hooksAfter": sum(h.is_for(name, before=False) for h in plan.hooks),
        }
        for name in plan.step_names
        if not named_ones or name == CLEANUP or name in collections
    ]


def _step_text(step: Mapping[str, Any]) -> str:
    text = f"{step['name']}: {step['does']}"
    if step["collections"]:
        text += f" {', '.join(step['collections'])}"
    for when in ("Before", "After"):
        if hooks := step[f"hooks{when}"]:
            text += f"; {plural(hooks, 'hook')} {when.lower()}"
    return text
