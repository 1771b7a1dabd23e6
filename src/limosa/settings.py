"""What a migration is to do, fixed once it has begun, and how it is driven, which may change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .namespaces import NamespaceFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What a migration is to do, whichever face it was asked for through.

    Stored when the migration begins; a later start must agree. Every face builds one of these
    and none asks the engine for anything that is not in it.
    """

    namespaces: NamespaceFilter = field(default_factory=NamespaceFilter)
    verify: bool = True

    @classmethod
    def of(
        cls, *, include: Iterable[str] = (), exclude: Iterable[str] = (), **fields: Any
    ) -> Settings:
        """
        Take patterns as a person types them, and the other fields as they are.

        Raises:
            ConfigError: a pattern is not understood.
        """
        return cls(namespaces=NamespaceFilter.parse(include, exclude), **fields)

    def stored(self) -> dict[str, Any]:
        """Return what the state keeps, as JSON."""
        return {
            "include": sorted(self.namespaces.include),
            "exclude": sorted(self.namespaces.exclude),
            "verify": self.verify,
        }

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Settings:
        """Return what `stored` was called on; what is missing has its default."""
        known = dict(stored)
        return cls.of(
            include=known.pop("include", ()),
            exclude=known.pop("exclude", ()),
            **known,
        )
