"""
Throwaway real servers for the demo and the tests.

    with ReplicaSet() as servers:
        client = MongoClient(servers.uri)

Each listens on a free port of 127.0.0.1, keeps its data in a temporary folder and ends,
folder included, with the process that started it, however that process ends.
"""

from .errors import EmbeddedFailed, EmbeddedUnavailable
from .mongod import Mongod, Options, mongod_binary
from .replica_set import ReplicaSet

__all__ = [
    "EmbeddedFailed",
    "EmbeddedUnavailable",
    "Mongod",
    "Options",
    "ReplicaSet",
    "mongod_binary",
]
