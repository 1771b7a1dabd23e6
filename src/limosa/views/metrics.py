"""The metrics of migrations as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..history import Histogram
from .readings import METRICS, Kind, Readings

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

__all__ = ["Readings", "content_type", "exposition"]


def exposition(*readings: Readings) -> bytes:
    """Return the metrics of these migrations in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(readings))
    return generate_latest(registry)


def content_type() -> str:
    """Return the ``Content-Type`` of `exposition`."""
    from prometheus_client import CONTENT_TYPE_LATEST

    return CONTENT_TYPE_LATEST


class _Collector:
    """Makes the library's metrics of readings; without state, so a scrape sees one moment."""

    def __init__(self, readings: Iterable[Readings]) -> None:
        self._readings = tuple(readings)

    def collect(self) -> Iterator[Family]:
        from prometheus_client import core

        families = {
            Kind.GAUGE: core.GaugeMetricFamily,
            Kind.COUNTER: core.CounterMetricFamily,
            Kind.HISTOGRAM: core.HistogramMetricFamily,
        }
        for metric in METRICS:
            family = families[metric.kind](
                metric.name, metric.text, labels=("migration", *metric.labels)
            )
            for reading in self._readings:
                for labels, value in metric.values(reading):
                    where = (reading.status.migration.name, *labels)
                    if isinstance(value, Histogram):
                        family.add_metric(where, _buckets(value), value.total)
                    else:
                        family.add_metric(where, value)
            yield family


def _buckets(histogram: Histogram) -> list[tuple[str, int]]:
    names = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(names, histogram.cumulative, strict=True))
