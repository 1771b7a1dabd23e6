"""Faults that strike a server or the network before it, at a moment of a migration."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from in_process import Running
from pymongo import MongoClient
from pymongo.errors import AutoReconnect
from waiting import until

from limosa.state import State
from limosa.testing.proxy import Fate, Proxy, Way

Client = MongoClient[dict[str, Any]]

#: With this variable set to anything, every fault strikes in every phase; else in one of them.
EVERYTHING = bool(os.environ.get("LIMOSA_TEST_EVERYTHING"))

PHASES = ("plan", "copy", "index build", "application", "verification", "commit")
SIDES = ("source", "target")

#: More documents than a batch has, so that there is a cursor to lose.
DOCUMENTS = 5_100
#: Larger than anything that the driver's monitoring sends: a strike above it hits data.
DATA = 2_500
#: Short time-outs, so that a test does not wait as long as a network may take.
HURRIED = (
    "directConnection=true&heartbeatFrequencyMS=500&serverSelectionTimeoutMS=1000"
    "&connectTimeoutMS=1000&socketTimeoutMS=1500"
)


@dataclass(frozen=True, slots=True)
class Site:
    """One end, with a network before it that can fail."""

    side: str
    server: Any  # of the fixture `ends`
    network: Proxy

    @property
    def uri(self) -> str:
        """Through the network."""
        return f"mongodb://{self.network.address}/?{HURRIED}"

    @property
    def patient_uri(self) -> str:
        """Through the network, with the time-outs that hold where nothing is said."""
        return f"mongodb://{self.network.address}/?directConnection=true"

    @property
    def client(self) -> Client:
        """Around it."""
        client: Client = self.server.client
        return client


Strike = Callable[[Site, str], None]


def selected(faults: Sequence[str]) -> list[Any]:
    """Return cases of fault, side and phase; unless everything is wanted, a phase for each two."""
    cases = [(f, s, p) for f in faults for s in SIDES for p in PHASES]
    if not EVERYTHING:
        # Three is coprime to none of the six, five is: all phases have their turn.
        pairs = [(f, s) for f in faults for s in SIDES]
        cases = [(f, s, PHASES[i * 5 % len(PHASES)]) for i, (f, s) in enumerate(pairs)]
    return [pytest.param(*case, id="-".join(case)) for case in cases]


def some(first: str, *others: str) -> list[str]:
    """Return all cases if everything is wanted, else the first."""
    return [first, *(others if EVERYTHING else ())]


def fill(source: Client) -> None:
    """Make a source with every phase worth being struck in."""
    shop = source.shop
    shop.people.insert_many({"_id": i, "number": i} for i in range(DOCUMENTS))
    shop.people.create_index("number", unique=True)
    shop.orders.insert_many({"_id": i, "total": i, "at": "x" * 100} for i in range(100))
    shop.orders.create_index("total", expireAfterSeconds=10**6)


def change(source: Client, *, mark: str) -> None:
    """Make some changes of every kind."""
    shop = source.shop
    shop.people.update_many({"_id": {"$lt": 60}}, {"$set": {mark: "y" * 100}})
    shop.people.delete_many({"_id": {"$gt": DOCUMENTS - 5}})
    shop.people.insert_one({"_id": mark, "number": mark})
    shop.orders.update_many({}, {"$inc": {"total": 1}})


def struck_in(phase: str, running: Running, source: Client, strike: Callable[[], None]) -> None:
    """Run a migration to its commit; hold it in *phase*, for changes and the *strike*."""
    if phase == "commit":
        running.start()
        running.await_ready()
    running.hold_at(phase)
    if phase != "commit":
        running.start()
    else:
        change(source, mark="awaited")
    running.await_held()
    change(source, mark="before")
    strike()
    change(source, mark="after")
    running.release()
    # Ready again, or for the first time: whichever, the commit is asked for once it is.
    migration = running.committed()
    assert migration.state is State.COMMITTED


def kill(site: Site, _phase: str) -> None:
    """End the server as a power cut would, and start it again."""
    site.server.replica_set.restart(0)
    # Writes of many documents are not tried again by the driver: no stale connection may be
    # left, and there has to be a primary.
    until(lambda: _takes_writes(site.client), "primary")


def restart(site: Site, phase: str) -> None:
    """Have the server shut down in peace, and start it again."""
    with suppress(AutoReconnect):  # it closes the connection before it answers
        site.client.admin.command("shutdown", force=True, timeoutSecs=0)
    kill(site, phase)


def kill_cursors(site: Site, _phase: str) -> None:
    """Have the server forget every cursor of the migration."""
    for operation in _operations(site, "cursor"):
        database, _, collection = operation["ns"].partition(".")
        name = collection or "$cmd.aggregate"
        site.client[database].command(
            "killCursors", name, cursors=[operation["cursor"]["cursorId"]]
        )


def kill_operations(site: Site, _phase: str) -> None:
    """Interrupt whatever the server does for the migration."""
    for operation in _operations(site, "opid"):
        site.client.admin.command("killOp", op=operation["opid"])


def kill_sessions(site: Site, _phase: str) -> None:
    """End all sessions, and what runs in them."""
    with suppress(AutoReconnect):
        site.client.admin.command("killAllSessions", [])


def cut_towards_server(site: Site, phase: str) -> None:
    """Cut connections in the middle of what Limosa sends."""
    _strike(site, phase, Fate.CUT, Way.TO_SERVER)


def cut_towards_client(site: Site, phase: str) -> None:
    """Cut connections in the middle of what the server answers."""
    _strike(site, phase, Fate.CUT, Way.TO_CLIENT)


def mute(site: Site, phase: str) -> None:
    """Have connections stay open on which nothing arrives any more."""
    _strike(site, phase, Fate.MUTE, Way.TO_CLIENT)


def delay_for_ever(site: Site, phase: str) -> None:
    """Have what Limosa sends arrive only when the network is told to deliver it."""
    _strike(site, phase, Fate.LATE, Way.TO_SERVER)


FAULTS: dict[str, Strike] = {
    "killed": kill,
    "restarted": restart,
    "cursors killed": kill_cursors,
    "operations killed": kill_operations,
    "sessions killed": kill_sessions,
    "cut towards server": cut_towards_server,
    "cut towards client": cut_towards_client,
    "muted": mute,
    "late": delay_for_ever,
}


def _takes_writes(client: Client) -> bool:
    try:
        return bool(client.admin.command("hello")["isWritablePrimary"])
    except AutoReconnect:
        return False


def _strike(site: Site, phase: str, fate: Fate, way: Way) -> None:
    # Elsewhere than in the copy even data is small.
    large = phase == "copy" and (site.side, way) in {
        ("source", Way.TO_CLIENT),
        ("target", Way.TO_SERVER),
    }
    site.network.strike(fate, way, larger_than=DATA if large else 0, times=1 if large else 4)


def _operations(site: Site, having: str) -> list[dict[str, Any]]:
    pipeline = [
        {"$currentOp": {"allUsers": True, "idleCursors": True, "idleConnections": False}},
        {"$match": {"appName": "limosa", having: {"$exists": True}}},
    ]
    return list(site.client.admin.aggregate(pipeline))
