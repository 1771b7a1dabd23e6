"""
Realistic data, an application that writes to it, and a plain comparison of two servers.

    fill(source_uri, documents=200_000)
    with Traffic(source_uri, rate=1_000) as traffic:
        ...
        last_write = traffic.hold()
"""

from .comparison import Comparison, compare
from .filling import Filled, fill
from .traffic import Counters, Traffic, TrafficFailed

__all__ = [
    "Comparison",
    "Counters",
    "Filled",
    "Traffic",
    "TrafficFailed",
    "compare",
    "fill",
]
