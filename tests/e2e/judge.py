"""
An independent comparison of two servers: everything is read, nothing of Limosa is used.

Nobody may write to either server meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import bson
from bson.codec_options import DatetimeConversion
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS
from pymongo import MongoClient, ReadPreference

SYSTEM_DATABASES = frozenset({"admin", "config", "local"})

Client = MongoClient[dict[str, Any]]


def differences(
    source: Client,
    target: Client,
    *,
    included: Callable[[str], bool] = lambda _: True,
    renamed: Callable[[str], str] = lambda name: name,
    back: bool = False,
) -> list[str]:
    """
    Return in words how the two differ in the namespaces that are *included* and *renamed*.

    With *back* what the target holds has come to the source, not the other way round.
    """
    here = {name: what for name, what in described(source).items() if included(name)}
    names = {renamed(name): name for name in here}
    left, right = {renamed(name): what for name, what in here.items()}, described(target)
    found = [f"{n}: missing" for n in sorted(left.keys() - right.keys())]
    found += [f"{n}: extra" for n in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        for part in ("type", "options", "indexes"):
            if left[name][part] != right[name][part]:
                found.append(f"{name}: {part}: {left[name][part]} became {right[name][part]}")
        if left[name]["type"] != "collection":
            continue  # views; the documents of a time series are those of its buckets
        is_capped = dict(left[name]["options"]).get("capped", False)
        pair = _read(source, names[name]), _read(target, name)
        found += [f"{name}: {d}" for d in _documents(*pair)]
        if is_capped:
            here, there = map(list, reversed(pair) if back else pair)
            times = _inserted(target, name) if back else _inserted(source, names[name])
            found += [f"{name}: {d}" for d in _misplaced(here, there, times)]
    return found


def described(client: Client) -> dict[str, dict[str, Any]]:
    """Return type, options and indexes of each collection, view and time series."""
    return {
        f"{database}.{info['name']}": {
            "type": info["type"],
            "options": sorted((k, _plain(v)) for k, v in info["options"].items()),
            "indexes": sorted(
                sorted((k, _plain(v)) for k, v in index.items())
                for index in client[database][info["name"]].list_indexes()
            )
            if info["type"] != "view"
            else [],
        }
        for database in sorted(set(client.list_database_names()) - SYSTEM_DATABASES)
        for info in client[database].list_collections()
        if not info["name"].startswith("system.") or info["name"].startswith("system.buckets.")
    }


def _plain(value: Any) -> str:
    # As text, in the order that counts, so that values of any types can be compared.
    return repr(list(value.items()) if isinstance(value, dict) else value)


def _documents(left: dict[bytes, bytes], right: dict[bytes, bytes]) -> Iterator[str]:
    for key in left.keys() - right.keys():
        yield f"{_shown(key)} is missing"
    for key in right.keys() - left.keys():
        yield f"{_shown(key)} is extra"
    for key in left.keys() & right.keys():
        if left[key] != right[key]:
            yield f"{_shown(key)} is different"


def _misplaced(here: list[bytes], there: list[bytes], times: dict[bytes, int]) -> Iterator[str]:
    """
    Say whether the order is another one, and not that of the oplog either.

    What is inserted at once by several may lie in another order than the oplog tells, which is
    that of a secondary (seen on 6.0.5: some of 6,000 by four threads).
    """
    places = {key: place for place, key in enumerate(here)}
    for one, other in pairwise(key for key in there if key in places):
        in_order = places[one] < places[other]
        if not in_order and not times.get(one, len(times)) < times.get(other, -1):
            yield f"the order of the documents differs: {_shown(other)} came before {_shown(one)}"
            return


def _inserted(client: Client, name: str) -> dict[bytes, int]:
    """Return the keys that the oplog says were inserted, and in which order."""
    oplog: Any = client.local.get_collection("oplog.rs", codec_options=DEFAULT_RAW_BSON_OPTIONS)
    entries = oplog.find({"ns": name, "op": "i"}, {"o._id": 1}).sort("$natural", 1)
    return {bson.encode({"_id": e["o"]["_id"]}): place for place, e in enumerate(entries)}


def _read(client: Client, name: str) -> dict[bytes, bytes]:
    """Return the bytes of each document by those of its key: so 1 is not 1.0."""
    database, _, collection = name.partition(".")
    # The driver's types say that a collection has the documents of its client.
    raw: Any = client[database].get_collection(
        collection,
        codec_options=DEFAULT_RAW_BSON_OPTIONS.with_options(
            datetime_conversion=DatetimeConversion.DATETIME_AUTO
        ),
        read_preference=ReadPreference.PRIMARY,
    )
    documents = raw.find({}, batch_size=5_000, hint=[("$natural", 1)])
    return {bson.encode({"_id": d["_id"]}): bytes(d.raw) for d in documents}


def _shown(key: bytes) -> str:
    return repr(key[4:-1])
