"""Filters choose what their patterns say, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limosa.errors import ConfigError
from limosa.model import Namespace
from limosa.namespaces import NamespaceFilter

WORDS = st.text("abc._-$", min_size=1, max_size=5)
DATABASES = st.text("abc_-", min_size=1, max_size=5)
NAMESPACES = st.builds(Namespace, DATABASES, WORDS)
PATTERNS = st.lists(
    st.one_of(DATABASES, st.builds("{}.{}".format, DATABASES, WORDS), st.sampled_from("*ab")),
    max_size=3,
)


@given(NAMESPACES)
def test_everything(namespace: Namespace) -> None:
    """Without patterns every namespace is included."""
    assert NamespaceFilter().includes(namespace)


@given(NAMESPACES)
def test_by_name(namespace: Namespace) -> None:
    """A namespace is chosen by its own name, by its database and by wildcards."""
    for pattern in (str(namespace), namespace.database, "*", "*.*", f"{namespace.database}.*"):
        assert NamespaceFilter.parse([pattern]).includes(namespace)
        assert not NamespaceFilter.parse(exclude=[pattern]).includes(namespace)


@given(PATTERNS, PATTERNS, NAMESPACES)
def test_exclude_wins(include: list[str], exclude: list[str], namespace: Namespace) -> None:
    """What is excluded is not chosen, however it was included."""
    chosen = NamespaceFilter.parse(include, exclude).includes(namespace)

    assert chosen == (
        NamespaceFilter.parse(include).includes(namespace)
        and NamespaceFilter.parse(exclude=exclude).includes(namespace)
    )


@pytest.mark.parametrize(
    ("pattern", "namespace", "chosen"),
    [
        ("shop", "shop.people", True),
        ("shop", "shop.a.b", True),
        ("shop", "shops.people", False),
        ("shop.people", "shop.people2", False),
        ("shop.p*", "shop.people", True),
        ("shop.p*", "shop.orders", False),
        ("sh?p.people", "ship.people", True),
        ("shop.a.b", "shop.a.b", True),
        ("shop.a", "shop.a.b", False),
        ("*.people", "any.people", True),
        ("Shop", "shop.people", False),
        ("/^shop_[0-9]+$/", "shop_12.people", True),
        ("/^shop_[0-9]+$/", "shop_12a.people", False),
        ("/^SHOP/i", "shop_12.people", True),
        ("/^SHOP/", "shop_12.people", False),
        ("/hop/", "shop.people", True),
        ("/^a|b$/.c", "ab.c", True),
        ("/^a|b$/.c", "ab.d", False),
        ("shop./^p.*e$/", "shop.people", True),
        ("shop./^p.*e$/", "shop.people2", False),
        ("shop./a.b/", "shop.x.a-b", True),
        ("s*./e/", "shop.people", True),
        ("/^s/./^p/", "shop.people", True),
        ("/^s/./^p/", "shop.orders", False),
        (r"shop./^a\/b/", "shop.a/bc", True),
        ("shop.[/]a/", "shop./a/", True),
        ("shop./[ab]/", "shop.b", True),
        ("shop./a b/x", "shop.ab", True),
        ("//", "any.thing", True),
    ],
)
def test_patterns(pattern: str, namespace: str, chosen: bool) -> None:
    """A pattern covers whole names, dots in collections included, and respects case."""
    assert NamespaceFilter.parse([pattern]).includes(Namespace.parse(namespace)) is chosen


@pytest.mark.parametrize("pattern", ["", " ", ".", ".people", "shop.", "/a/."])
def test_malformed(pattern: str) -> None:
    """A pattern without a name on either side of the dot is refused."""
    with pytest.raises(ConfigError, match="database"):
        NamespaceFilter.parse([pattern])


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("/", "regular expression"),
        ("/a", "regular expression"),
        ("/a/people", "flags"),
        ("shop./a", "regular expression"),
        ("/a/b.people", "flags"),
        ("/a/gi", "flags"),
        ("/(/", "regular expression"),
        ("shop./[/", "regular expression"),
    ],
)
def test_malformed_regex(pattern: str, told: str) -> None:
    """An expression that is not closed or not understood is refused, as are unknown flags."""
    with pytest.raises(ConfigError, match=told):
        NamespaceFilter.parse(exclude=[pattern])


@given(st.text(min_size=1), NAMESPACES)
def test_any_text(pattern: str, namespace: Namespace) -> None:
    """Whatever is typed either is a pattern or is refused."""
    try:
        chosen = NamespaceFilter.parse([pattern])
    except ConfigError:
        return
    assert chosen.includes(namespace) in (True, False)


ODD = st.text(min_size=1, max_size=8)


@given(ODD.filter(lambda d: "." not in d), ODD, ODD)
def test_entries_by_name(database: str, collection: str, other: str) -> None:
    """A name in an entry is nothing but a name, whatever is in it."""
    chosen = NamespaceFilter.of_entries([{"database": database, "collections": [collection]}])

    assert chosen.includes(Namespace(database, collection))
    assert chosen.includes(Namespace(database, other)) == (other == collection)
    assert NamespaceFilter.parse(chosen.include).include == chosen.include


@pytest.mark.parametrize(
    ("entry", "chosen", "left"),
    [
        ({"database": "shop"}, ["shop.a", "shop.b.c"], ["shops.a"]),
        ({"database": "shop", "collections": []}, ["shop.a"], ["shops.a"]),
        ({"database": "shop", "collections": ["a", "b.c"]}, ["shop.a", "shop.b.c"], ["shop.b"]),
        ({"database": "a*"}, ["a*.x"], ["ab.x"]),
        (
            {"databaseRegex": {"pattern": "^SHOP", "options": "i"}},
            ["shop.a", "shop2.b"],
            ["ashop.a"],
        ),
        (
            {"databaseRegex": {"pattern": "a/b"}, "collectionsRegex": {"pattern": "^x.y$"}},
            ["1a/b2.xzy"],
            ["ab.xzy", "a/b.xy"],
        ),
        (
            {"database": "d", "collectionsRegex": {"pattern": "a", "options": "mu"}},
            ["d.ba"],
            ["d.b"],
        ),
        ({"database": "d", "collections": None, "databaseRegex": None}, ["d.a"], ["e.a"]),
    ],
)
def test_entries(entry: dict[str, object], chosen: list[str], left: list[str]) -> None:
    """An entry chooses databases and collections by name or expression, and excludes the same."""
    included = NamespaceFilter.of_entries([entry])
    excluded = NamespaceFilter.of_entries(exclude=[entry])

    for name in chosen:
        assert included.includes(Namespace.parse(name))
        assert not excluded.includes(Namespace.parse(name))
    for name in left:
        assert not included.includes(Namespace.parse(name))
        assert excluded.includes(Namespace.parse(name))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, r"includeNamespaces\[0\]: expected one of"),
        ("shop", "expected an object"),
        ({"database": "a", "databaseRegex": {"pattern": "b"}}, "not both"),
        ({"database": 5}, "database: expected a name"),
        ({"database": ""}, "database: expected a name"),
        ({"database": "a.b"}, "name of a database"),
        ({"database": "a", "collections": "b"}, "collections: expected a list"),
        ({"database": "a", "collections": [""]}, "collections: expected a list"),
        ({"database": "a", "collection": ["b"]}, "expected an object with"),
        ({"databaseRegex": "a"}, "databaseRegex: expected an object"),
        ({"databaseRegex": {"pattern": "("}}, "regular expression"),
        ({"databaseRegex": {"pattern": "a", "options": "g"}}, "flags"),
        ({"database": "a", "collectionsRegex": {"options": "i"}}, "collectionsRegex: expected"),
    ],
)
def test_malformed_entries(entry: Any, told: str) -> None:
    """What is wrong with an entry is told with the name of the field."""
    with pytest.raises(ConfigError, match=told):
        NamespaceFilter.of_entries([entry])


def test_spaces_around() -> None:
    """Spaces around a pattern are a slip of the hand."""
    assert NamespaceFilter.parse([" shop "]).includes(Namespace("shop", "people"))


def test_unmatched() -> None:
    """Patterns that choose nothing are told, those of exclusion not."""
    chosen = NamespaceFilter.parse(["shop", "nothing", "shop.none"], ["neither"])

    assert chosen.unmatched([Namespace("shop", "people")]) == ["nothing", "shop.none"]


@pytest.mark.parametrize(
    ("include", "database"),
    [
        ([], None),
        (["shop"], "shop"),
        (["shop.people", "shop.orders"], "shop"),
        (["shop.p*"], "shop"),
        (["shop", "bank"], None),
        (["s*"], None),
        (["sh?p.people"], None),
        (["sh[o]p.people"], None),
        (["/shop/.people"], None),
        (["shop./p/", "shop"], "shop"),
    ],
)
def test_single_database(include: list[str], database: str | None) -> None:
    """One database is known only if each pattern names it in full."""
    assert NamespaceFilter.parse(include).single_database == database
