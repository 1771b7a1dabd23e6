"""Which namespaces a migration is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .errors import ConfigError
from .model import Namespace


@dataclass(frozen=True, slots=True)
class NamespaceFilter:
    """
    Chooses namespaces: first what is included (everything, if nothing is named), less what
    is excluded.

    A pattern is ``database``, ``database.collection`` or either with ``*`` and ``?``. The
    part before the first dot is the database's.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def parse(cls, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> NamespaceFilter:
        """Take patterns as a person typed them."""
        return cls(tuple(map(_checked, include)), tuple(map(_checked, exclude)))

    def includes(self, namespace: Namespace) -> bool:
        """Whether *namespace* is to be migrated."""
        included = not self.include or any(_matches(p, namespace) for p in self.include)
        return included and not any(_matches(p, namespace) for p in self.exclude)

    def unmatched(self, namespaces: Iterable[Namespace]) -> list[str]:
        """Return the included patterns that choose none of *namespaces*."""
        known = list(namespaces)
        return [p for p in self.include if not any(_matches(p, n) for n in known)]

    @property
    def single_database(self) -> str | None:
        """The one database that all included patterns name, if there is one."""
        databases = {p.partition(".")[0] for p in self.include}
        if len(databases) != 1:
            return None
        (database,) = databases
        return None if set(database) & set("*?[") else database


def _checked(pattern: str) -> str:
    database, dot, collection = pattern.strip().partition(".")
    if not database or (dot and not collection):
        msg = f"expected 'database' or 'database.collection', got {pattern!r}"
        raise ConfigError(msg)
    return pattern.strip()


def _matches(pattern: str, namespace: Namespace) -> bool:
    database, _, collection = pattern.partition(".")
    return fnmatchcase(namespace.database, database) and fnmatchcase(
        namespace.collection, collection or "*"
    )
