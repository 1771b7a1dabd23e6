"""Servers die, forget, interrupt and cannot be reached, in every phase and at either end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from faults import DATA, FAULTS, PHASES, SIDES, Site, change, fill, selected, struck_in
from in_process import Running
from judge import differences
from waiting import until

from limosa.testing.proxy import Fate, Proxy, Way

_SECOND = timedelta(seconds=1)


@pytest.fixture
def sites(ends: Any) -> Iterator[dict[str, Site]]:
    """Both ends behind networks that can fail, the source filled."""
    fill(ends.source.client)
    ports = [end.replica_set.members[0].port for end in ends]
    with Proxy(ports[0]) as before_source, Proxy(ports[1]) as before_target:
        yield {
            "source": Site("source", ends.source, before_source),
            "target": Site("target", ends.target, before_target),
        }


@pytest.mark.parametrize(("fault", "side", "phase"), selected(tuple(FAULTS)))
def test_fault(sites: dict[str, Site], tmp_path: Path, fault: str, side: str, phase: str) -> None:
    """A fault that passes costs some time and nothing else."""
    source, target, struck = sites["source"], sites["target"], sites[side]
    with Running(source.uri, target.uri, tmp_path / "state") as running:
        struck_in(phase, running, source.client, lambda: FAULTS[fault](struck, phase))

    if fault.startswith(("cut", "muted", "late")):
        assert struck.network.struck
    assert differences(source.client, target.client) == []


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("phase", [PHASES[1], PHASES[3]])
def test_silence(sites: dict[str, Site], tmp_path: Path, side: str, phase: str) -> None:
    """A network that swallows everything is noticed by itself, and waited for."""
    source, target, struck = sites["source"], sites["target"], sites[side]
    with Running(source.uri, target.uri, tmp_path / "state") as running:
        with running.held_at(phase):
            change(source.client, mark="before")
            struck.network.silence()
        until(running.retries, "retry")
        struck.network.heal()
        running.committed()

    assert differences(source.client, target.client) == []


def test_slow_network(sites: dict[str, Site], tmp_path: Path) -> None:
    """A network of a few hundred kB a second, each piece 20 ms late, is only slow."""
    source, target = sites["source"], sites["target"]
    for site in (source, target):
        site.network.delay(0.02)
        site.network.throttle(300_000)
    with Running(source.patient_uri, target.patient_uri, tmp_path / "state") as running:
        running.start()
        change(source.client, mark="meanwhile")
        running.committed()

        assert not running.retries()
    assert differences(source.client, target.client) == []


def test_slow_network_for_the_hurried(sites: dict[str, Site], tmp_path: Path) -> None:
    """A batch that takes longer than an answer may is asked for in smaller ones, until it comes."""
    source, target = sites["source"], sites["target"]
    source.client.shop.pictures.insert_many({"_id": i, "of": "x" * 1_000} for i in range(2_000))
    source.network.throttle(900_000)
    with Running(source.uri, target.uri, tmp_path / "state") as running:
        running.start()
        running.committed()

        assert any("timed out" in text for text in running.retries())
    assert differences(source.client, target.client) == []


@pytest.mark.parametrize("side", SIDES)
def test_slow_network_for_changes(sites: dict[str, Site], tmp_path: Path, side: str) -> None:
    """Changes that cannot pass within the time for an answer are handed over in portions."""
    source, target = sites["source"], sites["target"]
    pictures = source.client.shop.pictures
    pictures.insert_many({"_id": i, "of": "x" * 1_000} for i in range(4_000))
    with Running(source.uri, target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        sites[side].network.throttle(700_000)
        pictures.update_many({}, {"$set": {"of": "y" * 1_000}})
        running.committed()

        what = {"source": "look up changes of", "target": "apply changes to"}[side]
        assert any(what in text and "timed out" in text for text in running.retries())
    assert differences(source.client, target.client) == []


def test_slow_network_for_a_backlog(sites: dict[str, Site], tmp_path: Path) -> None:
    """Changes that were made meanwhile are asked for in smaller batches, until they come."""
    source, target = sites["source"], sites["target"]
    pictures = source.client.shop.pictures
    pictures.insert_many({"_id": i} for i in range(6_000))
    with Running(source.uri, target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        running.stop()
        pictures.update_many({}, {"$set": {"seen": 1}})
        source.network.throttle(500_000)
        running.start()
        running.committed()

        assert any("change stream: " in text and "timed out" in text for text in running.retries())
    assert differences(source.client, target.client) == []


def test_late(sites: dict[str, Site], tmp_path: Path) -> None:
    """A write that was given up, and arrives when it was done again long ago, undoes nothing."""
    source, target = sites["source"], sites["target"]
    with Running(source.uri, target.uri, tmp_path / "state") as running:
        running.start()
        running.await_ready()
        target.network.strike(Fate.LATE, Way.TO_SERVER, larger_than=DATA)
        change(source.client, mark="before")
        until(running.retries, "retry")
        change(source.client, mark="after")
        until(lambda: target.client.shop.people.find_one({"_id": "after"}), "application")
        target.network.deliver()
        running.committed()

    assert target.network.struck == 1
    assert differences(source.client, target.client) == []


@pytest.mark.parametrize("side", SIDES)
def test_refusal(sites: dict[str, Site], tmp_path: Path, side: str) -> None:
    """An end that refuses connections for longer than retries go on fails; then it goes on."""
    source, target, struck = sites["source"], sites["target"], sites[side]
    with Running(source.uri, target.uri, tmp_path / "state", retry_for=3 * _SECOND) as running:
        with running.held_at("copy"):
            struck.network.refuse()
        failed = running.end()

        assert failed.failure is not None
        assert failed.failure.code == "connection_lost"
        assert struck.network.address in failed.failure.message
        assert failed.failure.hint

        struck.network.heal()
        change(source.client, mark="after")
        running.start()
        running.committed()

    assert differences(source.client, target.client) == []
