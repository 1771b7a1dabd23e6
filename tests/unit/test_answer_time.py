"""How long an answer of a server may take."""

from __future__ import annotations

import pytest

from limosa.connectors.mongodb.clients import answer_ms


@pytest.mark.parametrize(
    ("options", "milliseconds"),
    [("", 300_000), ("socketTimeoutMS=2500", 2_500), ("socketTimeoutMS=0", 0)],
)
def test_answer_ms(options: str, milliseconds: float) -> None:
    """A connection that never answers is given up after five minutes, or when the URI says."""
    assert answer_ms(f"mongodb://host/?{options}") == milliseconds
