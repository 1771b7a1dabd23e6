"""What `limosa serve` is told, by its command line and mongosync's configuration file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import ConfigError

#: mongosync's levels, by number where it is given as one: 1 is debug, 2 trace.
_VERBOSITY = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC")
_NUMBERED = {"0": "INFO", "1": "DEBUG", "2": "TRACE"}

#: Keys of mongosync that change nothing here, and why.
_WITHOUT_EFFECT = {
    "acceptDisclaimer": "there is nothing to accept",
    "disableTelemetry": "nothing is ever sent anywhere",
    "disableMetricsLogging": "metrics are at /metrics",
    "metricsLoggingFilepath": "metrics are at /metrics",
    "hotDocIDs": "changes of one document are always joined before they are applied",
    "id": "one server migrates the whole deployment",
    "enableCappedCollectionHandling": "capped collections are always migrated",
    "syncStartDelay": "a migration begins with the start call",
}


class Configuration(BaseModel):
    """Every key, under mongosync's names where it has one; the file and the flags agree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster0: Annotated[str, Field(min_length=1, repr=False)]
    cluster1: Annotated[str, Field(min_length=1, repr=False)]
    port: Annotated[int, Field(ge=0, le=65535)] = 27182
    bind: str = "127.0.0.1"
    allowHost: tuple[str, ...] = ()  # noqa: N815 - mongosync's spelling, here and below
    state: Path | None = None
    migrationName: str | None = None  # noqa: N815
    tokenFile: Path | None = None  # noqa: N815
    insecure: bool = False
    tlsCert: Path | None = None  # noqa: N815
    tlsKey: Path | None = None  # noqa: N815
    resultPort: Annotated[int, Field(ge=0, le=65535)] | None = None  # noqa: N815
    otlpEndpoint: str | None = None  # noqa: N815
    engineNice: Annotated[int, Field(ge=0, le=19)] = 5  # noqa: N815
    loadLevel: Annotated[int, Field(ge=1, le=4)] = 3  # noqa: N815
    logPath: Path | None = None  # noqa: N815
    verbosity: str = "INFO"
    disableVerification: bool = False  # noqa: N815
    mongosyncMetadata: bool = False  # noqa: N815
    acceptDisclaimer: bool = False  # noqa: N815
    disableTelemetry: bool = False  # noqa: N815
    disableMetricsLogging: bool = False  # noqa: N815
    metricsLoggingFilepath: str | None = None  # noqa: N815
    hotDocIDs: tuple[Any, ...] = ()  # noqa: N815
    id: str | None = None
    enableCappedCollectionHandling: bool = False  # noqa: N815
    syncStartDelay: str | int | None = None  # noqa: N815

    @classmethod
    def of(cls, flags: Mapping[str, Any], *, file: Path | None = None) -> Self:
        """
        Join what the command line gives, which counts, and what the file has.

        Raises:
            ConfigError: a key is unknown or has a wrong value; the message names it.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        stored = _read(file) if file is not None else {}
        try:
            return cls.model_validate({**stored, **given})
        except ValidationError as exc:
            raise ConfigError(_first(exc, file)) from exc

    def without_effect(self) -> Iterator[str]:
        """Yield a line about each key that was given and changes nothing."""
        for name in sorted(self.model_fields_set & set(_WITHOUT_EFFECT)):
            if getattr(self, name):
                yield f"{name} has no effect: {_WITHOUT_EFFECT[name]}"

    @field_validator("verbosity", mode="before")
    @classmethod
    def _known_verbosity(cls, given: object) -> str:
        name = _NUMBERED.get(str(given), str(given).upper())
        if name not in _VERBOSITY:
            msg = f"expected one of {', '.join(_VERBOSITY)}, or 0, 1 or 2"
            raise ValueError(msg)
        return name

    @field_validator("hotDocIDs", "allowHost", mode="before")
    @classmethod
    def _one_or_many(cls, given: object) -> object:
        return tuple(given) if isinstance(given, list | tuple) else (given,)


def _read(file: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except OSError as exc:
        msg = f"read the configuration {str(file)!r}: {exc.strerror or exc}"
        raise ConfigError(msg) from exc
    except (YAMLError, UnicodeDecodeError) as exc:
        # The text around the error could hold a password.
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(exc, "problem", None) or "it is no YAML"
        msg = f"read the configuration {str(file)!r}{where}: {problem}"
        raise ConfigError(msg) from exc
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        msg = f"the configuration {str(file)!r}: expected keys with values"
        raise ConfigError(msg)
    return found


def _first(error: ValidationError, file: Path | None) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(str(part) for part in found["loc"])
    where = f"the command line and {str(file)!r}" if file else "the command line"
    if found["type"] == "missing":
        return f"{where}: {name} is missing"
    if found["type"] == "extra_forbidden":
        return f"{where}: there is no {name}"
    return f"{where}: {name}: {found['msg'].removeprefix('Value error, ')}"
