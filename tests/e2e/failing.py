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
        self._before = self._entered()

    def on(
        self, commands: Sequence[str], *, times: int | None = None, skip: int = 0, **how: Any
    ) -> None:
        """Have *commands* fail as ``failCommand``'s data says, only *times*, after *skip*."""
        always = {"skip": skip} if skip else "alwaysOn"
        self._client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode=always if times is None else {"times": times},
            data={"failCommands": list(commands), "appName": "limosa", **how},
        )

    def slow_down(self, commands: Sequence[str], *, milliseconds: int) -> None:
        """Have *commands* take longer."""
        self.on(commands, blockConnection=True, blockTimeMS=milliseconds)

    def off(self) -> None:
        """Let all commands succeed."""
        self._client.admin.command("configureFailPoint", "failCommand", mode="off")

    @property
    def hits(self) -> int:
        """How many commands failed or were slowed down since this was made."""
        return self._entered() - self._before

    @contextmanager
    def while_on(self, commands: Sequence[str], **how: Any) -> Iterator[None]:
        """Switch it on for a block."""
        self.on(commands, **how)
        try:
            yield
        finally:
            self.off()

    def _entered(self) -> int:
        reply = self._client.admin.command({"getParameter": 1, "failpoint.failCommand": 1})
        entered: int = reply["failpoint.failCommand"]["timesEntered"]
        return entered
