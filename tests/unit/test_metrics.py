"""Metrics: every figure under its name, unknown ones absent, the same names everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from limosa.history import BOUNDS, Histogram, Sample
from limosa.state import Migration, Phase, State, Totals
from limosa.views.metrics import content_type, exposition
from limosa.views.readings import METRICS, Kind, Readings, sample
from limosa.views.status import Status

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
TOTALS = Totals(
    collections=2,
    collections_verified=1,
    partitions=10,
    partitions_copied=7,
    partitions_verified=3,
    documents=1000,
    bytes=50_000,
    documents_copied=700,
    bytes_copied=35_000,
    documents_compared=300,
    suspects=2,
    mismatches=1,
)
NAMES = {metric.name for metric in METRICS}


def readings(*, is_driven: bool = True, totals: Totals = TOTALS, **changes: Any) -> Readings:
    """Readings of a migration that runs, with a value for everything."""
    migration = replace(
        Migration("m", State.RUNNING, generation=2, planned_at=NOW),
        captured_to=NOW,
        applied_to=NOW - timedelta(seconds=3),
        events_captured=50,
        changes_applied=40,
        documents_rechecked=6,
    )
    durations = ("copy_partition", "verify_partition", "build_indexes", "make_writable", "commit")
    by_side = ("ping", "read", "lookup", "write", "apply")
    names = [*durations, *(f"{n}.{s}" for n in by_side for s in ("source", "target"))]
    return Readings(
        Status(replace(migration, **changes), totals, NOW, is_driven=is_driven),
        Sample(NOW, "collection copy", documents_copied=720, bytes_copied=36_000, waiting=9),
        {"retries": 4, "errors.source": 5, "documents_copied": 800, "change_bytes": 9_000},
        {name: Histogram().plus(0.2) for name in names},
        {
            "unavailable.source": 1.0,
            "unavailable.target": 0.0,
            "buffer_bytes": 4096.0,
            "process_cpu_seconds": 1.5,
            "process_resident_bytes": 1e8,
        },
    )


def values(*given: Readings) -> dict[str, float]:
    """Return the values that a scraper sees, by name and labels."""
    families = text_string_to_metric_families(exposition(*given).decode())
    return {
        s.name + "".join(f" {v}" for k, v in s.labels.items() if k != "migration"): s.value
        for family in families
        for s in family.samples
    }


def table() -> Iterator[tuple[str, str]]:
    """Yield name and kind of each metric in the documentation."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    yield from re.findall(r"^\| `(limosa_\w+)` \| (\w+) \|", page, re.MULTILINE)


def test_values() -> None:
    """Figures of state, sample, counters and gauges are under their names."""
    found = values(readings())

    assert found["limosa_state RUNNING"] == 1
    assert found["limosa_state PAUSED"] == 0
    assert found["limosa_phase collection copy"] == 1
    assert found["limosa_lag_seconds"] == 3
    assert found["limosa_starts_total"] == 2
    assert found["limosa_copied_documents"] == 720
    assert found["limosa_copy_documents_total"] == 800
    assert [found[f"limosa_partitions {s}"] for s in ("pending", "copied", "verified")] == [3, 4, 3]
    assert found["limosa_buffer_changes"] == 9
    assert found["limosa_events_captured_total"] == 50
    assert found["limosa_change_stream_bytes_total"] == 9_000
    assert (found["limosa_planned_collections"], found["limosa_verified_collections"]) == (2, 1)
    assert found["limosa_retries_total"] == 4
    assert (found["limosa_errors_total source"], found["limosa_errors_total target"]) == (5, 0)
    assert (found["limosa_unavailable source"], found["limosa_unavailable target"]) == (1, 0)
    assert found["limosa_mismatches"] == 1
    assert found["limosa_last_sample_timestamp_seconds"] == NOW.timestamp()


def test_histogram() -> None:
    """A duration has its count, its sum, and a bucket for each bound, counted up."""
    found = values(readings())

    assert found["limosa_read_duration_seconds_count source"] == 1
    assert found["limosa_read_duration_seconds_sum source"] == pytest.approx(0.2)
    assert found["limosa_copy_partition_duration_seconds_bucket 0.1"] == 0
    for bound in (0.25, 1.0, BOUNDS[-1]):
        assert found[f"limosa_copy_partition_duration_seconds_bucket {bound}"] == 1


def test_every_metric_has_values() -> None:
    """With everything known each metric is in the exposition, with help and kind."""
    families = {f.name: f for f in text_string_to_metric_families(exposition(readings()).decode())}

    assert len(NAMES) == len(METRICS)
    for metric in METRICS:
        name = metric.name.removesuffix("_total")
        assert families[name].samples, metric.name
        assert families[name].type == metric.kind.value
        assert families[name].documentation == metric.text
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)


def test_unknown_is_absent() -> None:
    """Before anything is known there is neither lag nor duration, rather than zero."""
    found = values(Readings(Status(Migration("m"), Totals(), NOW)))

    assert "limosa_lag_seconds" not in found
    assert "limosa_buffer_changes" not in found
    assert not [name for name in found if "duration" in name]
    assert found["limosa_state IDLE"] == 1


def test_nobody_drives() -> None:
    """What the driving process measures is absent when there is none; figures of the state stay."""
    found = values(readings(is_driven=False))

    assert found["limosa_driven"] == 0
    assert not [n for n in found if n.startswith(("limosa_unavailable", "limosa_process"))]
    assert found["limosa_changes_applied_total"] == 40


def test_state_is_newer_than_the_sample() -> None:
    """The copied documents never fall behind what the state says."""
    totals = replace(TOTALS, documents_copied=1000, bytes_copied=50_000)

    found = values(readings(totals=totals))

    assert (found["limosa_copied_documents"], found["limosa_copied_bytes"]) == (1000, 50_000)


def test_several_migrations() -> None:
    """Several migrations are in one exposition, told apart by their names alone."""
    text = exposition(readings(), readings(name="other")).decode()

    assert 'limosa_mismatches{migration="m"} 1.0' in text
    assert 'limosa_mismatches{migration="other"} 1.0' in text
    assert text.count("# TYPE limosa_mismatches gauge") == 1


def test_labels_are_few() -> None:
    """No label but these, so that the number of series does not depend on what is migrated."""
    families = text_string_to_metric_families(exposition(readings()).decode())

    labels = {label for f in families for s in f.samples for label in s.labels}

    assert labels == {"migration", "state", "phase", "status", "side", "le"}
    assert len(exposition(readings()).splitlines()) < 700


def test_name_with_odd_characters() -> None:
    """A name is quoted as the format asks for."""
    given = readings(name='a"b\\c\n')

    families = text_string_to_metric_families(exposition(given).decode())

    assert {s.labels["migration"] for f in families for s in f.samples} == {'a"b\\c\n'}


def test_content_type() -> None:
    """The content type names the text format."""
    assert content_type().startswith("text/plain; version=")


def test_sample() -> None:
    """A sample says what state and buffer say."""
    found = sample(readings().status, waiting=4)

    assert found == Sample(NOW, Phase.COLLECTION_COPY.value, 700, 35_000, 50, 40, 300, 4, 3.0, 1)


def test_documentation() -> None:
    """The documentation lists every metric with its kind, and no other."""
    assert sorted(table()) == sorted((metric.name, metric.kind.value) for metric in METRICS)


def test_counterparts() -> None:
    """All of mongosync's names are there, each at one metric only or where it has none."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

    named = re.findall(r"`((?:mongosync|verifier)_\w+)`", page)

    assert len(named) == len(set(named)) == 67


def test_grafana() -> None:
    """The dashboard shows every metric, and asks for no other."""
    board = json.loads((ROOT / "grafana" / "limosa.json").read_text(encoding="utf-8"))
    asked = [t["expr"] for p in board["panels"] for t in p.get("targets", ())]
    suffixes = {m.name for m in METRICS if m.kind is Kind.HISTOGRAM}

    named = {name for expr in asked for name in re.findall(r"\blimosa_\w+", expr)}
    named = {
        stem if (stem := re.sub(r"_(bucket|sum|count)$", "", name)) in suffixes else name
        for name in named
    }

    assert named == NAMES
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
    assert all("$migration" in expr for expr in asked)


def test_grafana_labels() -> None:
    """The dashboard groups by labels that the metrics have."""
    board = json.loads((ROOT / "grafana" / "limosa.json").read_text(encoding="utf-8"))
    by_name = {m.name: {"migration", *m.labels} for m in METRICS}

    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            names = re.findall(r"\blimosa_\w+?(?=_bucket|_sum|\{)", target["expr"])
            known = set.union(*(by_name[n] for n in names))
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            wanted |= {
                label.strip()
                for group in re.findall(r"by \(([^)]*)\)", target["expr"])
                for label in group.split(",")
            } - {"le"}
            assert wanted <= known, panel["title"]


def test_alerts() -> None:
    """The alerts in the documentation use metrics and states that there are."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    alerts = page.partition("## Alerts")[2].partition("\n## ")[0]

    assert set(re.findall(r"\blimosa_\w+", alerts)) <= NAMES
    states = {s for group in re.findall(r"state=~?\"([A-Z|]+)\"", alerts) for s in group.split("|")}
    assert states <= {state.value for state in State}
    assert states
