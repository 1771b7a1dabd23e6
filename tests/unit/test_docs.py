"""The reference pages are complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import limosa
from limosa import errors
from limosa.cli.app import app
from limosa.cli.exits import Exit

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = Path(limosa.__file__).parent

#: Set by the tests' own environment, or by the system for every program.
FOREIGN = {"PATH", "HOME", "LIMOSA_TEST_REQUIRE"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(name: str) -> str:
    """Return what commands.md says under the heading of a command."""
    _, found, rest = page("commands.md").partition(f"\n## limosa {name}\n")
    assert found, f"no heading for limosa {name}"
    return rest.partition("\n## ")[0]


def shared() -> str:
    """Return what commands.md says about the options that several commands share."""
    return page("commands.md").partition("\n## What is migrated\n")[2].partition("\n## ")[0]


def options() -> Iterator[tuple[str, str]]:
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined] # a group
        for parameter in command.params:
            for spelling in (*parameter.opts, *parameter.secondary_opts):
                if spelling.startswith("-") and spelling not in ("--help", "-h"):
                    yield name, spelling


def error_codes() -> set[str]:
    found = {
        code
        for file in SOURCES.rglob("*.py")
        for code in re.findall(r"^    code = \"(\w+)\"", file.read_text(encoding="utf-8"), re.M)
    }
    assert {each.code for each in vars(errors).values() if isinstance(each, type)} <= found
    return found


@pytest.mark.parametrize(("command", "option"), sorted(set(options())))
def test_options(command: str, option: str) -> None:
    """Every option of every command is documented, under the command's heading or once for all."""
    here = section(command)
    text = here + shared() if "What is migrated" in here or "#what-is-migrated" in here else here
    assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)


def test_commands() -> None:
    """Every command has a line in the table at the top, and no other has."""
    group = typer.main.get_command(app)

    listed = set(re.findall(r"\(#limosa-([a-z]+)\)", page("commands.md")))

    assert listed == set(group.commands)  # type: ignore[attr-defined] # a group


def test_exit_codes() -> None:
    """Every exit code has a line, and no other has."""
    table = page("commands.md").partition("## Exit codes")[2]

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}

    assert listed == {int(code) for code in Exit}


def test_error_codes() -> None:
    """Every error code has a line with exit code, cause and cure, and no unknown code has."""
    lines = re.findall(r"^\| `(\w+)` \| (\d+) \| ([^|]+) \| ([^|]+) \|$", page("errors.md"), re.M)

    listed = {code for code, *_ in lines}

    assert error_codes() <= listed
    assert listed - error_codes() == {"usage"}


def test_exit_code_of_each_error() -> None:
    """The exit code that errors.md gives is the one with which a command ends."""
    from limosa.cli.exits import exit_for

    lines = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page("errors.md"), re.M))
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.LimosaError):
            assert exit_for(each("it went wrong")) == int(lines[each.code]), each


def test_environment() -> None:
    """Every environment variable that the program reads is documented."""
    read = set()
    for file in SOURCES.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        read |= set(re.findall(r"environ(?:\.get\(|\[)\s*\"(\w+)\"", text))
        read |= set(re.findall(r"envvar=\"(\w+)\"", text))

    assert {"LIMOSA_SOURCE", "LIMOSA_TARGET", "LIMOSA_HOME"} <= read
    for variable in read - FOREIGN:
        assert f"`{variable}`" in page("settings.md"), variable


def test_status_fields() -> None:
    """Every field of `status --json` is documented."""
    from datetime import UTC, datetime

    from limosa.state import Migration, Totals
    from limosa.views.status import Status, status_body

    body = status_body(Status(Migration("m"), Totals(), datetime.now(UTC)))
    fields = [*body, *(field for part in body.values() if isinstance(part, dict) for field in part)]

    for field in fields:
        assert f"`{field}`" in section("status"), field
