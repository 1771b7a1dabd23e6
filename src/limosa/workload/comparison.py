"""
A plain comparison of two servers, document by document.

It shares no code with Limosa's own verification, which it is meant to check: everything is
read, with nothing else going on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

SYSTEM_DATABASES = frozenset({"admin", "config", "local"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared and what differs, in words."""

    collections: int
    documents: int
    differences: tuple[str, ...]


def compare(source_uri: str, target_uri: str, *, shown: int = 20) -> Comparison:
    """
    Compare all user collections: documents byte by byte, options, indexes.

    Nobody may write meanwhile. At most *shown* differing documents of a collection are named.
    """
    with (
        _raw_client(source_uri) as source,
        _raw_client(target_uri) as target,
    ):
        on_source, on_target = _described(source), _described(target)
        differences = list(_schema_differences(on_source, on_target))
        documents = 0
        for name in sorted(on_source.keys() & on_target.keys()):
            left, right = _digests(source, name), _digests(target, name)
            documents += len(left)
            if left != right:
                found = _document_differences(
                    _keys(source, name, left - right), _keys(target, name, right - left)
                )
                differences += [f"{name}: {d}" for d in found[:shown]]
                differences += [f"{name}: {len(found)} in all"]
    return Comparison(len(on_source), documents, tuple(differences))


def _raw_client(uri: str) -> MongoClient[RawBSONDocument]:
    # Dates outside of Python's years 1 to 9999 are legal.
    return MongoClient(uri, document_class=RawBSONDocument, datetime_conversion="DATETIME_AUTO")


def _described(client: MongoClient[RawBSONDocument]) -> dict[str, dict[str, Any]]:
    return {
        f"{database}.{info['name']}": {
            "type": info["type"],
            "options": _plain(info["options"]),
            "indexes": {
                index["name"]: _plain(index)
                for index in client[database][info["name"]].list_indexes()
            }
            if info["type"] == "collection"
            else {},
        }
        for database in client.list_database_names()
        if database not in SYSTEM_DATABASES
        for info in client[database].list_collections()
        if not info["name"].startswith("system.")
    }


def _plain(value: Any) -> Any:
    """Return *value* with documents as lists of pairs, so that the order of fields counts."""
    if isinstance(value, RawBSONDocument | dict):
        return [(k, _plain(v)) for k, v in value.items()]
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _schema_differences(
    left: dict[str, dict[str, Any]], right: dict[str, dict[str, Any]]
) -> Iterator[str]:
    for name in sorted(left.keys() - right.keys()):
        yield f"{name}: collection is missing"
    for name in sorted(right.keys() - left.keys()):
        yield f"{name}: collection is extra"
    for name in sorted(left.keys() & right.keys()):
        for part in ("type", "options", "indexes"):
            if left[name][part] != right[name][part]:
                yield f"{name}: {part}: {left[name][part]!r} became {right[name][part]!r}"


def _digests(client: MongoClient[RawBSONDocument], name: str) -> set[bytes]:
    """Digest every document. No two of a collection are equal: they differ by key."""
    return {_digest(d) for d in _documents(client, name)}


def _keys(client: MongoClient[RawBSONDocument], name: str, wanted: set[bytes]) -> set[bytes]:
    """Return the keys of the documents with these digests, as BSON: there 1 is not 1.0."""
    documents = _documents(client, name) if wanted else ()
    return {bson.encode({"_id": d["_id"]}) for d in documents if _digest(d) in wanted}


def _documents(client: MongoClient[RawBSONDocument], name: str) -> Iterable[RawBSONDocument]:
    database, _, collection = name.partition(".")
    return client[database][collection].find(batch_size=5_000)


def _digest(document: RawBSONDocument) -> bytes:
    return hashlib.blake2b(document.raw, digest_size=16).digest()


def _document_differences(left: set[bytes], right: set[bytes]) -> list[str]:
    return [
        *(f"{key!r} is missing" for key in sorted(left - right)),
        *(f"{key!r} is extra" for key in sorted(right - left)),
        *(f"{key!r} is different" for key in sorted(left & right)),
    ]
