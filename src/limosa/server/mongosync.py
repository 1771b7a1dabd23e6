"""mongosync's control API: five verbs and the progress."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from fastapi import APIRouter, Request, Response
from starlette.datastructures import State

from ..errors import LimosaError
from ..views.mongosync import Figures, progress_body
from ..views.status import Status
from .documents import ANSWERS, PROGRESS, body_schema
from .logbook import Logbook
from .routing import Json, Served, body_of, in_thread, refusal, rendered, request_entry
from .service import Service
from .start_body import Empty, Start, parsed, start_of

router = APIRouter(prefix="/api/v1", tags=["mongosync"])

#: What the engine, too, warns about: a process that stands still for so long loses changes.
_SHORT_OPLOG = timedelta(minutes=15)
#: User and password of an address within a string of JSON: up to the last @, which people forget
#: to escape. Bounded, or a body made of nothing but addresses would take its length squared.
_CREDENTIALS = re.compile(r"""://(?:[^"\\]|\\.){0,300}@""", re.DOTALL)


@router.get("/progress", responses=PROGRESS)
async def progress(request: Request, service: Served) -> Response:
    """
    Return how far the migration is.

    Answers at once whatever the migration does: half a second old at most.
    """
    body = _rendered(request.app.state, service)
    _tell(request, "", body)
    return Json(body)


@router.post("/start", responses=ANSWERS, openapi_extra=body_schema(Start))
async def start(request: Request, service: Served) -> Response:
    """Begin the migration; answers once it runs, or with the reason why it cannot."""
    return await _called(
        request, service, lambda raw: service.start(start_of(raw, verifies=service.verifies))
    )


@router.post("/pause", responses=ANSWERS, openapi_extra=body_schema(Empty))
async def pause(request: Request, service: Served) -> Response:
    """Have the migration rest; changes are captured all the while."""
    return await _called(request, service, _plain(service.pause))


@router.post("/resume", responses=ANSWERS, openapi_extra=body_schema(Empty))
async def resume(request: Request, service: Served) -> Response:
    """Have a paused migration go on, or one that has failed."""
    return await _called(request, service, _plain(service.resume))


@router.post("/commit", responses=ANSWERS, openapi_extra=body_schema(Empty))
async def commit(request: Request, service: Served) -> Response:
    """Cut over; the target may be written once `canWrite` is true."""
    return await _called(request, service, _plain(service.commit))


@router.post("/reverse", responses=ANSWERS, openapi_extra=body_schema(Empty))
async def reverse(request: Request, service: Served) -> Response:
    """Have the changes made on the target flow back to the source."""
    return await _called(request, service, _plain(service.reverse))


def figures_of(service: Service) -> Figures:
    """Return what the progress stands on, as it was seen last."""
    seen = service.snapshot()
    readings, names = seen.readings, service.names(seen)
    sides = zip(("source", "target"), names, strict=True)
    return Figures(
        status=seen.status,
        is_initializing=seen.is_initializing,
        failure=seen.failure,
        sample=readings.sample if readings else None,
        recent=seen.recent,
        counters=readings.counters if readings else {},
        indexing=seen.indexing,
        pings={side: seen.pings[n] for side, n in sides if n in seen.pings},
        names=names,
        oplog_left=seen.status.oplog_left if seen.status else None,
        warnings=_warnings(seen.status),
    )


def _warnings(status: Status | None) -> list[str]:
    left = status.oplog_left if status else None
    if left is None or left >= _SHORT_OPLOG:
        return []
    return [
        f"the source's oplog holds no more than {int(left.total_seconds() // 60)} minutes of "
        "changes that are not captured yet: enlarge it with replSetResizeOplog"
    ]


def _rendered(kept: State, service: Service) -> bytes:
    """Return the answer; made once for all who ask before the next look."""
    seen = service.snapshot()
    if getattr(kept, "progress_of", None) is not seen:
        kept.progress = rendered(progress_body(figures_of(service)))
        kept.progress_of = seen
    found: bytes = kept.progress
    return found


def _tell(request: Request, text: str, answer: bytes) -> None:
    """Write both to the log, if there is one."""
    log: Logbook | None = request.app.state.log
    if log is None:
        return
    path, method = request.url.path, request.method
    # Who takes the name of a cluster for its address sends a password.
    told = _CREDENTIALS.sub("://***@", text)
    log.tell("Received request", component="HTTPServer", uri=path, method=method, body=told)
    if path.endswith("/commit"):
        log.tell("Commit handler called")
    log.tell("Sent response", component="HTTPServer", uri=path, body=answer.decode())


def _plain(verb: Callable[[], None]) -> Callable[[bytes], None]:
    """Return a call without parameters; mongosync's have a body all the same."""

    def called(raw: bytes) -> None:
        parsed(raw, Empty)
        verb()

    return called


async def _called(request: Request, service: Service, verb: Callable[[bytes], None]) -> Response:
    """Answer 200 also if the call is refused, as mongosync does."""
    text = ""
    try:
        raw = await body_of(request)
        text = raw.decode(errors="replace")
        await in_thread(request, verb, raw)
        body = {"success": True}
    except LimosaError as error:
        body = refusal(error)
    name = request.url.path.rpartition("/")[2]
    _tell(request, text, rendered(body))
    await in_thread(request, service.record, request_entry(request, name, body))
    return Json(body)
