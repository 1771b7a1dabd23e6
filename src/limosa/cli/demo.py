"""`limosa demo`: a live migration between two throwaway servers, to watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .exits import Exit

if TYPE_CHECKING:
    from .demonstration import Demonstration

Documents = Annotated[int, typer.Option("--documents", min=1, help="Documents to begin with.")]
Rate = Annotated[int, typer.Option("--rate", min=1, help="Writes a second of the application.")]
Follow = Annotated[
    float,
    typer.Option("--follow", min=0, help="Seconds to follow the source before the cut-over."),
]


def demo_command(
    documents: Documents = 200_000,
    rate: Rate = 1_000,
    follow: Follow = 5.0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """
    Watch a live migration between two throwaway servers.

    It fills one, keeps an application writing to it, migrates, cuts over and compares both
    servers document by document. Needs nothing but a mongod, and leaves nothing behind.
    """
    shown = demo(documents=documents, rate=rate, follow=follow, quiet=quiet, verbose=verbose)
    if not shown.is_equal:
        raise typer.Exit(Exit.MISMATCHES)


def demo(
    *,
    documents: int = 200_000,
    rate: int = 1_000,
    follow: float = 5.0,
    quiet: bool = False,
    verbose: bool = False,
) -> Demonstration:
    """
    Run the demonstration, print its summary and return what was seen; *follow* is in seconds.

    Raises:
        EmbeddedUnavailable: there is no ``mongod``.
        PermanentError: the migration failed.
    """
    # Drivers and rich are loaded only now: `limosa --help` needs neither.
    from .demonstration import demonstrated, summarize
    from .display import Display

    return demonstrated(
        # Made when the migration starts: it counts the time from then on.
        lambda: Display.for_terminal(quiet=quiet, verbose=verbose),
        documents=documents,
        rate=rate,
        follow=follow,
        finish=summarize,
    )
