"""Making a server fail or slow down the commands of Limosa alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient

Client = MongoClient[dict[str, Any]]


class FailPoint:
    """The fail point ``failCommand`` of one server, for connections named "limosa"."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before: int | None = None

    def on(self, commands: Sequence[str], *, times: int | None = None, **how: Any) -> None:
        """Have *commands* fail as ``failCommand``'s data says, only *times* if given."""
        reply = self._client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode="alwaysOn" if times is None else {"times": times},
            data={"failCommands": list(commands), "appName": "limosa", **how},
        )
        if self._before is None:
            self._before = reply["count"]

    def slow_down(self, commands: Sequence[str], *, milliseconds: int) -> None:
        """Have *commands* take longer."""
        self.on(commands, blockConnection=True, blockTimeMS=milliseconds)

    def off(self) -> int:
        """Let all commands succeed; return how often one did not since the first `on`."""
        reply = self._client.admin.command("configureFailPoint", "failCommand", mode="off")
        count: int = reply["count"]
        return count - (count if self._before is None else self._before)

    @contextmanager
    def while_on(self, commands: Sequence[str], **how: Any) -> Iterator[None]:
        """Switch it on for a block."""
        self.on(commands, **how)
        try:
            yield
        finally:
            self.off()
