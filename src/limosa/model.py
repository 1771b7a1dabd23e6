"""
The values that move through a migration.

Everything here is immutable, picklable and free of I/O, so that it can cross a
thread, a process or a task of a cluster unchanged.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, NewType, TypeAlias

import bson
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

from .slices import documents_of, starts_of

#: A document as a lazily decoded mapping over its BSON bytes.
Document: TypeAlias = RawBSONDocument

#: What identifies a document: BSON bytes of ``{"_id": …}``. Bytes, so that no type, no
#: field order and no NaN payload is lost, and a key can be hashed without being decoded.
Key = NewType("Key", bytes)

#: Says of each document of a collection by itself whether it is meant; opaque to all but
#: connectors of the kind it was written for (MongoDB: BSON of a query).
Query = NewType("Query", bytes)

#: A place in the source's change stream, opaque to all but the source that issued it.
#: Tokens are never compared with each other; times are.
ResumeToken = NewType("ResumeToken", bytes)


@dataclass(frozen=True, slots=True, order=True)
class Namespace:
    """A database and a collection (or keyspace and table) in it."""

    database: str
    collection: str

    @classmethod
    def parse(cls, text: str) -> Namespace:
        """Parse ``database.collection``; the collection may contain dots."""
        database, dot, collection = text.partition(".")
        if not (database and dot and collection):
            msg = f"expected 'database.collection', got {text!r}"
            raise ValueError(msg)
        return cls(database, collection)

    def __str__(self) -> str:
        return f"{self.database}.{self.collection}"


@dataclass(frozen=True, slots=True, order=True)
class Collection:
    """
    A collection by name and by the identity that survives a rename.

    *id* is the source's own (MongoDB: the collection's UUID in hex). An end that is
    addressed by name alone, as the target is, leaves it empty. *where* narrows what is read and
    looked up to some of its documents: the others are not there. It is no part of the identity.
    """

    namespace: Namespace
    id: str = ""
    where: Query | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return str(self.namespace)


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """
    What a collection is, apart from its documents.

    *options* and *indexes* are what the database itself answers (MongoDB: the ``options``
    of ``listCollections`` and the documents of ``listIndexes`` without that of ``_id``).
    """

    collection: Collection
    options: Mapping[str, Any] = field(default_factory=dict)
    indexes: Sequence[Mapping[str, Any]] = ()
    documents: int = 0  # estimated
    size: int = 0  # bytes, uncompressed, estimated
    #: Whether the target's indexes are those of whoever made them, and not of the source.
    leaves_indexes: bool = False
    #: Whether that is so of those on a hash alone, none of which is among *indexes*.
    leaves_hashed: bool = False

    @property
    def without_hashed(self) -> CollectionSpec:
        """What is left when no index on a hash is wanted."""
        return replace(self, indexes=[i for i in self.indexes if not is_hashed(i)])

    @property
    def document_size(self) -> int:
        """Bytes of a document on average, estimated; at least 1."""
        return max(1, self.size // max(1, self.documents))


def is_hashed(index: Mapping[str, Any]) -> bool:
    """Whether *index* is on the hash of a field."""
    return "hashed" in index["key"].values()


@dataclass(frozen=True, slots=True)
class Partition:
    """
    A part of a collection that is copied, retried and verified as one.

    The partitions of a collection cover it completely and do not overlap. *bounds* are
    opaque to all but connectors of the kind that made them.
    """

    id: str  # "<collection id>/<number>", unique in a migration
    collection: Collection
    bounds: bytes
    documents: int = 0  # estimated


class Slice(RawBSONDocument):
    """
    A document that was sliced out of an answer.

    The driver's own class looks at every document when it is made, which costs more than all
    else that a document costs on its way through; this one when it is looked into.
    """

    __slots__ = ("_bytes",)

    def __init__(self, data: bytes) -> None:  # the base class has nothing to set up
        self._bytes = data

    @property
    def raw(self) -> bytes:
        return self._bytes

    def items(self) -> ItemsView[str, Any]:
        return self._decoded().items()

    def __getitem__(self, name: str) -> Any:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawBSONDocument) and self._bytes == other.raw

    __hash__ = None  # as for every mapping

    def __repr__(self) -> str:
        return f"Slice({self._bytes!r})"

    def __reduce__(self) -> tuple[type[Slice], tuple[bytes]]:
        return Slice, (self._bytes,)

    def _decoded(self) -> RawBSONDocument:
        return RawBSONDocument(self._bytes, DEFAULT_RAW_BSON_OPTIONS)


@dataclass(frozen=True)
class Batch:
    """
    Some documents, as the bytes of one BSON array.

    The bytes of a reply are kept as they came; two batches are equal if their bytes are.
    """

    array: bytes

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]]) -> Batch:
        """Pack *documents* into a batch."""
        return cls(bson.encode({str(i): d for i, d in enumerate(documents)}))

    @cached_property
    def documents(self) -> list[Document]:
        """The documents, in order, not decoded."""
        return [Slice(d) for d in self.raw]

    @cached_property
    def raw(self) -> list[bytes]:
        """The bytes of each document, in order; three times as cheap as `documents`."""
        return documents_of(self.array)

    @cached_property
    def count(self) -> int:
        """How many documents there are; a third of the cost of cutting them out."""
        return len(starts_of(self.array))

    @property
    def size(self) -> int:
        """Bytes of the batch, headers of the array included."""
        return len(self.array)


class SchemaVerb(StrEnum):
    """What was done to a collection."""

    CREATE = "create"
    DROP = "drop"
    RENAME = "rename"
    CREATE_INDEXES = "createIndexes"
    DROP_INDEXES = "dropIndexes"
    MODIFY = "modify"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """
    A change of a collection or its indexes: a barrier between batches.

    *detail* depends on the verb: CREATE the options; CREATE_INDEXES and DROP_INDEXES
    ``{"indexes": [...]}`` with whole index documents; MODIFY the ``collMod`` fields.
    *to* is the new namespace of a RENAME; what was there under that name is replaced.
    """

    verb: SchemaVerb
    collection: Collection
    detail: Mapping[str, Any] = field(default_factory=dict)
    to: Namespace | None = None


#: The latest state of each changed document of one collection: None stands for "yet to be
#: looked up". Insertion order is the order of first touch.
KeyStates: TypeAlias = Mapping[Key, Document | None]


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """
    What changed, coalesced by key, and the place in the change stream right after it.

    A batch holds either changes of documents or one schema change, never both, so it can
    be joined with its neighbours of the same sort. An empty one says that nothing happened
    until *source_time*, which is how lag falls to zero on an idle source.

    Source times are exact: where the source counts within a second (MongoDB's increment),
    the count stands in the microseconds, rounded down for changes.
    """

    resume_token: ResumeToken
    source_time: datetime
    changes: Mapping[Collection, KeyStates] = field(default_factory=dict)
    schema: SchemaChange | None = None
    events: int = 0  # of the stream, before coalescing
    size: int = field(default=0, compare=False)  # bytes of them, as they were read

    @property
    def is_empty(self) -> bool:
        return not self.changes and self.schema is None


class DefinitionKind(StrEnum):
    """What there is beside collections."""

    VIEW = "view"
    ROLE = "role"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Definition:
    """
    Something that holds no documents of its own: a view, a role or a user.

    *content* is what the database says of it, as BSON, and for its own kind alone. It may hold
    what a password is checked against, so it is never shown and never stored.
    """

    kind: DefinitionKind
    database: str
    name: str
    content: bytes = field(repr=False)


class MismatchKind(StrEnum):
    """How a document of the target differs from that of the source."""

    MISSING = "missing"  # on the source only
    EXTRA = "extra"  # on the target only
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A document that is not the same at both ends."""

    kind: MismatchKind
    namespace: Namespace
    key: Key


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Something that could not be completed at commit, and why."""

    namespace: Namespace
    what: str  # e.g. "index email_1"
    reason: str
