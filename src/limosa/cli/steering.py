"""`limosa pause`, `resume`, `commit`, `reverse` and `cleanup`: steer a migration from any shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, IllegalTransition, LeaseHeld, LimosaError, StateError
from . import options, remote
from .exits import Exit, exit_for_code, redacted, say

if TYPE_CHECKING:
    from pathlib import Path

    from ..catalog import Folder
    from ..state import Migration, State
    from .opened import Opened

_NOT_DRIVEN = "no process drives it: run the same `limosa migrate` command again"


def pause(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    server: options.Server = None,
) -> None:
    """
    Have the migration rest.

    Changes are captured all the while, so that none is lost.
    """
    if server:
        remote.steer(server, "pause", name=options.one_name(name, name_option), state=state)
        return
    from ..state import State

    _move(options.one_name(name, name_option), state, to=State.PAUSED)


def resume(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    server: options.Server = None,
) -> None:
    """Have a paused migration go on."""
    if server:
        remote.steer(server, "resume", name=options.one_name(name, name_option), state=state)
        return
    from ..state import State

    _move(options.one_name(name, name_option), state, to=State.RUNNING)


def commit(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the migration is committed.")
    ] = True,
    server: options.Server = None,
) -> None:
    """
    Cut over to the target and end the migration.

    The last changes are drained and the target completed. Stop the application's writes to the
    source first; it may write to the target as soon as this command says so.
    """
    if server:
        named = options.one_name(name, name_option)
        raise typer.Exit(remote.commit(server, name=named, state=state, wait=wait))
    from ..state import Migration, State
    from .opened import opened

    with opened(options.one_name(name, name_option), state) as migration:
        now = migration.store.migration()
        if now.state is not State.COMMITTING:
            now = migration.store.update(Migration.committing)
        typer.echo(f"{now.name} is {now.state}")
        if not _is_driven(migration):
            typer.echo(_NOT_DRIVEN)
            code = Exit.ILLEGAL if wait else Exit.DONE
        else:
            code = _wait_for_commit(migration) if wait else Exit.DONE
    raise typer.Exit(code)


def reverse(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    server: options.Server = None,
) -> None:
    """
    Have changes flow back from the target to the source.

    For a committed migration that was begun with --reversible. The same `limosa migrate` command
    again then follows the target, from the moment it became writable, until the next commit.
    """
    if server:
        remote.steer(server, "reverse", name=options.one_name(name, name_option), state=state)
        return
    from ..state import Migration
    from .opened import opened

    with opened(options.one_name(name, name_option), state) as migration:
        after = migration.store.update(Migration.reversing)
        typer.echo(f"{after.name} is {after.state}")
        if not _is_driven(migration):
            typer.echo(_NOT_DRIVEN)


def cleanup(
    name: options.NameArgument = None,
    name_option: options.NameOption = None,
    state: options.State = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also a migration that is not committed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    source: Annotated[
        str, typer.Option("--source", envvar="LIMOSA_SOURCE", help="URI of a blocked source.")
    ] = "",
    target: Annotated[
        str, typer.Option("--target", envvar="LIMOSA_TARGET", help="URI of a blocked target.")
    ] = "",
) -> None:
    """
    Remove the local state of a committed migration.

    Source and target stay as they are, except that writes which it has blocked are allowed again.
    """
    from .. import catalog

    folder = catalog.find(options.one_name(name, name_option), state)
    if catalog.is_driven(folder):
        msg = f"cannot clean up {folder.name!r}: a process drives it"
        raise LeaseHeld(msg)
    if not force:
        _refuse_unless_committed(folder)
    if not yes and not _agreed(f"Remove the state of {folder.name!r} in {folder.path}?"):
        typer.echo("nothing was removed")
        return
    _lift_blocks(folder, [uri for uri in (source, target) if uri], force=force)
    catalog.remove(folder)
    typer.echo(f"{folder.name} is removed")


def _lift_blocks(folder: Folder, uris: list[str], *, force: bool) -> None:
    from ..releasing import lift_blocks

    try:
        for end in lift_blocks(folder, uris):
            typer.echo(f"writes to the {end} are allowed again")
    except LimosaError as error:
        if not force:
            raise
        # What cannot be read, or not be reached, must not keep the state from being removed.
        typer.echo(f"writes may still be blocked: {redacted(str(error))}", err=True)


def _move(name: str | None, folder: Path | None, *, to: State) -> None:
    from .opened import opened

    with opened(name, folder) as migration:
        after = migration.store.update(lambda before: _moved(before, to))
        typer.echo(f"{after.name} is {after.state}")
        if not _is_driven(migration):
            typer.echo(_NOT_DRIVEN)


def _moved(before: Migration, to: State) -> Migration:
    from ..state import State

    if to is State.RUNNING and before.state is not State.PAUSED:
        # The engine itself moves a failed or new migration to RUNNING, when it is started.
        msg = f"cannot resume: the migration is {before.state}, not {State.PAUSED}"
        hint = "run the same `limosa migrate` command again" if before.failure else ""
        raise IllegalTransition(msg, hint=hint)
    return before.moved_to(to)


def _is_driven(migration: Opened) -> bool:
    from .. import catalog

    return catalog.is_driven(migration.folder)


def _wait_for_commit(migration: Opened) -> Exit:
    from ..state import State

    store = migration.store
    if migration.wait(lambda: store.migration().can_write):
        typer.echo("the application may write to the target")
    migration.wait(lambda: store.migration().state is State.COMMITTED)
    now = store.migration()
    if now.state is State.COMMITTED:
        typer.echo(f"{now.name} is {now.state}")
        return Exit.DONE
    if now.failure is not None:
        failure, code = now.failure, exit_for_code(now.failure.code)
        say(failure.message, hint=failure.hint, code=failure.code, exit_code=code, as_json=False)
        return code
    typer.echo(_NOT_DRIVEN)
    return Exit.ILLEGAL


def _refuse_unless_committed(folder: Folder) -> None:
    from ..state import State
    from .opened import opened_folder

    try:
        with opened_folder(folder) as migration:
            state = migration.store.migration().state
    except StateError as error:
        error.hint = f"{error.hint}; `limosa cleanup --force` removes what cannot be read"
        raise
    if state is not State.COMMITTED:
        msg = f"cannot clean up {folder.name!r}: it is {state}, not {State.COMMITTED}"
        hint = "--force removes it all the same; the migration cannot go on then"
        raise IllegalTransition(msg, hint=hint)


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        msg = "cannot ask: standard input is no terminal"
        raise ConfigError(msg, hint="give --yes")
    return typer.confirm(question)
