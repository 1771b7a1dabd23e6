"""Options that several commands share and that make one value together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

Command: TypeAlias = Callable[..., None]


def grouped(parameter: str, made: Callable[..., Any]) -> Callable[[Command], Command]:
    """Return what gives a command the options that *made* takes, in place of *parameter*."""

    def give(command: Command) -> Command:
        options = _evaluated(made)
        own = {n: p for n, p in _evaluated(command).items() if n != parameter}

        @functools.wraps(command)
        def asked(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in options}
            command(**given, **{parameter: made(**chosen)})

        together = sorted({**own, **options}.values(), key=lambda p: p.default is not p.empty)
        asked.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined] # is read
        asked.__annotations__ = {p.name: p.annotation for p in together}
        return asked

    return give


def _evaluated(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    names = vars(inspect.getmodule(function))
    return {
        name: parameter.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            annotation=eval(parameter.annotation, names)  # noqa: S307 - our own source
            if _is_option(parameter)
            else parameter.annotation,
        )
        for name, parameter in inspect.signature(function).parameters.items()
    }


def _is_option(parameter: inspect.Parameter) -> bool:
    """Whether it comes from the command line, in words that are not evaluated yet."""
    # A value that is put in place of options has no default and must be named. Its type is not
    # imported, which would slow `limosa --help` down.
    is_made = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    return isinstance(parameter.annotation, str) and not is_made
