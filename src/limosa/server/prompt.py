"""What monitors ask all the time is answered before anything is routed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from . import mongosync, result
from .service import Service


async def _result(_request: Request, service: Service) -> Response:
    return await result.migrate_result(service)


#: Beside a copy that saturates the machine, finding the route and what it needs takes longer than
#: all the rest of an answer that is rendered already.
_ASKED_ALL_THE_TIME: Mapping[str, Callable[[Request, Service], Awaitable[Response]]] = (
    MappingProxyType({"/api/v1/progress": mongosync.progress, "/migrate/result": _result})
)


class Prompt:
    """Gives the routes' own answers to what is asked all the time, and passes on all else."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope) or self._app
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response | None:
        route = _ASKED_ALL_THE_TIME.get(scope.get("path", ""))
        if route is None or scope["method"] != "GET":
            return None
        scope["app"] = self._app
        try:
            return await route(Request(scope), self._service)
        except Exception:  # noqa: BLE001 - the application meets it again and tells it in its form
            return None
