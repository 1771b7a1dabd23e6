"""The collections of a migration, a part of them at a time, as a person looks through them."""

from __future__ import annotations

import sqlite3

from . import CollectionPage, CollectionQuery

_NAME = "target_database || '.' || target_collection"
#: What stands for each column of a `CollectionPage`.
_COLUMNS = {
    "namespace": _NAME,
    "documents": "documents",
    "copied": "documents_copied",
    "compared": "documents_compared",
    "bytes": "bytes_copied",
}
_FROM = "FROM collections WHERE NOT is_dropped"
#: SQLite's lower() knows ASCII only, so what is sought goes through the same one.
_FOUND = f"{_FROM} AND instr(lower({_NAME}), lower(?))"


def page(db: sqlite3.Connection, query: CollectionQuery) -> CollectionPage:
    """Return what *query* asks for."""
    columns = ", ".join(f"{source} AS {name}" for name, source in _COLUMNS.items())
    sought = (query.search,) if query.search else ()
    found = _FOUND if sought else _FROM
    order = _order(query)
    # The numbers first: to sort whole rows takes three times as long. Names of columns are our
    # own; what a person typed is a parameter.
    numbers = f"SELECT number {found} ORDER BY {order} LIMIT ? OFFSET ?"
    rows = db.execute(
        f"SELECT {columns} FROM collections WHERE number IN ({numbers}) ORDER BY {order}",  # noqa: S608
        (*sought, query.limit, query.offset),
    ).fetchall()
    (total,) = db.execute(f"SELECT count(*) {_FROM}").fetchone()
    matching = total
    if sought:
        (matching,) = db.execute(f"SELECT count(*) {_FOUND}", sought).fetchone()
    return CollectionPage([tuple(row) for row in rows], matching, total)


def _order(query: CollectionQuery) -> str:
    direction = "DESC" if query.descending else "ASC"
    if query.sort == "namespace":
        return f"target_database {direction}, target_collection {direction}"
    # Of equal ones the one that was planned first: numbers are compared sooner than names.
    return f"{_COLUMNS[query.sort]} {direction}, number"
