"""Both ends of a migration: how they are opened in either direction, and what they can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import cast

from .connector import (
    Blockable,
    Connector,
    Finding,
    Source,
    Target,
    connector_for,
    spreads_collections,
)
from .errors import ConfigError, LimosaError, SameEnds
from .model import CollectionSpec
from .pacing import Pace
from .renames import Renames
from .settings import IndexMode, ReadFrom, Settings, WriteBlocking

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

    def reading_from(self, whom: ReadFrom | None) -> Ends:
        """Return these with the collections of the source read from *whom*; None leaves that."""
        if whom is None:
            return self
        return replace(self, source=self.source_kind.read_from(self.source, whom))

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
    pace.retrying("look at both ends", lambda: _check_shards(ends, source, target, settings))
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


def _check_shards(ends: Ends, source: Source, target: Target, settings: Settings) -> None:
    """Refuse what is only possible towards shards, or not possible beside any."""
    if settings.sharding and not _is_sharded(target):
        msg = f"sharding is only possible towards a sharded cluster, which {ends.target_id} is not"
        raise ConfigError(msg, hint="leave out the shard keys")
    sharded = [
        name
        for end, name in ((source, ends.source_id), (target, ends.target_id))
        if _is_sharded(end)
    ]
    for is_wanted, what in (
        (settings.reversible, "--reversible"),
        (settings.accounts, "--accounts"),
    ):
        if sharded and is_wanted:
            msg = f"{what} is not possible with a sharded cluster, which {sharded[0]} is"
            raise ConfigError(msg, hint=f"leave out {what}")


def _examined_shards(ends: Ends, settings: Settings) -> Iterator[tuple[str, Finding]]:
    if not (settings.sharding or settings.reversible or settings.accounts):
        return
    with ExitStack() as stack:
        try:
            _check_shards(ends, *ends.open(stack, settings), settings)
        except ConfigError as error:
            yield "target", Finding("sharding", "error", str(error), error.hint)
        except LimosaError:
            return  # that an end cannot be asked is a finding of its own


def _is_sharded(end: object) -> bool:
    return spreads_collections(end) and end.is_sharded()


def examined_more(
    ends: Ends, settings: Settings, specs: Sequence[CollectionSpec]
) -> Iterator[tuple[str, Finding]]:
    """Yield what a way back, blocked writes, accounts and shards would need beyond the rest."""
    yield from _examined_shards(ends, settings)
    both = (("source", ends.source, ends.source_kind), ("target", ends.target, ends.target_kind))
    for end, uri, kind in both:
        if settings.write_blocking is WriteBlocking.BOTH or (
            settings.write_blocking is WriteBlocking.TARGET
            and (end == "target" or settings.reversible)
        ):
            role = "target" if settings.reversible else end
            yield from ((end, f) for f in kind.examine_blocking(uri, role))
        if settings.accounts:
            yield from ((end, f) for f in kind.examine_accounts(uri, end))
        if settings.reversible:
            role = "source" if end == "target" else "target"
            found = kind.examine(uri, role, specs)
            yield from ((end, f) for f in found if f.check in _OF_WAY_BACK and f.level != "ok")
