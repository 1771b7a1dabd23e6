"""Migrations from and to what says that it is a router of a sharded cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from in_process import Running
from judge import differences
from pymongo import ReplaceOne
from stand_in import StandIn

from limosa import migrations
from limosa.connector import connector_for
from limosa.errors import ConfigError
from limosa.settings import Settings, WriteBlocking

if TYPE_CHECKING:
    from tests.conftest import Ends

KEY = {"country": 1, "name": 1}


@pytest.fixture
def source(ends: Ends) -> Iterator[StandIn]:
    with StandIn(ends.source.replica_set.members[0].port) as router:
        yield router


@pytest.fixture
def target(ends: Ends) -> Iterator[StandIn]:
    with StandIn(ends.target.replica_set.members[0].port) as router:
        yield router


def fill(ends: Ends) -> None:
    people = ends.source.client.shop.people
    people.insert_many({"_id": n, "country": f"C{n % 7}", "name": f"N{n}"} for n in range(300))
    people.create_index(list(KEY.items()), name="place")


def change(ends: Ends) -> None:
    """Make changes of every sort, among them of shard keys."""
    shop = ends.source.client.shop
    shop.people.delete_many({"_id": {"$lt": 10}})
    shop.people.update_many({"_id": {"$lt": 50}}, {"$set": {"country": "moved"}})
    new = [ReplaceOne({"_id": n}, {"country": "X", "name": str(n)}, True) for n in (60, 9_001)]
    shop.people.bulk_write(new)
    shop.log.insert_many({"at": n} for n in range(20))


def commands(router: StandIn) -> list[str]:
    return [next(iter(command)) for command in router.told]


def test_between_clusters(ends: Ends, source: StandIn, target: StandIn, tmp_path: Path) -> None:
    """The target is sharded as the source is, before the copy, and both end equal."""
    fill(ends)
    source.shard("shop.people", KEY)
    bounds = [{"country": c, "name": "N1"} for c in ("C2", "C4")]
    source.catalogue["chunks"] = [{"ns": "shop.people", "min": b} for b in bounds]

    with Running(source.uri, target.uri, tmp_path / "state") as migration:
        with migration.held_at("application"):
            change(ends)
        migration.committed()

    assert differences(ends.source.client, ends.target.client) == []
    parts = ["split", "moveChunk"] * 2
    assert commands(target) == ["enableSharding", "shardCollection", *parts]
    assert target.told[1] == target.told[1] | {"shardCollection": "shop.people", "key": KEY}
    assert source.told == []


def test_to_a_cluster(ends: Ends, target: StandIn, tmp_path: Path) -> None:
    """A collection of a replica set is sharded as told, and keeps the index that takes."""
    fill(ends)
    settings = Settings.of(shards=["shop.people=name"])

    with Running(ends.source.uri, target.uri, tmp_path / "state", settings) as migration:
        with migration.held_at("application"):
            change(ends)
        migration.committed()

    assert commands(target) == ["enableSharding", "shardCollection"]
    assert "name_1" in ends.target.client.shop.people.index_information()
    ends.target.client.shop.people.drop_index("name_1")
    assert differences(ends.source.client, ends.target.client) == []


def test_from_a_cluster(ends: Ends, source: StandIn, tmp_path: Path) -> None:
    """A sharded collection arrives whole at a replica set."""
    fill(ends)
    source.shard("shop.people", KEY)

    with Running(source.uri, ends.target.uri, tmp_path / "state") as migration:
        with migration.held_at("application"):
            change(ends)
        migration.committed()

    assert differences(ends.source.client, ends.target.client) == []


@pytest.mark.parametrize(
    ("given", "to_cluster", "named"),
    [
        ({"shards": ["shop.people=name"]}, False, "only possible towards a sharded cluster"),
        ({"shards": ["shop.nobody=name"]}, True, "shop.nobody"),
        ({"reversible": True}, True, "--reversible"),
        ({"accounts": True}, True, "--accounts"),
        ({"write_blocking": WriteBlocking.TARGET}, True, "not possible on a sharded cluster"),
    ],
)
def test_refused(
    ends: Ends,
    target: StandIn,
    tmp_path: Path,
    given: dict[str, Any],
    to_cluster: bool,
    named: str,
) -> None:
    """What is not possible is refused before anything is written."""
    fill(ends)
    settings = Settings.of(**given)
    to = target.uri if to_cluster else ends.target.uri

    with (
        Running(ends.source.uri, to, tmp_path / "state", settings) as migration,
        pytest.raises(ConfigError, match=named) as raised,
    ):
        migration.start().end()

    examined = migrations.examine(ends.source.uri, to, settings=settings)
    assert raised.value.hint
    assert [f for _, f in examined if f.level == "error"]
    assert target.told == []
    assert ends.target.client.shop.list_collection_names() == []


@pytest.mark.parametrize("role", ["source", "target"])
def test_examined(source: StandIn, role: str) -> None:
    """A cluster is examined without an error, and what is to be known of it is said."""
    findings = {f.check: f for f in connector_for("mongodb://").examine(source.uri, role, [])}

    assert [f for f in findings.values() if f.level == "error"] == []
    assert {"topology", "version", "shards", "balancer"} <= findings.keys()
    assert "has not been run on one" in findings["topology"].message
