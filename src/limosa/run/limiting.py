"""How much of both servers a managed run may take."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ..limits import LEVELS, LimitChange, Window
from .fields import Latency, Section, Span, checked


def _window(text: str) -> str:
    checked(lambda: Window.parse(text))
    return text


_WINDOW = {"type": "string", "pattern": r"^\s*[0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2}\s*$"}
TimeWindow = Annotated[str, AfterValidator(_window), WithJsonSchema(_WINDOW)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is not named stays as it is, which is no default; null lifts a limit, but no level."""
    for each in schema["properties"].values():
        del each["default"]
    level = schema["properties"]["load_level"]
    level |= level.pop("anyOf")[0]


class LimitsSection(Section):
    """
    Limits that hold from the start of the run on; one that is not named stays as it is.

    Zero or null lifts one.
    """

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    load_level: Annotated[int, Field(ge=min(LEVELS), le=max(LEVELS))] | None = Field(
        default=None,
        description="1 gentle, 2 half, 3 full unless the servers suffer, 4 full in any case",
    )
    documents_per_second: Rate | None = Field(
        default=None, description="at most so many, of all workers together"
    )
    megabytes_per_second: Rate | None = Field(
        default=None, description="at most so many, of all workers together"
    )
    max_lag: Span | None = Field(
        default=None, description="slow down when a member is further behind"
    )
    max_latency: Latency | None = Field(
        default=None, description="slow down when an answer takes longer: 500ms, 2s"
    )
    max_queue: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="slow down when more operations wait for their turn"
    )
    windows: list[TimeWindow] | None = Field(
        default=None, description="load level 1 outside of these times of day: 22:00-06:00"
    )

    @field_validator("load_level", mode="before")
    @classmethod
    def _is_level(cls, level: object) -> object:
        if level is None:
            msg = "expected 1, 2, 3 or 4"
            raise ValueError(msg)
        return level

    @model_validator(mode="after")
    def _understood(self) -> LimitsSection:
        checked(self.as_change)
        return self

    def as_change(self) -> LimitChange:
        """Return what the run changes of the limits that the migration has."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        if "windows" in given:
            given["windows"] = tuple(Window.parse(w) for w in given["windows"] or ())
        return LimitChange(**{n: _NONE[n] if v is None else v for n, v in given.items()})


#: What lifts a limit.
_NONE: dict[str, Any] = {
    "documents_per_second": 0.0,
    "megabytes_per_second": 0.0,
    "max_lag": timedelta(),
    "max_latency": timedelta(),
    "max_queue": 0,
}
