"""Lifting what a migration has blocked and no process of it lifts any more."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import cast

from . import catalog
from .connector import Blockable, connector_for
from .errors import LimosaError
from .events import EventBus
from .migrations import PATIENCE
from .pacing import Pace
from .state import Migration


def lift_blocks(folder: catalog.Folder, uris: Iterable[str]) -> list[str]:
    """
    Have the ends that a migration has blocked take everybody's writes again; return which.

    *uris* are of the ends, in any order; one that is not among them is tried without
    credentials. Each end is recorded when it is done.

    Raises:
        LimosaError: an end could not be asked; it still is blocked.
    """
    lifted = []
    known = {connector_for(uri).identity(uri): uri for uri in uris}
    with closing(catalog.watch(folder)) as store:
        migration = store.migration()
        for end, identity in (("source", migration.source), ("target", migration.target)):
            if not migration.blocks(end):
                continue
            uri = known.get(identity, identity)
            try:
                _lift(uri)
            except LimosaError as error:
                error.hint = (
                    f"limosa has blocked the writes of others to the {end}: give its URI with "
                    f"user and password as --{end} or in LIMOSA_{end.upper()}; with --force the "
                    "state is removed and the block left"
                )
                raise
            store.update(partial(Migration.with_blocked, end=end, is_blocked=False))
            lifted.append(f"{end} {identity}")
    return lifted


def _lift(uri: str) -> None:
    with closing(connector_for(uri).open_target(uri)) as end:
        pace = Pace(EventBus(), retry_for=PATIENCE)
        pace.retrying("allow writes", cast("Blockable", end).allow_writes)
