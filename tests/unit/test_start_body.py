"""What the body of a start asks of a migration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limosa.server.start_body import start_of
from limosa.settings import Existing, IndexMode

ENDS = {"source": "cluster1", "destination": "cluster0"}


def launch(**fields: Any) -> Any:
    return start_of(json.dumps({**ENDS, **fields}).encode())


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, IndexMode.AFTER),
        *(({"buildIndexes": mode.value}, mode) for mode in IndexMode),
    ],
)
def test_index_modes(given: dict[str, str], mode: IndexMode) -> None:
    """Each of mongosync's index modes is one of ours."""
    assert launch(**given).settings.indexes is mode


def test_index_modes_with_a_way_back() -> None:
    """Indexes that are left out on a hash do not stand in the way of a reversal."""
    assert launch(buildIndexes="excludeHashed", reversible=True).settings.reversible


@pytest.mark.parametrize("given", [False, True])
def test_target_with_data(given: bool) -> None:
    """Beside data of others a migration works less hard, and blocks nobody by itself."""
    found = launch(preExistingDestinationData=given)

    assert found.settings.existing is (Existing.KEEP if given else Existing.REFUSE)
    assert found.options.get("limits") == ({"loadLevel": 2} if given else None)
    assert found.options["block_target_if_possible"] is not given


@pytest.mark.parametrize("given", [False, True])
def test_disk_check(given: bool) -> None:
    """The disk is looked at unless that is not wanted."""
    assert launch(skipDiskSpaceCheck=given).options["check_disk"] is not given


def test_ends() -> None:
    """Either cluster may be the source."""
    assert (launch().source, launch().target) == ("cluster1", "cluster0")
