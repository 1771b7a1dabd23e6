"""Commands about a migration behind a server: `--server http://…`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ConfigError
from .exits import Exit
from .output import clear_screen, print_json, print_pairs

if TYPE_CHECKING:
    from pathlib import Path

    from ..client import Client, Verb
    from ..limits import LimitChange

#: Seconds between two looks while a commit is waited for.
_LOOK_EVERY = 0.5
#: The same of `status --watch`.
_WATCH_EVERY = 1.0


def steer(server: str, verb: Verb, *, name: str | None, state: Path | None) -> None:
    """Have the server do what *verb* says, and say in which state the migration is then."""
    client = _client(server, name, state)
    client.call(verb)
    _say_state(client)


def commit(server: str, *, name: str | None, state: Path | None, wait: bool) -> Exit:
    """Ask for the commit and, if *wait* is set, return how it has ended."""
    client = _client(server, name, state)
    if client.progress()["progress"]["state"] != "COMMITTING":
        client.call("commit")
    _say_state(client)
    return _ended(client) if wait else Exit.DONE


def status(
    server: str, *, name: str | None, state: Path | None, as_json: bool, watch: bool
) -> None:
    """Show what the server knows, as for a local state, once or until the migration has ended."""
    from ..views.rows import rows_of

    client = _client(server, name, state)
    on_screen = watch and sys.stdout.isatty() and not as_json
    while True:
        body = client.status()
        progress = client.progress() if body is None else {}  # of mongosync itself
        if on_screen:
            clear_screen()
        if as_json:
            print_json(body or progress)
        else:
            print_pairs(_rows(progress) if body is None else rows_of(body))
        shown = progress["progress"]["state"] if body is None else body["state"]
        if not watch or shown in ("COMMITTED", "FAILED"):
            return
        if not (as_json or on_screen):
            typer.echo("")
        time.sleep(_WATCH_EVERY)


def throttle(
    server: str, change: LimitChange, *, name: str | None, state: Path | None
) -> dict[str, Any]:
    """
    Have the server apply *change*, if it is one, and return the status.

    Raises:
        ServerRefused: it did not, or does not know of limits.
    """
    from ..client import ServerRefused

    client = _client(server, name, state)
    body = client.status() if change.is_empty else client.throttle(change.asked())
    if body is None:
        msg = f"ask for the limits: {server} is no `limosa serve`"
        raise ServerRefused(msg)
    return body


def _client(server: str, name: str | None, state: Path | None) -> Client:
    from ..client import Client

    if name or state:
        msg = "a server has one migration: --server goes without a name and --state"
        raise ConfigError(msg, hint="leave them out")
    return Client.of(server)


def _say_state(client: Client) -> None:
    typer.echo(f"the migration is {client.progress()['progress']['state']}")


def _ended(client: Client) -> Exit:
    is_told = False
    while True:
        answer = client.progress()
        progress = answer["progress"]
        if progress["canWrite"] and not is_told:
            typer.echo("the application may write to the target")
            is_told = True
        if progress["state"] == "COMMITTED":
            typer.echo("the migration is COMMITTED")
            return Exit.DONE
        if progress["state"] == "FAILED":
            typer.echo(f"error: {answer.get('errorDescription')}", err=True)
            is_different = answer.get("error") == "VerificationFailed"
            return Exit.MISMATCHES if is_different else Exit.FAILED
        time.sleep(_LOOK_EVERY)


def _rows(answer: dict[str, Any]) -> list[tuple[str, str]]:
    progress = answer["progress"]
    direction = progress["directionMapping"] or {}
    copy = progress["collectionCopy"] or {}
    rows = [
        ("source", direction.get("Source")),
        ("target", direction.get("Destination")),
        ("state", progress["state"]),
        ("phase", progress["info"]),
        ("copied bytes", copy.get("estimatedCopiedBytes")),
        ("of about", copy.get("estimatedTotalBytes")),
        ("events applied", progress["totalEventsApplied"]),
        ("lag in seconds", progress["lagTimeSeconds"]),
        ("can commit", "yes" if progress["canCommit"] else "no"),
        ("can write to the target", "yes" if progress["canWrite"] else "no"),
        ("failure", answer.get("errorDescription")),
    ]
    return [(name, str(value)) for name, value in rows if value is not None]
