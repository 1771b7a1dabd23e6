"""`--listen`: the dashboard of a migration that this process drives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..catalog import Folder
    from ..server.beside import Place

#: What a bare `--listen` stands for.
ANYWHERE = "auto"

Listen: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="[HOST:]PORT",
        help="Show a dashboard at this address; alone: port 27182, or a free one if taken.",
    ),
]

_ADDRESS = re.compile(r"(?:(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):)?(\d{1,5})")
_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")


def completed(arguments: Sequence[str]) -> list[str]:
    """Return *arguments* with a value for a `--listen` that has none."""
    found: list[str] = []
    for one, following in zip(arguments, [*arguments[1:], ""], strict=False):
        bare = one == "--listen" and not _ADDRESS.fullmatch(following)
        found += [one, ANYWHERE] if bare else [one]
    return found


def place(listen: str) -> Place:
    """
    Return where to listen.

    Raises:
        ConfigError: that is no address, or one that others can reach.
    """
    from ..server.beside import Place

    if listen == ANYWHERE:
        return Place(may_move=True)
    parts = _ADDRESS.fullmatch(listen)
    if parts is None or int(parts[2]) > 65535:
        msg = f"--listen: expected PORT or HOST:PORT, got {listen!r}"
        raise ConfigError(msg)
    host = (parts[1] or "127.0.0.1").strip("[]")
    if not _LOOPBACK.fullmatch(host):
        msg = f"--listen: others can reach {host}, and nothing says who may do what"
        hint = "listen on 127.0.0.1, or use `limosa serve` with --token-file"
        raise ConfigError(msg, hint=hint)
    return Place(host=host, port=int(parts[2]))


@contextmanager
def shown(
    folder: Folder,
    listen: str | None,
    *,
    looks_only: bool = False,
    say: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """
    Show the migration in *folder* while entered, and give the address; "" without *listen*.

    With *looks_only* nobody can steer it there. *say* is told should it end, and come back.

    Raises:
        ConfigError: it cannot be shown there.
    """
    if listen is None:
        yield ""
        return
    from ..server.beside import Beside

    with Beside(folder, replace(place(listen), looks_only=looks_only), say=say) as server:
        yield server.url
