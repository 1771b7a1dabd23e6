"""Both ends of a migration: how they are opened in either direction, and what they can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import cast

from .connector import Blockable, Connector, Finding, Source, Target, connector_for
from .errors import ConfigError, SameEnds
from .model import CollectionSpec
from .pacing import Pace
from .renames import Renames
from .settings import IndexMode, Settings, WriteBlocking

#: What an end has to fulfil in the other role also, if the migration is to be reversible.
_OF_WAY_BACK = frozenset({"topology", "version", "privileges", "oplog_window"})


@dataclass(frozen=True)
class Ends:
    """Source and target as they were named, and what they are."""

    source: str
    target: str
    source_kind: Connector
    target_kind: Connector

    @classmethod
    def of(cls, source: str, target: str) -> Ends:
        """
        Find the connectors.

        Raises:
            ConfigError: an address is not understood, or both are the same.
        """
        ends = cls(source, target, connector_for(source), connector_for(target))
        if ends.source_kind.kind != ends.target_kind.kind:
            msg = (
                f"expected two databases of one kind, got {ends.source_kind.kind} "
                f"and {ends.target_kind.kind}"
            )
            raise ConfigError(msg)
        if ends.source_id == ends.target_id:
            msg = f"source and target are both {ends.source_id}"
            raise SameEnds(msg)
        return ends

    @property
    def source_id(self) -> str:
        return self.source_kind.identity(self.source)

    @property
    def target_id(self) -> str:
        return self.target_kind.identity(self.target)

    def swapped(self) -> Ends:
        """Return the ends of the way back."""
        return Ends(self.target, self.source, self.target_kind, self.source_kind)

    def open(self, stack: ExitStack, settings: Settings) -> tuple[Source, Target]:
        """Open both for a migration with *settings*; *stack* closes them."""
        return (
            self.open_source(stack, settings),
            stack.enter_context(closing(self.target_kind.open_target(self.target))),
        )

    def open_source(self, stack: ExitStack, settings: Settings) -> Source:
        """Open the source alone; nothing is asked of it yet."""
        database = settings.namespaces.single_database
        if settings.is_way_back and settings.renames != Renames():
            database = None  # new names may lie in several databases
        source = self.source_kind.open_source(self.source, database=database)
        return stack.enter_context(closing(source))


def check_abilities(
    ends: Ends, source: Source, target: Target, way_back: Source, settings: Settings, pace: Pace
) -> None:
    """Refuse, before anything is written, what could not be reversed or blocked as asked for."""
    kind, blocking = ends.source_kind, settings.write_blocking
    if settings.reversible and not kind.reverses:
        msg = f"a migration of {kind.kind} databases cannot be reversed"
        raise ConfigError(msg, hint="leave out --reversible")
    if settings.reversible and settings.indexes is IndexMode.NEVER:
        msg = "without indexes on the target those of the source could not be restored"
        raise ConfigError(msg, hint="leave out --reversible, or have the indexes built")
    if settings.reversible:
        pace.retrying("look at the target as a source", way_back.position)
    if blocking is WriteBlocking.NONE:
        return
    if not kind.blocks_writes:
        msg = f"writes to {kind.kind} databases cannot be blocked"
        raise ConfigError(msg, hint="leave out --block-writes")
    first, second = cast("Blockable", target), cast("Blockable", source)
    pace.retrying("look at the target", lambda: first.check_blocking(bypass=True))
    if blocking is WriteBlocking.BOTH or settings.reversible:
        # The source is written to by limosa only when it has become the target.
        bypass = settings.reversible
        pace.retrying("look at the source", lambda: second.check_blocking(bypass=bypass))


def examined_more(
    ends: Ends, settings: Settings, specs: Sequence[CollectionSpec]
) -> Iterator[tuple[str, Finding]]:
    """Yield what the wishes for a way back and for blocked writes need beyond the rest."""
    both = (("source", ends.source, ends.source_kind), ("target", ends.target, ends.target_kind))
    for end, uri, kind in both:
        if settings.write_blocking is WriteBlocking.BOTH or (
            settings.write_blocking is WriteBlocking.TARGET
            and (end == "target" or settings.reversible)
        ):
            role = "target" if settings.reversible else end
            yield from ((end, f) for f in kind.examine_blocking(uri, role))
        if settings.reversible:
            role = "source" if end == "target" else "target"
            found = kind.examine(uri, role, specs)
            yield from ((end, f) for f in found if f.check in _OF_WAY_BACK and f.level != "ok")
