"""The options that say what is migrated, shared by every command that begins or plans it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import options

if TYPE_CHECKING:
    from ..settings import Settings


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* these options, in place of its parameter ``settings``."""
    names = _evaluated(_settings)
    own = {n: p for n, p in _evaluated(command).items() if n != "settings"}

    @functools.wraps(command)
    def asked(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in names}
        command(**given, settings=_settings(**chosen))

    together = sorted({**own, **names}.values(), key=lambda p: p.default is not p.empty)
    asked.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined] # is read
    asked.__annotations__ = {p.name: p.annotation for p in together}
    return asked


def _settings(
    *,
    include: options.Include = None,
    exclude: options.Exclude = None,
    rename: options.Rename = None,
    filter: options.Filter = None,
    existing: options.ExistingData = options.OnTarget.KEEP,
    no_verify: options.NoVerify = False,
    block_writes: options.BlockWrites = options.Blocked.NONE,
    reversible: options.Reversible = False,
    indexes: options.Indexes = options.IndexesWhen.AFTER,
    accounts: options.Accounts = False,
) -> Settings:
    from ..settings import IndexMode, Settings, WriteBlocking

    return Settings.of(
        include=include or (),
        exclude=exclude or (),
        renames=rename or (),
        filters=filter or (),
        existing=existing.value,
        verify=not no_verify,
        write_blocking=WriteBlocking(block_writes.value),
        reversible=reversible,
        indexes=IndexMode(indexes.value),
        accounts=accounts,
    )


def _evaluated(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    # One by one: that of ``settings`` is not imported, which would slow `limosa --help` down.
    names = vars(inspect.getmodule(function))
    return {
        name: parameter.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            annotation=eval(a, names) if isinstance(a, str) else a,  # noqa: S307 - our own source
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "settings"
        for a in (parameter.annotation,)
    }
