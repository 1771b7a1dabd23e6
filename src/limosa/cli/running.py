"""`limosa run`: a migration driven to its end as a plan file says."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from . import listening, options
from .exits import Exit, exit_for_code, say
from .options import LogFormat

if TYPE_CHECKING:
    from ..run.managed import Ended
    from ..run.plan_file import PlanFile
    from ..run.secrecy import Secrets
    from .display import Display

PlanArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="The plan file, YAML.", show_default=False),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done and touch nothing.")
]
Schema = Annotated[
    bool, typer.Option("--schema", help="Print the JSON Schema of plan files and exit.")
]


def run(
    file: PlanArgument = None,
    *,
    listen: listening.Listen = None,
    dry_run: DryRun = False,
    schema: Schema = False,
    json: options.Json = False,
    log_format: options.Log = LogFormat.TEXT,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """
    Drive a migration to its end as FILE says.

    With attempts, a time limit, health checks, hooks, the cut-over, tasks that follow it, and
    notifications. The same command again goes on where it was.
    """
    if quiet and verbose:
        msg = "--quiet and --verbose exclude each other"
        raise ConfigError(msg, hint="give one of them")
    if schema:
        _print_schema()
        return
    if file is None:
        msg = "expected the name of a plan file"
        raise ConfigError(msg)
    from ..run.plan_file import load

    plan, secrets = load(file, os.environ)
    if dry_run:
        _show(plan, as_json=json)
        return
    from .display import Display

    display = Display.for_terminal(
        quiet=quiet, verbose=verbose, log_format=log_format, state=plan.state
    )
    ended, stopped = _drive(plan, secrets, display, listen=listen)
    if json:
        _print_ended(ended, plan)
    raise typer.Exit(_end(ended, stopped, as_json=json or log_format is LogFormat.JSON))


def _drive(
    plan: PlanFile, secrets: Secrets, display: Display, *, listen: str | None
) -> tuple[Ended, Exit | None]:
    from ..run.managed import ManagedRun
    from ..views.story import Level
    from .interrupts import Interrupts

    stop = threading.Event()
    managed = ManagedRun(plan, secrets, on_event=display, stop=stop)
    with (
        Interrupts(stop, display.say) as interrupts,
        display,
        listening.shown(managed.folder, listen, say=display.say) as url,
    ):
        if url:
            display.say(f"dashboard: {url}", level=Level.INFO, event="listening")
        ended = managed.run()
        if ended.was_stopped:
            display.say(f"stopped in step {ended.result['step']}; run the same command to go on")
    return ended, interrupts.exit


def _end(ended: Ended, stopped: Exit | None, *, as_json: bool) -> Exit:
    if ended.was_stopped:
        return stopped or Exit.INTERRUPTED
    failure = ended.failure
    if failure is None:
        if not as_json:
            typer.echo(f"{ended.migration.name} is {ended.result['status']}")
        return Exit.DONE
    code = _exit_for(failure.code)
    hint = failure.hint or "correct the cause; then run the same command again"
    say(failure.message, hint=hint, code=failure.code, exit_code=code, as_json=as_json)
    return code


def _exit_for(code: str) -> Exit:
    from ..run.errors import IntegrityFailed, codes_of

    if code in codes_of(ConfigError):
        return Exit.USAGE
    return Exit.MISMATCHES if code == IntegrityFailed.code else exit_for_code(code)


def _print_ended(ended: Ended, plan: PlanFile) -> None:
    from ..views.status import status_body
    from .opened import opened
    from .output import print_json

    with opened(ended.migration.name, plan.state) as kept:
        status = kept.status()
    print_json({"result": ended.result, "migration": status_body(status)})


def _print_schema() -> None:
    import json

    from ..run.plan_file import schema

    typer.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


def _show(plan: PlanFile, *, as_json: bool) -> None:
    """Show what a run would do: the order of everything, and how much there is to copy."""
    from ..run.outlook import outlook, outlook_rows
    from .output import print_json, print_pairs

    found = outlook(plan)
    if as_json:
        print_json(found)
    else:
        print_pairs(outlook_rows(found))
