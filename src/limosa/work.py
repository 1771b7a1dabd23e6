"""What every part of a running migration works with."""

from __future__ import annotations

from dataclasses import dataclass

from .connector import Source, Target
from .events import EventBus
from .executors import Executor
from .pacing import Pace
from .settings import Settings
from .storage import ChangeBuffer, StateStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Both ends, what is remembered, who does it, at which pace and who is told."""

    source: Source
    target: Target
    store: StateStore
    buffer: ChangeBuffer
    settings: Settings
    workers: Executor
    verifiers: Executor
    pace: Pace
    bus: EventBus
    #: The target as the source of the way back; None unless the migration is reversible.
    way_back: Source | None = None
