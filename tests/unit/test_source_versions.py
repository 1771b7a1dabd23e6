"""Which servers can be followed, by what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from limosa.connectors.mongodb.source import unsupported

MEMBER: dict[str, Any] = {"setName": "rs0", "isWritablePrimary": True, "maxWireVersion": 17}
ROUTER: dict[str, Any] = {"msg": "isdbgrid", "isWritablePrimary": True, "maxWireVersion": 17}
ALONE: dict[str, Any] = {"isWritablePrimary": True, "maxWireVersion": 17}


def build(version: str) -> dict[str, Any]:
    """Return what ``buildInfo`` answers, as far as it is looked at."""
    parts = [int(part.partition("-")[0]) for part in version.split(".")]
    return {"version": version, "versionArray": [*parts, 0], "ok": 1.0}


@pytest.mark.parametrize(
    ("hello", "version", "level"),
    [
        (MEMBER, "6.0.0", "6.0"),
        (MEMBER, "6.0.5", ""),  # not allowed to ask
        (MEMBER, "7.0.14", "6.0"),  # after an upgrade
        (MEMBER, "8.0.4", "8.0"),
        (MEMBER, "10.0.1", "10.0"),
        (ROUTER, "6.0.5", ""),
    ],
)
def test_supported(hello: Mapping[str, Any], version: str, level: str) -> None:
    """A replica set or a cluster that says all that is needed is followed."""
    assert unsupported(hello, build(version), level) == ""


@pytest.mark.parametrize(
    ("hello", "version", "level", "named"),
    [
        (ALONE, "6.0.5", "6.0", "standalone"),
        (MEMBER, "4.4.29", "4.4", "version 4.4.29"),
        (MEMBER, "5.0.31", "5.0", "version 5.0.31"),
        (MEMBER, "5.3.2-rc1", "5.3", "version 5.3.2"),
        (MEMBER, "6.0.5", "5.0", "compatibility version 5.0"),
        (ROUTER, "5.0.31", "", "version 5.0.31"),
    ],
)
def test_refused(hello: Mapping[str, Any], version: str, level: str, named: str) -> None:
    """One that leaves changes unsaid is refused before anything is copied, and it is said why."""
    assert named in unsupported(hello, build(version), level)
