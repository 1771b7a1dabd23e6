"""`limosa migrate`: drive a migration in this process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ConfigError
from . import listening, options
from .asked import with_settings
from .exits import Exit, exit_for_code, say
from .options import CommitWhen, LogFormat
from .throttling import with_limits

if TYPE_CHECKING:
    from ..limits import LimitChange
    from ..settings import Settings
    from ..state import Migration
    from ..views.status import Status
    from .display import Display


@with_settings
@with_limits
def migrate(
    source: options.Source,
    target: options.Target,
    *,
    settings: Settings,
    name: options.NewName = None,
    state: options.State = None,
    commit: options.Commit = CommitWhen.MANUAL,
    workers: options.Workers = 4,
    retry_for: options.RetryFor = "10m",
    read_from: options.ReadFromOption = None,
    listen: listening.Listen = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    log_format: options.Log = LogFormat.TEXT,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    limits: LimitChange,
) -> None:
    """
    Migrate SOURCE to TARGET while the application goes on.

    The same command after a stop or a crash goes on where it was. Ctrl-C once stops cleanly,
    twice at once; neither loses anything.
    """
    from .examining import show_plan

    if quiet and verbose:
        msg = "--quiet and --verbose exclude each other"
        raise ConfigError(msg, hint="give one of them")
    patience = options.span(retry_for)
    if dry_run:
        show_plan(source, target, settings, workers=workers, as_json=json)
        return
    from ..settings import ReadFrom
    from .display import Display

    display = Display.for_terminal(quiet=quiet, verbose=verbose, log_format=log_format, state=state)
    migration, stopped = _drive(
        source,
        target,
        display,
        settings=settings,
        name=name,
        state=state,
        commit=commit.value,
        workers=workers,
        retry_for=patience,
        limits=limits,
        read_from=read_from and ReadFrom(read_from.value),
        listen=listen,
    )
    _print_result(migration, state, as_json=json)
    raise typer.Exit(_end(migration, stopped, as_json=json or log_format is LogFormat.JSON))


def _drive(
    source: str, target: str, display: Display, *, listen: str | None, **given: Any
) -> tuple[Migration, Exit | None]:
    from .. import migrations
    from ..state import State
    from ..views.story import Level
    from .interrupts import Interrupts

    stop = threading.Event()
    folder = migrations.folder_of(source, target, name=given["name"], state=given["state"])
    with (
        Interrupts(stop, display.say) as interrupts,
        display,
        listening.shown(folder, listen, say=display.say) as url,
    ):
        if url:
            display.say(f"dashboard: {url}", level=Level.INFO, event="listening")
        migration = migrations.migrate(source, target, **given, on_event=display, stop=stop)
        if interrupts.exit is not None and migration.state not in (State.COMMITTED, State.FAILED):
            display.say(
                f"stopped: {migration.name} is {migration.state}; run the same command to go on"
            )
    return migration, interrupts.exit


def _print_result(migration: Migration, state: Path | None, *, as_json: bool) -> None:
    from ..state import State
    from ..views.status import status_body
    from .opened import opened
    from .output import print_json

    with opened(migration.name, state) as kept:
        status = kept.status()
    if as_json:
        print_json(status_body(status))
    elif migration.state is State.COMMITTED:
        typer.echo(_summary(status))


def _end(migration: Migration, stopped: Exit | None, *, as_json: bool) -> Exit:
    from ..state import State

    if migration.state is State.COMMITTED:
        return Exit.DONE
    failure = migration.failure
    if migration.state is not State.FAILED or failure is None:
        return stopped or Exit.INTERRUPTED
    code = exit_for_code(failure.code)
    hint = failure.hint or "correct the cause; then run the same command again"
    say(failure.message, hint=hint, code=failure.code, exit_code=code, as_json=as_json)
    return code


def _summary(status: Status) -> str:
    from ..views.figures import count, duration, size

    migration, totals = status.migration, status.totals
    compared = (
        f"{count(totals.documents_compared)} compared, {count(totals.mismatches)} mismatches"
        if migration.verifies
        else "not verified"
    )
    began, ended = migration.started_at, migration.committed_at
    took = f", in {duration(ended - began)}" if began and ended else ""
    return (
        f"{migration.name} is committed: {count(totals.documents_copied)} documents, "
        f"{size(totals.bytes_copied)} copied, {count(migration.changes_applied)} changes applied, "
        f"{compared}{took}"
    )
