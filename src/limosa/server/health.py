"""For whoever watches over the server: is it there, is it ready, and its figures."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .routing import Json, Served

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Response:
    """Answer while the server can answer at all."""
    return Json({"status": "ok"})


@router.get("/readyz", responses={503: {"description": "not yet, or nothing can be done"}})
async def readyz(service: Served) -> Response:
    """Answer 200 once the state is known and nothing is wrong, else 503 and why."""
    seen = service.snapshot()
    if seen.is_initializing:
        return Json({"status": "initializing"}, status_code=503)
    if seen.failure is not None:
        return Json({"status": "failed", "code": seen.failure.code}, status_code=503)
    return Json({"status": "ready", "state": seen.state.value})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: Served) -> Response:
    """Return the metrics in the text format of Prometheus; empty before the start."""
    from ..views.metrics import content_type, exposition

    readings = service.snapshot().readings
    body = exposition(readings) if readings is not None else b""
    return Response(body, headers={"Content-Type": content_type(), "Cache-Control": "no-store"})
