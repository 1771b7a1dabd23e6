"""An end that does not answer, told wherever somebody may look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from ..events import EndReachable, EndUnreachable
from ..pings import Told
from ..views.story import Level, entry, told
from .logbook import Logbook
from .service import Service


def teller(service: Service, log: Logbook | None, say: Callable[[str], None]) -> Told:
    """Return what tells history, log and standard error of an end, as source or target."""

    def tell(event: EndUnreachable | EndReachable) -> None:
        seen = service.snapshot()
        if seen.migration is not None:
            sides = dict(zip(service.names(seen), ("source", "target"), strict=True))
            event = replace(event, side=sides.get(event.side, event.side))
        line = told(event)
        say(line.text)
        if log is not None:
            log.tell(line.text, level="WARN" if line.level is Level.WARNING else "INFO")
        if kept := entry(event, datetime.now(UTC)):
            service.record(kept)

    return tell
