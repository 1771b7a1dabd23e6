"""The HTTP application: all faces of one service behind one guard."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

import anyio
from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from ..errors import LimosaError
from . import dashboard, documentation, health, mongosync, result
from .errors import UnknownMethod, UnknownPath
from .guard import Guard, Rules
from .logbook import Logbook
from .prompt import Prompt
from .routing import Json, refusal
from .service import Service

#: Verbs, and looks at the disk, that wait at once; more wait for their turn.
_VERBS = 8
_LOOKS = 8


def create_app(
    service: Service, *, rules: Rules | None = None, log: Logbook | None = None
) -> ASGIApp:
    """
    Return the application of *service*, which lets in what *rules* allow.

    The caller begins and closes the service and the *log*.
    """
    app = faces(service)
    app.state.log = log
    return Guard(Prompt(app, service), rules or Rules())


def create_result_app(service: Service, *, rules: Rules | None = None) -> ASGIApp:
    """Return the application that answers `/migrate/result` alone, for a port of its own."""
    return Guard(_application(service, [result.router]), rules or Rules())


def faces(service: Service) -> FastAPI:
    """Return the application without its guard; it knows its OpenAPI document."""
    modules = (mongosync, result, dashboard, health, documentation)
    return _application(service, [face.router for face in modules])


def _application(service: Service, routers: Iterable[APIRouter]) -> FastAPI:
    app = FastAPI(
        title="Limosa",
        summary="Watch and steer a live migration.",
        version=version("limosa"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.log = None
    app.state.verbs = anyio.CapacityLimiter(_VERBS)
    app.state.looks = anyio.CapacityLimiter(_LOOKS)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(LimosaError, _refused)
    app.add_exception_handler(Exception, _broken)
    for router in routers:
        app.include_router(router)
    return app


async def _unknown(request: Request, error: Exception) -> Json:
    """Answer in the one form that all errors have."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        what: LimosaError = UnknownMethod(f"{request.url.path} does not know {request.method}")
    elif error.status_code == 404:
        what = UnknownPath(f"there is nothing under {request.url.path}")
    else:
        what = LimosaError(str(error.detail))
    answer = Json(refusal(what), status_code=error.status_code)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _refused(_request: Request, error: Exception) -> Json:
    assert isinstance(error, LimosaError)
    return Json(refusal(error), status_code=409)


async def _broken(_request: Request, _error: Exception) -> Json:
    """Say no more than that; what happened is in the server's own log."""
    what = LimosaError("the server is at fault", hint="see what it has written to standard error")
    return Json(refusal(what), status_code=500)
