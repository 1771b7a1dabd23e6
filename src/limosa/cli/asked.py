"""The options that say what is migrated, shared by every command that begins or plans it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import options
from .grouped import grouped

if TYPE_CHECKING:
    from ..settings import Settings


def _settings(
    *,
    include: options.Include = None,
    exclude: options.Exclude = None,
    rename: options.Rename = None,
    filter: options.Filter = None,
    existing: options.ExistingData = options.OnTarget.KEEP,
    no_verify: options.NoVerify = False,
    block_writes: options.BlockWrites = options.Blocked.NONE,
    reversible: options.Reversible = False,
    indexes: options.Indexes = options.IndexesWhen.AFTER,
    accounts: options.Accounts = False,
    shard: options.Shard = None,
) -> Settings:
    from ..settings import IndexMode, Settings, WriteBlocking

    return Settings.of(
        include=include or (),
        exclude=exclude or (),
        renames=rename or (),
        filters=filter or (),
        existing=existing.value,
        verify=not no_verify,
        write_blocking=WriteBlocking(block_writes.value),
        reversible=reversible,
        indexes=IndexMode(indexes.value),
        accounts=accounts,
        shards=shard or (),
    )


#: Gives a command these options, in place of its parameter ``settings``.
with_settings = grouped("settings", _settings)
