"""Queries are taken as they are typed, and stand for the namespaces they name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from limosa.connectors.memory.matching import matcher
from limosa.document_filters import DocumentFilters
from limosa.errors import ConfigError, PermanentError
from limosa.model import Namespace, Query, Slice

PEOPLE = Namespace("shop", "people")


def query_of(filters: DocumentFilters, namespace: str = "shop.people") -> Any:
    found = filters.query_of(Namespace.parse(namespace))
    return found and bson.decode(found)


@pytest.mark.parametrize(
    ("text", "namespace", "query"),
    [
        ('shop.people={"a": 1}', "shop.people", {"a": 1}),
        ('shop.people={"a": 1}', "shop.orders", None),
        ('shop={"a": 1}', "shop.orders", {"a": 1}),
        ('{"a": 1}', "any.thing", {"a": 1}),
        (' {"a": 1} ', "any.thing", {"a": 1}),
        ('/^s/.p*={"a": {"$gt": 1}}', "shop.people", {"a": {"$gt": 1}}),
        ('shop.a={2}={"b": "={"}', "shop.a={2}", {"b": "={"}),
        ('/^a={1}/={"b": 1}', "a=b.c", {"b": 1}),
        ("shop={}", "shop.people", {}),
        (
            '{"at": {"$gte": {"$date": "2025-01-01T00:00:00Z"}}}',
            "a.b",
            {"at": {"$gte": datetime(2025, 1, 1)}},
        ),
        (
            '{"id": {"$oid": "0123456789abcdef01234567"}}',
            "a.b",
            {"id": ObjectId("0123456789abcdef01234567")},
        ),
        ('{"b": 1, "a": {"$in": [1, null]}}', "a.b", {"b": 1, "a": {"$in": [1, None]}}),
    ],
)
def test_parsed(text: str, namespace: str, query: Any) -> None:
    """A rule is a pattern, an equals sign and a query in extended JSON; alone it is for all."""
    filters = DocumentFilters.parse([text])

    assert query_of(filters, namespace) == query
    assert DocumentFilters.parse(filters.texts()) == filters


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "namespace"),
        ("shop.people", "namespace"),
        ("shop.people=1", "namespace"),
        ("shop.people={", "extended JSON"),
        ('shop.people={"a": }', "extended JSON"),
        ('.people={"a": 1}', "database"),
        ('{"a": {"$oid": "short"}}', "extended JSON"),
        ('{"$where": "sleep(1)"}', r"\$where"),
        ('{"$or": [{"a": 1}, {"b": {"$near": [0, 0]}}]}', r"\$near"),
        ('{"$expr": {"$lt": ["$at", "$$NOW"]}}', r"\$\$NOW"),
        ('{"$expr": {"$lt": [{"$rand": {}}, 0.5]}}', r"\$rand"),
        ('{"$text": {"$search": "x"}}', r"\$text"),
    ],
)
def test_refused(text: str, told: str) -> None:
    """What is no query, or does not say of each document by itself whether it is meant, is not
    taken."""
    with pytest.raises(ConfigError, match=told):
        DocumentFilters.parse([text])


@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    """Whatever is typed either is a rule or is refused."""
    try:
        filters = DocumentFilters.parse([text])
    except ConfigError:
        return
    assert len(filters.rules) == 1


def test_all_that_match_count() -> None:
    """A document has to match every query that stands for its namespace."""
    filters = DocumentFilters.parse(['shop={"a": 1}', '{"b": 2}', 'crm={"c": 3}'])

    assert query_of(filters) == {"$and": [{"a": 1}, {"b": 2}]}
    assert query_of(filters, "other.x") == {"b": 2}


def test_without_rules() -> None:
    """Without rules no namespace has a query."""
    assert DocumentFilters().query_of(PEOPLE) is None


def test_unmatched() -> None:
    """Patterns that name nothing are told, but not the one that names all."""
    filters = DocumentFilters.parse(['shop.peple={"a": 1}', '{"b": 2}', 'shop={"c": 3}'])

    assert filters.unmatched([PEOPLE]) == ["shop.peple"]


def test_one_field() -> None:
    """A field and its values, as mongosync takes them, are a query for all namespaces."""
    values = [1, 2.5, True, "x", datetime(2025, 1, 1, tzinfo=UTC), ObjectId(), Binary(b"x", 128)]
    filters = DocumentFilters.of_field("region", values)

    query = query_of(filters, "any.thing")
    assert query["region"]["$in"][:4] == values[:4]
    assert DocumentFilters.parse(filters.texts()) == filters


@pytest.mark.parametrize(
    ("field", "values", "told"),
    [
        ("", [1], "field"),
        ("a.b", [1], "field"),
        ("$a", [1], "field"),
        (5, [1], "field"),
        ("a", [], "matchValues"),
        ("a", "x", "matchValues"),
        ("a", None, "matchValues"),
    ],
)
def test_bad_field(field: Any, values: Any, told: str) -> None:
    """What is wrong is told with the name of the field of the request."""
    with pytest.raises(ConfigError, match=told):
        DocumentFilters.of_field(field, values)


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        ({}, {1, 2, 3, 4}),
        ({"a": 1}, {1}),
        ({"a": {"$ne": 1}}, {2, 3, 4}),
        ({"a": {"$gt": 1}}, {2}),
        ({"a": {"$gte": 1, "$lt": 2}}, {1}),
        ({"a": {"$lte": 1}}, {1}),
        ({"a": {"$in": [1, "x"]}}, {1, 3}),
        ({"a": {"$nin": [1, "x"]}}, {2, 4}),
        ({"a": {"$exists": False}}, {4}),
        ({"a": None}, {4}),
        ({"b.c": 5}, {4}),
        ({"b": {"c": 5}}, {4}),
        ({"a": {"$eq": 2}}, {2}),
        ({"$or": [{"a": 1}, {"b.c": 5}]}, {1, 4}),
        ({"$and": [{"a": {"$gt": 0}}, {"_id": 2}]}, {2}),
    ],
)
def test_queries_in_memory(query: dict[str, Any], matching: set[int]) -> None:
    """The reference connector understands the simplest queries as MongoDB does."""
    documents: list[dict[str, Any]] = [
        {"_id": 1, "a": 1},
        {"_id": 2, "a": 2},
        {"_id": 3, "a": "x"},
        {"_id": 4, "b": {"c": 5}},
    ]

    is_meant = matcher(Query(bson.encode(query)))

    assert {d["_id"] for d in documents if is_meant(Slice(bson.encode(d)))} == matching


def test_other_queries_in_memory() -> None:
    """It refuses those that it does not understand."""
    queries: tuple[dict[str, Any], ...] = ({"a": {"$regex": "x"}}, {"$or": [{"$nor": []}]})
    for query in queries:
        with pytest.raises(PermanentError):
            matcher(Query(bson.encode(query)))
