"""Limits as people read them."""

from __future__ import annotations

from ..limits import REGARDFUL_LEVEL, Limits
from .figures import duration


def limit_rows(limits: Limits) -> list[tuple[str, str]]:
    """Return what a person wants to know of *limits*, as names and values."""

    def rate(value: float, unit: str) -> str:
        return f"{value:,g} {unit}" if value else "no limit"

    level = limits.load_level
    windows = ", ".join(map(str, limits.windows))
    rows = [
        ("load level", f"{level} in {windows}, else 1" if windows else str(level)),
        ("documents", rate(limits.documents_per_second, "a second")),
        ("data", rate(limits.megabytes_per_second, "MB a second")),
    ]
    over = [
        f"replication lag {duration(limits.max_lag)}" if limits.max_lag else "",
        f"latency {limits.max_latency.total_seconds() * 1_000:,g} ms" if limits.max_latency else "",
        f"queue {limits.max_queue:,} operations" if limits.max_queue else "",
    ]
    named = ", ".join(filter(None, over))
    heeds = level <= REGARDFUL_LEVEL and named
    return [*rows, ("slows down by itself", f"over {named}" if heeds else "no")]
