"""Filters, other names and a target that is not empty, together and under live writes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS
from in_process import Running
from judge import described
from program import limosa
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from limosa.errors import BadFilter, NamespaceNotFound, RenameConflict, TargetNotEmpty
from limosa.events import Warned
from limosa.settings import Settings
from limosa.state import State

Client = MongoClient[dict[str, Any]]

#: Documents; where the copy is to be held within a collection, more than one batch of eu.
PEOPLE = {"copy": 11_000}
FEW_PEOPLE = 400
REGIONS = ("eu", "us")
TEN_YEARS = 315_360_000
#: Writes of the traffic at most, should nobody stop it.
MOST_WRITES = 20_000

SETTINGS = Settings.of(
    include=["/^SHOP$/i", "crm", "bank*"],
    exclude=["shop.tmp_*", "crm./^secret/"],
    renames=["shop=store", "crm.people=store.clients", "bank_a=bank_b", "bank_b=bank_a"],
    filters=['shop.people={"region": "eu"}', 'crm={"active": {"$ne": false}}'],
)


def place_of(name: str) -> str | None:
    """Say where a namespace of the source belongs on the target: the settings in other words."""
    database, _, collection = name.partition(".")
    if name == "crm.people":
        return "store.clients"
    if database == "shop" and not collection.startswith("tmp_"):
        return f"store.{collection}"
    if database == "crm" and not collection.startswith("secret"):
        return name
    swapped = {"bank_a": "bank_b", "bank_b": "bank_a"}
    return f"{swapped[database]}.{collection}" if database in swapped else None


def is_meant(name: str, document: dict[str, Any]) -> bool:
    """Say whether a document belongs on the target: the settings in other words."""
    if name == "shop.people":
        return document.get("region") == "eu"
    if name.startswith("crm."):
        return document.get("active") is not False
    return True


class Traffic:
    """Inserts, updates and deletes at random, into and out of the filters, until stopped."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self.writes = 0

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return when the last write is acknowledged; raise what went wrong."""
        self._stopping.set()
        self._thread.join(60)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        dice = random.Random(7)
        try:
            with MongoClient[dict[str, Any]](self._uri) as client:
                while self.writes < MOST_WRITES and not self._stopping.wait(0.002):
                    self._write(client, dice)
                    self.writes += 1
        except BaseException as error:
            self.error = error

    def _write(self, client: Client, dice: random.Random) -> None:
        collection = dice.choice((client.shop.people, client.crm.people, client.bank_a.money))
        key = {"_id": dice.randrange(FEW_PEOPLE)}
        values = {"region": dice.choice(REGIONS), "active": dice.random() < 0.5}
        choice = dice.random()
        try:
            if choice < 0.15:
                collection.delete_one(key)
            elif choice < 0.3:
                collection.replace_one(key, values, upsert=True)
            else:
                collection.update_one(key, {"$set": values, "$inc": {"touched": 1}})
        except OperationFailure as error:
            if error.code not in {11000, 215, 276, 12587}:  # the collection changes at this moment
                raise


def move_across(source: Client) -> None:
    """Move many documents into and out of the filters, some of them there and back."""
    for collection in (source.shop.people, source.crm.people):
        away, there = {"region": "us", "active": False}, {"region": "eu", "active": True}
        collection.update_many({"_id": {"$mod": [7, 0]}}, {"$set": away})
        collection.update_many({"_id": {"$mod": [7, 1]}}, {"$set": there})
        collection.update_many({"_id": {"$mod": [7, 0], "$lt": 100}}, {"$set": there})
        collection.update_many({"_id": {"$mod": [7, 2]}}, {"$unset": {"region": 1, "active": 1}})
    late = source.shop.people.count_documents({})
    source.shop.people.insert_many(
        {"_id": f"late {late + i}", "region": REGIONS[i % 2]} for i in range(9)
    )
    source.shop.people.delete_many({"_id": {"$mod": [11, 5]}})


def create_and_drop(source: Client) -> None:
    source.shop.fresh.insert_many({"_id": i} for i in range(10))
    source.shop.tmp_fresh.insert_one({"_id": 1})
    source.crm.create_collection("ledger", capped=True, size=65_536)
    source.crm.ledger.insert_many({"_id": i, "active": i % 2 == 0} for i in range(10))
    source.shop.people.create_index("region", partialFilterExpression={"region": "eu"})
    source.crm.people.create_index("touched", name="by touch")
    source.crm.people.drop_index("active_1")
    source.shop.orders.drop()
    source.bank_b.money.drop()


def rename_to_another_filter(source: Client) -> None:
    source.shop.people.rename("persons")  # all of them are migrated from now on
    source.shop.orders.rename("people", dropTarget=True)  # of these only some


def rename_across_rules(source: Client) -> None:
    source.admin.command("renameCollection", "crm.people", to="crm.others")
    source.admin.command("renameCollection", "bank_a.money", to="bank_b.money", dropTarget=True)
    source.admin.command("renameCollection", "shop.orders", to="crm.people", dropTarget=True)


def rename_in_and_out(source: Client) -> None:
    source.shop.tmp_kept.rename("kept")
    source.shop.orders.rename("tmp_orders")
    source.admin.command("renameCollection", "attic.box", to="shop.box")
    source.admin.command("renameCollection", "crm.people", to="attic.people")


def swap(source: Client) -> None:
    source.shop.people.rename("between")
    source.shop.orders.rename("people", dropTarget=True)
    source.shop.between.rename("orders")


def write_by_aggregation(source: Client) -> None:
    stages: list[dict[str, Any]] = [{"$match": {"_id": {"$type": "number", "$lt": 90}}}]
    source.shop.orders.aggregate([*stages, {"$out": {"db": "crm", "coll": "people"}}])
    source.crm.people.aggregate([*stages, {"$out": {"db": "shop", "coll": "made"}}])
    source.crm.secrets.aggregate([*stages, {"$merge": {"into": {"db": "shop", "coll": "people"}}}])


def drop_databases(source: Client) -> None:
    source.drop_database("shop")
    source.drop_database("bank_a")
    for i in range(20):  # beside others, who may make the same ones
        source.shop.people.replace_one({"_id": i}, {"region": REGIONS[i % 2]}, upsert=True)


def leave_alone(_source: Client) -> None:
    """Only documents change."""


CASES: tuple[tuple[Callable[[Client], None], str], ...] = (
    (leave_alone, "copy"),
    (leave_alone, "verification"),
    (create_and_drop, "application"),
    (rename_to_another_filter, "copy"),
    (rename_to_another_filter, "commit"),
    (rename_across_rules, "index build"),
    (rename_across_rules, "application"),
    (rename_in_and_out, "plan"),
    (rename_in_and_out, "commit"),
    (swap, "application"),
    (write_by_aggregation, "application"),
    (drop_databases, "plan"),
    (drop_databases, "commit"),
)


def _name(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("change", "moment"), CASES, ids=_name)
def test_all_together(
    ends: Any, tmp_path: Path, change: Callable[[Client], None], moment: str
) -> None:
    """Documents and collections that change at any time end where the settings say."""
    _run(ends, tmp_path, moment, change)


def _run(ends: Any, tmp_path: Path, moment: str, change: Callable[[Client], None]) -> None:
    source, target = ends.source.client, ends.target.client
    _fill(source, moment)
    _fill_foreign(target)
    foreign = _contents(target)
    with (
        Running(ends.source.uri, ends.target.uri, tmp_path / "state", SETTINGS) as running,
        Traffic(ends.source.uri) as traffic,
    ):
        _hold(running, moment)
        move_across(source)
        change(source)
        move_across(source)
        traffic.stop()
        if moment != "plan":  # nothing is captured before that
            running.await_captured(source)
        if moment == "commit":
            running.commit()
        running.release()
        migration = running.committed() if moment != "commit" else running.end()

    assert migration.failure is None
    assert traffic.writes > 0
    _assert_equal(_expected(source), _contents(target), foreign)


def test_filters_choose_by_type_and_operator(ends: Any, tmp_path: Path) -> None:
    """A query may use every kind of value and operator that says something of one document."""
    source = ends.source.client
    since = datetime(2026, 1, 1, tzinfo=UTC)
    source.shop.events.insert_many(
        {"_id": i, "at": datetime(2025 + i % 3, 6, 1, tzinfo=UTC), "tags": [i % 5, "x"], "n": i}
        for i in range(300)
    )
    query = (
        '{"at": {"$gte": {"$date": "2026-01-01T00:00:00Z"}}, "tags": {"$elemMatch": {"$gte": 2}},'
        ' "$expr": {"$lt": ["$n", {"$numberLong": "200"}]}, "gone": {"$exists": false}}'
    )
    settings = Settings.of(filters=[f"shop.events={query}"])

    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start().committed()

    wanted = {
        i for i in range(200) if datetime(2025 + i % 3, 6, 1, tzinfo=UTC) >= since and i % 5 >= 2
    }
    assert {d["_id"] for d in ends.target.client.shop.events.find()} == wanted


@pytest.mark.parametrize(
    ("given", "error", "named"),
    [
        ({"filters": ['shop.people={"a": {"$nosuch": 1}}']}, BadFilter, "nosuch"),
        ({"filters": ['{"a": {"$in": 1}}']}, BadFilter, r"\$in"),
        ({"filters": ['shop.peple={"a": 1}']}, NamespaceNotFound, "shop.peple"),
        ({"renames": ["shp=store"]}, NamespaceNotFound, "shp"),
        ({"renames": ["shop.people=shop.orders"]}, RenameConflict, "shop.orders"),
        ({"renames": ["shop=crm"]}, RenameConflict, "crm.people"),
        ({"renames": ["shop=foreign"]}, TargetNotEmpty, "foreign.people"),
        ({"existing": "refuse"}, TargetNotEmpty, "foreign.people"),
    ],
)
def test_refused_before_anything_is_written(
    ends: Any, tmp_path: Path, given: dict[str, Any], error: type[Exception], named: str
) -> None:
    """What the settings cannot mean is refused with its name, and nothing is begun."""
    source, target = ends.source.client, ends.target.client
    for namespace in ("shop.people", "shop.orders", "crm.people"):
        database, _, collection = namespace.partition(".")
        source[database][collection].insert_one({"_id": 1, "a": 1})
    target.foreign.people.insert_one({"_id": 1})
    before = _contents(target)

    settings = Settings.of(**given)
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start()
        with pytest.raises(error, match=named):
            running.end()

    assert _contents(target) == before


def test_what_is_there_is_not_replaced(ends: Any, tmp_path: Path) -> None:
    """A collection that the source renames onto what was on the target fails, and can be mended."""
    source, target = ends.source.client, ends.target.client
    source.shop.people.insert_many({"_id": i} for i in range(10))
    target.store.audit.insert_many({"_id": i, "theirs": True} for i in range(5))
    settings = Settings.of(renames=["shop=store"])
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start().await_ready()
        source.shop.people.rename("audit")
        source.shop.audit.insert_one({"_id": "after"})
        failed = running.end()
        there = list(target.store.audit.find())

        source.shop.audit.rename("persons")
        running.start().committed()

    assert failed.state is State.FAILED
    assert failed.failure is not None
    assert "store.audit" in failed.failure.message
    assert there == [{"_id": i, "theirs": True} for i in range(5)]
    assert list(target.store.audit.find()) == there
    assert {d["_id"] for d in target.store.persons.find()} == {*range(10), "after"}
    assert "people" not in target.store.list_collection_names()


def test_what_is_there_may_be_removed(ends: Any, tmp_path: Path) -> None:
    """Once what stood in the way on the target is dropped, the same command goes on."""
    source, target = ends.source.client, ends.target.client
    source.shop.people.insert_one({"_id": 1})
    target.shop.late.insert_one({"_id": "theirs"})
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start().await_ready()
        source.shop.late.insert_one({"_id": 2})
        failed = running.end()
        target.shop.late.drop()
        running.start().committed()

    assert failed.state is State.FAILED
    assert list(target.shop.late.find()) == [{"_id": 2}]


@pytest.mark.parametrize("target_has_view", [False, True])
@pytest.mark.parametrize("source_has_view", [False, True])
def test_views_conflict(
    ends: Any, tmp_path: Path, source_has_view: bool, target_has_view: bool
) -> None:
    """A view in the way is as good as a collection, on either side."""
    for client, has_view in (
        (ends.source.client, source_has_view),
        (ends.target.client, target_has_view),
    ):
        place = client.shop if client is ends.source.client else client.store
        place.create_collection("seen", **({"viewOn": "base"} if has_view else {}))
    settings = Settings.of(include=["shop"], renames=["shop=store"])

    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start()
        with pytest.raises(TargetNotEmpty, match=r"store\.seen"):
            running.end()


def test_a_view_that_comes_later(ends: Any, tmp_path: Path) -> None:
    """A view made while the migration runs does not replace what was on the target before."""
    source, target = ends.source.client, ends.target.client
    source.shop.people.insert_one({"_id": 1})
    target.shop.seen.insert_one({"_id": "theirs"})
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state") as running:
        running.start().await_ready()
        source.shop.create_collection("seen", viewOn="people", pipeline=[])
        running.commit()
        failed = running.end()
        there = list(target.shop.seen.find())
        source.shop.seen.drop()
        running.start().committed()

    assert failed.failure is not None
    assert "shop.seen" in failed.failure.message
    assert there == list(target.shop.seen.find()) == [{"_id": "theirs"}]


def test_two_become_one_later(ends: Any, tmp_path: Path) -> None:
    """Two databases may become one; a collection that then meets its namesake is refused."""
    source, target = ends.source.client, ends.target.client
    source.a.one.insert_one({"_id": 1})
    source.b.two.insert_one({"_id": 2})
    settings = Settings.of(renames=["a=c", "b=c"])
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start().await_ready()
        source.a.one.insert_one({"_id": 11})
        source.a.three.insert_one({"_id": 3})
        source.b.three.insert_one({"_id": 33})
        failed = running.end()
        source.b.three.drop()
        running.start().committed()

    assert failed.state is State.FAILED
    assert failed.failure is not None
    assert "b.three" in failed.failure.message
    assert {n: [d["_id"] for d in target.c[n].find()] for n in ("one", "two", "three")} == {
        "one": [1, 11],
        "two": [2],
        "three": [3],
    }


def test_time_series_are_not_filtered(ends: Any, tmp_path: Path) -> None:
    """A time-series collection that a filter stands for is refused, also when it comes later."""
    source = ends.source.client
    source.shop.people.insert_one({"_id": 1, "a": 1})
    settings = Settings.of(filters=['{"a": 1}'])
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start().await_ready()
        source.shop.create_collection("series", timeseries={"timeField": "at"})
        failed = running.end()
        source.shop.series.drop()
        running.start().committed()
    source.shop.create_collection("series", timeseries={"timeField": "at"})
    with Running(ends.source.uri, ends.target.uri, tmp_path / "other", settings) as running:
        running.start()
        with pytest.raises(BadFilter, match=r"shop\.series.*buckets"):
            running.end()

    assert failed.failure is not None
    assert "buckets" in failed.failure.message
    assert ends.target.client.shop.list_collection_names() == ["people"]


def test_what_is_left_out_must_not_be_there(ends: Any, tmp_path: Path) -> None:
    """A document on the target that the filter leaves out is a mismatch."""
    source, target = ends.source.client, ends.target.client
    source.shop.people.insert_many({"_id": i, "region": REGIONS[i % 2]} for i in range(20))
    settings = Settings.of(filters=['shop.people={"region": "eu"}'])
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.hold_at("application")
        running.start()
        running.await_held()
        target.shop.people.insert_one({"_id": 1, "region": "us"})
        running.release()
        running.commit()
        migration = running.end()

    assert migration.failure is not None
    assert migration.failure.code == "verification_failed"
    assert "shop.people" in migration.failure.message


def test_filter_changes_are_told(ends: Any, tmp_path: Path) -> None:
    """A collection that is copied anew, as another filter stands for its new name, is told."""
    source = ends.source.client
    source.shop.people.insert_many({"_id": i, "region": REGIONS[i % 2]} for i in range(20))
    settings = Settings.of(filters=['shop.people={"region": "eu"}'])
    with Running(ends.source.uri, ends.target.uri, tmp_path / "state", settings) as running:
        running.start().await_ready()
        source.shop.people.rename("everybody")
        warned = running.await_event(Warned)
        running.committed()

    assert "another filter" in warned.message
    assert ends.target.client.shop.everybody.count_documents({}) == 20


def test_on_the_command_line(ends: Any, tmp_path: Path) -> None:
    """All of it can be said on the command line, and has to be said again to go on."""
    source, target = ends.source.client, ends.target.client
    source.shop_1.people.insert_many({"_id": i, "region": REGIONS[i % 2]} for i in range(20))
    source.shop_x.people.insert_one({"_id": 1})
    target.other.people.insert_one({"_id": "theirs"})
    ends_and_state = (ends.source.uri, ends.target.uri, "--state", tmp_path / "state")
    common = ("--include", "/^SHOP_[0-9]+$/i", "--rename", "shop_1=store")
    query = ("--filter", '/shop/.people={"region": "eu"}')

    planned = limosa("plan", ends.source.uri, ends.target.uri, *common, *query, "--json")
    unfit = limosa("doctor", ends.source.uri, ends.target.uri, "--filter", '{"a": {"$x": 1}}')
    empty = limosa("migrate", *ends_and_state, *common, *query, "--existing", "refuse")
    wrong = limosa("migrate", *ends_and_state, "--include", "/shop_[/")
    done = limosa("migrate", *ends_and_state, *common, *query, "--commit", "when-ready")
    other = limosa("migrate", *ends_and_state, *common)

    assert [c["target"] for c in planned.json["collections"]] == ["store.people"]
    assert unfit.code == 7
    assert "$x" in unfit.out
    assert empty.code == 2
    assert "other.people" in empty.err
    assert wrong.code == 2
    assert "regular expression" in wrong.err
    assert done.code == 0, done.err
    assert {d["_id"] for d in target.store.people.find()} == set(range(0, 20, 2))
    assert sorted(described(target)) == ["other.people", "store.people"]
    assert other.code == 2
    assert "filters was" in other.err


def _fill(source: Client, moment: str) -> None:
    count = PEOPLE.get(moment, FEW_PEOPLE)
    source.shop.people.insert_many(
        {"_id": i, "region": REGIONS[i % 2], "active": i % 3 > 0, "number": i} for i in range(count)
    )
    source.shop.people.create_index("number")
    source.shop.orders.insert_many({"_id": i, "region": REGIONS[i % 2]} for i in range(120))
    source.shop.orders.create_index("region")
    source.shop.tmp_kept.insert_many({"_id": i} for i in range(30))
    source.crm.people.insert_many({"_id": i, "active": i % 3 > 0} for i in range(FEW_PEOPLE))
    source.crm.people.create_index("active")
    source.crm.people.create_index("at", expireAfterSeconds=TEN_YEARS)
    source.crm.secrets.insert_many({"_id": i, "region": REGIONS[i % 2]} for i in range(50))
    source.bank_a.money.insert_many({"_id": i, "of": "a"} for i in range(50))
    source.bank_a.create_collection("empty")
    source.bank_b.money.insert_many({"_id": i, "of": "b"} for i in range(20))
    source.attic.box.insert_many({"_id": i} for i in range(20))
    source.attic.old.insert_many({"_id": i} for i in range(20))


def _fill_foreign(target: Client) -> None:
    """Put on the target what has the names of the source, and what shares its databases."""
    target.store.audit.insert_many({"_id": i, "theirs": i} for i in range(50))
    target.store.audit.create_index("theirs", unique=True)
    target.store.audit.create_index("at", expireAfterSeconds=TEN_YEARS)
    target.shop.people.insert_many({"_id": i, "theirs": True} for i in range(50))
    target.shop.people.create_index("theirs")
    target.attic.old.insert_one({"_id": "theirs"})
    target.elsewhere.create_collection("ring", capped=True, size=65_536)
    target.elsewhere.ring.insert_many({"_id": i} for i in range(10))


def _hold(running: Running, moment: str) -> None:
    if moment == "commit":
        running.start()
        running.await_ready()
        running.hold_at(moment)  # at the next change of the traffic
    else:
        running.hold_at(moment)
        running.start()
    running.await_held()


def _expected(source: Client) -> dict[str, dict[str, Any]]:
    """Return what the target should hold beyond what it held: filtered, under its new names."""
    expected = {}
    for name, content in _contents(source).items():
        place = place_of(name)
        if place is not None:
            chosen = {
                key: raw
                for key, raw in content["documents"].items()
                if is_meant(name, bson.decode(raw))
            }
            expected[place] = {**content, "documents": chosen}
    return expected


def _contents(client: Client) -> dict[str, dict[str, Any]]:
    contents = described(client)
    for name, content in contents.items():
        database, _, collection = name.partition(".")
        found: Any = client[database].get_collection(
            collection, codec_options=DEFAULT_RAW_BSON_OPTIONS
        )
        content["documents"] = {
            bson.encode({"_id": d["_id"]}): bytes(d.raw) for d in found.find(hint=[("$natural", 1)])
        }
    return contents


def _assert_equal(expected: dict[str, Any], there: dict[str, Any], foreign: dict[str, Any]) -> None:
    assert sorted(there) == sorted({*expected, *foreign})
    for name, content in {**foreign, **expected}.items():
        for part in ("options", "indexes", "documents"):
            assert there[name][part] == content[part], (name, part)
