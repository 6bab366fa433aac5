"""Counters of the prediction path, shown on /metrics."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

STATUSES = (200, 400, 405, 408, 413, 415, 422, 500, 503)
# Near enough to each other for a canary that takes three times as long to be seen at any speed.
LATENCY_BUCKETS = (
    *(0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0),
)
SCORE_BUCKETS = tuple(i / 10 for i in range(1, 10))


class Metrics:
    """Children of the labelled metrics are bound once: looking them up costs more than counting."""

    def __init__(
        self, model_version: str, open_fields: Iterable[str], registry: CollectorRegistry
    ) -> None:
        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(name, doc, ["model_version", *labels], registry=registry)

        def histogram(name: str, doc: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, doc, ["model_version"], buckets=buckets, registry=registry)

        requests = counter("evergreen_requests", "requests to /predict by HTTP status", "status")
        rows = counter("evergreen_rows", "rows answered")
        degraded = counter("evergreen_degraded_rows", "rows answered with the base rate")
        unseen = counter("evergreen_unseen_categories", "values new since training", "field")
        seconds = histogram("evergreen_request_seconds", "time to answer a body", LATENCY_BUCKETS)
        scores = histogram("evergreen_probability", "probabilities answered", SCORE_BUCKETS)
        self._registry = registry
        self._requests = {s: requests.labels(model_version, str(s)) for s in STATUSES}
        self.rows = rows.labels(model_version)
        self.degraded = degraded.labels(model_version)
        self.unseen = {name: unseen.labels(model_version, name) for name in open_fields}
        self.seconds = seconds.labels(model_version)
        self.scores = scores.labels(model_version)

    def answered(self, status: int) -> None:
        self._requests[status].inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
