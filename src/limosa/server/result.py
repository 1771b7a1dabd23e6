"""`GET /migrate/result`: four fields for those who watch nothing else."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ..views.result import result
from .routing import Json, Served

router = APIRouter(tags=["result"])


class ResultBody(BaseModel):
    """How the migration stands."""

    status: Literal["running", "completed", "migrated", "failed"]
    step: str
    last_err: str | None
    try_count: int


class InternalError(BaseModel):
    """What is answered in place of a result if the server is at fault."""

    error: str


@router.get(
    "/migrate/result",
    response_model=ResultBody,
    responses={500: {"model": InternalError, "description": "the server is at fault"}},
)
async def migrate_result(service: Served) -> Response:
    """Return status, step, last error and number of attempts."""
    seen = service.snapshot()
    return Json(
        result(seen.migration, seen.steps, failure=seen.failure, was_complete=seen.was_complete)
    )


@router.head("/migrate/result", include_in_schema=False)
async def migrate_result_head(service: Served, _request: Request) -> Response:
    """Return the head of the answer to GET."""
    answer = await migrate_result(service)
    return Response(status_code=answer.status_code, headers=dict(answer.headers))
