"""
Top-level timestamps of zero, in place of which a server stores the present time.

An insert or a replacement puts it there whatever the document's source (MongoDB manual, "BSON
Types", timestamps); only an update by pipeline leaves them.
"""

from __future__ import annotations

from ...canonical import elements

_TIMESTAMP = 0x11
#: The end of a name, and a timestamp of zero.
_ZEROS = bytes(9)
#: Looking for the type's byte is ten times as fast as looking for zeros, but in what is as good
#: as random it is everywhere: so many times at most, in one of so many bytes.
_BYTES_FOR_EACH = 2_000


def has_empty_time(document: bytes | memoryview) -> bool:
    """Whether a write as usual would put the present time into *document*."""
    raw = bytes(document)  # a large one may be a view of the batch
    if not may_have_empty_time(raw):
        return False
    return any(
        kind == _TIMESTAMP and name != b"_id" and not any(raw[start:end])
        for kind, name, start, end in elements(raw)
    )


def may_have_empty_time(raw: bytes) -> bool:
    """
    Whether there are bytes in *raw*, one document or many, as a timestamp of zero has.

    That is a type's byte, a name and nine zeros, wherever they stand.
    """
    at = raw.find(_TIMESTAMP)
    for _ in range(1 + len(raw) // _BYTES_FOR_EACH):
        end = raw.find(0, at) if at >= 0 else -1  # of a name, if it is one
        if end < 0:
            return False
        if raw.startswith(_ZEROS, end):
            return True
        at = raw.find(_TIMESTAMP, end)
    return at >= 0 and _found_by_zeros(raw, at)


def _found_by_zeros(raw: bytes, start: int) -> bool:
    at = raw.find(_ZEROS, start)
    while at >= 0:
        if raw.rfind(_TIMESTAMP, max(start, raw.rfind(0, start, at)), at) >= 0:
            return True
        at = raw.find(_ZEROS, _after_zeros(raw, at))
    return False


def _after_zeros(raw: bytes, at: int) -> int:
    """Return where the zeros from *at* on end, soon also where there are megabytes of them."""
    step = 64
    while raw.startswith(bytes(step), at):
        at += step
        step *= 2
    return at + 1
