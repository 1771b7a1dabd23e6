"""The body of mongosync's start, and what it asks of a migration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from bson import json_util
from bson.errors import BSONError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..document_filters import DocumentFilters
from ..namespaces import NamespaceFilter
from ..renames import Renames
from ..settings import Existing, IndexMode, Settings, WriteBlocking
from ..shard_keys import ShardKeys
from .errors import BadRequest, UnsupportedField
from .service import Launch

Cluster: TypeAlias = Literal["cluster0", "cluster1"]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=255)]


class Body(BaseModel):
    """An object whose keys may be written in any case, as clients of mongosync do."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _in_any_case(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        known = {name.lower(): name for name in cls.model_fields}
        found: dict[str, Any] = {}
        for key, value in given.items():
            name = known.get(str(key).lower(), str(key))
            if name in found:
                msg = f"the field {name!r} is given twice"
                raise ValueError(msg)
            found[name] = value
        return found


Model = TypeVar("Model", bound=Body)


class Empty(Body):
    """``{}``: the call has no parameters, but mongosync's must have a body."""


class Regex(Body):
    """A regular expression as in ``$regex``."""

    pattern: str
    options: str = ""


class NamespaceEntry(Body):
    """Namespaces, by name or regular expression."""

    database: Name | None = None
    databaseRegex: Regex | None = None  # noqa: N815 - mongosync's names, here and below
    collections: list[Name] | None = None
    collectionsRegex: Regex | None = None  # noqa: N815

    @model_validator(mode="after")
    def _names_a_database(self) -> NamespaceEntry:
        if (self.database is None) == (self.databaseRegex is None):
            msg = "expected either database or databaseRegex"
            raise ValueError(msg)
        if self.collections is not None and self.collectionsRegex is not None:
            msg = "expected collections or collectionsRegex, not both"
            raise ValueError(msg)
        return self


class NaturalOrderEntry(Body):
    """Collections that are read in the order in which they lie on the disk."""

    database: Name
    collections: list[Name] | None = None


class ShardCollection(Body):
    """A shard key."""

    key: list[dict[str, Any]]


class ShardingEntry(Body):
    """A collection that is to be sharded on the target."""

    database: Name
    collection: Name
    shardCollection: ShardCollection  # noqa: N815


class Sharding(Body):
    """How collections of a replica set become sharded ones."""

    createSupportingIndexes: bool = False  # noqa: N815
    shardingEntries: list[ShardingEntry]  # noqa: N815


class Verification(Body):
    """Whether both ends are compared."""

    enabled: bool = True


class DocumentFilter(Body):
    """One field of the first level and the values that it may have; extended JSON."""

    field: Name
    matchValues: Annotated[list[Any], Field(min_length=1)]  # noqa: N815


class RemapEnd(Body):
    """A database."""

    database: Name


# ``from`` is no name in Python, so it comes by an alias, which `_in_any_case` does not see.
class Remap(Body):
    """A database that has another name on the target."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    from_: Annotated[RemapEnd, Field(alias="from")]
    to: RemapEnd

    @model_validator(mode="before")
    @classmethod
    def _in_any_case(cls, given: Any) -> Any:
        return {k.lower(): v for k, v in given.items()} if isinstance(given, Mapping) else given


class Start(Body):
    """What is migrated, and how."""

    source: Cluster
    destination: Cluster
    buildIndexes: (  # noqa: N815
        Literal[
            "afterDataCopy", "beforeDataCopy", "excludeHashed", "excludeHashedAfterCopy", "never"
        ]
        | None
    ) = None
    detectRandomId: bool | None = None  # noqa: N815
    copyInNaturalOrder: list[NaturalOrderEntry] | None = None  # noqa: N815
    includeNamespaces: list[NamespaceEntry] | None = None  # noqa: N815
    excludeNamespaces: list[NamespaceEntry] | None = None  # noqa: N815
    preExistingDestinationData: bool | None = None  # noqa: N815
    reversible: bool | None = None
    enableUserWriteBlocking: (  # noqa: N815
        Literal["none", "destinationOnly", "sourceAndDestination"] | bool | None
    ) = None
    sharding: Sharding | None = None
    verification: Verification | None = None
    skipDiskSpaceCheck: bool | None = None  # noqa: N815
    documentFilter: DocumentFilter | None = None  # noqa: N815
    namespaceRemap: list[Remap] | None = None  # noqa: N815
    destinationDataHandling: (  # noqa: N815
        Literal["requireEmptyDestination", "ignorePreExistingNamespaces"] | None
    ) = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Start:
        if self.source == self.destination:
            msg = f"destination: expected another cluster than source, got {self.source!r} twice"
            raise ValueError(msg)
        if self.reversible and self.buildIndexes == "never":
            msg = "reversible: cannot be true with buildIndexes 'never'"
            raise ValueError(msg)
        return self


def start_of(raw: bytes, *, verifies: bool = True) -> Launch:
    """
    Return what the body *raw* asks for; *verifies* counts where it says nothing about it.

    Raises:
        BadRequest: a field is wrong or unknown; the message names it.
        UnsupportedField: it cannot be done; the message names the field.
        ConfigError: a pattern or filter is not understood.
    """
    body = parsed(raw, Start)
    # mongosync's default beside data that somebody may be using.
    limits = {"limits": {"loadLevel": 2}} if body.preExistingDestinationData else {}
    return Launch(
        source=body.source,
        target=body.destination,
        settings=_settings(body, verifies=verifies),
        options={
            "check_disk": not body.skipDiskSpaceCheck,
            # mongosync's default; who uses a target with data already goes on doing so.
            "block_target_if_possible": body.enableUserWriteBlocking is None
            and not body.preExistingDestinationData,
            **limits,
        },
    )


def parsed(raw: bytes, model: type[Model]) -> Model:
    """
    Return the JSON object *raw* as a *model*, whatever its ``Content-Type`` was.

    Raises:
        BadRequest: it is none; the message names the field.
    """
    try:
        return model.model_validate(_object(raw))
    except ValidationError as exc:
        raise BadRequest(_first(exc)) from exc


def _object(raw: bytes) -> Any:
    try:
        found = json.loads(raw, parse_constant=_no_number, object_pairs_hook=_once)
        json.dumps(found, ensure_ascii=False).encode()  # no half of a character
    except (ValueError, RecursionError) as exc:
        msg = f"expected a JSON object as body, such as {{}}: {exc}"
        raise BadRequest(msg) from exc
    if not isinstance(found, dict):
        msg = "expected a JSON object as body, such as {}"
        raise BadRequest(msg)
    return found


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a field is given twice"
        raise ValueError(msg)
    return found


def _no_number(text: str) -> Any:
    msg = f"{text} is no JSON"
    raise ValueError(msg)


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"{where}: there is no such field"
    text = found["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" if where else text


def _settings(body: Start, *, verifies: bool) -> Settings:
    _refuse_unsupported(body)
    return Settings(
        namespaces=NamespaceFilter.of_entries(
            _entries(body.includeNamespaces), _entries(body.excludeNamespaces)
        ),
        renames=Renames.of_entries(_entries(body.namespaceRemap)),
        documents=_documents(body.documentFilter),
        existing=_existing(body),
        verify=verifies if body.verification is None else body.verification.enabled,
        write_blocking=_write_blocking(body.enableUserWriteBlocking),
        reversible=bool(body.reversible),
        indexes=_INDEXES[body.buildIndexes],
        sharding=_sharding(body.sharding),
    )


_INDEXES: dict[str | None, IndexMode] = {
    None: IndexMode.AFTER,
    "afterDataCopy": IndexMode.AFTER,
    "beforeDataCopy": IndexMode.BEFORE,
    "excludeHashed": IndexMode.EXCLUDE_HASHED,
    "excludeHashedAfterCopy": IndexMode.EXCLUDE_HASHED_AFTER,
    "never": IndexMode.NEVER,
}


def _refuse_unsupported(body: Start) -> None:
    if body.copyInNaturalOrder:
        _refuse("copyInNaturalOrder", "is not possible: collections are read by partitions of _id")


def _refuse(field: str, why: str) -> None:
    msg = f"{field}: {why}"
    raise UnsupportedField(msg)


def _entries(given: Sequence[Body] | None) -> list[dict[str, Any]]:
    return [entry.model_dump(by_alias=True, exclude_none=True) for entry in given or ()]


def _documents(given: DocumentFilter | None) -> DocumentFilters:
    if given is None:
        return DocumentFilters()
    try:
        values = json_util.loads(json.dumps(given.matchValues))
    except (ValueError, TypeError, ArithmeticError, BSONError) as exc:
        msg = f"documentFilter.matchValues: expected values in extended JSON: {exc}"
        raise BadRequest(msg) from exc
    return DocumentFilters.of_field(given.field, values)


def _sharding(given: Sharding | None) -> ShardKeys | None:
    # Whether the target has shards is seen when it is asked: the start is refused then.
    if given is None:
        return None
    entries = _entries(given.shardingEntries)
    return ShardKeys.of_entries(entries, makes_indexes=given.createSupportingIndexes)


def _existing(body: Start) -> Existing:
    handling = body.destinationDataHandling
    if body.preExistingDestinationData or handling == "ignorePreExistingNamespaces":
        return Existing.KEEP
    return Existing.REFUSE


def _write_blocking(given: str | bool | None) -> WriteBlocking:
    match given:
        case "sourceAndDestination" | True:
            return WriteBlocking.BOTH
        case "destinationOnly":
            return WriteBlocking.TARGET
        case _:
            return WriteBlocking.NONE
