"""Which namespaces a migration is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any

from .errors import ConfigError
from .model import Namespace

#: What a regular expression looks like within a pattern.
_REGEX = re.compile(r"/((?:[^/\\]|\\.)*)/([a-z]*)", re.DOTALL)
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_WILD = "*?["


@dataclass(frozen=True, slots=True)
class NamespaceFilter:
    """
    Chooses namespaces: first what is included (everything, if nothing is named), less what
    is excluded.

    A pattern is ``database`` or ``database.collection``. Each of the two is a name, a name with
    ``*``, ``?`` and ``[…]``, or ``/regex/`` with any of the flags i, m, s and x, which is
    searched for. The part before the first dot outside a regular expression is the database's.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def parse(cls, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> NamespaceFilter:
        """
        Take patterns as a person typed them.

        Raises:
            ConfigError: one is not understood.
        """
        return cls(tuple(map(checked, include)), tuple(map(checked, exclude)))

    @classmethod
    def of_entries(
        cls, include: Iterable[Mapping[str, Any]] = (), exclude: Iterable[Mapping[str, Any]] = ()
    ) -> NamespaceFilter:
        """
        Take entries as mongosync does: each with ``database`` (a name) or ``databaseRegex``
        (``pattern`` and ``options``) and, unless all of it is meant, ``collections`` (names) or
        ``collectionsRegex``.

        Raises:
            ConfigError: an entry is not understood; the message names the field.
        """
        return cls(
            tuple(_patterns_of(include, "includeNamespaces")),
            tuple(_patterns_of(exclude, "excludeNamespaces")),
        )

    def includes(self, namespace: Namespace) -> bool:
        """Whether *namespace* is to be migrated."""
        included = not self.include or any(matches(p, namespace) for p in self.include)
        return included and not any(matches(p, namespace) for p in self.exclude)

    def unmatched(self, namespaces: Iterable[Namespace]) -> list[str]:
        """Return the included patterns that choose none of *namespaces*."""
        return unmatched(self.include, namespaces)

    @property
    def single_database(self) -> str | None:
        """The one database that all included patterns name, if there is one."""
        databases = {_parts(p)[0] for p in self.include}
        if len(databases) != 1:
            return None
        (database,) = databases
        return None if set(database) & set(_WILD) or database.startswith("/") else database


def checked(pattern: str) -> str:
    """
    Return *pattern* without the spaces around it.

    Raises:
        ConfigError: it is none.
    """
    pattern = pattern.strip()
    for part in _parts(pattern):
        if part is not None:
            _matcher(part)
    return pattern


def matches(pattern: str, namespace: Namespace) -> bool:
    """Whether *pattern*, which was checked, names *namespace*."""
    database, collection = _parts(pattern)
    return _matcher(database)(namespace.database) and (
        collection is None or _matcher(collection)(namespace.collection)
    )


def parts_of(pattern: str) -> tuple[str, str | None]:
    """Return what in *pattern*, which was checked, names the database and what the collection."""
    return _parts(pattern)


def unmatched(patterns: Iterable[str], namespaces: Iterable[Namespace]) -> list[str]:
    """Return those of *patterns* that name none of *namespaces*."""
    known = list(namespaces)
    return [p for p in patterns if not any(matches(p, n) for n in known)]


@lru_cache(maxsize=4_096)
def _parts(pattern: str) -> tuple[str, str | None]:
    """Split into what names the database and, if anything does, the collection."""
    if pattern.startswith("/"):
        found = _REGEX.match(pattern)
        if found is None:
            raise _not_a_regex(pattern)
        database, rest = found.group(), pattern[found.end() :]
        if rest and not rest.startswith("."):
            raise _not_a_regex(pattern)
        dot, collection = rest[:1], rest[1:]
    else:
        database, dot, collection = pattern.partition(".")
    if not database or (dot and not collection):
        msg = f"expected 'database' or 'database.collection', got {pattern!r}"
        raise ConfigError(msg)
    return database, collection or None


@lru_cache(maxsize=4_096)
def _matcher(part: str) -> Callable[[str], bool]:
    if not part.startswith("/"):
        return partial(_is_like, part)
    found = _REGEX.fullmatch(part)
    if found is None:
        raise _not_a_regex(part)
    text, flags = found.groups()
    return partial(_is_found, _compiled(text, flags, part))


def _is_like(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern)


def _is_found(regex: re.Pattern[str], name: str) -> bool:
    return regex.search(name) is not None


def _compiled(text: str, flags: str, shown: str) -> re.Pattern[str]:
    if unknown := sorted(set(flags) - set(_FLAGS)):
        msg = f"expected flags out of i, m, s and x, got {''.join(unknown)!r} in {shown!r}"
        raise ConfigError(msg)
    try:
        return re.compile(text, sum(_FLAGS[f] for f in set(flags)))
    except re.error as error:
        msg = f"expected a regular expression, got {shown!r}: {error}"
        raise ConfigError(msg) from error


def _not_a_regex(pattern: str) -> ConfigError:
    msg = f"expected a regular expression such as '/^shop_[0-9]+$/i', got {pattern!r}"
    return ConfigError(msg, hint="for a name that begins with a slash write [/]")


# Entries.


def _patterns_of(entries: Iterable[Mapping[str, Any]], field: str) -> Iterator[str]:
    for number, entry in enumerate(entries):
        yield from _patterns(entry, f"{field}[{number}]")


def _patterns(entry: Mapping[str, Any], at: str) -> list[str]:
    known = {"database", "databaseRegex", "collections", "collectionsRegex"}
    if not isinstance(entry, Mapping) or set(entry) - known:
        msg = f"{at}: expected an object with {', '.join(sorted(known))}, got {entry!r}"
        raise ConfigError(msg)
    given = {name: value for name, value in entry.items() if value is not None}
    databases = _named(given, "database", "databaseRegex", at)
    if len(databases) != 1:
        msg = f"{at}: expected one of database and databaseRegex"
        raise ConfigError(msg)
    collections = _named(given, "collections", "collectionsRegex", at)
    return [checked(f"{databases[0]}.{c}") for c in collections] or [checked(databases[0])]


def _named(entry: Mapping[str, Any], names: str, regex: str, at: str) -> list[str]:
    if names in entry and regex in entry:
        msg = f"{at}: expected {names} or {regex}, not both"
        raise ConfigError(msg)
    if regex in entry:
        return [_slashed(entry[regex], f"{at}.{regex}")]
    found = entry.get(names, [])
    found = [found] if names == "database" and isinstance(found, str) else found
    if not isinstance(found, list | tuple) or not all(n and isinstance(n, str) for n in found):
        what = "a name" if names == "database" else "a list of names"
        msg = f"{at}.{names}: expected {what}, got {found!r}"
        raise ConfigError(msg)
    if names == "database" and any("." in n for n in found):
        msg = f"{at}.{names}: expected the name of a database, got {found[0]!r}"
        raise ConfigError(msg)
    return [literal(n) for n in found]


def _slashed(regex: Any, at: str) -> str:
    """Return ``pattern`` and ``options`` in one, with every slash in it escaped."""
    text = regex.get("pattern") if isinstance(regex, Mapping) else None
    options = (regex.get("options") or "") if isinstance(regex, Mapping) else None
    if not isinstance(text, str) or not isinstance(options, str):
        msg = f"{at}: expected an object with pattern and options, got {regex!r}"
        raise ConfigError(msg)
    flags = options.replace("u", "")  # patterns are Unicode anyway
    _compiled(text, flags, f"{at}: {text}")
    inside = re.sub(r"(\\.)|/", lambda m: m[1] or r"\/", text, flags=re.DOTALL)
    return f"/{inside}/{flags}"


def literal(name: str) -> str:
    """Return the pattern that names *name* and nothing else."""
    # Spaces around a pattern are not taken for part of it; a slash would begin an expression.
    return re.sub(r"[*?[]|^[\s/]|\s\Z", r"[\g<0>]", name)
