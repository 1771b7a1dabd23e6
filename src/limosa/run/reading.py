"""YAML with the place of everything in it, and ``${NAME}`` from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import PlanInvalid

#: ``$${`` stands for ``${``; ``${NAME}`` must be set, ``${NAME:-else}`` need not.
_VARIABLE = re.compile(r"\$(\$)?\{([^}]*)\}")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

#: A path in the file: names of fields and numbers of items.
At = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at one place of the file."""

    at: At
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """What a plan file says, and where."""

    path: Path
    body: Any  # of ruamel.yaml, which knows lines and columns
    #: Values that came from the environment; some of them are secrets.
    values: frozenset[str] = field(default_factory=frozenset, repr=False)
    #: Variables that cannot be replaced; what else is wrong is to be told along with them.
    faults: tuple[Fault, ...] = ()

    def refusal(self, faults: Iterable[Fault]) -> PlanInvalid:
        """Return the error about *faults*, each with line and column, in order of the file."""
        placed = sorted((self._place(f.at), _named(f.at) + f.message) for f in faults)
        lines = [f"{self.path}:{line}:{column}: {text}" for (line, column), text in placed]
        return PlanInvalid("\n".join(lines))

    def _place(self, at: At) -> tuple[int, int]:
        """Return line and column of *at*, from 1; of what holds it, if it is not there."""
        node, place = self.body, (1, 1)
        for part in at:
            found = _position(node, part)
            if found is None:
                break
            place = found
            node = node[part]
        return place


def read(path: Path, environment: Mapping[str, str]) -> Source:
    """
    Return what *path* says, with variables replaced by what *environment* holds.

    Raises:
        PlanInvalid: it cannot be read, or is no YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        body = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "expected UTF-8"
        msg = f"read the plan file {str(path)!r}: {reason}"
        raise PlanInvalid(msg) from exc
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        # A field that is there twice is quoted with its values, which may be secrets.
        problem = str(exc.problem or exc.context or "expected YAML").partition(" with value")[0]
        msg = f"{path}{place}: {problem}"
        raise PlanInvalid(msg) from exc
    except YAMLError as exc:
        msg = f"{path}: expected YAML"
        raise PlanInvalid(msg) from exc
    if not isinstance(body, Mapping):
        msg = f"{path}:1:1: expected fields such as `source` and `target`"
        raise PlanInvalid(msg)
    faults: list[Fault] = []
    values: set[str] = set()
    _interpolate(body, environment, (), faults, values)
    return Source(path, body, frozenset(values), tuple(faults))


def _interpolate(
    node: Any,
    environment: Mapping[str, str],
    at: At,
    faults: list[Fault],
    values: set[str],
) -> None:
    """Replace variables in all strings below *node*, which keeps the places of the rest."""
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(node, Mapping):
        items = list(node.items())
    elif isinstance(node, Sequence) and not isinstance(node, str):
        items = list(enumerate(node))
    for key, value in items:
        if not isinstance(value, str):
            _interpolate(value, environment, (*at, key), faults, values)
            continue
        try:
            text = _filled(value, environment, values)
        except ValueError as exc:
            faults.append(Fault((*at, key), str(exc)))
            continue
        if text != value:
            node[key] = text


def _filled(text: str, environment: Mapping[str, str], values: set[str]) -> str:
    def value(found: re.Match[str]) -> str:
        escaped, inside = found.groups()
        if escaped:
            return "${" + inside + "}"
        named = _NAME.fullmatch(inside)
        if named is None:
            msg = "expected the name of a variable between ${ and }; `$${` stands for `${`"
            raise ValueError(msg)
        name, otherwise = named.groups()
        if name in environment:
            values.add(environment[name])
            return environment[name]
        if otherwise is None:
            msg = f"the environment variable {name} is not set"
            raise ValueError(msg)
        return str(otherwise)

    return _VARIABLE.sub(value, text)


def _position(node: Any, part: str | int) -> tuple[int, int] | None:
    places = getattr(node, "lc", None)
    data = getattr(places, "data", None) or {}
    if part not in data:
        return None
    line, column = data[part][:2]
    return int(line) + 1, int(column) + 1


def _named(at: At) -> str:
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return f"{text}: " if text else ""
