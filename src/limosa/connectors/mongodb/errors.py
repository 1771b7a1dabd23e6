"""
What MongoDB's errors mean here: one predicate per meaning.

Codes are those of the server's public error code list (``error_codes.yml``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo import errors as driver

from ...errors import (
    AccessDenied,
    CollectionGone,
    ConfigError,
    ConnectionLost,
    LimosaError,
    PermanentError,
    PositionLost,
    Throttled,
    TransientError,
    WriteRefused,
)

#: Elections, shutdowns, network trouble between members, killed cursors, sessions and plans,
#: time-outs, write conflicts and builds under way: all pass if tried again.
_TRANSIENT = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        24,  # LockTimeout
        43,  # CursorNotFound
        46,  # LockBusy
        50,  # MaxTimeMSExpired
        63,  # StaleShardVersion
        64,  # WriteConcernFailed
        75,  # ClusterTimeFailsRateLimiter
        84,  # ReadConcernMajorityNotAvailableYet
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        112,  # WriteConflict
        117,  # ConflictingOperationInProgress
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        150,  # StaleEpoch
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        206,  # NoSuchSession
        211,  # KeyNotFound: it has just started and not yet read the keys that sign its time
        225,  # TransactionTooOld
        234,  # RetryChangeStream
        237,  # CursorKilled
        239,  # SnapshotTooOld
        246,  # SnapshotUnavailable
        251,  # NoSuchTransaction
        262,  # ExceededTimeLimit
        264,  # TooManyLogicalSessions
        276,  # IndexBuildAborted
        279,  # ClientDisconnect
        314,  # ObjectIsBusy
        317,  # ConnectionPoolExpired
        365,  # TemporarilyUnavailable
        384,  # ConnectionError
        9001,  # SocketException
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        12586,  # BackgroundOperationInProgressForDatabase
        12587,  # BackgroundOperationInProgressForNamespace
        13388,  # StaleConfig
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
    }
)
_TRANSIENT_LABELS = frozenset(
    {"RetryableWriteError", "TransientTransactionError", "ResumableChangeStreamError"}
)
_POSITION_LOST = frozenset(
    {
        136,  # CappedPositionLost: the oplog moved past the cursor
        260,  # InvalidResumeToken: of another deployment
        280,  # ChangeStreamFatalError
        286,  # ChangeStreamHistoryLost
    }
)
NAMESPACE_NOT_FOUND = 26
NAMESPACE_EXISTS = 48
INDEX_NOT_FOUND = 27
DUPLICATE_KEY = 11000
UNAUTHORIZED = 13
#: The same name with other options, or the same key under another name.
INDEX_CONFLICTS = frozenset({85, 86})
_AUTHENTICATION_FAILED = 18
_COMMAND = re.compile(r"command \{ (\w+):.*", re.DOTALL)
_OUT_OF_DISK_SPACE = 14031
#: So the driver calls a member that is neither primary nor secondary, as in an election: every
#: server that is supported has sessions.
_WITHOUT_SESSIONS = "Sessions are not supported"
_REQUEST_RATE_TOO_LARGE = 16500


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors into ours; the message begins with *doing*."""
    try:
        yield
    except driver.PyMongoError as exc:
        raise translation(exc, doing) from exc


def translation(exc: driver.PyMongoError, doing: str) -> LimosaError:
    """Return what *exc* means, as an error that says what was being done."""
    if isinstance(exc, driver.OperationFailure):
        return of_answer(
            exc.code or 0,
            _message(exc),
            doing,
            labels=exc.details.get("errorLabels", ()) if exc.details else (),
        )
    passes = isinstance(exc, driver.ConnectionFailure | driver.ExecutionTimeout)
    if passes or _WITHOUT_SESSIONS in str(exc):
        return ConnectionLost(f"{doing}: {_brief(str(exc))}")
    if isinstance(exc, driver.InvalidURI | driver.ConfigurationError):
        return ConfigError(f"{doing}: {_brief(str(exc))}")
    if isinstance(exc, driver.DocumentTooLarge):
        return WriteRefused(f"{doing}: {_brief(str(exc))}")
    return PermanentError(f"{doing}: {_brief(str(exc))}")


def of_answer(code: int, message: str, doing: str, *, labels: object = ()) -> LimosaError:
    """Return the error for a server's answer with *code* and *message*."""
    text = f"{doing}: {message} ({code})"
    if code in {UNAUTHORIZED, _AUTHENTICATION_FAILED}:
        return AccessDenied(text)
    if code == _REQUEST_RATE_TOO_LARGE:
        return Throttled(text)
    if code in _POSITION_LOST:
        return PositionLost(text)
    if code in _TRANSIENT or _TRANSIENT_LABELS & set(_strings(labels)):
        return TransientError(text)
    if code == NAMESPACE_NOT_FOUND:
        return CollectionGone(text)
    if code == _OUT_OF_DISK_SPACE:
        return WriteRefused(
            text, hint="free some space on that server; then run the same command again"
        )
    return PermanentError(text)


def write_errors(reply: Mapping[str, Any], doing: str) -> list[Mapping[str, Any]]:
    """
    Return the documents' own errors in the answer to a write.

    Raises:
        TransientError: the write concern was not met, or an error among them may pass.
    """
    concern = reply.get("writeConcernError")
    if concern:
        why, code = concern.get("errmsg", ""), concern.get("code", 0)
        msg = f"{doing}: write concern not met: {why} ({code})"
        raise TransientError(msg)
    found: list[Mapping[str, Any]] = list(reply.get("writeErrors", ()))
    for error in found:
        meaning = of_answer(error.get("code", 0), error.get("errmsg", ""), doing)
        if isinstance(meaning, TransientError):
            raise meaning
    return found


def passing_errors(reply: Mapping[str, Any]) -> list[int]:
    """
    Return which operations of a write have errors of their own that a next try may be without.

    None where all are to wait: the write concern was not met, or fewer requests are asked for.
    """
    if "writeErrors" not in reply or reply.get("writeConcernError"):
        return []
    meanings = {e["index"]: of_answer(e["code"], "", "") for e in reply["writeErrors"]}
    if any(isinstance(meaning, Throttled) for meaning in meanings.values()):
        return []
    return [index for index, meaning in meanings.items() if isinstance(meaning, TransientError)]


def _message(exc: driver.OperationFailure) -> str:
    details = exc.details or {}
    return _brief(str(details.get("errmsg") or exc))


def _brief(text: str) -> str:
    # The driver appends its whole view of the topology, pages of it; the server repeats the
    # whole command that it refuses, documents included.
    for more in (", full error:", ", Timeout:", "(configured timeouts"):
        text = text.partition(more)[0]
    return _COMMAND.sub(r"command \1", text).strip()


def _strings(labels: object) -> list[str]:
    return [x for x in labels if isinstance(x, str)] if isinstance(labels, list | tuple) else []
