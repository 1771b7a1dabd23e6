"""The commands of `limosa`, put together."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from . import driving, examining, running, serving, steering, throttling, watching
from .demo import demo_command
from .flags import TakesFlagsWithValues

app = typer.Typer(
    name="limosa",
    help="Move a live database to another one without stopping the application that uses it.",
    # Plain help: loading rich would double the time of `limosa --help`.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"limosa {installed_version('limosa')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def limosa(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Move a live database to another one without stopping the application that uses it."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("migrate")(driving.migrate)
app.command("run")(running.run)
app.command("plan")(examining.plan)
app.command("doctor")(examining.doctor)
app.command("status")(watching.status)
app.command("list")(watching.list_known)
app.command("verify")(watching.verify)
app.command("pause")(steering.pause)
app.command("resume")(steering.resume)
app.command("commit")(steering.commit)
app.command("reverse")(steering.reverse)
app.command("throttle")(throttling.throttle)
app.command("cleanup")(steering.cleanup)
app.command("serve", cls=TakesFlagsWithValues)(serving.serve)
app.command("demo")(demo_command)
