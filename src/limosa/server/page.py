"""The files of the page, which needs nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

from .errors import UnknownPath
from .routing import Json, refusal

router = APIRouter()

_SCRIPT = "text/javascript; charset=utf-8"
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "mark.svg": "image/svg+xml",
    "app.js": _SCRIPT,
    "collections.js": _SCRIPT,
    "connection.js": _SCRIPT,
    "curve.js": _SCRIPT,
    "dialogs.js": _SCRIPT,
    "format.js": _SCRIPT,
    "log.js": _SCRIPT,
    "rows.js": _SCRIPT,
    "steps.js": _SCRIPT,
    "theme.js": _SCRIPT,
}

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


@router.get("/", include_in_schema=False)
def whole() -> Response:
    """Return the page."""
    return _file("index.html")


@router.get("/static/{name}", include_in_schema=False)
def part(name: str) -> Response:
    """Return what the page is made of."""
    return _file(name)


def _file(name: str) -> Response:
    if name not in _TYPES:
        missing = UnknownPath(f"there is nothing under /static/{name}")
        return Json(refusal(missing), status_code=404)
    content = (files("limosa.server") / "static" / name).read_bytes()
    return Response(content, headers={"Content-Type": _TYPES[name], **_HEADERS})
