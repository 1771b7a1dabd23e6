"""The pages lead somewhere: links to places that are there, command lines to options that are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from limosa.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def links(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    yield from re.findall(r"\]\(((?!https?://|mailto:)[^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Return what headings are known by, made as the usual viewers make it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links(page: Path) -> None:
    """Every link within the repository leads to a file, and to a heading in it if it names one."""
    dead = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(link)

    assert dead == []


def test_every_page_is_linked() -> None:
    """Every page of the docs can be reached from another one."""
    reached = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in links(page)
        if not link.startswith("#") and (page.parent / link.partition("#")[0]).resolve() != page
    }

    assert {page for page in PAGES if page.parent.name == "docs"} <= reached


def command_lines(page: Path) -> Iterator[str]:
    """Yield what a page has people type, comments left out."""
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"^(?: {4,}|\$ )?(limosa [a-z].*)$|`(limosa [a-z][^`]*)`", text, re.M):
        yield re.sub(r"\s+#.*", "", line[0] or line[1])


def known() -> dict[str, set[str]]:
    """Return the options of each command."""
    group = typer.main.get_command(app)
    return {
        name: {"--help", "-h"}.union(*((*p.opts, *p.secondary_opts) for p in command.params))
        for name, command in group.commands.items()  # type: ignore[attr-defined] # a group
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_command_lines(page: Path) -> None:
    """Every command line that a page shows has a command and options that there are."""
    commands = known()
    wrong = []
    for line in command_lines(page):
        words = line.split()
        options = {w.partition("=")[0].strip("[],") for w in words[2:] if w.startswith("-")}
        names = {o for each in options for o in each.split("/") if re.match(r"--?[a-z]", o)}
        for name in words[1].split("|"):
            if name not in commands or not names <= commands[name]:
                wrong.append(line)

    assert wrong == []
