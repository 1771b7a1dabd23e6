"""`limosa throttle`: how much of both servers a migration may take, while it runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from . import options
from .grouped import grouped

if TYPE_CHECKING:
    from ..limits import LimitChange, Limits

LoadLevel: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--load-level",
        metavar="1-4",
        help="1 gentle, 2 half, 3 full unless the servers suffer, 4 full in any case.",
        show_default=False,
    ),
]
DocumentsPerSecond: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--documents-per-second", metavar="N", help="At most so many; 0 lifts.", show_default=False
    ),
]
MegabytesPerSecond: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--megabytes-per-second", metavar="N", help="At most so many; 0 lifts.", show_default=False
    ),
]
MaxLag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-lag",
        metavar="SPAN",
        help="Slow down when a member is further behind; 0 never.",
        show_default=False,
    ),
]
MaxLatency: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--max-latency",
        metavar="MILLISECONDS",
        help="Slow down when an answer takes longer; 0 never.",
        show_default=False,
    ),
]
MaxQueue: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--max-queue",
        metavar="N",
        help="Slow down when more operations wait for their turn; 0 never.",
        show_default=False,
    ),
]
TimeWindow: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--window",
        metavar="FROM-TO",
        help="Load level 1 outside of such times of day; repeatable; 'always' lifts.",
        show_default=False,
    ),
]


def _change(
    *,
    load_level: LoadLevel = None,
    documents_per_second: DocumentsPerSecond = None,
    megabytes_per_second: MegabytesPerSecond = None,
    max_lag: MaxLag = None,
    max_latency: MaxLatency = None,
    max_queue: MaxQueue = None,
    window: TimeWindow = None,
) -> LimitChange:
    from ..limits import LimitChange, Window

    windows = None
    if window:
        windows = tuple(Window.parse(w) for w in window if w != "always")
    return LimitChange(
        load_level=load_level,
        documents_per_second=documents_per_second,
        megabytes_per_second=megabytes_per_second,
        max_lag=None if max_lag is None else options.span(max_lag),
        max_latency=None if max_latency is None else timedelta(milliseconds=max_latency),
        max_queue=max_queue,
        windows=windows,
    )


#: Gives a command these options, in place of its parameter ``limits``.
with_limits = grouped("limits", _change)


@with_limits
def throttle(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    off: Annotated[
        bool, typer.Option("--off", help="Lift all limits, the automatic ones too.")
    ] = False,
    json: options.Json = False,
    *,
    limits: LimitChange,
) -> None:
    """
    Show or change how much of both servers a migration may take, while it runs.

    What is not named stays as it is. Capture is never slowed down, and nothing is once a commit
    is asked for.
    """
    from ..limits import LimitChange
    from .opened import opened
    from .output import print_json, print_pairs

    change = replace(limits, is_off=off)
    with opened(options.one_name(name, name_option), state) as migration:
        if change != LimitChange():
            migration.store.update(lambda m: replace(m, limits=change.applied_to(m.limits)))
        status = migration.status()
    found = status.migration.limits
    if json:
        body = {"limits": found.stored(), "throttled": status.throttled or None}
        print_json({"name": status.migration.name, **body})
    else:
        print_pairs([("migration", status.migration.name), *limit_rows(found)])


def limit_rows(limits: Limits) -> list[tuple[str, str]]:
    """Return what a person wants to know of *limits*, as names and values."""
    from ..limits import REGARDFUL_LEVEL
    from ..views.figures import duration

    def rate(value: float, unit: str) -> str:
        return f"{value:,g} {unit}" if value else "no limit"

    level = limits.load_level
    windows = ", ".join(map(str, limits.windows))
    rows = [
        ("load level", f"{level} in {windows}, else 1" if windows else str(level)),
        ("documents", rate(limits.documents_per_second, "a second")),
        ("data", rate(limits.megabytes_per_second, "MB a second")),
    ]
    if level > REGARDFUL_LEVEL:
        return [*rows, ("slows down by itself", "no")]
    over = [
        f"replication lag {duration(limits.max_lag)}" if limits.max_lag else "",
        f"latency {limits.max_latency.total_seconds() * 1_000:,g} ms" if limits.max_latency else "",
        f"queue {limits.max_queue:,} operations" if limits.max_queue else "",
    ]
    return [*rows, ("slows down by itself", f"over {', '.join(filter(None, over))}")]
