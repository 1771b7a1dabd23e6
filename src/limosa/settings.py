"""What a migration is to do, fixed once it has begun, and how it is driven, which may change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .document_filters import DocumentFilters
from .errors import ConfigError
from .model import Collection, Namespace
from .namespaces import NamespaceFilter
from .renames import Renames
from .shard_keys import ShardKeys
from .steps import Step, distinct


class Existing(StrEnum):
    """What the target may hold before the migration begins."""

    KEEP = "keep"  # other namespaces than those that are migrated; they stay as they are
    REFUSE = "refuse"  # nothing of its users


class WriteBlocking(StrEnum):
    """Where other writers are kept out."""

    NONE = "none"
    TARGET = "target"  # from the start until the application may write there
    BOTH = "both"  # and the source from the commit on


class ReadFrom(StrEnum):
    """From whom a source's collections are read; not stored, each start says it anew."""

    PRIMARY = "primary"
    SECONDARIES = "secondaries"  # the primary where there is none


class IndexMode(StrEnum):
    """When the secondary indexes of the target are built."""

    AFTER = "afterDataCopy"
    BEFORE = "beforeDataCopy"
    EXCLUDE_HASHED = "excludeHashed"  # before; the hashed ones are left to others
    EXCLUDE_HASHED_AFTER = "excludeHashedAfterCopy"
    NEVER = "never"  # whoever made the target is in charge of them

    @property
    def builds_after(self) -> bool:
        """Whether they are built when the collections are copied."""
        return self in {IndexMode.AFTER, IndexMode.EXCLUDE_HASHED_AFTER}

    @property
    def builds_before(self) -> bool:
        """Whether they are there before the first document is."""
        return self in {IndexMode.BEFORE, IndexMode.EXCLUDE_HASHED}

    @property
    def leaves_hashed(self) -> bool:
        """Whether those on a hash are left to whoever made the target."""
        return self in {IndexMode.EXCLUDE_HASHED, IndexMode.EXCLUDE_HASHED_AFTER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What a migration is to do, whichever face it was asked for through.

    Stored when the migration begins; a later start must agree. Every face builds one of these
    and none asks the engine for anything that is not in it.
    """

    #: These three are about the source's names.
    namespaces: NamespaceFilter = field(default_factory=NamespaceFilter)
    renames: Renames = field(default_factory=Renames)
    documents: DocumentFilters = field(default_factory=DocumentFilters)
    existing: Existing = Existing.KEEP
    verify: bool = True
    #: Not stored: target and source have changed places, and so have old names and new.
    is_way_back: bool = False
    #: Collections are copied in this order; none has them all copied at once.
    steps: tuple[Step, ...] = ()
    #: At which ends nobody but limosa may write while the application must not.
    write_blocking: WriteBlocking = WriteBlocking.NONE
    #: Keep what it takes to have changes flow back after the commit.
    reversible: bool = False
    indexes: IndexMode = IndexMode.AFTER
    #: Users and roles are carried over too, with what their passwords are checked against.
    accounts: bool = False
    #: How collections are spread over the shards of the target; None leaves that to the source.
    sharding: ShardKeys | None = None

    @classmethod
    def of(
        cls,
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        renames: Iterable[str] = (),
        filters: Iterable[str] = (),
        shards: Iterable[str] = (),
        existing: str = Existing.KEEP,
        **fields: Any,
    ) -> Settings:
        """
        Take patterns and rules as a person types them, and the other fields as they are.

        Raises:
            ConfigError: one is not understood.
        """
        return cls(
            namespaces=NamespaceFilter.parse(include, exclude),
            renames=Renames.parse(renames),
            documents=DocumentFilters.parse(filters),
            existing=_known(existing),
            **{"sharding": ShardKeys.parse(shards), **fields},
        )

    def includes(self, namespace: Namespace) -> bool:
        """Whether *namespace* of the source is to be migrated."""
        return self.namespaces.includes(self._original(namespace))

    def target_of(self, namespace: Namespace) -> Namespace:
        """Return under which name *namespace* of the source stands on the target."""
        renames = self.renames
        return renames.source_of(namespace) if self.is_way_back else renames.target_of(namespace)

    def read_of(self, collection: Collection) -> Collection:
        """
        Return *collection* of the source, narrowed to the documents that are migrated.

        On the way back that is all of them: what was left behind is not there.
        """
        if self.is_way_back or not self.documents.rules:
            return collection
        return replace(collection, where=self.documents.query_of(collection.namespace))

    def compared_with(self, namespace: Namespace) -> Collection:
        """
        Return the collection of the target that is compared with the source, whole.

        On the way back without what was never migrated.
        """
        if self.is_way_back and self.documents.rules:
            return Collection(namespace, where=self.documents.query_of(namespace))
        return Collection(namespace)

    def way_back(self) -> Settings:
        """Return these settings as they are read when target and source have changed places."""
        return replace(self, is_way_back=not self.is_way_back)

    def _original(self, namespace: Namespace) -> Namespace:
        return self.renames.source_of(namespace) if self.is_way_back else namespace

    def stored(self) -> dict[str, Any]:
        """Return what the state keeps, as JSON."""
        return {
            "include": sorted(self.namespaces.include),
            "exclude": sorted(self.namespaces.exclude),
            "renames": self.renames.texts(),
            "filters": self.documents.texts(),
            "existing": self.existing.value,
            "verify": self.verify,
            "steps": [s.stored() for s in self.steps],
            "writeBlocking": self.write_blocking.value,
            "reversible": self.reversible,
            "indexes": self.indexes.value,
            "accounts": self.accounts,
            "sharding": self.sharding.stored() if self.sharding else None,
        }

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Settings:
        """Return what `stored` was called on; what is missing has its default."""
        known = dict(stored)
        return cls.of(
            include=known.pop("include", ()),
            exclude=known.pop("exclude", ()),
            renames=known.pop("renames", ()),
            filters=known.pop("filters", ()),
            existing=known.pop("existing", Existing.KEEP),
            steps=distinct([Step.restored(s) for s in known.pop("steps", ())]),
            indexes=IndexMode(known.pop("indexes", IndexMode.AFTER)),
            write_blocking=WriteBlocking(known.pop("writeBlocking", WriteBlocking.NONE)),
            sharding=ShardKeys.restored(known.pop("sharding", None)),
            **known,
        )


def _known(existing: str) -> Existing:
    try:
        return Existing(existing)
    except ValueError:
        msg = f"expected {' or '.join(Existing)} for what is on the target, got {existing!r}"
        raise ConfigError(msg) from None
