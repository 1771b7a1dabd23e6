"""Figures as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta


def count(number: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,.0f}"


def size(number: float) -> str:
    """Return bytes in the decimal unit that leaves at most three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(span: timedelta | None) -> str:
    """Return a span: tenths of seconds up to a minute, h:mm:ss from there on, – for None."""
    if span is None:
        return "–"
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def percentage(fraction: float) -> str:
    """Return a whole percentage that is 100 only when nothing is left to do."""
    return f"{int(min(1.0, max(0.0, fraction)) * 100)} %"


def iso(moment: datetime | None) -> str | None:
    """Return a time as JSON carries it."""
    return None if moment is None else moment.isoformat()


def plural(number: int, noun: str) -> str:
    """Return *number* and *noun*, which takes an s unless there is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
