"""The dashboard: one page, and the figures that it shows, live."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from .. import catalog
from ..errors import ConfigError, LimosaError, StateError, UnknownMigration
from ..history import Entry, Sample
from ..limits import LimitChange
from ..model import Mismatch
from ..state import Migration, Totals
from ..storage import CollectionPage, CollectionQuery, History
from ..views import dashboard as views
from ..views.mongosync import MAX_COMMIT_LAG
from ..views.status import Status
from . import page
from .errors import BadRequest
from .guard import Role
from .routing import Json, Served, body_of, in_thread, refusal, request_entry
from .service import Service
from .snapshot import Snapshot
from .start_body import start_of

router = APIRouter(tags=["dashboard"])
router.include_router(page.router)

API = "/api/limosa/v1"

T = TypeVar("T")

#: Seconds between two events of a stream: what a person sees as live.
_EVERY = 1.0
#: Seconds after which a stream ends, and the page opens another: one whose reader is gone
#: without a word does not stay for ever.
_STREAM_SECONDS = 600.0
#: What stands for a ping that was not answered.
_SILENT = -1
#: More collections than there can be.
_ALL = 10**9
#: Most of what one answer holds.
_MOST = 5000

#: What throttle takes. What start does is said at `/api/v1/start`; the others take nothing.
_BODY = {
    "type": "object",
    "properties": {
        "loadLevel": {"type": "integer", "minimum": 1, "maximum": 4},
        **{
            name: {"type": ["number", "null"], "minimum": 0}
            for name in (
                *("documentsPerSecond", "megabytesPerSecond"),
                *("maxLagSeconds", "maxLatencyMilliseconds", "maxQueue"),
            )
        },
        "windows": {"type": ["array", "null"], "items": {"type": "string"}},
    },
}

Verb: TypeAlias = Literal["start", "pause", "resume", "commit", "reverse", "throttle"]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=_MOST)]
Search: TypeAlias = Annotated[str, Query(max_length=200, description="A part of the name.")]
Sort: TypeAlias = Annotated[
    Literal["namespace", "documents", "copied", "compared", "bytes"],
    Query(description="The column by which they are ordered; equal ones as they were planned."),
]
Offset: TypeAlias = Annotated[int, Query(ge=0, le=2**53)]
After: TypeAlias = Annotated[
    int, Query(ge=0, le=2**53, description="The number of the last one known.")
]
Since: TypeAlias = Annotated[
    float | None, Query(ge=0, le=1e11, description="Seconds since 1970 of the last one known.")
]


@router.get(f"{API}/status")
async def status(request: Request, service: Served) -> Response:
    """Return all that changes all the time: state, progress, rates and what may be asked for."""
    return Json(_body(request, service))


@router.get(f"{API}/collections")
async def collections(
    request: Request,
    service: Served,
    search: Search = "",
    sort: Sort = "namespace",
    descending: bool = False,
    offset: Offset = 0,
    limit: Limit = 1000,
) -> Response:
    """
    Return the figures of collections in the order asked for, from *offset* on.

    `total` is how many there are, `matching` how many have *search* in their name.
    """
    query = CollectionQuery(
        search=search, sort=sort, descending=descending, offset=offset, limit=limit
    )
    return Json(await in_thread(request, _collections, service, query))


@router.get(f"{API}/history")
async def history(
    request: Request, service: Served, since: Since = None, limit: Limit = 1000
) -> Response:
    """Return samples of the whole history, or those later than *since*, thinned evenly."""
    samples = await in_thread(request, _samples, service, since, limit)
    return Json(views.history_body(samples))


@router.get(f"{API}/entries")
async def entries(
    request: Request, service: Served, after: After = 0, limit: Limit = 500
) -> Response:
    """Return the newest entries of the log, or the first ones after *after*."""
    return Json(views.entries_body(await in_thread(request, _entries, service, after, limit)))


@router.get(f"{API}/mismatches")
async def mismatches(request: Request, service: Served, limit: Limit = 200) -> Response:
    """Return mismatches; their keys only to who has the right to steer."""
    found = await in_thread(request, _mismatches, service, limit)
    return Json(views.mismatches_body(found, with_keys=_may_steer(request)))


@router.get(f"{API}/migrations")
async def migrations(request: Request, service: Served) -> Response:
    """Return the migrations known on this machine, newest first."""
    return Json({"migrations": await in_thread(request, _known, service)})


@router.get(f"{API}/export")
async def export(request: Request, service: Served) -> Response:
    """Return everything as one JSON object, to be kept."""
    body = await in_thread(request, _export, request, service)
    answer = Json(body)
    name = body["status"]["name"] or "limosa"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.json"'
    return answer


@router.get(
    f"{API}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    request: Request, service: Served, after: After = 0, since: Since = None
) -> Response:
    """
    Return server-sent events: `status` every second, new `samples` and new `entries`.

    Each has the body of the answer to the same question asked by itself.
    """
    return StreamingResponse(
        _stream(request, service, after, since),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post(
    f"{API}/actions/{{verb}}",
    responses={
        400: {"description": "the body is not what the verb expects"},
        409: {"description": "not possible now"},
    },
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": _BODY}}}},
)
async def act(request: Request, service: Served, verb: Verb) -> Response:
    """Start, pause, resume, commit, reverse or throttle; return the status after it."""
    asked: dict[str, Any] = {}
    try:
        asked = _parsed(await body_of(request))
        await in_thread(request, _asked, service, verb, asked)
    except LimosaError as error:
        told = refusal(error)
        await in_thread(request, service.record, request_entry(request, verb, told))
        return Json(told, status_code=400 if isinstance(error, BadRequest) else 409)
    done = request_entry(request, verb, {**asked, "success": True})
    await in_thread(request, service.record, done)
    return Json(_body(request, service))


def _asked(service: Service, verb: Verb, asked: dict[str, Any]) -> None:
    """Do what was asked for, or refuse."""
    if verb not in ("start", "throttle") and asked:
        msg = f"the body of {verb}: expected nothing or an empty object"
        raise BadRequest(msg)
    match verb:
        case "start":
            service.start(start_of(json.dumps(asked).encode(), verifies=service.verifies))
        case "pause":
            service.pause()
        case "resume":
            service.resume()
        case "commit":
            service.commit()
        case "reverse":
            service.reverse()
        case "throttle":
            service.throttle(_change(asked))


def _change(asked: dict[str, Any]) -> LimitChange:
    try:
        return LimitChange.of(asked)
    except ConfigError as error:
        # What it advises is for who types a command.
        raise BadRequest(str(error), hint="null stands for no limit") from error


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body) if body else {}
    except (ValueError, RecursionError) as exc:
        msg = "the body is no JSON: expected an object"
        raise BadRequest(msg) from exc
    if not isinstance(asked, dict):
        msg = "the body: expected an object"
        raise BadRequest(msg)
    return asked


async def _stream(
    request: Request, service: Service, after: int, since: float | None
) -> AsyncIterator[bytes]:
    deadline = anyio.current_time() + _STREAM_SECONDS
    is_stopping = request.scope.get("limosa.is_stopping", bool)
    while anyio.current_time() < deadline and not is_stopping():
        entries, samples = await anyio.to_thread.run_sync(partial(_news, service, after, since))
        yield _event("status", _body(request, service))
        if samples:
            since = round(samples[-1].at.timestamp(), 3)
            yield _event("samples", views.history_body(samples))
        if entries:
            after = entries[-1].number
            yield _event("entries", views.entries_body(entries))
        await anyio.sleep(_EVERY)


def _news(service: Service, after: int, since: float | None) -> tuple[list[Entry], list[Sample]]:
    return _entries(service, after, 500), _samples(service, since, 500)


def _event(kind: str, body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _body(request: Request, service: Service) -> dict[str, Any]:
    seen = service.snapshot()
    status = seen.status or _nothing(service, seen.at)
    reading = views.Reading(
        status=status,
        state=seen.state,
        failure=seen.failure,
        is_initializing=seen.is_initializing,
        recent=seen.recent,
        gauges={} if seen.readings is None else seen.readings.gauges,
        may_steer=_may_steer(request),
        drives=service.ends is not None,
        is_kept=service.is_kept,
        most_lag=MAX_COMMIT_LAG,
        silent=[side for side, name in _sides(service, seen) if seen.pings.get(name) == _SILENT],
        clusters=[end.identity for end in service.ends or ()],
    )
    return views.dashboard_body(reading)


def _sides(service: Service, seen: Snapshot) -> Iterable[tuple[str, str]]:
    return zip(("source", "target"), service.names(seen), strict=True)


def _nothing(service: Service, now: datetime) -> Status:
    """Return what there is to show before a start."""
    return Status(Migration(service.folder.name), Totals(), now)


def _may_steer(request: Request) -> bool:
    return request.scope.get("limosa.role", Role.OPERATOR) is Role.OPERATOR


def _collections(service: Service, query: CollectionQuery) -> dict[str, Any]:
    try:
        with service.store() as store:
            found = store.collection_page(query)
    except UnknownMigration:
        found = CollectionPage([], 0, 0)
    return views.collections_body(found.rows, matching=found.matching, total=found.total)


def _mismatches(service: Service, limit: int) -> list[Mismatch]:
    try:
        with service.store() as store:
            return store.mismatches(limit=limit)
    except UnknownMigration:
        return []


def _samples(service: Service, since: float | None, limit: int) -> list[Sample]:
    # The page knows times to the millisecond: the one it has must not come again.
    moment = (
        None if since is None else datetime.fromtimestamp(since, UTC) + timedelta(milliseconds=1)
    )
    return _of_history(service, lambda kept: kept.samples(since=moment, limit=limit), [])


def _entries(service: Service, after: int, limit: int) -> list[Entry]:
    def read(kept: History) -> list[Entry]:
        if after:
            return kept.entries(after=after, limit=limit)
        return kept.newest_entries(limit=limit)

    return _of_history(service, read, [])


def _of_history(service: Service, read: Callable[[History], T], nothing: T) -> T:
    """Return what *read* returns; *nothing* where there is no history, upon which none depends."""
    if not service.folder.history_file.exists():
        return nothing
    try:
        with service.history() as kept:
            return read(kept)
    except StateError:
        return nothing


def _known(service: Service) -> list[dict[str, Any]]:
    own = {service.folder} if service.folder.state_file.is_file() else set()
    found = [_past(folder) for folder in own | set(catalog.known())]
    return sorted(found, key=lambda each: each.get("startedAt") or "", reverse=True)


def _past(folder: catalog.Folder) -> dict[str, Any]:
    try:
        with closing(catalog.watch(folder)) as store:
            is_driven = catalog.is_driven(folder)
            now = datetime.now(UTC)
            status = Status(store.migration(), store.totals(), now, is_driven=is_driven)
            return views.past_body(status)
    except (StateError, UnknownMigration) as error:
        # One damaged state must not hide the others.
        return {"name": folder.name, "error": error.code}


def _export(request: Request, service: Service) -> dict[str, Any]:
    return {
        "status": _body(request, service),
        **_collections(service, CollectionQuery(limit=_ALL)),
        "history": views.history_body(_samples(service, None, _MOST)),
        **views.entries_body(_entries(service, 0, 100_000)),
        **views.mismatches_body(_mismatches(service, 1000), with_keys=_may_steer(request)),
    }
