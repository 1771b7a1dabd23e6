"""Metrics for collectors that speak OTLP over HTTP, on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import ConfigError, ConnectionLost
from .history import Histogram
from .views.readings import METRICS, Kind, Metric, Readings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import export

#: Seconds for one push, its repetitions included; whoever pushes does so every 10 s or so.
_TIMEOUT = 5.0
#: What OTLP over HTTP puts behind the address of a collector.
_PATH = "/v1/metrics"
_CUMULATIVE_SINCE_EVER = 0  # nanoseconds: counters go on when another process drives
_UNITS = {"_seconds": "s", "_bytes": "By", "_bytes_total": "By"}


def push(readings: Readings, endpoint: str) -> None:
    """
    Send the metrics of one migration to the collector at *endpoint*, such as ``http://host:4318``.

    They have the names that Prometheus reads; the name of the migration is an attribute.

    Raises:
        ConfigError: the extra ``otlp`` is not installed, or *endpoint* is not an HTTP address.
        ConnectionLost: the collector did not accept them; the next push may be.
    """
    url = _url(endpoint)
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import export
    except ImportError as error:
        msg = "push metrics: the libraries for OTLP are not installed"
        raise ConfigError(msg, hint="pip install 'limosa[otlp]'") from error
    exporter = OTLPMetricExporter(endpoint=url, timeout=_TIMEOUT)
    try:
        result = exporter.export(_data(readings))
    finally:
        exporter.shutdown()
    if result is not export.MetricExportResult.SUCCESS:
        msg = f"push metrics: the collector at {_shown(url)} did not accept them"
        raise ConnectionLost(msg, hint="check the address of the collector and its log")


def _url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "push metrics: expected an address such as http://localhost:4318"
        raise ConfigError(msg, hint="correct the address of the collector")
    return parts._replace(path=_PATH).geturl() if parts.path in {"", "/"} else endpoint


def _shown(url: str) -> str:
    """Return *url* without credentials, which may stand before the host and in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _data(readings: Readings) -> export.MetricsData:
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    metrics = list(_metrics(readings))
    scope = export.ScopeMetrics(InstrumentationScope("limosa"), metrics, "")
    resource = Resource({"service.name": "limosa"})
    return export.MetricsData([export.ResourceMetrics(resource, [scope], "")])


def _metrics(readings: Readings) -> Iterator[export.Metric]:
    """Yield the metrics that have a value."""
    from opentelemetry.sdk.metrics import export

    since_ever = export.AggregationTemporality.CUMULATIVE
    for metric in METRICS:
        numbers, histograms = _points(metric, readings)
        data: export.Sum | export.Gauge | export.Histogram
        match metric.kind:
            case Kind.COUNTER:
                data = export.Sum(numbers, since_ever, is_monotonic=True)
            case Kind.GAUGE:
                data = export.Gauge(numbers)
            case Kind.HISTOGRAM:
                data = export.Histogram(histograms, since_ever)
        if numbers or histograms:
            yield export.Metric(metric.name, metric.text, _unit(metric.name), data)


def _points(
    metric: Metric, readings: Readings
) -> tuple[Sequence[export.NumberDataPoint], Sequence[export.HistogramDataPoint]]:
    from opentelemetry.sdk.metrics import export

    now = _nanoseconds(readings.status.now)
    numbers, histograms = [], []
    for labels, value in metric.values(readings):
        where = {
            "migration": readings.status.migration.name,
            **dict(zip(metric.labels, labels, strict=True)),
        }
        if isinstance(value, Histogram):
            histograms.append(_histogram_point(where, value, now))
        else:
            point = export.NumberDataPoint(where, _CUMULATIVE_SINCE_EVER, now, float(value))
            numbers.append(point)
    return numbers, histograms


def _histogram_point(
    where: dict[str, str], histogram: Histogram, now: int
) -> export.HistogramDataPoint:
    from opentelemetry.sdk.metrics import export

    return export.HistogramDataPoint(
        where,
        _CUMULATIVE_SINCE_EVER,
        now,
        histogram.count,
        histogram.total,
        histogram.counts,
        histogram.bounds,
        # The least and the most are not kept; the format may leave them out.
        min=None,  # type: ignore[arg-type]
        max=None,  # type: ignore[arg-type]
    )


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000


def _unit(name: str) -> str:
    return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "1")
