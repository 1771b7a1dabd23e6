"""What MongoDB's errors become."""

from __future__ import annotations

import pytest
from pymongo import errors as driver

from limosa.connectors.mongodb.errors import of_answer, translation, write_errors
from limosa.errors import (
    AccessDenied,
    CollectionGone,
    ConnectionLost,
    LimosaError,
    PermanentError,
    PositionLost,
    Throttled,
    TransientError,
)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (10107, TransientError),
        (189, TransientError),
        (112, TransientError),
        (43, TransientError),
        (211, TransientError),
        (286, PositionLost),
        (136, PositionLost),
        (13, AccessDenied),
        (18, AccessDenied),
        (26, CollectionGone),
        (16500, Throttled),
        (2, PermanentError),
    ],
)
def test_code(code: int, meaning: type[LimosaError]) -> None:
    """Each code of the server has one meaning."""
    assert type(of_answer(code, "no", "read a.b")) is meaning


def test_label() -> None:
    """An unknown code that the server calls retryable is transient."""
    error = driver.OperationFailure("new", 99999, {"errorLabels": ["RetryableWriteError"]})

    assert isinstance(translation(error, "write"), TransientError)


def test_election() -> None:
    """A member without a role, which the driver calls one without sessions, passes."""
    error = driver.ConfigurationError("Sessions are not supported by this MongoDB deployment")

    assert isinstance(translation(error, "look up"), TransientError)


def test_command_is_not_repeated() -> None:
    """A refused command's documents and session do not reach the message."""
    text = 'not authorized on shop to execute command { insert: "a", documents: [ { pw: 1 } ] }'
    error = driver.OperationFailure(text, 13, {"errmsg": text})

    assert str(translation(error, "write shop.a")) == (
        "write shop.a: not authorized on shop to execute command insert (13)"
    )


def test_topology_is_not_repeated() -> None:
    """Of a server that is not found only the reason is told."""
    error = driver.ServerSelectionTimeoutError("h:1: refused, Timeout: 5s, Topology: <pages>")

    found = translation(error, "ping")
    assert isinstance(found, ConnectionLost)
    assert str(found) == "ping: h:1: refused"


def test_write_concern() -> None:
    """A write concern that was not met is tried again."""
    with pytest.raises(TransientError, match="waiting for replication timed out"):
        write_errors(
            {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
            "write",
        )
