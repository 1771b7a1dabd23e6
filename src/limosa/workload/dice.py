"""Invented but plausible values, the same for the same seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from bson import Decimal128, ObjectId

#: Fixed, so that the same seed makes the same documents on every day.
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

#: Seconds from the Unix epoch to `BEGINNING`.
EPOCH = int(BEGINNING.timestamp())

FIRST_NAMES = (
    "Ada Aicha Björn Chiara Dmitri Eun-ji Fatima Grace Hồng Ingrid José Kofi Léa Mehmet "
    "Nadia Oğuz Priya Quentin Rosa Søren Tomás Uma Violeta Wanjiru Xin Yusuf Zoë"
)

LAST_NAMES = (
    "Abe Bakker Castillo Diallo Eriksen Fischer García Haddad Ivanov Jensen Kovács Lindqvist "
    "Moreau Nguyễn Okafor Papadopoulos Quispe Rossi Silva Tanaka Usman Vargas Wójcik Yılmaz"
)

CITIES = (
    ("Accra", -0.19, 5.56),
    ("Bogotá", -74.07, 4.71),
    ("Chiang Mai", 98.99, 18.79),
    ("Dunedin", 170.5, -45.87),
    ("Essen", 7.01, 51.46),
    ("Fukuoka", 130.4, 33.59),
    ("Göteborg", 11.97, 57.71),
    ("Halifax", -63.57, 44.65),
    ("Izmir", 27.14, 38.42),
    ("Jaipur", 75.79, 26.91),
)

WORDS = (
    "a about across after again air all along and as at autumn bay before below between bird "
    "bright by calm cloud coast cold crossing dark day distance drift dune early east estuary "
    "evening far feather few first flight flock from godwit grass gull harbour high horizon in "
    "island journey land late leave light long low marsh mist moon morning mud never night "
    "north ocean of on over pass path quiet rain reed rest return river sand sea season shore "
    "sky slow small south spring star still storm summer sun the tide to until warm water wave "
    "west wide wind wing winter with without year"
)


class Dice(random.Random):
    """A source of invented values."""

    def text(self, sentences: int) -> str:
        """Return so many sentences of about 60 characters."""
        pool = _sentences()
        start = int(self.random() * (len(pool) - sentences))
        return " ".join(pool[start : start + sentences])

    def name(self) -> str:
        """Return a person's first and last name."""
        first_names, last_names = _names()
        return f"{self.choice(first_names)} {self.choice(last_names)}"

    def amount(self, limit: int) -> Decimal128:
        """Return a sum of money below *limit*, with cents."""
        return self.choice(_amounts(limit))

    def moment(self) -> datetime:
        """Return a time in the 300 days before `BEGINNING`, to the millisecond."""
        return BEGINNING - timedelta(milliseconds=int(self.random() * 300 * 86_400_000))

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to *limit* - 1, faster than ``randrange``."""
        return int(self.random() * limit)

    def point(self) -> dict[str, Any]:
        """Return a GeoJSON point near some city."""
        _, longitude, latitude = self.choice(CITIES)
        return {
            "type": "Point",
            "coordinates": [longitude + self.random() / 5, latitude + self.random() / 5],
        }

    def address(self) -> dict[str, Any]:
        """Return a postal address."""
        return {
            "street": f"{self.choice(_names()[1])} Street {self.below(300)}",
            "postcode": f"{self.below(100_000):05}",
            "city": self.choice(CITIES)[0],
        }


def object_id(number: int) -> ObjectId:
    """Return the one ObjectId for *number*, rising with it like those of a driver."""
    return ObjectId((EPOCH + number // 100 % 2**28).to_bytes(4, "big") + number.to_bytes(8, "big"))


@cache
def _sentences() -> tuple[str, ...]:
    dice = random.Random("sentences")  # noqa: S311 - not a secret

    words = WORDS.split()

    def sentence() -> str:
        return " ".join(dice.choices(words, k=dice.randint(8, 14))).capitalize() + "."

    return tuple(sentence() for _ in range(2_000))


@cache
def _names() -> tuple[list[str], list[str]]:
    return FIRST_NAMES.split(), LAST_NAMES.split()


@cache
def _amounts(limit: int) -> tuple[Decimal128, ...]:
    # Made in advance: a Decimal128 takes as long as all the rest of a document.
    dice = random.Random(limit)  # noqa: S311 - not a secret
    cents = (dice.randrange(limit * 100) for _ in range(1_000))
    return tuple(Decimal128(f"{c // 100}.{c % 100:02}") for c in cents)
