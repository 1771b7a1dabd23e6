"""Indexes of every kind are made, changed and dropped at any moment of a migration."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bson import SON
from faults import some
from in_process import MOMENTS, Running
from judge import differences
from pymongo import MongoClient
from test_indexes import KINDS, MOST_INDEXES, TEN_YEARS, documents

Client = MongoClient[dict[str, Any]]

#: Documents; the copy is held within a collection of more than one batch.
MANY = 5_500
FEW = 200
#: Formats of earlier versions, and a name of the kind that nobody would give.
LEGACY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "first version": ({"n": 1, "u": 1}, {"v": 1}),
    "numbers": ({"b": 2**40, "p": -0.5}, {"v": 1, "background": True}),
    "never expires": ({"seen": 1}, {"expireAfterSeconds": math.nan}),
    "half a second": ({"seen": -1}, {"expireAfterSeconds": TEN_YEARS + 0.5, "bits": 5}),
    "behind": ({"b": 1, "n": 1}, {"background": True}),
    "text of 2.6": ({"title": "text"}, {"textIndexVersion": 2, "language_override": "idioma"}),
    "sphere of 2.6": ({"place": "2dsphere", "n": -1}, {"2dsphereIndexVersion": 2}),
    "i.$ndex \t'\"{}" + "n" * 1_000: ({"n": -1, "x": 1}, {}),
    "$**": ({"tags.$**": 1}, {}),
}


def make_all(source: Client) -> None:
    """Have an index of every kind, and as many on one collection as there can be."""
    for name, (key, options) in KINDS.items():
        _create(source, "all", {"key": key, "name": name, **options})
    for name, (key, options) in LEGACY.items():
        _create(source, "old", {"key": key, "name": name, **options})
    _fill_up(source, unique=1)


def make_and_break(source: Client) -> None:
    """Make some, and what they forbid or could not hold is gone again before anybody looks."""
    shop = source.shop
    shop.all.create_index("n", name="by n")
    shop.all.drop_index("by n")
    shop.all.create_index("u", name="by u", unique=True)
    shop.all.drop_index("by u")
    shop.all.insert_one({"_id": "twice", "u": 1})
    shop.all.create_index([("a", 1), ("n", 1)], name="of two")
    shop.all.drop_index("of two")
    shop.all.insert_one({"_id": "parallel", "a": [1], "n": [1]})


def change_all(source: Client) -> None:
    """Change of all indexes what can be changed, and make others under their names."""
    shop = source.shop
    for name in ("single", "unique", "ttl"):
        _modify(source, name, hidden=True)
    for name in ("hidden", "unique hidden"):
        _modify(source, name, hidden=False)
    _modify(source, "ttl", expireAfterSeconds=TEN_YEARS + 1)
    _modify(source, "ttl partial", expireAfterSeconds=0)  # the documents are of 2030
    _modify(source, "odd numbers", prepareUnique=True)
    _modify(source, "prepared", unique=True)
    _modify(source, "single", expireAfterSeconds=TEN_YEARS)
    shop.all.drop_index("compound")
    _create(source, "all", {"key": {"a": "hashed"}, "name": "compound"})
    shop.all.drop_index("unique")
    _create(source, "all", {"key": {"u": 1}, "name": "unique", "sparse": True})
    shop.all.drop_index("sparse")
    _create(source, "all", {"key": {"s": 1}, "name": "sparse", "unique": True, "sparse": True})
    shop.all.drop_index("text")
    _create(source, "all", {"key": {"body": "text"}, "name": "text", "weights": {"body": 3}})
    shop.all.drop_index("rival unique")
    shop.old.drop_indexes()
    shop.most.drop_indexes()
    _fill_up(source, unique=2)


@pytest.mark.parametrize("moment", some("application", "commit", "copy"))
@pytest.mark.parametrize("change", [make_all, make_and_break, change_all])
def test_indexes_at_any_moment(
    ends: Any, tmp_path: Path, change: Callable[[Client], None], moment: str
) -> None:
    """What is done to indexes at any moment is done on the target when it is committed."""
    source = ends.source.client
    source.shop.large.insert_many({"_id": i} for i in range(MANY if moment == "copy" else FEW))
    for name in ("all", "old"):
        source.shop[name].insert_many(documents())
    source.shop.most.insert_many({"_id": i, "f1": i, "f2": i} for i in range(100))
    if change is change_all:
        make_all(source)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        _run(running, moment, source, change)

    assert differences(source, ends.target.client) == []


def _run(running: Running, moment: str, source: Client, change: Callable[[Client], None]) -> None:
    """Run a migration to its commit, with *change* at *moment*."""
    assert moment in MOMENTS
    if moment == "commit":
        running.start()
        running.await_ready()
        running.hold_at(moment)
        source.shop.large.insert_one({"_id": "waited for"})
    else:
        running.hold_at(moment)
        running.start()
    running.await_held()
    change(source)
    source.shop.all.update_one({"_id": 3}, {"$set": {"last": True}})
    running.await_captured(source)
    if moment == "commit":
        running.commit()
        running.release()
        assert running.end().failure is None
    else:
        running.release()
        running.committed()


def _create(source: Client, collection: str, index: dict[str, Any]) -> None:
    source.shop.command("createIndexes", collection, indexes=[index])


def _fill_up(source: Client, *, unique: int) -> None:
    fields = range(1, MOST_INDEXES + 1)
    models = [{"key": {f"f{i}": 1}, "name": f"f{i}", "unique": i == unique} for i in fields]
    source.shop.command("createIndexes", "most", indexes=models)


def _modify(source: Client, name: str, **changes: Any) -> None:
    source.shop.command(SON([("collMod", "all"), ("index", {"name": name, **changes})]))
