"""The house keeps its order: imports point down, and nothing grows too large."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "limosa"

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

#: Names that say nothing about what is inside.
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "handler"}

#: Each module of the package by its first name; those of one layer may import each other,
#: except for plug-ins, which know only themselves.
LAYERS = {
    "values": {
        "model",
        "errors",
        "state",
        "namespaces",
        "renames",
        "shard_keys",
        "document_filters",
        "settings",
        "canonical",
        "slices",
        "sizing",
        "history",
        "limits",
        "steps",
    },
    "contracts": {"capabilities", "connector", "events", "storage", "executors"},
    "work": {
        "plan",
        "attempts",
        "collection_copy",
        "change_capture",
        "change_application",
        "comparison",
        "constraints",
        "cutover",
        "definitions",
        "index_build",
        "pacing",
        "other_writers",
        "portions",
        "registry",
        "regulation",
        "reversal",
        "schema_changes",
        "verification",
        "work",
        "write_blocking",
    },
    "drive": {"allocation", "engine", "recording", "steering", "supervisor", "tallies", "timing"},
    "edges": {
        "run",
        "server",
        "client",
        "cli",
        "config",
        "catalog",
        "ends",
        "releasing",
        "migrations",
        "otlp",
        "package",
        "pings",
        "process",
    },
    "views": {"views"},
    "plug-ins": {"connectors/*", "storage/*", "executors/*"},
    "companions": {"sideload", "workload", "embedded", "testing"},
}
MAY_IMPORT = {
    "values": {"values"},
    "contracts": {"values", "contracts"},
    "work": {"values", "contracts", "work"},
    "drive": {"values", "contracts", "work", "drive"},
    "edges": {"values", "contracts", "work", "drive", "edges", "views", "plug-ins", "companions"},
    "views": {"values", "contracts", "views"},
    "plug-ins": {"values", "contracts"},
    "companions": {"values", "contracts", "work", "drive", "edges", "plug-ins", "companions"},
}
#: Edges that put a migration together choose its storage and executor; connectors are found
#: by entry point. Only a person at the command line needs demonstrations.
MAY_IMPORT_PLUG_INS = {"migrations", "catalog"}
MAY_IMPORT_COMPANIONS = {"cli"}
MAY_IMPORT_EVENTS_ONLY = {"views"}  # of the contracts

FILES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """``limosa.storage.sqlite`` for its file."""
    return ".".join(["limosa", *path.relative_to(ROOT).with_suffix("").parts])


def unit_of(module: str) -> str:
    """``model``, ``connectors/mongodb``, ``storage/*`` …: the smallest thing the rules name."""
    parts = [part for part in module.split(".")[1:] if part != "__init__"]
    if not parts or parts == ["__main__"]:
        return "package"
    if parts[0] == "connectors" and len(parts) > 1:
        return "/".join(parts[:2])
    if parts[0] in {"storage", "executors"} and len(parts) > 1:
        return f"{parts[0]}/*"  # the parts of one kind of storage may share code
    return parts[0]


def layer_of(unit: str) -> str:
    if "/" in unit or unit == "connectors":
        return "plug-ins"
    found = [layer for layer, units in LAYERS.items() if unit in units]
    assert found, f"{unit} belongs to no layer: add it to tests/test_layers.py and DESIGN.md"
    return found[0]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import of our own, those within functions and for types included."""
    package = name_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if is_ours(a.name))
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            if is_ours(module):
                for alias in node.names:
                    whole = f"{module}.{alias.name}"
                    yield node.lineno, whole if is_module(whole) else module


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "limosa"


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def is_allowed(importer: str, imported: str) -> bool:
    ours, theirs = layer_of(importer), layer_of(imported)
    if importer == imported:
        return True
    if importer == "package":
        return theirs in {"values", "contracts"} or imported in {"cli", "migrations"}
    if theirs == "plug-ins" and ours == "edges":
        return importer in MAY_IMPORT_PLUG_INS and not imported.startswith("connectors")
    if theirs == "companions" and ours == "edges":
        return importer in MAY_IMPORT_COMPANIONS
    if theirs == "contracts" and importer in MAY_IMPORT_EVENTS_ONLY:
        return imported == "events"
    return theirs in MAY_IMPORT[ours]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """No module imports from a layer above it, and no plug-in from another."""
    importer = unit_of(name_of(path))

    wrong = [
        f"{path}:{line}: {importer} ({layer_of(importer)}) imports {module}"
        for line, module in imports_of(path)
        if not is_allowed(importer, unit_of(module))
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("model", "connector"),
        ("plan", "engine"),
        ("engine", "migrations"),
        ("engine", "storage/*"),
        ("connectors/mongodb", "connectors/memory"),
        ("connectors/mongodb", "engine"),
        ("storage/*", "executors/*"),
        ("views", "connector"),
        ("cli", "storage/*"),
        ("catalog", "connectors/mongodb"),
        ("catalog", "testing"),
    ],
)
def test_arrows_that_point_up(importer: str, imported: str) -> None:
    """The rules forbid what the design forbids."""
    assert not is_allowed(importer, imported)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_size(path: Path) -> None:
    """Files and functions stay small enough to be read."""
    source = path.read_text()

    large = [
        f"{path}:{node.lineno}: {node.name} has {length} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]

    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert large == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_names(path: Path) -> None:
    """A module is named for what is inside."""
    parts = {
        word for part in path.relative_to(ROOT).with_suffix("").parts for word in part.split("_")
    }

    assert not parts & FORBIDDEN_NAMES


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_has_no_module_level_mutable_state(path: Path) -> None:
    """No module holds a list, dictionary or set that its functions change."""
    changed = {
        node.value.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store | ast.Del)
        and isinstance(node.value, ast.Name)
        and node.value.id.isupper()
    }
    declared = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Global)]

    assert not changed
    assert not declared
