"""Throwaway replica sets."""

from __future__ import annotations

import secrets
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from .mongod import HOST, Mongod, Options, create_user, credentials
from .waiting import wait_for

#: Milliseconds without a primary until an election; the default of 10 s is for real networks.
ELECTION_TIMEOUT = 2_000

HEARTBEAT_INTERVAL = 200  # milliseconds


class ReplicaSet:
    """
    A replica set of *members* servers, running between `start` and `stop`, or inside ``with``.

    It has a primary when `start` returns: after about half a second for a single member, some
    seconds for more.
    """

    def __init__(
        self,
        options: Options = Options(),  # noqa: B008 - frozen
        *,
        members: int = 1,
        name: str = "rs0",
    ) -> None:
        keyfile = secrets.token_hex(32) if options.user else ""
        self.name = name
        self.options = options
        self.members = [Mongod(options, replica_set=name, keyfile=keyfile) for _ in range(members)]

    def __repr__(self) -> str:
        return f"ReplicaSet({', '.join(m.address for m in self.members)})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def uri(self) -> str:
        """Where the set is reached, user and password included."""
        seeds = ",".join(m.address for m in self.members)
        return f"mongodb://{credentials(self.options)}{seeds}/?replicaSet={self.name}"

    def start(self) -> None:
        """
        Start and initiate all members.

        Raises:
            EmbeddedUnavailable: there is no ``mongod``.
            EmbeddedFailed: they did not start.
        """
        try:
            for member in self.members:
                member.launch()
            for member in self.members:
                member.await_listening()
            self._initiate()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all members and remove their data; done already is done."""
        for member in self.members:
            member.stop()

    def primary(self, *, seconds: float = 30.0) -> Mongod:
        """
        Return the member that takes writes, waiting for an election if there is none.

        Raises:
            EmbeddedFailed: there was none within *seconds*.
        """
        return wait_for(self._primary, f"primary of {self!r}", seconds=seconds)

    def step_down(self, *, seconds: int = 20) -> Mongod:
        """
        Make the primary step down, not to stand again for *seconds*; return the next one.

        A single member stands again after one second.
        """
        before = self.primary()
        alone = len(self.members) == 1
        before.client.admin.command("replSetStepDown", 1 if alone else seconds, force=alone)
        return self.primary() if alone else self._successor(before)

    def restart(self, member: int) -> None:
        """Kill a member and start it again; return once it follows or leads."""
        self.members[member].restart()
        wait_for(lambda: _serves(self.members[member]), f"restart of member {member}")

    def _initiate(self) -> None:
        config = {
            "_id": self.name,
            "members": [{"_id": i, "host": m.address} for i, m in enumerate(self.members)],
            "settings": {
                "electionTimeoutMillis": ELECTION_TIMEOUT,
                "heartbeatIntervalMillis": HEARTBEAT_INTERVAL,
            },
        }
        first: MongoClient[dict[str, Any]] = MongoClient(
            HOST, self.members[0].port, directConnection=True
        )
        with first:
            first.admin.command("replSetInitiate", config)
        primary = self.primary()
        for member in self.members:
            wait_for(lambda m=member: _serves(m), f"initial sync of {member!r}")  # type: ignore[misc]
        if self.options.user:
            create_user(primary)

    def _primary(self) -> Mongod | None:
        return next((m for m in self.members if _hello(m).get("isWritablePrimary")), None)

    def _successor(self, before: Mongod) -> Mongod:
        def other() -> Mongod | None:
            primary = self._primary()
            return None if primary is before else primary

        return wait_for(other, f"successor of {before!r}")


def _serves(member: Mongod) -> bool:
    state = _hello(member)
    return bool(state.get("isWritablePrimary") or state.get("secondary"))


def _hello(member: Mongod) -> dict[str, Any]:
    """Return the member's view of itself, nothing if it does not answer."""
    client: MongoClient[dict[str, Any]] = MongoClient(
        HOST, member.port, directConnection=True, serverSelectionTimeoutMS=500
    )
    with client:
        try:
            return client.admin.command("hello")
        except ConnectionFailure:
            return {}
