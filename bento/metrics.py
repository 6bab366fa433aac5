"""Counters of the prediction path, shown on /metrics."""

from collections.abc import Iterable

from prometheus_client import Counter, Histogram

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
SCORE_BUCKETS = tuple(i / 10 for i in range(1, 10))


class Metrics:
    """Children of the labelled metrics are bound once: looking them up costs more than counting."""

    def __init__(self, model_version: str, vocabularies: Iterable[str]) -> None:
        requests = Counter(
            "evergreen_requests", "requests to /predict by HTTP status", ["model_version", "status"]
        )
        rows = Counter("evergreen_rows", "rows answered", ["model_version"])
        degraded = Counter(
            "evergreen_degraded_rows", "rows answered with the base rate", ["model_version"]
        )
        unseen = Counter(
            "evergreen_unseen_categories",
            "values of a text field that training did not see",
            ["model_version", "field"],
        )
        seconds = Histogram(
            "evergreen_request_seconds",
            "time from the whole body to the whole answer",
            ["model_version"],
            buckets=LATENCY_BUCKETS,
        )
        scores = Histogram(
            "evergreen_probability",
            "probabilities answered",
            ["model_version"],
            buckets=SCORE_BUCKETS,
        )
        self._requests = {
            status: requests.labels(model_version, str(status))
            for status in (200, 400, 405, 408, 413, 415, 422, 500, 503)
        }
        self.rows = rows.labels(model_version)
        self.degraded = degraded.labels(model_version)
        self.unseen = {name: unseen.labels(model_version, name) for name in vocabularies}
        self.seconds = seconds.labels(model_version)
        self.scores = scores.labels(model_version)

    def answered(self, status: int) -> None:
        self._requests[status].inc()
