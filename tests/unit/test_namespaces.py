"""Filters choose what their patterns say, and nothing else."""

from __future__ import annotations

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
    ],
)
def test_patterns(pattern: str, namespace: str, chosen: bool) -> None:
    """A pattern covers whole names, dots in collections included, and respects case."""
    assert NamespaceFilter.parse([pattern]).includes(Namespace.parse(namespace)) is chosen


@pytest.mark.parametrize("pattern", ["", " ", ".", ".people", "shop."])
def test_malformed(pattern: str) -> None:
    """A pattern without a name on either side of the dot is refused."""
    with pytest.raises(ConfigError, match="database"):
        NamespaceFilter.parse([pattern])


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
    ],
)
def test_single_database(include: list[str], database: str | None) -> None:
    """One database is known only if each pattern names it in full."""
    assert NamespaceFilter.parse(include).single_database == database
