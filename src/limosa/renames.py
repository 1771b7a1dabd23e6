"""Under which names the source's databases and collections stand on the target."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, RenameConflict
from .model import Namespace

_SYSTEM = frozenset({"admin", "config", "local"})
#: What no database takes as the name of a database, or of a collection.
_DATABASE = re.compile(r'[^/\\. "$*<>:|?\0]{1,63}')
_COLLECTION = re.compile(r"(?!system\.|\.)[^$\0]+")


@dataclass(frozen=True, slots=True)
class Renames:
    """
    Gives each namespace of the source one on the target: the rule for the collection if there
    is one, else that for its database, else its own name.
    """

    databases: tuple[tuple[str, str], ...] = ()
    collections: tuple[tuple[Namespace, Namespace], ...] = ()

    @classmethod
    def parse(cls, rules: Iterable[str]) -> Renames:
        """
        Take rules as a person types them: ``old=new`` or ``old.collection=new.collection``.

        Raises:
            ConfigError: one is not understood.
            RenameConflict: two of them contradict each other.
        """
        return cls._of([_split(rule) for rule in rules])

    @classmethod
    def of_entries(cls, entries: Iterable[Mapping[str, Any]]) -> Renames:
        """
        Take rules as mongosync does: ``{"from": {"database": …}, "to": {"database": …}}``, both
        with a ``collection`` if only that is meant.

        Raises:
            ConfigError: one is not understood; the message names the field.
            RenameConflict: two of them contradict each other.
        """
        return cls._of(
            (_end(e, "from", number), _end(e, "to", number)) for number, e in enumerate(entries)
        )

    def target_of(self, namespace: Namespace) -> Namespace:
        """Return where *namespace* of the source stands on the target."""
        for old, new in self.collections:
            if old == namespace:
                return new
        for database, named in self.databases:
            if database == namespace.database:
                return Namespace(named, namespace.collection)
        return namespace

    def source_of(self, namespace: Namespace) -> Namespace:
        """
        Return what of the source stands, or would stand, at *namespace* of the target.

        Where several databases become one, that of the first rule.
        """
        for old, new in self.collections:
            if new == namespace:
                return old
        for database, named in self.databases:
            if named == namespace.database:
                return Namespace(database, namespace.collection)
        return namespace

    def texts(self) -> list[str]:
        """Return the rules as they are typed, in order of their names."""
        return sorted(
            [f"{old}={new}" for old, new in self.databases]
            + [f"{old}={new}" for old, new in self.collections]
        )

    def unmatched(self, namespaces: Iterable[Namespace]) -> list[str]:
        """Return what is to be renamed and is none of *namespaces*."""
        known = set(namespaces)
        databases = {n.database for n in known}
        return [old for old, _ in self.databases if old not in databases] + [
            str(old) for old, _ in self.collections if old not in known
        ]

    @classmethod
    def _of(cls, rules: Iterable[tuple[str, str]]) -> Renames:
        databases: list[tuple[str, str]] = []
        collections: list[tuple[Namespace, Namespace]] = []
        for old, new in rules:
            if ("." in old) != ("." in new):
                msg = f"expected two databases or two collections, got {old!r} and {new!r}"
                raise ConfigError(msg)
            if "." in old:
                collections.append((_namespace(old), _namespace(new)))
            else:
                databases.append((_database(old), _database(new)))
        _refuse_twice([*(o for o, _ in databases), *(o for o, _ in collections)], "renamed twice")
        _refuse_twice([n for _, n in collections], "the new name of two collections")
        return cls(tuple(databases), tuple(collections))


def _split(rule: str) -> tuple[str, str]:
    old, equals, new = rule.strip().partition("=")
    if not (old and equals and new):
        msg = f"expected 'old=new' or 'old.collection=new.collection', got {rule!r}"
        raise ConfigError(msg)
    return old, new


def _end(entry: Mapping[str, Any], name: str, number: int) -> str:
    found = entry.get(name) if isinstance(entry, Mapping) else None
    database = found.get("database") if isinstance(found, Mapping) else None
    collection = found.get("collection") if isinstance(found, Mapping) else None
    if not isinstance(database, str) or not isinstance(collection, str | None):
        msg = f"namespaceRemap[{number}].{name}: expected an object with database, got {found!r}"
        raise ConfigError(msg)
    return f"{_database(database)}.{collection}" if collection else _database(database)


def _database(name: str) -> str:
    if not _DATABASE.fullmatch(name) or name in _SYSTEM:
        msg = f"expected the name of a user database, got {name!r}"
        raise ConfigError(msg)
    return name


def _namespace(text: str) -> Namespace:
    database, _, collection = text.partition(".")
    if not _COLLECTION.fullmatch(collection):
        msg = f"expected the name of a user collection, got {text!r}"
        raise ConfigError(msg)
    return Namespace(_database(database), collection)


def _refuse_twice(names: Iterable[object], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            msg = f"{str(name)!r} is {what}"
            raise RenameConflict(msg)
