"""The section `monitor` of params.yaml."""

from typing import Annotated

from pydantic import Field

from data.gate_params import Section, Share


class Monitor(Section):
    """When a period is unusual; only `bins` shapes the model's artefact.

    Attributes:
        bins: of the histograms in the reference profile.
        false_alarm_rate: how often a period like those of the reference may exceed a limit, and
            how often, in the whole life of a champion, concept drift may be found where none is.
        minimum_rows: fewer answers, or labels, are too few to judge.
        minimum_label_coverage: share of the labels due that have to be there.
        excluded_share_limit: more events than this without an outcome are broken data.
        skew_share: share of logged rows that may differ from the period's rows.
        error_share: share of requests that may fail, of answers that may be degraded.
        latency_seconds: nine of ten answers take less.
    """

    bins: Annotated[int, Field(ge=2)]
    false_alarm_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    minimum_rows: Annotated[int, Field(ge=1)]
    minimum_label_coverage: Share
    excluded_share_limit: Share
    skew_share: Share = 0.01
    error_share: Share = 0.01
    latency_seconds: Annotated[float, Field(gt=0)] = 0.25
