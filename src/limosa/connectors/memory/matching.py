"""Queries of the reference connector: the simplest of MongoDB's, with the same words."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from ...errors import PermanentError
from ...model import Document, Query

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ABSENT = object()
#: A date that Python has no form for is a date all the same.
_ANY_DATE: CodecOptions[Mapping[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


def matcher(query: Query) -> Callable[[Document], bool]:
    """
    Return what says whether a document matches *query*.

    Understood are equality, ``$eq``, ``$ne``, ``$gt``, ``$gte``, ``$lt``, ``$lte``, ``$in``,
    ``$nin`` and ``$exists``, on fields named with dots, joined by ``$and`` and ``$or``.

    Raises:
        PermanentError: another operator is used.
    """
    decoded = dict(bson.decode(query, _ANY_DATE))
    _check(decoded)
    return lambda document: _matches(bson.decode(document.raw, _ANY_DATE), decoded)


def _check(query: Mapping[str, Any]) -> None:
    for name, condition in query.items():
        if name in {"$and", "$or"}:
            for each in condition:
                _check(each)
        else:
            known = {*_ORDERS, "$eq", "$ne", "$in", "$nin", "$exists"}
            words = [name, *(condition if isinstance(condition, Mapping) else ())]
            unknown = [w for w in words if w.startswith("$") and w not in known]
            if unknown:
                msg = f"find by a query: expected an operator out of {sorted(known)}, got {unknown}"
                raise PermanentError(msg)


def _matches(document: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    return all(
        all(_matches(document, each) for each in condition)
        if name == "$and"
        else any(_matches(document, each) for each in condition)
        if name == "$or"
        else _fulfils(_value(document, name), condition)
        for name, condition in query.items()
    )


def _value(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, Mapping) or name not in document:
            return _ABSENT
        document = document[name]
    return document


def _fulfils(value: Any, condition: Any) -> bool:
    if not isinstance(condition, Mapping) or not any(n.startswith("$") for n in condition):
        return _is_equal(value, condition)
    return all(_holds(value, *each) for each in condition.items())


def _holds(value: Any, word: str, wanted: Any) -> bool:
    match word:
        case "$eq":
            return _is_equal(value, wanted)
        case "$ne":
            return not _is_equal(value, wanted)
        case "$in":
            return any(_is_equal(value, each) for each in wanted)
        case "$nin":
            return not any(_is_equal(value, each) for each in wanted)
        case "$exists":
            return (value is not _ABSENT) == bool(wanted)
    try:
        return _ORDERS[word](value, wanted)
    except TypeError:
        return False  # values of two types have no order


def _is_equal(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) or (value is _ABSENT and wanted is None)
