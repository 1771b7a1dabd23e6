"""Questions to a server that may be unreachable, without a primary, or closed to us."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.read_preferences import ReadPreference

from . import errors
from .clients import APP_NAME, selection_ms
from .deployment import PLAIN, identity

#: How long to wait for a server: long enough for a slow link, short for a person.
_PATIENCE_MS = 5_000


class Probe:
    """Asks whichever member answers; unlike a `Deployment` it needs no primary."""

    def __init__(self, uri: str) -> None:
        """
        Prepare a connection; nothing is sent yet.

        Raises:
            ConfigError: *uri* is not a MongoDB connection string.
        """
        self.identity = identity(uri)
        with errors.translated(f"connect to {self.identity}"):
            self._client: MongoClient[dict[str, Any]] = MongoClient(
                uri,
                appname=APP_NAME,
                serverSelectionTimeoutMS=selection_ms(uri),
                connectTimeoutMS=_PATIENCE_MS,
                connect=False,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(self, database: str, command: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        """Return the decoded answer to *command*."""
        with errors.translated(doing):
            answer: dict[str, Any] = self._client[database].command(
                dict(command), read_preference=ReadPreference.NEAREST, codec_options=PLAIN
            )
        return answer

    def first_batch(
        self, database: str, command: Mapping[str, Any], *, doing: str
    ) -> list[dict[str, Any]]:
        """Return the first documents of a command that answers with a cursor."""
        found: list[dict[str, Any]] = self.ask(database, command, doing=doing)["cursor"][
            "firstBatch"
        ]
        return found

    def round_trip(self) -> float:
        """Return the seconds that a ping takes on a connection that is open."""
        for _ in range(2):  # the first one opens it
            begin = perf_counter()
            self.ask("admin", {"ping": 1}, doing=f"ping {self.identity}")
        return perf_counter() - begin
