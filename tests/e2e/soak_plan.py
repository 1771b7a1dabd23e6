"""What happens in a round of `tests/soak.py`: it follows from the round's seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from faults import SIDES
from pymongo import MongoClient

from limosa.limits import LimitChange

Client = MongoClient[dict[str, Any]]

#: What may happen, and how often compared with the others.
HAPPENINGS: dict[str, int] = {
    "limosa killed": 8,
    "limosa stopped": 2,
    "killed": 2,
    "restarted": 1,
    "stepped down": 2,
    "cursors killed": 2,
    "operations killed": 2,
    "sessions killed": 2,
    "cut towards server": 3,
    "cut towards client": 3,
    "muted": 1,
    "late": 2,
    "silent": 1,
    "slow": 1,
    "commands fail": 6,
    "index builds killed": 2,
    "paused": 2,
    "throttled": 2,
    "schema changed": 5,
    "taken away": 1,
}
#: Codes of errors that pass, and commands that may meet them.
PASSING = (6, 91, 112, 189, 262, 10107, 11600, 11602)
COMMANDS = {
    "source": ("find", "getMore", "aggregate", "ping", "listIndexes"),
    "target": (
        *("insert", "update", "delete", "commitTransaction", "find"),
        *("createIndexes", "collMod", "dropIndexes"),
    ),
}
#: A collection that is there from the beginning to the end: what is renamed has to be there.
STAYS = "main"
#: Of all rounds; these take twice as long.
_RETURNS = 0.12
#: What is asked for besides: nothing as often as everything else.
_BLOCKED = ("none", "none", "target", "both")
_CHOSEN: tuple[tuple[str, ...], ...] = (
    *((),) * 3,
    ("--rename", "shop=store", "--rename", "ledger=books"),
    ("--exclude", "ledger.book*"),
    ("--exclude", "ledger.book*", "--rename", "ledger=books"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens after a while."""

    after: float  # seconds
    what: str
    side: str
    number: int  # whatever `what` needs one for


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in one round."""

    seed: int
    documents: int
    rate: int  # writes a second
    workers: int
    slowed_by: int  # milliseconds of the target's commands
    steps: tuple[Step, ...]
    last_steps: tuple[Step, ...]  # once the commit has been asked for
    returns: bool  # after the commit all flows back, to another one
    blocked: str  # where others may not write
    chosen: tuple[str, ...]  # what is moved, under which names: options of the command line

    def includes(self, name: str) -> bool:
        """Whether the namespace of the source is moved."""
        return "--exclude" not in self.chosen or not name.startswith("ledger.book")

    def renamed(self, name: str) -> str:
        """Return what a namespace of the source is called on the target."""
        database, dot, collection = name.partition(".")
        for option in self.chosen:
            old, _, new = option.partition("=")
            if new and old == database:
                return new + dot + collection
        return name


def plan_for(seed: int) -> Plan:
    """Return the plan that belongs to *seed*."""
    dice = random.Random(seed)
    returns, chosen = dice.random() < _RETURNS, dice.choice(_CHOSEN)
    return Plan(
        seed,
        documents=dice.choice((200, 500, 1_500)),
        rate=dice.choice((20, 100, 300)),
        workers=dice.choice((1, 2, 4)),
        slowed_by=dice.choice((0, 10, 40)),
        steps=tuple(_step(dice) for _ in range(dice.randint(2, 6))),
        last_steps=tuple(_last_step(dice) for _ in range(dice.randint(0, 2))),
        returns=returns,
        blocked=dice.choice(_BLOCKED),
        # On the way back the application writes to the target, to what it calls its shop.
        chosen=() if returns and "shop=store" in chosen else chosen,
    )


def _step(dice: random.Random, *, spread: float = 0.5) -> Step:
    (what,) = dice.choices(tuple(HAPPENINGS), tuple(HAPPENINGS.values()))
    return Step(dice.uniform(0, spread), what, dice.choice(SIDES), dice.randrange(10**6))


def _last_step(dice: random.Random) -> Step:
    step = _step(dice, spread=0.15)
    # The source may not change any more.
    is_change = step.what in {"schema changed", "taken away"}
    return replace(step, what="limosa killed") if is_change else step


def limits_for(number: int) -> LimitChange:
    """Return limits that a round can live with."""
    dice = random.Random(number)
    if dice.random() < 0.3:
        return LimitChange(is_off=True)
    if dice.random() < 0.5:
        return LimitChange(load_level=dice.randint(2, 4))
    return LimitChange(documents_per_second=dice.choice((500, 2_000)))


def change_schema(source: Client, number: int) -> None:
    """Do one thing to collections or indexes of a database that nobody else writes to."""
    dice = random.Random(number)
    names = sorted(set(source.ledger.list_collection_names()) - {STAYS})
    name = dice.choice(names) if names else ""
    match dice.choice(("create", "create", "drop", "rename", "index", "write")) if name else "":
        case "drop":
            source.ledger.drop_collection(name)
        case "rename":
            source.ledger[name].rename(f"renamed{number}", dropTarget=True)
        case "index":
            source.ledger[name].create_index(f"field{number % 5}", unique=False)
        case "write":
            source.ledger[name].update_many({"_id": {"$lt": 50}}, {"$set": {"at": number}})
        case _:
            entries = source.ledger[f"book{number}"]
            entries.insert_many({"_id": i, "number": i} for i in range(number % 500 + 1))
            entries.create_index("number", unique=True)
