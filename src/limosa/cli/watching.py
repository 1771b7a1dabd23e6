"""`limosa status`, `list` and `verify`: look at migrations from any shell."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import IllegalTransition, StateError
from . import options
from .exits import Exit

if TYPE_CHECKING:
    from ..catalog import Folder
    from ..views.status import Status
    from .opened import Opened

#: Seconds between two looks of `status --watch`.
_WATCH_EVERY = 1.0


def status(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    json: options.Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every second until it is committed.")
    ] = False,
    server: options.Server = None,
) -> None:
    """Show how far a migration is, from any shell."""
    if server:
        from . import remote

        named = options.one_name(name, name_option)
        remote.status(server, name=named, state=state, as_json=json, watch=watch)
        return
    from .opened import opened

    with opened(options.one_name(name, name_option), state) as migration:
        if watch:
            _watch(migration, as_json=json)
        else:
            _show(migration.status(), as_json=json)


def list_known(json: options.Json = False) -> None:
    """List the migrations known here."""
    from .. import catalog
    from ..views.status import list_row, status_body
    from .output import print_json, print_table

    seen = [(folder, _look(folder)) for folder in catalog.known()]
    if json:
        print_json(
            [
                {"name": folder.name, "error": {"code": found.code, "message": str(found)}}
                if isinstance(found, StateError)
                else status_body(found)
                for folder, found in seen
            ]
        )
        return
    rows = [
        (folder.name, "unreadable", found.code, "–", "–", "–", "–")
        if isinstance(found, StateError)
        else list_row(found)
        for folder, found in seen
    ]
    head = ("name", "state", "phase", "driven", "started (UTC)", "source", "target")
    print_table(head, rows, none="no migration is known here")


def verify(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    again: Annotated[
        bool, typer.Option("--again", help="Have everything compared again, and wait for it.")
    ] = False,
    json: options.Json = False,
) -> None:
    """
    Show what was compared, and each mismatch.

    The exit code says the result: 0 all is equal, 4 there are mismatches, 6 not complete yet.
    """
    from .opened import opened

    with opened(options.one_name(name, name_option), state) as migration:
        if not migration.store.migration().verifies:
            msg = "nothing was compared: this migration runs with --no-verify"
            raise IllegalTransition(msg)
        if again:
            _verify_again(migration)
        raise typer.Exit(_report(migration, as_json=json))


def _look(folder: Folder) -> Status | StateError:
    from .opened import opened_folder

    try:
        with opened_folder(folder) as migration:
            return migration.status()
    except StateError as error:
        # One damaged state must not hide the others.
        return error


def _show(status: Status, *, as_json: bool) -> None:
    from ..views.status import status_body, status_rows
    from .output import print_json, print_pairs

    if as_json:
        print_json(status_body(status))
    else:
        print_pairs(status_rows(status))


def _watch(migration: Opened, *, as_json: bool) -> None:
    from ..state import State
    from .output import clear_screen

    on_screen = sys.stdout.isatty() and not as_json
    while True:
        found = migration.status()
        if on_screen:
            clear_screen()
        _show(found, as_json=as_json)
        ended = found.migration.state in (State.COMMITTED, State.FAILED)
        if ended and not found.is_driven:
            return
        if not (as_json or on_screen):
            typer.echo("")
        time.sleep(_WATCH_EVERY)


def _verify_again(migration: Opened) -> None:
    from ..catalog import is_driven
    from ..state import State

    state = migration.store.migration().state
    if state is not State.RUNNING:
        msg = f"cannot verify again while the migration is {state}"
        raise IllegalTransition(msg)
    if not is_driven(migration.folder):
        msg = "cannot verify again: no process drives the migration"
        raise IllegalTransition(msg, hint="run the same `limosa migrate` command again first")
    migration.store.reset_verification()
    if not migration.wait(lambda: _is_through(migration)):
        typer.echo("it was stopped before everything was compared again", err=True)


def _is_through(migration: Opened) -> bool:
    from ..views.status import is_verified

    return is_verified(migration.store.migration(), migration.store.suspects())


def _report(migration: Opened, *, as_json: bool) -> Exit:
    from ..views.status import mismatch_rows, verification_body
    from .output import print_json, print_pairs, print_table

    found, through = migration.status(), _is_through(migration)
    mismatches = migration.store.mismatches()
    body = verification_body(found, mismatches, is_complete=through)
    if as_json:
        print_json(body)
    else:
        print_pairs(_verification_rows(body))
    if mismatches and not as_json:
        print_table(("mismatch", "namespace", "key"), mismatch_rows(mismatches), none="")
        left = found.totals.mismatches - len(mismatches)
        typer.echo(f"and {left:,} more" if left > 0 else "", nl=left > 0)
    if found.totals.mismatches:
        return Exit.MISMATCHES
    return Exit.DONE if through else Exit.ILLEGAL


def _verification_rows(body: dict[str, Any]) -> list[tuple[str, str]]:
    from ..views.figures import count

    return [
        ("compared", count(body["comparedDocuments"])),
        ("equal", count(body["equalDocuments"])),
        ("compared again after changes", count(body["recheckedDocuments"])),
        ("to recheck", count(body["waitingForRecheck"])),
        ("mismatches", count(body["mismatches"])),
        ("complete", "yes" if body["isComplete"] else "no, see `limosa status`"),
    ]
