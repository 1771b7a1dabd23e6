"""Which documents of a collection are migrated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson
from bson import json_util
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS
from bson.raw_bson import RawBSONDocument

from .errors import ConfigError
from .model import Namespace, Query
from .namespaces import checked, matches, unmatched

_EVERYWHERE = "*"
_JSON = CANONICAL_JSON_OPTIONS.with_options(
    tz_aware=False, tzinfo=None, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
#: Answers that depend on more than the document: on other documents, the time or chance.
_NOT_OF_ONE_DOCUMENT = frozenset(
    {
        "$where",
        "$function",
        "$text",
        "$near",
        "$nearSphere",
        "$geoNear",
        "$rand",
        "$sampleRate",
        "$$NOW",
        "$$CLUSTER_TIME",
        "$$USER_ROLES",
    }
)


@dataclass(frozen=True, slots=True)
class DocumentFilters:
    """
    Queries that say of each document by itself whether it is migrated.

    A rule is a pattern of namespaces, as in `NamespaceFilter`, and a query in the words of the
    source; a document is migrated if all queries that stand for its namespace match it.
    """

    rules: tuple[tuple[str, Query], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> DocumentFilters:
        """
        Take rules as a person types them: ``pattern={query}``, or ``{query}`` for all namespaces.

        The query is extended JSON.

        Raises:
            ConfigError: one is not understood.
        """
        return cls(tuple(map(_parsed, texts)))

    @classmethod
    def of_field(cls, field: str, values: Sequence[Any]) -> DocumentFilters:
        """
        Take one field and the values that it may have, in all namespaces, as mongosync does.

        Raises:
            ConfigError: the field is none of the first level, or there are no values.
        """
        if not isinstance(field, str) or not field or "." in field or "$" in field:
            msg = f"documentFilter.field: expected a field without dots and $, got {field!r}"
            raise ConfigError(msg)
        if not isinstance(values, list | tuple) or not values:
            msg = f"documentFilter.matchValues: expected a list of values, got {values!r}"
            raise ConfigError(msg)
        return cls(((_EVERYWHERE, _encoded({field: {"$in": list(values)}}, "documentFilter")),))

    def query_of(self, namespace: Namespace) -> Query | None:
        """Return the query for *namespace*, or None if all documents are meant."""
        found = [query for pattern, query in self.rules if matches(pattern, namespace)]
        if len(found) < 2:
            return found[0] if found else None
        return Query(bson.encode({"$and": [RawBSONDocument(query) for query in found]}))

    def texts(self) -> list[str]:
        """Return the rules as they are typed, in order."""
        return sorted(
            f"{pattern}={json_util.dumps(bson.decode(query), json_options=_JSON)}"
            for pattern, query in self.rules
        )

    def unmatched(self, namespaces: Iterable[Namespace]) -> list[str]:
        """Return the patterns that name none of *namespaces*, but for the one that names all."""
        return unmatched([p for p, _ in self.rules if p != _EVERYWHERE], namespaces)


def _parsed(text: str) -> tuple[str, Query]:
    """Split at the first equals sign after which the rest is a query."""
    text = text.strip()
    if text.startswith("{"):
        return _EVERYWHERE, _query(text)
    starts = [at for at in range(len(text)) if text.startswith("={", at)]
    if not starts:
        msg = f"expected 'namespace={{query}}' or '{{query}}', got {text!r}"
        raise ConfigError(msg)
    for start in starts:
        try:
            query = _query(text[start + 1 :])
        except ConfigError:
            if start == starts[-1]:
                raise
        else:
            return checked(text[:start]), query
    raise AssertionError(text)


def _query(text: str) -> Query:
    try:
        query = json_util.loads(text, json_options=_JSON)
    except (ValueError, TypeError, ArithmeticError, BSONError) as error:
        msg = f"expected a query in extended JSON, got {text!r}: {error}"
        raise ConfigError(msg) from error
    return _encoded(query, text)


def _encoded(query: Any, shown: str) -> Query:
    if not isinstance(query, Mapping):
        msg = f"expected a query, which is an object, got {shown!r}"
        raise ConfigError(msg)
    foreign = sorted(set(_words(query)) & _NOT_OF_ONE_DOCUMENT)
    if foreign:
        msg = (
            f"expected a query that says of each document by itself whether it is migrated; "
            f"{', '.join(foreign)} does not: {shown!r}"
        )
        raise ConfigError(msg)
    try:
        return Query(bson.encode(query))
    except (BSONError, TypeError, ValueError, OverflowError) as error:
        msg = f"expected a query, got {shown!r}: {error}"
        raise ConfigError(msg) from error


def _words(value: Any) -> Iterator[str]:
    """Yield all names of fields and operators, and all variables."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words(inner)
    elif isinstance(value, str) and value.startswith("$$"):
        yield value.partition(".")[0]
