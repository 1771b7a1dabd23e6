"""
Move a live NoSQL database to another one without stopping the application that uses it.

``limosa.migrate(source, target)`` is what the command ``limosa migrate`` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .migrations import migrate
    from .settings import Settings

__all__ = ["Settings", "migrate"]
__version__ = "0.1.0"

_HOMES = {"Settings": ".settings", "migrate": ".migrations"}


def __getattr__(name: str) -> Any:
    # Drivers are imported when they are needed: `limosa --help` answers at once.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
