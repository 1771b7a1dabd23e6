"""`limosa throttle`: how much of both servers a migration may take, while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from . import options
from .grouped import grouped

if TYPE_CHECKING:
    from ..limits import LimitChange

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
    server: options.Server = None,
    *,
    limits: LimitChange,
) -> None:
    """
    Show or change how much of both servers a migration may take, while it runs.

    What is not named stays as it is. Capture is never slowed down, and nothing is once a commit
    is asked for.
    """
    from ..limits import LimitChange

    change = replace(limits, is_off=off)
    named = options.one_name(name, name_option)
    if server:
        from . import remote

        _show(remote.throttle(server, change, name=named, state=state), as_json=json)
        return
    from ..views.status import status_body
    from .opened import opened

    with opened(named, state) as migration:
        if change != LimitChange():
            migration.store.update(lambda m: replace(m, limits=change.applied_to(m.limits)))
        _show(status_body(migration.status()), as_json=json)


def _show(body: Mapping[str, Any], *, as_json: bool) -> None:
    """Show the limits in the *body* of a status."""
    from ..limits import Limits
    from ..views.limits import limit_rows
    from .output import print_json, print_pairs

    if as_json:
        print_json({name: body[name] for name in ("name", "limits", "throttled")})
    else:
        rows = limit_rows(Limits.restored(body["limits"]))
        print_pairs([("migration", body["name"]), *rows])
