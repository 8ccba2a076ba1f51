"""The metrics of one process: what stands in the catalogue for it, and the routes that show it.

Who calls it: `app/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from capstan.adapters import http
from capstan.adapters.catalogue import CATALOGUE, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # a call to a cycle that hangs


class Metrics:
    """The metrics of one process, on a registry of their own.

    Args:
        process: `operator`, `power` or `agent`: only its part of the catalogue exists.
    """

    def __init__(self, process: str) -> None:
        self.process = process
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._made: dict[str, Gauge | Counter | Histogram] = {}
        for metric in CATALOGUE:
            if metric.process == process or (metric.process == "both" and process in ("operator", "power")):
                self._made[metric.name] = self._make(metric)

    def _make(self, metric: Metric) -> Gauge | Counter | Histogram:
        if metric.kind == "gauge":
            return Gauge(metric.name, metric.text, metric.labels, registry=self.registry)
        if metric.kind == "counter":
            return Counter(metric.name.removesuffix("_total"), metric.text, metric.labels, registry=self.registry)
        return Histogram(metric.name, metric.text, metric.labels, registry=self.registry, buckets=SECONDS_EDGES)

    def set(self, name: str, value: float | None, *labels: str) -> None:
        """Set a gauge; None removes the series: absent is absent, never 0."""
        gauge = self._made[name]
        if not isinstance(gauge, Gauge):
            raise TypeError(f"{name} is no gauge")
        if value is not None:
            (gauge.labels(*labels) if labels else gauge).set(value)
        elif labels:
            gauge.remove(*labels)

    def clear(self, *gauges: str) -> None:
        """Forget all series of gauges, before a cycle sets those that still exist."""
        for name in gauges:
            self._made[name].clear()

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Raise a counter by `amount` >= 0."""
        counter = self._made[name]
        if not isinstance(counter, Counter):
            raise TypeError(f"{name} is no counter")
        (counter.labels(*labels) if labels else counter).inc(amount)

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        """Put a duration into a histogram."""
        histogram = self._made[name]
        if not isinstance(histogram, Histogram):
            raise TypeError(f"{name} is no histogram")
        (histogram.labels(*labels) if labels else histogram).observe(seconds)

    def exposition(self) -> bytes:
        """Return what a scrape reads."""
        return generate_latest(self.registry)


def routes(
    metrics: Metrics,
    *,
    healthy: Callable[[], bool],
    ready: Callable[[], bool],
    more: Mapping[tuple[str, str], http.Handler] | None = None,
) -> dict[tuple[str, str], http.Handler]:
    """Return `/metrics`, `/healthz` and `/readyz`, and whatever else the process serves."""

    def probe(check: Callable[[], bool], word: str) -> Callable[[http.Request], Awaitable[http.Response]]:
        async def answer(_: http.Request) -> http.Response:
            good = check()
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            return http.Response.text(status, f"{word if good else 'not ' + word}\n")

        return answer

    async def scrape(_: http.Request) -> http.Response:
        return http.Response(HTTPStatus.OK, metrics.exposition(), CONTENT_TYPE)

    return {
        ("GET", "/metrics"): scrape,
        ("GET", "/healthz"): probe(healthy, "healthy"),
        ("GET", "/readyz"): probe(ready, "ready"),
        **(more or {}),
    }
