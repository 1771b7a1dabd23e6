"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..errors import ConfigError, LimosaError


class CommitWhen(StrEnum):
    """When the migration commits."""

    WHEN_READY = "when-ready"
    MANUAL = "manual"


class OnTarget(StrEnum):
    """What the target may hold before."""

    KEEP = "keep"
    REFUSE = "refuse"


class IndexesWhen(StrEnum):
    """When the secondary indexes are built."""

    AFTER = "afterDataCopy"
    BEFORE = "beforeDataCopy"
    EXCLUDE_HASHED = "excludeHashed"
    EXCLUDE_HASHED_AFTER = "excludeHashedAfterCopy"
    NEVER = "never"


class Blocked(StrEnum):
    """At which ends other writers are kept out."""

    NONE = "none"
    TARGET = "target"
    BOTH = "both"


class ReadFrom(StrEnum):
    """From whom the source's collections are read."""

    PRIMARY = "primary"
    SECONDARIES = "secondaries"


class LogFormat(StrEnum):
    """How the story of a migration is written."""

    TEXT = "text"
    JSON = "json"


def known_names() -> Iterator[str]:
    """Yield the names of the migrations known here, for the shell to complete."""
    from ..catalog import known

    try:
        yield from (folder.name for folder in known())
    except LimosaError:
        # A shell that completes a word is no place for an error; the command itself tells it.
        return


Source: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        envvar="LIMOSA_SOURCE",
        help="URI of the source; from the environment it stays out of process lists.",
    ),
]
Target: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="TARGET", envvar="LIMOSA_TARGET", help="URI of the target."),
]
Include: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        "-i",
        metavar="PATTERN",
        help="Migrate only these: database or database.collection, each a name, with * and ?, or "
        "/regex/; repeatable.",
    ),
]
Exclude: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--exclude", "-x", metavar="PATTERN", help="Leave these out; repeatable."),
]
Rename: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Give a database, or database.collection, another name on the target; repeatable.",
    ),
]
Filter: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="PATTERN=QUERY",
        help="Migrate only documents that match the query, which is extended JSON; repeatable.",
    ),
]
ExistingData: TypeAlias = Annotated[
    OnTarget,
    typer.Option(
        "--existing", help="Keep what else is on the target, or refuse one that is not empty."
    ),
]
State: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", help="Folder of the migration's state; else one under its name."
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NameArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        autocompletion=known_names,
        help="Name of the migration; needed where several are known.",
        show_default=False,
    ),
]
NameOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        autocompletion=known_names,
        help="The same as the argument NAME.",
        show_default=False,
    ),
]

Server: TypeAlias = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Ask this `limosa serve` instead."),
]

NewName: TypeAlias = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Name of the migration; else from both ends."),
]
Commit: TypeAlias = Annotated[
    CommitWhen,
    typer.Option("--commit", help="Commit by `limosa commit`, or as soon as it can be done."),
]
NoVerify: TypeAlias = Annotated[
    bool, typer.Option("--no-verify", help="Do not compare source and target.")
]
BlockWrites: TypeAlias = Annotated[
    Blocked,
    typer.Option(
        "--block-writes",
        help="Keep others from writing to the target until the commit, or to both in turn.",
    ),
]
Indexes: TypeAlias = Annotated[
    IndexesWhen, typer.Option("--indexes", help="When the target's secondary indexes are built.")
]
Accounts: TypeAlias = Annotated[
    bool, typer.Option("--accounts", help="Carry users and roles over too, with their passwords.")
]
Shard: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--shard",
        metavar="NAMESPACE=KEY",
        help="Spread a collection over the shards of a sharded target; repeatable.",
    ),
]
Reversible: TypeAlias = Annotated[
    bool, typer.Option("--reversible", help="Allow `limosa reverse` after the commit.")
]
Workers: TypeAlias = Annotated[
    int, typer.Option("--workers", min=1, max=256, help="Partitions copied at once.")
]
ReadFromOption: TypeAlias = Annotated[
    ReadFrom | None,
    typer.Option(
        "--read-from",
        help="Where copy and verification read the source; else as its URI says.",
        show_default=False,
    ),
]
RetryFor: TypeAlias = Annotated[
    str,
    typer.Option("--retry-for", metavar="SPAN", help="How long a call that fails is tried again."),
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and touch nothing, as `limosa plan` does.")
]
Log: TypeAlias = Annotated[
    LogFormat, typer.Option("--log-format", help="How the story on standard error is written.")
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say only what a person should look at.")
]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say every batch and partition too.")
]


def one_name(argument: str | None, option: str | None) -> str | None:
    """Return the name that was given in either way, or refuse two different ones."""
    if argument and option and argument != option:
        msg = f"two names are given: {argument!r} and {option!r}"
        raise ConfigError(msg, hint="give the name once")
    return argument or option


def span(text: str) -> timedelta:
    """
    Return the span that *text* names: ``90`` or ``90s``, ``10m``, ``1h30m``.

    Raises:
        ConfigError: *text* is no such span.
    """
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if not text.strip() or found is None:
        msg = f"expected a span such as '90s', '10m' or '1h30m', got {text!r}"
        raise ConfigError(msg)
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
