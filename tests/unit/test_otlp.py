"""Metrics pushed to a collector: a small one that keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from limosa.errors import ConfigError, ConnectionLost
from limosa.history import BOUNDS, Histogram
from limosa.otlp import push
from limosa.server.pushing import Pushing
from limosa.state import Migration, State, Totals
from limosa.views.readings import Readings
from limosa.views.status import Status

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
READINGS = Readings(
    Status(Migration("m", State.RUNNING), Totals(mismatches=3), NOW, is_driven=True),
    counters={"retries": 4},
    durations={"read.source": Histogram().plus(0.2).plus(9)},
    gauges={"buffer_bytes": 77.0},
)


class Collector:
    """A server that takes what is pushed, or answers with *status*."""

    def __init__(self, status: int = 200) -> None:
        received: list[tuple[str, Any]] = []

        class Take(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                received.append((self.path, body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None: ...

        self.received = received
        self.server = HTTPServer(("127.0.0.1", 0), Take)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def metrics(self) -> dict[str, Any]:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
            ExportMetricsServiceRequest,
        )

        ((_, body),) = self.received
        (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_pushed_again_and_again(collector: Collector) -> None:
    """The server sends what it knows until it is closed, and tells once that nobody takes it."""
    said: list[str] = []
    pushing = Pushing(lambda: READINGS, collector.address, said.append, every=0.05)
    until(lambda: len(collector.received) >= 2)
    pushing.close()
    assert said == []

    lost = Pushing(lambda: READINGS, "http://127.0.0.1:9", said.append, every=0.05)
    until(lambda: said)
    lost.close()

    assert len(said) == 1
    assert "http://127.0.0.1:9" in said[0]


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def test_push(collector: Collector) -> None:
    """A collector gets counters, gauges and histograms under the names of Prometheus."""
    push(READINGS, collector.address)

    assert collector.received[0][0] == "/v1/metrics"
    metrics = collector.metrics()
    retries = metrics["limosa_retries_total"].sum
    assert retries.is_monotonic
    assert retries.data_points[0].as_double == 4
    gauge = metrics["limosa_buffer_bytes"]
    assert (gauge.unit, gauge.gauge.data_points[0].as_double) == ("By", 77)
    (point,) = metrics["limosa_read_duration_seconds"].histogram.data_points
    assert (point.count, point.sum) == (2, pytest.approx(9.2))
    assert tuple(point.explicit_bounds) == BOUNDS
    assert sum(point.bucket_counts) == 2
    labels = {a.key: a.value.string_value for a in point.attributes}
    assert labels == {"migration": "m", "side": "source"}
    assert point.time_unix_nano == int(NOW.timestamp()) * 10**9


def test_unknown_is_not_pushed(collector: Collector) -> None:
    """What has no value is left out."""
    push(READINGS, f"{collector.address}/")

    metrics = collector.metrics()
    assert "limosa_lag_seconds" not in metrics
    assert "limosa_commit_duration_seconds" not in metrics


def test_path_of_ones_own(collector: Collector) -> None:
    """An address with a path is used as it is."""
    push(READINGS, f"{collector.address}/otlp/here")

    assert collector.received[0][0] == "/otlp/here"


def test_refused() -> None:
    """A collector that refuses is named, without the credentials of its address."""
    collector = Collector(status=403)
    address = collector.address.replace("//", "//ann:secret@") + "/v1/metrics?key=secret"
    try:
        with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1") as caught:
            push(READINGS, address)
    finally:
        collector.close()

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://localhost", "http://", ""])
def test_bad_address(endpoint: str) -> None:
    """What is no HTTP address is refused, with an example of one."""
    with pytest.raises(ConfigError, match="http://localhost:4318"):
        push(READINGS, endpoint)
