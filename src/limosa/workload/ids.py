"""Keys of every kind that a collection can hold side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bson import SON, Binary, Code, Decimal128, Int64, MaxKey, MinKey, Regex, Timestamp

from .dice import BEGINNING, object_id

#: One of each, the odd ones above all. No two are equal in the eyes of MongoDB, to whom 1, 1.0,
#: Int64(1) and Decimal128("1.0") are one number, 0.0 is -0.0, and each sort of number has the
#: same NaN and the same infinities.
SPECIMENS: tuple[Any, ...] = (
    *(MinKey(), None, MaxKey(), True, False),
    *(math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.5, 2.0**60),
    *(1, -1, 2**31 - 1, -(2**31), Int64(3), Int64(2**53 + 1), Int64(2**63 - 1), Int64(-(2**63))),
    *(Decimal128("1.10"), Decimal128("-1E-6176"), Decimal128("9.99E+6144")),
    *("", " ", "a", "A", "ä", "a\0b", "日本", "🦢", "x" * 900),
    *(object_id(0), object_id(2**62)),
    *(Binary(bytes([kind]), kind) for kind in (0, 1, 2, 5, 6, 7, 8, 128, 255)),
    *(Binary(b"", 0), Binary(UUID(int=7).bytes, 3), Binary.from_uuid(UUID(int=8))),
    *(datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), BEGINNING),
    *(Timestamp(0, 1), Timestamp(1, 0), Timestamp(2**32 - 1, 2**32 - 1)),
    *(Code("f()"), Code("f()", {"x": 1})),
    *({}, {"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": {"b": {"c": None}}}),
    *({"a": []}, {"a": [1, [2, {"b": math.nan}]]}, {"a": Regex("^x", "i")}, {"a": -0.0}),
)

# Numbers are below 2**51, so that n + 0.5 is exact.
_KINDS: tuple[Callable[[int], Any], ...] = (
    object_id,
    lambda n: f"record-{n}",
    lambda n: Int64(10**6 + n),
    lambda n: n + 10**6 + 0.5,
    lambda n: Decimal128(f"{n}.25"),
    lambda n: Binary.from_uuid(UUID(int=2**100 + n)),
    lambda n: BEGINNING + timedelta(milliseconds=n % 2**40),
    lambda n: SON(year=n % 100, parts=[n, str(n)]),
    lambda n: Timestamp(1_700_000_000, n % 2**32),
    lambda n: Binary(n.to_bytes(8, "big"), 0),
)


def every_kind(number: int) -> Any:
    """Return the key with this number: first all `SPECIMENS`, then common kinds in turn."""
    if number < len(SPECIMENS):
        return SPECIMENS[number]
    return _KINDS[number % len(_KINDS)](number)
