"""By which keys collections are spread over the shards of a sharded target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import ConfigError
from .model import CollectionSpec, Namespace

#: Where a collection's options say how it is sharded; no option of the database's own.
SHARDING = "sharding"
_DIRECTIONS: Mapping[str, int | str] = {"": 1, "1": 1, "-1": -1, "hashed": "hashed"}


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """Shard keys as somebody asks for them, by the source's names of the collections."""

    keys: Mapping[Namespace, Mapping[str, int | str]]
    #: Whether an index is made where the source has none that supports the key.
    makes_indexes: bool = True

    @classmethod
    def parse(cls, rules: Iterable[str]) -> ShardKeys | None:
        """
        Take rules as a person types them, ``shop.people=country,name`` or ``shop.log=_id:hashed``.

        None if there are none.

        Raises:
            ConfigError: one is not understood.
        """
        found = [_split(rule) for rule in rules]
        return cls(_distinct(found)) if found else None

    @classmethod
    def of_entries(
        cls, entries: Iterable[Mapping[str, Any]], *, makes_indexes: bool = False
    ) -> ShardKeys:
        """
        Take rules as mongosync does: ``{database, collection, shardCollection: {key: [{…}, …]}}``.

        Raises:
            ConfigError: one is not understood; the message names the field.
        """
        found = []
        for number, entry in enumerate(entries):
            where = f"sharding.shardingEntries[{number}]"
            key: dict[str, int | str] = {}
            for field in entry["shardCollection"]["key"]:
                key |= {name: _direction(value, where) for name, value in field.items()}
            if not key:
                msg = f"{where}.shardCollection.key: expected at least one field"
                raise ConfigError(msg)
            found.append((Namespace(entry["database"], entry["collection"]), key))
        return cls(_distinct(found), makes_indexes)

    def stored(self) -> dict[str, Any]:
        """Return what the state keeps, as JSON."""
        keys = sorted((str(n), [[f, d] for f, d in key.items()]) for n, key in self.keys.items())
        return {"keys": [list(pair) for pair in keys], "makesIndexes": self.makes_indexes}

    @classmethod
    def restored(cls, stored: Mapping[str, Any] | None) -> ShardKeys | None:
        """Return what `stored` was called on."""
        if stored is None:
            return None
        keys = {Namespace.parse(name): dict(key) for name, key in stored["keys"]}
        return cls(keys, stored["makesIndexes"])

    def unmatched(self, namespaces: Iterable[Namespace]) -> list[str]:
        """Return what is to be sharded and is none of *namespaces*."""
        known = set(namespaces)
        return [str(n) for n in self.keys if n not in known]

    def told(self, spec: CollectionSpec) -> CollectionSpec:
        """Return *spec* of the source as it is asked for, else as the source has it."""
        key = self.keys.get(spec.collection.namespace)
        if key is None:
            return spec
        sharding = {"key": dict(key), "makesIndex": self.makes_indexes}
        return replace(spec, options={**spec.options, SHARDING: sharding})


def _split(rule: str) -> tuple[Namespace, dict[str, int | str]]:
    name, _, fields = rule.strip().partition("=")
    try:
        namespace = Namespace.parse(name)
    except ValueError:
        namespace, fields = Namespace("", ""), ""
    key: dict[str, int | str] = {}
    for field in filter(None, fields.split(",")):
        path, _, direction = field.strip().partition(":")
        key[path] = _direction(_DIRECTIONS.get(direction), f"the shard key of {namespace}")
    if not key or "" in key:
        msg = f"expected 'database.collection=field,field' or '…=field:hashed', got {rule!r}"
        raise ConfigError(msg)
    return namespace, key


def _direction(value: object, where: str) -> int | str:
    if value == "hashed":
        return "hashed"
    if isinstance(value, int | float) and not isinstance(value, bool) and value in (1, -1):
        return int(value)
    msg = f"{where}: expected 1, -1 or 'hashed' for a field"
    raise ConfigError(msg)


def _distinct(
    found: Sequence[tuple[Namespace, dict[str, int | str]]],
) -> dict[Namespace, Mapping[str, int | str]]:
    keys: dict[Namespace, Mapping[str, int | str]] = {}
    for namespace, key in found:
        if namespace in keys:
            msg = f"two shard keys are given for {namespace}"
            raise ConfigError(msg)
        keys[namespace] = key
    return keys
