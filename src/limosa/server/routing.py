"""What the routes of all faces share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request, Response

from ..errors import LimosaError
from ..history import Entry
from ..views.mongosync import description, error_name
from .errors import BadRequest
from .service import Service

T = TypeVar("T")

#: Bytes of a request's body; the longest sensible start has some thousand namespaces.
MAX_BODY = 64 * 1024
#: Seconds for a body to arrive.
BODY_SECONDS = 10.0


# Not `async`, it would be called in another thread each time.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


#: The service, as a parameter of a route.
Served = Annotated[Service, Depends(_service)]


class Json(Response):
    """A compact JSON answer that no cache keeps."""

    media_type = "application/json"

    def __init__(self, content: Any, *, status_code: int = 200) -> None:
        super().__init__(content, status_code=status_code, headers={"Cache-Control": "no-store"})

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else rendered(content)


def rendered(content: Any) -> bytes:
    """Return *content* as compact JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def refusal(error: LimosaError) -> dict[str, Any]:
    """Return the body of an answer to a call that was refused."""
    return {
        "success": False,
        "error": error_name(error.code),
        "errorDescription": description(str(error), error.hint),
    }


async def body_of(request: Request) -> bytes:
    """
    Return the whole body.

    Raises:
        BadRequest: it is too large, or does not arrive in time.
    """
    parts = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for part in request.stream():
                parts += part
                if len(parts) > MAX_BODY:
                    msg = f"the body is too large: expected at most {MAX_BODY} bytes"
                    raise BadRequest(msg)
    except TimeoutError as exc:
        msg = f"the body did not arrive within {BODY_SECONDS:g} s"
        raise BadRequest(msg) from exc
    return bytes(parts)


async def in_thread(request: Request, function: Callable[..., T], *given: Any, **named: Any) -> T:
    """
    Return what *function* returns, called where it may wait.

    Few at a time: a start that waits for a server must not take the threads of those who look.
    """
    state = request.app.state
    limiter: anyio.CapacityLimiter = state.verbs if request.method == "POST" else state.looks
    return await anyio.to_thread.run_sync(partial(function, *given, **named), limiter=limiter)


def request_entry(request: Request, verb: str, fields: Mapping[str, Any]) -> Entry:
    """Return the entry of the history about a request that changes something."""
    client = request.client
    origin = f"{client.host}:{client.port}" if client else "unknown"
    outcome = "done" if fields.get("success", True) else f"refused: {fields.get('error')}"
    return Entry(
        at=datetime.now(UTC),
        kind="Request",
        level="info",
        message=f"{verb} from {origin}: {outcome}",
        fields={"verb": verb, "origin": origin, **fields},
    )
