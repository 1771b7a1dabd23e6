"""How the driver is set up, and what it needs to be told."""

from __future__ import annotations

from collections.abc import Sequence

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.server_description import ServerDescription
from pymongo.uri_parser import parse_uri

#: How servers name the program in what they tell of connections and operations.
APP_NAME = "limosa"
#: A server that cannot be found for so long is reported; the engine then tries again.
_SELECTION_MS = 5_000
#: A connection on which nothing comes for so long is given up: what lies between may have
#: forgotten it without telling. No command but a build takes as long.
_ANSWER_MS = 300_000


def selection_ms(uri: str) -> float:
    """Return how long to look for a server: what *uri* says, or else 5 s."""
    # The driver takes milliseconds, but hands back seconds.
    seconds = parse_uri(uri)["options"].get("serverSelectionTimeoutMS", _SELECTION_MS / 1_000)
    return float(seconds) * 1_000


def answer_ms(uri: str) -> float:
    """Return how long to wait for an answer: what *uri* says, or else five minutes."""
    seconds = parse_uri(uri)["options"].get("socketTimeoutMS", _ANSWER_MS / 1_000)
    return float(seconds or 0) * 1_000


def one_router(servers: Sequence[ServerDescription]) -> Sequence[ServerDescription]:
    """Return *servers*, but of several routers the first: a cursor is known to one of them."""
    routers = [s for s in servers if s.server_type_name == "Mongos"]
    return sorted(routers, key=lambda s: (s.address[0], s.address[1] or 0))[:1] or servers


def connected(uri: str, *, answer_ms: float) -> MongoClient[RawBSONDocument]:
    """Return the driver's client for *uri*, which waits so long for an answer."""
    return MongoClient(
        uri,
        appname=APP_NAME,
        document_class=RawBSONDocument,
        # Retries are ours: visible as events, and with backoff.
        retryReads=False,
        retryWrites=False,
        serverSelectionTimeoutMS=selection_ms(uri),
        socketTimeoutMS=answer_ms,
        # What the connection string says of it is for reading whole collections only.
        readPreference="primary",
        readPreferenceTags="",
        maxStalenessSeconds=-1,
        connect=False,
        server_selector=one_router,
    )


def forget_connections(client: MongoClient[RawBSONDocument]) -> None:
    """
    Have no connection used any more that is there now; what is under way on them goes on.

    A member between two roles, as in an election, says that it has no sessions. The driver
    remembers that for each connection, for as long as it is open, and begins with the one that
    was used last: what needs a session could fail for minutes (seen for 90 seconds). And a server
    (6.0.5) that is told on a connection, on which something was written before an election, to
    block or allow writes as it does already, waits for what was written then: it answers "Term
    changed" (189), time after time. Nothing that the driver documents clears its pools when asked,
    so this does it by what is its own.
    """
    for server in list(client._topology._servers.values()):
        server.pool.reset_without_pause()
