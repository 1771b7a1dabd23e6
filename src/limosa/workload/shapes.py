"""The collections of the invented company: their documents, options, indexes and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from bson import Binary, Int64
from pymongo import ASCENDING, DESCENDING, GEOSPHERE, HASHED, TEXT, IndexModel
from pymongo.collation import Collation, CollationStrength

from ..model import Namespace
from .dice import BEGINNING, Dice, object_id
from .ids import every_kind

Fields: TypeAlias = dict[str, Any]

TEN_YEARS = int(timedelta(days=3650).total_seconds())

#: Bytes; more than the demo ever writes, so that nothing falls out at either end.
CAPPED_SIZE = 512 * 1024 * 1024

CASE_INSENSITIVE = Collation(locale="en", strength=CollationStrength.SECONDARY)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One collection."""

    namespace: Namespace
    share: float  # of all documents
    #: The document with this number; no two numbers make the same key.
    document: Callable[[Dice, int], Fields]
    #: An update that an application would make; None if it only ever inserts.
    change: Callable[[Dice], Fields] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    indexes: tuple[IndexModel, ...] = ()


def _order(dice: Dice, number: int) -> Fields:
    order = {
        "_id": object_id(number),
        "number": Int64(number),
        "customer": f"c{dice.below(20_000):06}",
        "status": dice.choice(("open", "paid", "sent", "returned")),
        "placed": dice.moment(),
        "total": dice.amount(2_000),
        "currency": dice.choice(("EUR", "GHS", "JPY", "NZD")),
        "items": [_item(dice) for _ in range(1 + dice.below(4))],
        "shipping": dice.address(),
        "express": dice.random() < 0.2,
    }
    if dice.random() < 0.5:
        order["note"] = dice.text(1 + dice.below(4))
    return order


def _item(dice: Dice) -> Fields:
    return {
        "sku": f"sku-{dice.below(8_000):05}",
        "quantity": 1 + dice.below(9),
        "price": dice.amount(300),
        "weight": round(dice.random() * 20, 3),
    }


def _customer(dice: Dice, number: int) -> Fields:
    name = dice.name()
    customer = {
        "_id": f"c{number:06}",
        "name": name,
        "email": f"{name.split()[0].lower()}.{number}@example.org",
        "address": dice.address(),
        "location": dice.point(),
        "joined": dice.moment(),
        "points": Int64(dice.below(10**12)),
        "newsletter": None if dice.random() < 0.1 else dice.random() < 0.5,
        "attributes": {f"a{dice.below(40)}": dice.below(100), "language": "en"},
        "about": dice.text(2 + dice.below(4)),
    }
    if dice.random() < 0.3:
        customer["loyaltyCard"] = dice.below(10**9)
    return customer


def _product(dice: Dice, number: int) -> Fields:
    return {
        "_id": f"sku-{number:05}",
        "name": dice.text(1)[:40],
        "description": dice.text(3),
        "price": dice.amount(300),
        "stock": dice.below(1_000),
        "dimensions": [round(dice.random() * 200, 1) for _ in range(3)],
        "categories": dice.sample(("garden", "kitchen", "outdoor", "books", "sale"), k=2),
        "thumbnail": Binary(dice.randbytes(160)),
    }


def _message(dice: Dice, number: int) -> Fields:
    return {
        "_id": object_id(number),
        "room": dice.below(500),
        "sender": f"u{dice.below(10_000)}",
        "sent": dice.moment(),
        "text": dice.text(1 + dice.below(12)),
        "reactions": {"👍": dice.below(5), "🦢": dice.below(3)},
        "edited": None,
        "read": [dice.below(10_000) for _ in range(dice.below(6))],
    }


def _user(dice: Dice, number: int) -> Fields:
    name = dice.name()
    return {
        # Mixed case under a collation that ignores it: keys sort unlike their bytes.
        "_id": f"{name.swapcase() if number % 2 else name}-{number}",
        "nick": f"{name.split()[0]}{number}",
        "status": dice.text(1),
        "since": dice.moment(),
        "settings": {"theme": dice.choice(("dark", "light")), "sounds": dice.random() < 0.5},
        "devices": [{"id": Binary(dice.randbytes(16)), "seen": dice.moment()}],
        "motto": dice.text(4),
    }


def _sample(dice: Dice, number: int) -> Fields:
    return {
        "_id": {"sensor": f"s{number % 200}", "number": Int64(number)},
        "sensor": f"s{number % 200}",
        "at": dice.moment(),
        "values": [dice.gauss(20, 5) for _ in range(24)],
        "unit": "°C",
        "calibrated": dice.random() < 0.9,
        "comment": dice.text(1),
    }


def _event(dice: Dice, number: int) -> Fields:
    return {
        "_id": object_id(number),
        "device": dice.below(5_000),
        "kind": dice.choice(("boot", "heartbeat", "alarm", "update")),
        "payload": Binary(dice.randbytes(120)),
        "battery": dice.random(),
        "firmware": {"version": [1, dice.below(9), dice.below(99)], "channel": "stable"},
        "message": dice.text(3),
    }


def _log(dice: Dice, number: int) -> Fields:
    return {
        "_id": object_id(number),
        "at": BEGINNING + timedelta(milliseconds=number % 2**40),
        "level": dice.choice(("debug", "info", "info", "info", "warning", "error")),
        "host": f"web-{dice.below(30):02}",
        "took": dice.random() * 3,
        "message": dice.text(2 + dice.below(5)),
    }


def _record(dice: Dice, number: int) -> Fields:
    return {
        "_id": every_kind(number),
        "number": number,
        "title": dice.text(1),
        "body": dice.text(4),
        "revision": 0,
    }


def _counter(dice: Dice, number: int) -> Fields:
    return {"_id": f"counter-{number}", "count": Int64(0), "about": dice.text(4)}


def count_up(dice: Dice) -> Fields:
    """Return the update that hot documents get over and over."""
    return {"$inc": {"count": 1}, "$set": {"at": dice.moment()}}


PRODUCT_SCHEMA = {
    "bsonType": "object",
    "required": ["name", "price", "stock"],
    "properties": {
        "name": {"bsonType": "string"},
        "price": {"bsonType": "decimal"},
        "stock": {"bsonType": "int", "minimum": 0},
    },
}

ORDERS = Shape(
    Namespace("shop", "orders"),
    0.26,
    _order,
    lambda dice: {
        "$set": {"status": "sent", "total": dice.amount(2_000)},
        "$push": {"items": {"$each": [_item(dice)], "$slice": -6}},
    },
    indexes=(
        IndexModel([("customer", ASCENDING), ("placed", DESCENDING)]),
        IndexModel("number", unique=True),
        IndexModel("items.sku"),
        IndexModel("total", partialFilterExpression={"status": "open"}),
        IndexModel("currency", hidden=True),
    ),
)

#: Documents of `COUNTERS`.
HOT_DOCUMENTS = 8

COUNTERS = Shape(Namespace("shop", "counters"), 0.0, _counter, count_up)

RECORDS = Shape(
    Namespace("archive", "records"),
    0.02,
    _record,
    lambda dice: {"$inc": {"revision": 1}, "$set": {"body": dice.text(5)}},
    indexes=(IndexModel([("number", DESCENDING)]),),
)

SHAPES: tuple[Shape, ...] = (
    ORDERS,
    Shape(
        Namespace("shop", "customers"),
        0.1,
        _customer,
        lambda dice: {"$set": {"address": dice.address()}, "$unset": {"loyaltyCard": ""}},
        indexes=(
            IndexModel("email", unique=True),
            IndexModel([("location", GEOSPHERE)]),
            IndexModel("loyaltyCard", sparse=True),
            IndexModel("attributes.$**"),
        ),
    ),
    Shape(
        Namespace("shop", "products"),
        0.04,
        _product,
        lambda dice: {"$set": {"stock": dice.below(1_000), "price": dice.amount(300)}},
        options={"validator": {"$jsonSchema": PRODUCT_SCHEMA}},
        indexes=(
            IndexModel([("name", TEXT), ("description", TEXT)], weights={"name": 10}),
            IndexModel([("categories", ASCENDING), ("stock", ASCENDING)]),
        ),
    ),
    COUNTERS,
    Shape(
        Namespace("chat", "messages"),
        0.24,
        _message,
        lambda dice: {"$set": {"edited": dice.moment(), "text": dice.text(1 + dice.below(7))}},
        indexes=(
            IndexModel([("room", ASCENDING), ("sent", ASCENDING)]),
            IndexModel("sent", expireAfterSeconds=TEN_YEARS),
        ),
    ),
    Shape(
        Namespace("chat", "users"),
        0.05,
        _user,
        lambda dice: {"$set": {"status": dice.text(1), "settings.theme": "dark"}},
        options={"collation": CASE_INSENSITIVE},
        indexes=(
            IndexModel("nick", unique=True),
            IndexModel("motto", name="motto_exact", collation=Collation(locale="simple")),
        ),
    ),
    Shape(
        Namespace("metrics", "samples"),
        0.14,
        _sample,
        lambda dice: {"$push": {"values": {"$each": [dice.gauss(20, 5)], "$slice": -24}}},
        indexes=(IndexModel([("sensor", HASHED)]), IndexModel("at")),
    ),
    Shape(
        Namespace("iot", "events"),
        0.1,
        _event,
        lambda dice: {"$set": {"battery": dice.random(), "seen": dice.moment()}},
        options={"clusteredIndex": {"key": {"_id": 1}, "unique": True, "name": "by id"}},
        indexes=(IndexModel([("device", ASCENDING), ("kind", ASCENDING)]),),
    ),
    Shape(
        Namespace("logs", "recent"),
        0.05,
        _log,
        options={"capped": True, "size": CAPPED_SIZE},
        indexes=(IndexModel("at"),),
    ),
    Shape(Namespace("logs", "archived"), 0.0, _log, indexes=(IndexModel("host"),)),
    RECORDS,
)
