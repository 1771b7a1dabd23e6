"""What `limosa doctor` asks a sharded cluster, through a router."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...connector import Finding
from ...model import CollectionSpec
from ...shard_keys import SHARDING
from .probe import Probe
from .sharding import is_by_id

_NAMED = 10
_ZONES = {
    "find": "tags",
    "projection": {"_id": 0, "ns": 1, "tag": 1},
    "batchSize": 10_000,
}


def check_cluster(probe: Probe, role: str, specs: Sequence[CollectionSpec]) -> Iterator[Finding]:
    """Name the shards, and what of balancer, zones and keys has to be known before."""
    shards = probe.ask("admin", {"listShards": 1}, doing="list the shards")["shards"]
    balancer = probe.ask("admin", {"balancerStatus": 1}, doing="ask for the balancer")
    zones = probe.first_batch("config", _ZONES, doing="list the zones")
    yield from findings_of(role, shards, balancer, zones)
    if role == "source":
        yield from keys_of(specs)


def findings_of(
    role: str,
    shards: Sequence[Mapping[str, Any]],
    balancer: Mapping[str, Any],
    zones: Iterable[Mapping[str, Any]],
) -> Iterator[Finding]:
    """Yield what follows from the answers to ``listShards`` and ``balancerStatus``, and zones."""
    yield Finding("shards", "ok", f"{len(shards)} shards: {_listed(s['_id'] for s in shards)}")
    draining = [s["_id"] for s in shards if s.get("draining")]
    if draining:
        yield Finding(
            "draining_shards",
            "warning",
            f"shards are being removed: {_listed(draining)}",
            "wait until they are gone",
        )
    yield _of_balancer(role, is_on=balancer.get("mode", "full") != "off")
    spaces = sorted({z["ns"] for z in zones})
    if spaces:
        yield Finding(
            "zones",
            "warning",
            f"zones of {_listed(spaces)} are not carried over"
            if role == "source"
            else f"there are zones of {_listed(spaces)}: parts of them can lie on some shards only",
            "define them on the target after the commit (sh.updateZoneKeyRange)",
        )
    if role == "source":
        yield Finding(
            "oplog_window",
            "warning",
            "through a router it is not seen how far the oplogs of the shards reach back",
            "ask each shard: rs.printReplicationInfo(); the shortest one counts",
        )


def keys_of(specs: Iterable[CollectionSpec]) -> Iterator[Finding]:
    """Yield what is to be known of the keys by which the source's collections are sharded."""
    keyed = [s for s in specs if not is_by_id(s.options.get(SHARDING, {}).get("key", {}))]
    if keyed:
        yield Finding(
            "unique_ids",
            "warning",
            "sharded by another key than _id, so that nothing keeps an _id from being there "
            f"twice: {_listed(str(s.collection) for s in keyed)}",
            "a migration that finds one twice fails and names it",
        )


def _of_balancer(role: str, *, is_on: bool) -> Finding:
    if not is_on:
        return Finding("balancer", "ok", "the balancer is off")
    if role == "target":
        return Finding(
            "balancer",
            "warning",
            "the balancer is on: it moves documents while they are copied, which takes longer",
            "sh.stopBalancer() until the commit, then sh.startBalancer()",
        )
    return Finding(
        "balancer",
        "warning",
        "the balancer is on: chunks that move leave orphans behind, which routers filter out, and "
        "open cursors may have to begin anew",
        "sh.stopBalancer() until the commit",
    )


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
