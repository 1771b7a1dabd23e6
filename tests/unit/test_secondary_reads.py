"""The address of one member is that of the set, narrowed."""

from __future__ import annotations

import pytest

from limosa.connectors.mongodb.secondaries import at_member, reading_from
from limosa.settings import ReadFrom


@pytest.mark.parametrize(
    ("uri", "one"),
    [
        ("mongodb://a,b:2", "mongodb://c:3/?directConnection=true"),
        (
            "mongodb://u:p%40%2F@a,b/shop?replicaSet=r&ReadPreference=secondary&tls=true",
            "mongodb://u:p%40%2F@c:3/shop?tls=true&directConnection=true",
        ),
        (
            "mongodb://a/?readPreferenceTags=dc:x&readPreferenceTags=&authSource=admin",
            "mongodb://c:3/?authSource=admin&directConnection=true",
        ),
    ],
)
def test_one_member(uri: str, one: str) -> None:
    """Credentials and options stay, but for those that are about the set or a choice."""
    assert at_member(uri, "c:3") == one


@pytest.mark.parametrize(
    ("uri", "secondaries", "primary"),
    [
        (
            "mongodb://a,b",
            "mongodb://a,b/?readPreference=secondaryPreferred",
            "mongodb://a,b",
        ),
        (
            "mongodb://u:p%40%2F@a,b/shop?replicaSet=r&ReadPreference=nearest&maxStalenessSeconds=90",
            "mongodb://u:p%40%2F@a,b/shop?replicaSet=r&ReadPreference=nearest&maxStalenessSeconds=90",
            "mongodb://u:p%40%2F@a,b/shop?replicaSet=r",
        ),
        (
            "mongodb+srv://a.b.c/?readPreference=primary&readPreferenceTags=dc:x",
            "mongodb+srv://a.b.c/?readPreferenceTags=dc:x&readPreference=secondaryPreferred",
            "mongodb+srv://a.b.c/",
        ),
    ],
)
def test_read_from(uri: str, secondaries: str, primary: str) -> None:
    """Who is to be read from is said in the address; all else in it stays."""
    assert reading_from(uri, ReadFrom.SECONDARIES) == secondaries
    assert reading_from(uri, ReadFrom.PRIMARY) == primary
