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
    no_verify: options.NoVerify = False,
) -> Settings:
    from ..settings import Settings

    return Settings.of(include=include or (), exclude=exclude or (), verify=not no_verify)


def _evaluated(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    # One by one: that of ``settings`` is not imported, which would slow `limosa --help` down.
    names = vars(inspect.getmodule(function))
    return {
        name: parameter.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            annotation=eval(parameter.annotation, names),  # noqa: S307 - our own source
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "settings"
    }
