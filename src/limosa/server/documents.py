"""What the OpenAPI document says about bodies and answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

_EXAMPLE: dict[str, Any] = {"source": "cluster0", "destination": "cluster1"}


class Answer(BaseModel):
    """What became of a call; a refused one says why, with HTTP status 200, too."""

    model_config = ConfigDict(extra="forbid")

    success: bool
    error: str | None = None
    errorDescription: str | None = None  # noqa: N815 - mongosync's name


class Lag(BaseModel):
    """How far the target is behind, in seconds."""

    overallLagSeconds: int | None  # noqa: N815
    crudLagSeconds: int | None  # noqa: N815
    ddlLagSeconds: int | None  # noqa: N815


class IndexBuilding(BaseModel):
    """How far the secondary indexes are built."""

    indexesBuilt: int  # noqa: N815
    totalIndexesToBuild: int  # noqa: N815
    collectionsFinished: int  # noqa: N815
    collectionsTotal: int  # noqa: N815


class CollectionCopy(BaseModel):
    """How far the copy is; equal at its end."""

    estimatedTotalBytes: int | None  # noqa: N815
    estimatedCopiedBytes: int  # noqa: N815


class DirectionMapping(BaseModel):
    """Which cluster is which."""

    Source: str
    Destination: str


class Ping(BaseModel):
    """How quickly an end answers; -1 if it did not the last time."""

    pingLatencyMs: int | None = None  # noqa: N815


class Hashed(BaseModel):
    """How far one side is compared."""

    estimatedDocumentCount: int  # noqa: N815
    hashedDocumentCount: int  # noqa: N815
    lagTimeSeconds: int | None  # noqa: N815
    totalCollectionCount: int  # noqa: N815
    scannedCollectionCount: int  # noqa: N815
    phase: str


class Verification(BaseModel):
    """How far both sides are compared."""

    source: Hashed
    destination: Hashed


class Progress(BaseModel):
    """How far the migration is; in IDLE all but `state` and `canCommit` are null."""

    model_config = ConfigDict(extra="forbid")

    state: str
    canCommit: bool  # noqa: N815
    canWrite: bool | None = None  # noqa: N815
    info: str | None = None
    ceaStage: str | None = None  # noqa: N815
    indexBuilding: IndexBuilding | None = None  # noqa: N815
    lag: Lag | None = None
    lagTimeSeconds: int | None = None  # noqa: N815
    totalEventsApplied: int | None = None  # noqa: N815
    estimatedSecondsToCEACatchup: int | None = None  # noqa: N815
    collectionCopy: CollectionCopy | None = None  # noqa: N815
    directionMapping: DirectionMapping | None = None  # noqa: N815
    source: Ping | None = None
    destination: Ping | None = None
    verification: Verification | None = None
    estimatedOplogTimeRemaining: str | None = None  # noqa: N815
    mongosyncID: str | None = None  # noqa: N815
    coordinatorID: str | None = None  # noqa: N815
    warnings: list[str] | None = None


class ProgressAnswer(Answer):
    """The progress; of a migration that has failed also why."""

    progress: Progress


_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Answer, "description": "no token, or one without the right"},
    403: {"model": Answer, "description": "asked for by another site"},
    429: {"model": Answer, "description": "too many requests"},
}

#: The answers of a call.
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Answer, "description": "done, or refused with `success: false`"},
    **_REFUSED,
}

#: The answers of the progress.
PROGRESS: dict[int | str, dict[str, Any]] = {200: {"model": ProgressAnswer}, **_REFUSED}


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """
    Return what the document says about a body that is a *model*.

    It is read as JSON whatever its type, so it is not FastAPI that reads it.
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    _inline(schema, inner)
    content: dict[str, Any] = {"schema": schema}
    if "source" in schema.get("properties", {}):
        content["example"] = _EXAMPLE
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _inline(part: Any, inner: dict[str, Any]) -> None:
    """Put the definitions where they are used: none of them uses itself."""
    if isinstance(part, dict):
        name = str(part.pop("$ref", "")).rpartition("/")[2]
        if name:
            part.update(inner[name])
        for value in list(part.values()):
            _inline(value, inner)
    elif isinstance(part, list):
        for value in part:
            _inline(value, inner)
