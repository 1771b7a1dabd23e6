"""The operations guide: who is made by its commands can migrate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from in_process import Running
from pymongo import MongoClient
from ruamel.yaml import YAML

from limosa.connector import connector_for
from limosa.embedded import Options, ReplicaSet
from limosa.settings import Settings, WriteBlocking
from limosa.state import State

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
PASSWORD = "s3cret-of-mine"

Command = dict[str, Any]


class Guarded(NamedTuple):
    """Both ends, with access control."""

    source: ReplicaSet
    target: ReplicaSet


@pytest.fixture(scope="module")
def guarded(mongod_options: Options) -> Iterator[Guarded]:
    options = replace(mongod_options, user="admin", password=PASSWORD)
    with ReplicaSet(options) as source, ReplicaSet(options) as target:
        with MongoClient[Command](source.uri) as client:
            fill(client)
        yield Guarded(source, target)


def fill(client: MongoClient[Command]) -> None:
    client.shop.people.insert_many({"_id": n, "n": n} for n in range(100))
    client.shop.people.create_index("n", unique=True)
    client.shop.create_collection("young", viewOn="people", pipeline=[])
    client.blog.create_collection("log", capped=True, size=100_000)
    client.blog.create_collection("heat", timeseries={"timeField": "at"})
    client.blog.heat.insert_one({"at": datetime(2020, 1, 1, tzinfo=UTC)})


def commands(heading: str, end: str = "") -> list[Command]:
    """Return the commands under *heading*, those for one *end* if they differ."""
    text = GUIDE.partition(f"\n### {heading}\n")[2].partition("\n##")[0]
    if end:
        text = text.partition(f"On the {end}:\n")[2].partition("\nOn the ")[0]
    found = re.findall(r"db\.adminCommand\((\{.*?\})\)\n", text, re.DOTALL)
    return [YAML(typ="safe").load(each) for each in found]


def made(servers: ReplicaSet, wanted: list[Command]) -> str:
    """Run commands as an administrator; return the URI of the user that they make."""
    with MongoClient[Command](servers.uri) as admin:
        for command in wanted:
            admin.admin.command(command)
    user = next(c["createUser"] for c in wanted if "createUser" in c)
    password = next(c["pwd"] for c in wanted if "createUser" in c).replace(" ", "%20")
    address = servers.members[0].address
    return f"mongodb://{user}:{password}@{address}/?replicaSet={servers.name}&authSource=admin"


@pytest.mark.parametrize(
    ("heading", "more", "settings"),
    [
        ("One database", "", Settings.of(include=["shop"])),
        ("As little as possible", "", Settings()),
        ("All databases", "For more than copying", Settings(write_blocking=WriteBlocking.TARGET)),
    ],
)
def test_users(
    guarded: Guarded, tmp_path: Path, heading: str, more: str, settings: Settings
) -> None:
    """The users of the guide lack nothing, as `limosa doctor` says and a migration shows."""
    source = made(guarded.source, commands(heading, "source"))
    target = made(guarded.target, [*commands(heading, "target"), *commands(more)])

    for uri, role in ((source, "source"), (target, "target")):
        findings = connector_for(uri).examine(uri, role, [])
        missing = [f for f in findings if f.check == "privileges" and f.level != "ok"]
        assert heading == "One database" or missing == []
    with Running(source, target, tmp_path / "state", settings, commit="when-ready") as migration:
        assert migration.start().end().state is State.COMMITTED
    with MongoClient[Command](guarded.target.uri) as admin:
        assert admin.shop.young.count_documents({}) == 100
        for database in ("shop", "blog"):
            admin.drop_database(database)
