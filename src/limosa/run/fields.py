"""What the fields of a plan file are made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from ..errors import LimosaError


class Section(BaseModel):
    """A part of a plan file: all of its fields are known, and none is repeated in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def checked(make: Callable[[], object]) -> None:
    """Have *make* refuse what it does not understand, in the way of a validator."""
    try:
        make()
    except LimosaError as exc:
        raise ValueError(str(exc)) from exc


def _span(value: object) -> object:
    """Take ``90``, ``90s``, ``10m`` or ``1h30m``."""
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", str(value).strip())
    if not str(value).strip() or found is None:
        msg = "expected a span such as 90s, 10m or 1h30m"
        raise ValueError(msg)
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    try:
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as exc:
        msg = "expected a shorter span"
        raise ValueError(msg) from exc


def _latency(value: object) -> object:
    """Take ``500ms`` or ``2s``; a number alone would be seconds here and milliseconds there."""
    if value is None or isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"(\d{1,9})(ms|s)|0", str(value).strip())
    if found is None:
        msg = "expected a span such as 500ms or 2s"
        raise ValueError(msg)
    number, unit = found.groups()
    return timedelta(milliseconds=int(number or 0) * (1000 if unit == "s" else 1))


def _command(value: object) -> object:
    """Take a list of words, or a line for the shell."""
    if isinstance(value, str) and value.strip():
        return ("/bin/sh", "-c", value)
    if not isinstance(value, list | tuple) or not value:
        msg = "expected a command: a list of words, or a line for the shell"
        raise ValueError(msg)
    return tuple(map(str, value))


_SPAN = {"type": ["string", "integer"], "pattern": r"^([0-9]+h)?([0-9]+m)?([0-9]+s?)?$"}
_LATENCY = {"anyOf": [{"type": "string", "pattern": r"^([0-9]{1,9}(ms|s)|0)$"}, {"const": 0}]}
_COMMAND = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ]
}
Span = Annotated[timedelta, BeforeValidator(_span), WithJsonSchema(_SPAN)]
Latency = Annotated[timedelta, BeforeValidator(_latency), WithJsonSchema(_LATENCY)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command), WithJsonSchema(_COMMAND)]
