"""Flags as programs written in Go take them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

_VALUES = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class TakesFlagsWithValues(TyperCommand):
    """A command whose flags may have a value: ``--flag=true``, and ``--flag=false`` for none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse *args* after the values of flags are gone."""
        flags = {
            name for each in self.params if getattr(each, "is_flag", False) for name in each.opts
        }
        return super().parse_args(ctx, [a for arg in args for a in _plain(arg, flags)])


def _plain(argument: str, flags: set[str]) -> list[str]:
    name, _, value = argument.partition("=")
    is_set = _VALUES.get(value.lower()) if name in flags else None
    if is_set is None:
        return [argument]  # none of those; what is wrong with it is said by who parses it
    return [name] if is_set else []
