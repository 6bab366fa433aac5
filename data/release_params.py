"""The section `release` of params.yaml: how a version is tried before it takes all traffic."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data.gate_params import Section, Share

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Percent = Annotated[int, Field(ge=1, le=99)]
Strategy = Literal["blue_green", "canary"]


class Shadow(Section):
    """The last logged requests, asked again of the champion and of the new version.

    Attributes:
        rows: how many; 0 switches it off.
        minimum_rows: with fewer, latency and decisions are not compared (UNKNOWN).
        required: whether UNKNOWN blocks; the first release has nothing to compare with.
        flip_limit: the largest share of decisions that may differ: of numbers, be further apart
            than the standard deviation of the training labels.
        latency_ratio, latency_floor: the median, and the ninth decile, may be this many times the
            champion's of the same moment; milliseconds below the floor never block.
    """

    rows: Annotated[int, Field(ge=0, le=10_000)] = 200
    minimum_rows: Count = 50
    required: bool = False
    flip_limit: Share = 0.35
    latency_ratio: Annotated[float, Field(ge=1)] = 3.0
    latency_floor: Annotated[float, Field(ge=0)] = 10.0


class Canary(Section):
    """A growing share of the traffic, watched against the champion of the same moments.

    Attributes:
        steps: percent of the traffic, one after the other.
        minimum_requests: that each of the two answers in each step; fewer within
            `maximum_wait` seconds are no metrics, and end the release.
        poll: seconds between two looks.
        alpha: how often, at most, a version that is as good as the champion is sent back.
        error_limit: how much larger the share of failed, refused or degraded answers may be.
        latency_ratio, latency_limit: a version is too slow if the share of answers that take
            longer than `latency_ratio` times x is over the champion's share above x by this, at
            any x.
        score_limit: how far the shares of probabilities above 0.1, 0.2 … 0.9 may be apart, or of
            numbers above the bins of the champion's profile.
        quality_limit: how much the mean squared error may grow, where labels are there already; it
            is in [0, 1]: one of a number counts up to one standard deviation.
        early_margin: a step ends early when each difference is shown to be at most its limit and
            this.
    """

    steps: Annotated[tuple[Percent, ...], Field(min_length=1, strict=False)] = (5, 25, 50)
    minimum_requests: Count = 200
    maximum_wait: Seconds = 900.0
    poll: Seconds = 2.0
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    error_limit: Share = 0.0
    latency_ratio: Annotated[float, Field(ge=1)] = 2.0
    latency_limit: Share = 0.05
    score_limit: Share = 0.2
    quality_limit: Share = 0.01
    early_margin: Annotated[float, Field(gt=0, le=1)] = 0.02

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps have to grow, but are {list(self.steps)}")
        return self


class Ab(Section):
    """Another version beside the champion, until a person ends it.

    Attributes:
        share: percent of the clients.
        minimum_labels: of each version; with fewer nobody wins.
        confidence: of every interval.
    """

    share: Percent = 50
    minimum_labels: Count = 300
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Release(Section):
    """How a version comes to take the traffic.

    Attributes:
        strategy: `blue_green` moves all of it at once, `canary` in steps that are watched.
        smoke_rows, smoke_tolerance: golden rows asked of the idle slot, and the largest difference
            in a probability, or in a number in units of its size (`Task.gap`).
    """

    strategy: Strategy = "blue_green"
    smoke_rows: Count
    smoke_tolerance: Annotated[float, Field(gt=0)]
    shadow: Shadow = Shadow()
    canary: Canary = Canary()
    ab: Ab = Ab()
