"""Every namespace of the source has one name on the target, and finds its way back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limosa.errors import ConfigError, RenameConflict
from limosa.model import Namespace
from limosa.renames import Renames

NAMES = st.sampled_from("abcd")
NAMESPACES = st.builds(Namespace, NAMES, NAMES)


@pytest.mark.parametrize(
    ("rules", "namespace", "target"),
    [
        ([], "shop.people", "shop.people"),
        (["shop=store"], "shop.people", "store.people"),
        (["shop=store"], "shops.people", "shops.people"),
        (["shop.people=store.clients"], "shop.people", "store.clients"),
        (["shop.people=store.clients"], "shop.orders", "shop.orders"),
        (["shop=store", "shop.people=crm.clients"], "shop.people", "crm.clients"),
        (["shop.people=crm.clients", "shop=store"], "shop.orders", "store.orders"),
        (["a=b", "b=a"], "a.x", "b.x"),
        (["a=b", "b=a"], "b.x", "a.x"),
        (["shop.a.b=shop.c.d.e"], "shop.a.b", "shop.c.d.e"),
        ([" shop=store "], "shop.people", "store.people"),
        (["shop.a=shop.b=c"], "shop.a", "shop.b=c"),
    ],
)
def test_target_and_back(rules: list[str], namespace: str, target: str) -> None:
    """The rule for a collection comes before that for its database; both lead back."""
    renames = Renames.parse(rules)

    assert str(renames.target_of(Namespace.parse(namespace))) == target
    assert str(renames.source_of(Namespace.parse(target))) == namespace
    assert Renames.parse(renames.texts()).texts() == renames.texts()


@given(
    st.permutations("abcd"),
    st.dictionaries(NAMESPACES, NAMES, max_size=3),
    NAMESPACES,
)
def test_back_is_back(
    databases: list[str], collections: dict[Namespace, str], namespace: Namespace
) -> None:
    """Where databases change places and collections get new names, each way back is right."""
    renames = Renames.parse(
        [f"{old}={new}" for old, new in zip("abcd", databases, strict=True)]
        + [f"{old}=new{n}.{name}" for n, (old, name) in enumerate(collections.items())]
    )

    assert renames.source_of(renames.target_of(namespace)) == namespace


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "shop",
        "=shop",
        "shop=",
        "shop=store.people",
        "shop.people=store",
        "shop=admin",
        "local=shop",
        "shop=a b",
        "shop=$x",
        "shop=a/b",
        f"shop={'x' * 64}",
        "shop.people=store.system.users",
        "shop.people=store.a$b",
        "shop.people=store.",
        "shop.=store.a",
    ],
)
def test_malformed(rule: str) -> None:
    """A rule that is not two names of the same kind, or that no database could take, is refused."""
    with pytest.raises(ConfigError, match="expected"):
        Renames.parse([rule])


@pytest.mark.parametrize(
    "rules",
    [
        ["a=b", "a=c"],
        ["a.x=b.x", "a.x=c.x"],
        ["a.x=c.z", "b.y=c.z"],
    ],
)
def test_contradictions(rules: list[str]) -> None:
    """Nothing gets two names, and no two collections get one."""
    with pytest.raises(RenameConflict):
        Renames.parse(rules)


def test_several_databases_become_one() -> None:
    """Databases may be put together; the way back leads to the first."""
    renames = Renames.parse(["a=c", "b=c"])

    assert renames.target_of(Namespace("b", "x")) == Namespace("c", "x")
    assert renames.source_of(Namespace("c", "x")) == Namespace("a", "x")


def test_unmatched() -> None:
    """Rules for what is not there are told."""
    renames = Renames.parse(["a=b", "shop=store", "shop.x=shop.y", "shop.people=shop.clients"])

    assert renames.unmatched([Namespace("shop", "people")]) == ["a", "shop.x"]


def test_entries() -> None:
    """Entries as mongosync takes them are rules for databases, or for collections."""
    renames = Renames.of_entries(
        [
            {"from": {"database": "shop"}, "to": {"database": "store"}},
            {
                "from": {"database": "crm", "collection": "a"},
                "to": {"database": "crm", "collection": "b"},
            },
        ]
    )

    assert renames.texts() == ["crm.a=crm.b", "shop=store"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, r"namespaceRemap\[0\]\.from"),
        ("shop", r"namespaceRemap\[0\]\.from"),
        ({"from": {"database": "a"}}, r"namespaceRemap\[0\]\.to"),
        ({"from": {"database": "a"}, "to": {"database": 5}}, r"namespaceRemap\[0\]\.to"),
        ({"from": {"database": "a.b"}, "to": {"database": "c.d"}}, "name of a user database"),
        ({"from": {"database": "a"}, "to": {"database": "b", "collection": "c"}}, "two databases"),
    ],
)
def test_malformed_entries(entry: Any, told: str) -> None:
    """What is wrong with an entry is told with the name of the field."""
    with pytest.raises(ConfigError, match=told):
        Renames.of_entries([entry])
