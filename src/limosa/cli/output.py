"""Results on standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer


def print_json(body: Any) -> None:
    """Print *body* as JSON: indented on a terminal, one line elsewhere."""
    indent = 2 if sys.stdout.isatty() else None
    typer.echo(json.dumps(body, indent=indent, ensure_ascii=False))


def clear_screen() -> None:
    """Begin at the top of an empty terminal."""
    typer.echo("\x1b[H\x1b[2J", nl=False)


def print_pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values below each other."""
    width = max((len(name) for name, _ in rows), default=0)
    if not sys.stdout.isatty():
        for name, value in rows:
            typer.echo(f"{name + ':':<{width + 1}} {value}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name, style="bold"), Text(value))
    Console(highlight=False).print(table)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, none: str) -> None:
    """Print *rows* under *head*, or *none* if there are none; columns of figures to the right."""
    if not rows:
        typer.echo(none)
        return
    if sys.stdout.isatty():
        _print_rich_table(head, rows)
        return
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    for line in (head, *rows):
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _print_rich_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(head):
        figures = all(row[i][:1].isdigit() for row in rows)
        table.add_column(name, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
