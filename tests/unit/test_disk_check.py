"""How much room a start wants on the target."""

from __future__ import annotations

import pytest

from limosa.process import has_room


@pytest.mark.parametrize(
    ("needed", "free", "is_enough"),
    [(100, 125, True), (100, 124, False), (0, 0, True), (4, 5, True), (4, 4, False)],
)
def test_share(needed: int, free: int, is_enough: bool) -> None:
    """A quarter more than what is to be copied has to be free."""
    assert has_room({"needed": needed, "free": free}) is is_enough


def test_unknown() -> None:
    """A disk that cannot be measured keeps nobody from starting."""
    assert has_room({})
