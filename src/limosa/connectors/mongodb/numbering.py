"""
Numbers for writes, by which the server knows one that comes too late.

A write that is given up may still arrive: what was sent lies in the buffers of a network that
fell silent, for minutes. By then it was done again, and later changes after it, which it would
undo. A server that has seen a higher number from the same session refuses it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from bson import Int64
from pymongo.client_session import ClientSession

from .deployment import Deployment


@dataclass(slots=True)
class _Numbered:
    session: ClientSession
    last: int = 0


class Numbering:
    """
    Hands each thread a session of its own, with a number higher than all before it.

    Whoever tries a write again has to do so in the same thread.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._of_thread = threading.local()

    def next(self) -> tuple[ClientSession, Int64]:
        """Return the session to write in, and the ``txnNumber`` of the write."""
        numbered: _Numbered | None = getattr(self._of_thread, "numbered", None)
        if numbered is None:
            numbered = self._of_thread.numbered = _Numbered(self._deployment.start_session())
        numbered.last += 1
        return numbered.session, Int64(numbered.last)
