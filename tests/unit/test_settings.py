"""Settings come back from the state as they were, and can be read the other way round."""

from __future__ import annotations

import json

import bson
import pytest

from limosa.model import Collection, Namespace
from limosa.settings import Existing, Settings

PEOPLE = Namespace("shop", "people")
CLIENTS = Namespace("store", "clients")
SETTINGS = Settings.of(
    include=["/^shop/i", "crm.a*"],
    exclude=["shop.tmp_*"],
    renames=["shop=store", "shop.people=store.clients"],
    filters=['shop.people={"at": {"$gt": {"$date": "2025-01-01T00:00:00Z"}}}', '{"a": 1}'],
    existing="refuse",
    verify=False,
)


@pytest.mark.parametrize("settings", [Settings(), SETTINGS])
def test_stored(settings: Settings) -> None:
    """What the state keeps is JSON, and says all that was asked for."""
    stored = json.loads(json.dumps(settings.stored()))

    restored = Settings.restored(stored)

    assert restored.stored() == settings.stored()
    assert restored.existing is settings.existing
    for namespace in (PEOPLE, Namespace("crm", "x"), Namespace("shop", "tmp_1")):
        assert restored.includes(namespace) == settings.includes(namespace)
        assert restored.target_of(namespace) == settings.target_of(namespace)


def test_order_does_not_matter() -> None:
    """The same rules in another order are the same settings."""
    one = Settings.of(include=["a", "b"], renames=["a=x", "b=y"], filters=["a={}", "b={}"])
    other = Settings.of(include=["b", "a"], renames=["b=y", "a=x"], filters=["b={}", "a={}"])

    assert one.stored() == other.stored()


def test_old_states() -> None:
    """A state that knows nothing of a setting has its default."""
    restored = Settings.restored({"include": ["shop"]})

    assert restored.existing is Existing.KEEP
    assert restored.target_of(PEOPLE) == PEOPLE
    assert restored.read_of(Collection(PEOPLE)).where is None


def test_there() -> None:
    """On the way there names are the source's; what is read is narrowed, the target is not."""
    assert SETTINGS.includes(PEOPLE)
    assert SETTINGS.target_of(PEOPLE) == CLIENTS
    where = SETTINGS.read_of(Collection(PEOPLE, "1")).where
    assert where is not None
    assert list(bson.decode(where)) == ["$and"]
    assert SETTINGS.compared_with(CLIENTS).where is None


def test_and_back() -> None:
    """On the way back names are the target's; all is read, what was left behind is not compared."""
    back = SETTINGS.way_back()

    assert back.includes(CLIENTS)
    assert not back.includes(Namespace("store", "tmp_1"))
    assert back.target_of(CLIENTS) == PEOPLE
    assert back.target_of(Namespace("store", "orders")) == Namespace("shop", "orders")
    assert back.read_of(Collection(CLIENTS, "1")).where is None
    assert back.compared_with(PEOPLE).where == SETTINGS.read_of(Collection(PEOPLE)).where
    assert back.way_back() == SETTINGS
