"""
Numbers for writes, by which the server knows one that comes too late.

A write that is given up may still arrive: what was sent lies in the buffers of a network that
fell silent, for minutes. By then it was done again, and later changes after it, which it would
undo. A server that has seen a higher number from the same session refuses it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from bson import Binary, Int64
from pymongo.client_session import ClientSession

from .deployment import Deployment


@dataclass(slots=True)
class Numbered:
    """The session of one thread, and the last number that it used."""

    session: ClientSession
    last: int = 0
    #: Whether the last number is that of a transaction of which it is not known to be over.
    is_open: bool = False

    def next(self) -> Int64:
        """Return the ``txnNumber`` of the next write, higher than all before it."""
        self.last += 1
        return Int64(self.last)


class Numbering:
    """
    Lends each thread a session of its own.

    Whoever tries a write again has to do so in the same thread.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._of_thread = threading.local()
        self._sessions: list[Binary] = []

    def own(self) -> Numbered:
        """Return what belongs to the present thread."""
        numbered: Numbered | None = getattr(self._of_thread, "numbered", None)
        if numbered is None:
            session = self._deployment.start_session()
            self._sessions.append(session.session_id["id"])
            numbered = self._of_thread.numbered = Numbered(session)
        return numbered

    def sessions(self) -> list[Binary]:
        """Return the identities of all sessions that were lent: before anything is written."""
        return list(self._sessions)
