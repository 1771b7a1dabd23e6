"""Interactive documentation of all faces; everything it needs is served from here."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

from .errors import UnknownPath
from .routing import Json, refusal

router = APIRouter(include_in_schema=False)

_TYPES = {
    "docs.html": "text/html; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
_OURS = {"docs.html", "start.js"}


@router.get("/docs")
def documentation() -> Response:
    """Return the page."""
    return _file("docs.html")


@router.get("/docs/{name}")
def part(name: str) -> Response:
    """Return what the page is made of."""
    if name not in _TYPES:
        return Json(refusal(UnknownPath(f"there is nothing under /docs/{name}")), status_code=404)
    return _file(name)


def _file(name: str) -> Response:
    if name in _OURS:
        folder = files("limosa.server") / "pages"
    else:
        folder = files("fastapi_offline") / "static"
    return Response(
        (folder / name).read_bytes(),
        headers={"Content-Type": _TYPES[name], "Cache-Control": "max-age=3600"},
    )
