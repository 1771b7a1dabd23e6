"""How changes are shared out among workers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import bson
import pytest
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from limosa.canonical import distinct_in_index_order, index_place, key_for
from limosa.change_application import in_lanes, units_of
from limosa.model import Collection, CollectionSpec, Key, KeyStates, Namespace
from limosa.plan import planned, unit_keys
from limosa.state import CollectionProgress

PEOPLE = Collection(Namespace("shop", "people"), "1")


def people(**options: Any) -> CollectionProgress:
    return planned(CollectionSpec(PEOPLE, options=options))


def states_of(values: list[Any]) -> KeyStates:
    return {key_for(v): None for v in values}


@given(st.lists(st.integers(-5_000, 5_000), min_size=1, max_size=3_000))
def test_every_key_is_in_one_unit(values: list[int]) -> None:
    """The units hold all keys and none twice."""
    states = states_of(values)

    units = units_of(people(), states)

    found: list[Key] = [key for unit in units for key in unit]
    assert sorted(found) == sorted(states)


@pytest.mark.parametrize(
    "values",
    [
        st.integers(-(2**31), 2**31 - 1),
        st.integers(2**31, 2**60),
        st.text(max_size=5),
        st.binary(max_size=5),
        st.datetimes(),
        st.binary(min_size=12, max_size=12).map(bson.ObjectId),
    ],
    ids=["int", "long", "string", "binary", "date", "ObjectId"],
)
@given(data=st.data())
def test_quick_order(values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """Keys of one type come in the order of the index, whichever way it is found."""
    keys = [key_for(v) for v in data.draw(st.sets(values))]

    assert distinct_in_index_order(keys) == sorted(keys, key=lambda k: (index_place(k), k))


@pytest.mark.parametrize("values", [[0.0, -0.0], [1, 1.0], [1, Int64(1)], [True, False], [{}]])
def test_no_quick_order(values: list[Any]) -> None:
    """Keys that may be equal to the database are told apart with more care."""
    assert distinct_in_index_order([key_for(v) for v in values]) is None


def test_equal_numbers_stay_together() -> None:
    """Keys that are equal to the database, not byte for byte, are handled by one worker."""
    values = [v for i in range(2_000) for v in (i, Int64(i), float(i))]

    units = units_of(people(), states_of(values))

    assert len(units) > 1
    where = {
        (type(v), v): number
        for number, unit in enumerate(units)
        for v in (bson.decode(key)["_id"] for key in unit)
    }
    assert all(
        where[int, i] == where[Int64, Int64(i)] == where[float, float(i)] for i in range(2_000)
    )


@pytest.mark.parametrize(
    "options", [{"capped": True, "size": 4096}, {"collation": {"locale": "en", "strength": 2}}]
)
def test_all_stay_together(options: dict[str, Any]) -> None:
    """Where order or a collation matters, one worker handles all keys, in their order."""
    progress = people(**options)
    states = states_of(list(range(5 * unit_keys(progress.spec))))

    assert [list(u) for u in units_of(progress, states)] == [list(states)]


def test_simple_collation_is_none() -> None:
    """The simple collation is equality of bytes."""
    progress = people(collation={"locale": "simple"})

    assert len(units_of(progress, states_of(list(range(5_000))))) > 1


@given(st.integers(0, 40), st.integers(1, 6))
def test_lanes(count: int, lanes: int) -> None:
    """All are there, and those that are begun together are as far apart as can be."""
    found = in_lanes(range(count), lanes)

    assert sorted(found) == list(range(count))
    first = found[:lanes]
    apart = [b - a for a, b in pairwise(first) if b > a]
    assert all(distance == -(-count // lanes) for distance in apart)
