"""`limosa plan` and `limosa doctor`: look at both ends and touch nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from . import options
from .asked import with_settings
from .exits import Exit

if TYPE_CHECKING:
    from ..connector import Finding
    from ..migrations import Plan
    from ..settings import Settings


@with_settings
def plan(
    source: options.Source,
    target: options.Target,
    *,
    settings: Settings,
    json: options.Json = False,
) -> None:
    """
    Show what would be migrated; touch nothing.

    Namespaces, sizes, partitions, indexes and the estimated time.
    """
    show_plan(source, target, settings, as_json=json)


@with_settings
def doctor(
    source: options.Source,
    target: options.Target,
    *,
    settings: Settings,
    json: options.Json = False,
) -> None:
    """
    Check whether both ends are fit, before anything moves.

    Each finding comes with what to do about it.
    """
    from .. import migrations
    from .output import print_json, print_table

    findings = migrations.examine(source, target, settings=settings)
    errors = sum(finding.level == "error" for _, finding in findings)
    if json:
        print_json({"isFit": not errors, "findings": [_finding_body(*each) for each in findings]})
    else:
        rows = [(f.level, role, f.check, f.message, f.advice) for role, f in findings]
        head = ("level", "end", "check", "found", "what to do")
        print_table(head, rows, none="nothing was found")
        typer.echo(_verdict(findings))
    if errors:
        raise typer.Exit(Exit.UNFIT)


def show_plan(
    source: str,
    target: str,
    settings: Settings,
    *,
    workers: int = 4,
    as_json: bool,
) -> None:
    """Print the plan of a migration, made without touching either end."""
    from .. import migrations
    from ..views.figures import count, duration, plural, size
    from .output import print_json, print_table

    made = migrations.plan(source, target, settings=settings, workers=workers)
    if as_json:
        print_json(_plan_body(made))
        return
    rows = [
        (
            str(each.spec.collection),
            str(each.target),
            count(each.spec.documents),
            size(each.spec.size),
            count(each.partitions),
            count(len(each.spec.indexes)),
        )
        for each in sorted(made.collections, key=lambda each: each.target)
    ]
    head = ("namespace", "target", "documents", "size", "partitions", "indexes")
    print_table(head, rows, none="nothing to migrate")
    typer.echo(
        f"{plural(len(made.collections), 'collection')}, about "
        f"{plural(made.documents, 'document')}, {size(made.bytes)}; "
        f"estimated copy: {duration(made.estimated)}"
    )


def _plan_body(made: Plan) -> dict[str, Any]:
    return {
        "collections": [
            {
                "namespace": str(each.spec.collection),
                "target": str(each.target),
                "estimatedDocuments": each.spec.documents,
                "estimatedBytes": each.spec.size,
                "partitions": each.partitions,
                "indexes": [str(index.get("name", "")) for index in each.spec.indexes],
            }
            for each in made.collections
        ],
        "estimatedDocuments": made.documents,
        "estimatedBytes": made.bytes,
        "estimatedSeconds": round(made.estimated.total_seconds(), 1),
    }


def _finding_body(role: str, finding: Finding) -> dict[str, str]:
    return {
        "end": role,
        "check": finding.check,
        "level": finding.level,
        "message": finding.message,
        "advice": finding.advice,
    }


def _verdict(findings: Sequence[tuple[str, Finding]]) -> str:
    from ..views.figures import plural

    levels = [finding.level for _, finding in findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    if not errors and not warnings:
        return "ready to migrate"
    stands = "not ready to migrate" if errors else "ready to migrate"
    return f"{stands}: {plural(errors, 'error')}, {plural(warnings, 'warning')}"
