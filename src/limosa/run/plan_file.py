"""The plan file of a managed run: what it may say, and what is wrong with one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema

from ..settings import Existing, IndexMode, Settings, WriteBlocking
from ..steps import CLEANUP, OTHER, WORDS, Step, distinct
from .fields import Command, Section, Span, checked
from .limiting import LimitsSection
from .reading import At, Fault, read
from .secrecy import Secrets

#: Stands for every step, in a hook.
EVERY = "*"


class Moment(StrEnum):
    """What a person may be notified of."""

    STARTED = "started"
    COPIED = "copied"
    READY = "ready"
    COMMITTED = "committed"
    FAILED = "failed"


class StepSection(Section):
    """A named part of the copy."""

    name: Annotated[str, Field(min_length=1)]
    include: Annotated[list[str], Field(min_length=1, description="patterns of namespaces")]

    @model_validator(mode="after")
    def _understood(self) -> StepSection:
        checked(lambda: Step.of(self.name, self.include))
        return self


class SettingsSection(Section):
    """What is migrated: fixed once the migration has begun."""

    include: list[str] = Field(default=[], description="migrate only these namespaces")
    exclude: list[str] = Field(default=[], description="leave these out, of what is included")
    rename: list[str] = Field(default=[], description="other names on the target: old=new")
    filter: list[str] = Field(default=[], description="only documents that match: name=query")
    existing: Existing = Field(default=Existing.KEEP, description="what the target may hold before")
    verify: bool = Field(default=True, description="compare source and target")
    block_writes: WriteBlocking = Field(
        default=WriteBlocking.NONE, description="where nobody else may write meanwhile"
    )
    reversible: bool = Field(default=False, description="changes can flow back after the commit")
    indexes: IndexMode = Field(
        default=IndexMode.AFTER, description="when the indexes of the target are built"
    )
    accounts: bool = Field(default=False, description="carry users and roles over, too")
    shard: list[str] = Field(default=[], description="shard keys on a sharded target: name=key")

    @model_validator(mode="after")
    def _understood(self) -> SettingsSection:
        checked(self.as_settings)
        return self

    def as_settings(self, steps: Iterable[Step] = ()) -> Settings:
        """Return what the migration is to do, with these *steps*."""
        return Settings.of(
            include=self.include,
            exclude=self.exclude,
            renames=self.rename,
            filters=self.filter,
            existing=self.existing,
            verify=self.verify,
            write_blocking=self.block_writes,
            reversible=self.reversible,
            indexes=self.indexes,
            accounts=self.accounts,
            shards=self.shard,
            steps=distinct(list(steps)),
        )


class HealthSection(Section):
    """How the run is watched over."""

    every: Span = Field(
        default=timedelta(seconds=10),
        ge=timedelta(seconds=1),
        description="time between two looks, at least 1s",
    )
    lag_rising_for: Span = Field(
        default=timedelta(minutes=1), description="lag that rises for so long is told of"
    )
    still_for: Span = Field(
        default=timedelta(minutes=2), description="that nothing moves for so long is told of"
    )


class Hook(Section):
    """A command before or after a step; if it fails, the attempt has failed."""

    before: str | None = Field(
        default=None, description=f"name of a step, or {EVERY} for every step"
    )
    after: str | None = Field(
        default=None, description=f"name of a step, or {EVERY} for every step"
    )
    run: Command
    timeout: Span = timedelta(minutes=5)

    @model_validator(mode="after")
    def _one(self) -> Hook:
        if (self.before is None) == (self.after is None):
            msg = "expected either `before` or `after`"
            raise ValueError(msg)
        return self

    @property
    def step(self) -> str:
        return self.before or self.after or EVERY

    def is_for(self, step: str, *, before: bool) -> bool:
        """Whether it runs before, or after, the step of that name."""
        return (self.before is not None) == before and self.step in {step, EVERY}


class HttpCall(Section):
    """A request that has the result as its JSON body."""

    url: SecretStr
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: dict[str, SecretStr] = Field(default={})

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: SecretStr) -> SecretStr:
        try:
            HttpUrl(url.get_secret_value())
        except ValidationError as exc:
            msg = "expected a URL that starts with http:// or https://"
            raise ValueError(msg) from exc
        return url


class Task(Section):
    """What follows the commit; exactly one of the first four."""

    verify: Literal["full"] | None = Field(default=None, description="compare everything once more")
    run: Command | None = Field(default=None, description="a command that reads the result as JSON")
    http: HttpCall | None = None
    notify: str | None = Field(default=None, description="a message to all that are notified")
    timeout: Span | None = Field(default=None, description="5m for a command, 30s for a request")

    @model_validator(mode="after")
    def _one(self) -> Task:
        kinds = (self.verify, self.run, self.http, self.notify)
        if sum(kind is not None for kind in kinds) != 1:
            msg = "expected exactly one of `verify`, `run`, `http` and `notify`"
            raise ValueError(msg)
        return self


class Notification(Section):
    """Who is notified, and of what."""

    url: SecretStr = Field(description="an address as Apprise understands it")
    on: Annotated[list[Moment], Field(min_length=1)] = Field(default=[*Moment])

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: SecretStr) -> SecretStr:
        from apprise import Apprise

        if not Apprise().add(url.get_secret_value()):
            msg = "expected an address that Apprise understands, such as mailto://… or slack://…"
            raise ValueError(msg)
        return url


class PlanFile(Section):
    """A managed run of one migration."""

    source: SecretStr = Field(description="URI of the source, best as ${NAME}")
    target: SecretStr = Field(description="URI of the target")
    name: str | None = Field(default=None, description="name of the migration; else from both ends")
    state: Path | None = Field(
        default=None, description="folder of its state; else one under its name"
    )
    settings: SettingsSection = SettingsSection()
    steps: list[StepSection] = Field(
        default=[], description="parts of the copy, one after the other"
    )
    workers: int = Field(default=4, ge=1, le=256, description="partitions copied at once")
    read_from: Literal["primary", "secondaries"] | None = Field(
        default=None, description="where the source's collections are read; else as its URI says"
    )
    limits: LimitsSection = Field(
        default=LimitsSection(), description="how much of both servers it may take"
    )
    retry_for: Span = Field(
        default=timedelta(minutes=10), description="how long a call that fails is tried again"
    )
    attempts: int = Field(default=3, ge=1, le=100, description="of each step")
    delay: Span = Field(default=timedelta(seconds=30), description="between two attempts")
    backoff: float = Field(
        default=1.0, ge=1, le=10, description="by this each further delay is longer"
    )
    timeout: Span | None = Field(
        default=timedelta(minutes=30), description="for the whole run; null for none"
    )
    health: HealthSection = HealthSection()
    cutover: Literal["when-ready", "manual"] = Field(
        default="when-ready", description="commit as soon as it can be done, or wait for a person"
    )
    hooks: list[Hook] = Field(default=[])
    after: list[Task] = Field(
        default=[Task(verify="full")],
        description="in order, after the commit",
    )
    notify: list[Notification] = Field(default=[])

    @model_validator(mode="after")
    def _consistent(self) -> PlanFile:
        checked(self.as_settings)
        if self.name is not None and self.state is not None:
            msg = "expected `name` or `state`: a migration in a folder of its own has its name"
            raise ValueError(msg)
        return self

    @property
    def step_names(self) -> tuple[str, ...]:
        return (*(s.name for s in self.steps), OTHER, CLEANUP) if self.steps else WORDS

    def as_settings(self) -> Settings:
        """Return what the migration is to do."""
        return self.settings.as_settings(Step.of(s.name, s.include) for s in self.steps)

    def secrets(self, values: frozenset[str] = frozenset()) -> Secrets:
        """Return what must never be told, *values* of the environment in it included."""
        told = [self.source, self.target, *(n.url for n in self.notify)]
        for task in self.after:
            if task.http is not None:
                told += [task.http.url, *task.http.headers.values()]
        return Secrets.of((each.get_secret_value() for each in told), values)


def load(path: Path, environment: Mapping[str, str]) -> tuple[PlanFile, Secrets]:
    """
    Return the plan in *path*, and what of it must never be told.

    Raises:
        PlanInvalid: it cannot be used; every fault is named with line and column.
    """
    source = read(path, environment)
    faults = [*source.faults, *_strangers(source.body)]
    try:
        plan = PlanFile.model_validate(source.body)
    except ValidationError as exc:
        found = (_fault(dict(error)) for error in exc.errors())
        # What a variable would have said is not known to be wrong.
        faults += [f for f in found if not any(f.at[: len(v.at)] == v.at for v in source.faults)]
        raise source.refusal(faults) from None
    if faults:
        raise source.refusal(faults)
    return plan, plan.secrets(source.values)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of plan files."""
    return {
        "$schema": _Schema.schema_dialect,
        **PlanFile.model_json_schema(schema_generator=_Schema),
    }


class _Schema(GenerateJsonSchema):
    """Writes defaults as a person would."""

    def encode_default(self, default: Any) -> Any:
        match default:
            case timedelta():
                seconds = round(default.total_seconds())
                return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
            case BaseModel():
                return {}  # those of its fields
            case [Task(), *_]:
                return [task.model_dump(mode="json", exclude_none=True) for task in default]
            case _:
                return super().encode_default(default)


def _strangers(body: Mapping[str, Any]) -> list[Fault]:
    """Return a fault for each hook of a step that there is not, as far as both can be read."""
    own = [step.get("name") for step in _sections(body.get("steps"))]
    if not all(isinstance(name, str) for name in own):
        return []
    names = (*own, OTHER, CLEANUP, EVERY) if own else (*WORDS, EVERY)
    expected = f"is no step; expected one of {', '.join(map(repr, names))}"
    return [
        Fault(("hooks", i, when), expected)
        for i, hook in enumerate(_sections(body.get("hooks")))
        for when in ("before", "after")
        if isinstance(name := hook.get(when), str) and name not in names
    ]


def _sections(node: Any) -> list[Mapping[str, Any]]:
    items = node if isinstance(node, list) else []
    return [item if isinstance(item, Mapping) else {} for item in items]


def _fault(error: Mapping[str, Any]) -> Fault:
    at: At = tuple(error["loc"])
    match error["type"]:
        case "missing":
            return Fault(at, "is missing")
        case "extra_forbidden":
            return Fault(at, _unknown(at))
        case "value_error":
            return Fault(at, str(error["ctx"]["error"]))
        case "too_short" | "string_too_short":
            return Fault(at, "is empty")
        case _:
            message = str(error["msg"]).replace("Input should be", "expected")
            return Fault(at, message[:1].lower() + message[1:])


def _unknown(at: At) -> str:
    model: Any = PlanFile
    for part in at[:-1]:
        if isinstance(part, str) and model is not None:
            model = _model_in(model.model_fields[part].annotation)
    fields = list(model.model_fields) if model is not None else []
    close = difflib.get_close_matches(str(at[-1]), fields, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(fields)}"
    return f"is unknown; {hint}"


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)
