"""Counters of the prediction path, shown on /metrics.

Plain numbers that become metric families when they are scraped: the client library's own counters
take a lock for each increment, which costs more than the rest of the accounting.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bento.answers import likeliest
from bento.contract import Contract

STATUSES = (200, 400, 404, 405, 408, 413, 415, 422, 500, 503)
# Near enough to each other for a canary that takes three times as long to be seen at any speed.
LATENCY_BUCKETS = (
    *(0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0),
)


class _Distribution:
    """Observed values in buckets of (lower, upper]; the last has no upper bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, values: Sequence[float]) -> None:
        if len(values) == 1:
            self._counts[bisect_left(self._bounds, values[0])] += 1
        else:
            for place, count in enumerate(np.bincount(np.searchsorted(self._bounds, values))):
                self._counts[place] += int(count)
        self._sum += sum(values)

    def family(self, name: str, doc: str, labels: Mapping[str, str]) -> Metric:
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family = HistogramMetricFamily(name, doc, labels=list(labels))
        family.add_metric(list(labels.values()), buckets, self._sum)
        return family


class Metrics(Collector):
    """What one process has answered, by model version."""

    def __init__(
        self,
        model_version: str,
        contract: Contract,
        open_fields: Iterable[str],
        registry: CollectorRegistry,
        about: Mapping[str, str] | None = None,
        beside: Path | None = None,
    ) -> None:
        self._version = {"model_version": model_version}
        self._about = {**self._version, **(about or {})}
        self._registry = registry
        self._beside = beside
        self._requests = Counter(dict.fromkeys(STATUSES, 0))
        self._explanations = Counter(dict.fromkeys(STATUSES, 0))
        self._unseen = Counter(dict.fromkeys(open_fields, 0))
        self._rows = self._degraded = 0
        self._seconds = _Distribution(LATENCY_BUCKETS)
        self._task = contract.task
        self._classes = [0] * len(contract.task.classes)
        self._scores = _Distribution(contract.cuts)
        self.breaker_open = False
        self.hangs = 0
        registry.register(self)

    def answered(self, status: int) -> None:
        self._requests[status] += 1

    def explained(self, status: int) -> None:
        self._explanations[status] += 1

    def took(self, seconds: float) -> None:
        self._seconds.add((seconds,))

    def scored(self, scores: Sequence[Any], degraded: bool) -> None:
        self._rows += len(scores)
        self._degraded += len(scores) if degraded else 0
        if self._classes:
            for score in scores:
                self._classes[likeliest(score)] += 1
            scores = [max(score) for score in scores]
        self._scores.add(scores)

    def unseen(self, field: str, rows: int) -> None:
        """Rows with a category of this field that training did not see."""
        self._unseen[field] += rows

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, and what the monitor left beside them."""
        own = generate_latest(self._registry)
        try:
            return own + (self._beside.read_bytes() if self._beside else b"")
        except OSError:  # the monitor has not run yet
            return own

    def collect(self) -> Iterator[Metric]:
        """The families, for the registry."""
        yield self._counter(
            "evergreen_requests", "requests to /predict by HTTP status", "status", self._requests
        )
        yield self._counter(
            "evergreen_explanations",
            "requests to /explain by HTTP status",
            "status",
            self._explanations,
        )
        yield self._total("evergreen_rows", "rows answered", self._rows)
        yield self._total(
            "evergreen_degraded_rows", "rows answered with the base rate", self._degraded
        )
        yield self._counter(
            "evergreen_unseen_categories", "values new since training", "field", self._unseen
        )
        yield self._seconds.family(
            "evergreen_request_seconds", "time to answer a body", self._version
        )
        yield from self._answers()
        yield _gauge(
            "evergreen_breaker_open",
            "1 while the model is not asked",
            self._version,
            int(self.breaker_open),
        )
        yield self._total("evergreen_model_hangs", "calls of the model that hung", self.hangs)
        yield _gauge("evergreen_model_info", "what is served here", self._about, 1)

    def _answers(self) -> Iterator[Metric]:
        """Distribution of the scores; of several classes of the likeliest one's, and which it is.

        Of a regression the scale comes along, in which an alert can say how far answers moved.
        """
        if self._task.kind == "regression":
            yield self._scores.family("evergreen_prediction", "numbers answered", self._version)
            said = "standard deviation of the training labels"
            yield _gauge("evergreen_prediction_scale", said, self._version, self._task.scale)
            return
        yield self._scores.family("evergreen_probability", "probabilities answered", self._version)
        if self._classes:
            counts = Counter(dict(zip(self._task.classes, self._classes, strict=True)))
            yield self._counter("evergreen_classes", "rows by class answered", "class", counts)

    def _counter(self, name: str, doc: str, label: str, values: Counter[Any]) -> Metric:
        family = CounterMetricFamily(name, doc, labels=[*self._version, label])
        for value, count in values.items():
            family.add_metric([*self._version.values(), str(value)], count)
        return family

    def _total(self, name: str, doc: str, value: int) -> Metric:
        family = CounterMetricFamily(name, doc, labels=list(self._version))
        family.add_metric(list(self._version.values()), value)
        return family


def _gauge(name: str, doc: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, doc, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
