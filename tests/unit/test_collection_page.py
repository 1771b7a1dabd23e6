"""The collections of a migration, a part of them at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from limosa.model import Collection, CollectionSpec, Namespace, Partition
from limosa.state import CollectionProgress
from limosa.storage import CollectionQuery, StateStore
from limosa.storage.sqlite import SqliteStore

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
#: Documents by name, in the order of planning.
DOCUMENTS = {"shop.people": 7, "shop.Orders": 9, "a-b.x": 9, "a.x": 1, "shop.50%_off'": 3}


def collection(name: str) -> CollectionProgress:
    database, _, own = name.partition(".")
    spec = CollectionSpec(Collection(Namespace(database, own), name), documents=DOCUMENTS[name])
    return CollectionProgress(spec, spec.collection.namespace)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with closing(SqliteStore.drive(tmp_path, "m")) as store:
        known = [collection(name) for name in DOCUMENTS]
        parts = [Partition(f"{c.spec.collection.id}/0", c.spec.collection, b"") for c in known]
        store.save_plan(known, parts, NOW)
        store.partition_copied("a.x/0", documents=2, size=600)
        yield store


def names(store: StateStore, **asked: Any) -> list[str]:
    return [row[0] for row in store.collection_page(CollectionQuery(**asked)).rows]


def test_everything(store: StateStore) -> None:
    """Without a wish all collections come with their figures, in order of database and name."""
    page = store.collection_page(CollectionQuery())

    assert (page.matching, page.total) == (5, 5)
    assert page.rows[0] == ("a.x", 1, 2, 0, 600)
    assert [row[0] for row in page.rows[1:3]] == ["a-b.x", "shop.50%_off'"]


@pytest.mark.parametrize("sort", ["namespace", "documents", "copied", "compared", "bytes"])
@pytest.mark.parametrize("descending", [True, False])
def test_parts(store: StateStore, sort: str, descending: bool) -> None:
    """Parts of any order are together the whole of it."""
    wish = {"sort": sort, "descending": descending}
    whole = names(store, **wish)

    parts = [name for at in (0, 2, 4) for name in names(store, **wish, offset=at, limit=2)]

    assert parts == whole
    assert sorted(whole) == sorted(DOCUMENTS)


def test_order(store: StateStore) -> None:
    """The order is that of the column, and of planning among equal ones."""
    found = names(store, sort="documents", descending=True)

    assert found == ["shop.Orders", "a-b.x", "shop.people", "shop.50%_off'", "a.x"]
    assert names(store, sort="bytes", descending=True)[0] == "a.x"


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ORDER", ["shop.Orders"]),
        ("p.p", ["shop.people"]),
        ("%_o", ["shop.50%_off'"]),
        ("f'", ["shop.50%_off'"]),
        ("none of them", []),
    ],
)
def test_search(store: StateStore, search: str, found: list[str]) -> None:
    """What is sought may be anywhere in the name, in any case, and is taken as it is."""
    page = store.collection_page(CollectionQuery(search=search, limit=1))

    assert [row[0] for row in page.rows] == found
    assert (page.matching, page.total) == (len(found), 5)


def test_dropped(store: StateStore) -> None:
    """Collections that were dropped are not there."""
    store.save_collection(replace(collection("a.x"), is_dropped=True))

    page = store.collection_page(CollectionQuery(search="x"))

    assert (page.matching, page.total, [row[0] for row in page.rows]) == (1, 4, ["a-b.x"])
