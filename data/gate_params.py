"""The section `gates` of params.yaml, and what every section is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Typed and frozen; an unknown, missing or mistyped key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Gates(Section):
    """When a challenger may serve; intervals are over bootstrapped days.

    ROC-AUC, nats and log odds are those of two outcomes; for what stands in their place for several
    classes or a number see `data.task` and `models.gates_quality`.

    Attributes:
        beat_base_rate_by, beat_logistic_by: the whole interval of the gain in ROC-AUC is above.
        yardstick_margin, champion_margin: ROC-AUC that may be lost to them: fails where the whole
            interval is beyond it, or the value beyond twice it.
        log_loss_margin: nats beyond the champion's, or the base rate's before there is one.
        shift_limit: log odds, or standard deviations of a number, that a recalibration may add.
        overfit_margin, untouched_margin: ROC-AUC of training minus holdout, above and below the
            yardstick's same gap.
        calibration_margin: nats lost to the yardstick with each at the holdout's level.
        level_margin: log odds that the mean probability of the training rows may be off by.
        slope_minimum, slope_ratio: of log odds on the training rows; least, and most as a multiple
            of the yardstick's.
        slice_past_rows, slice_rows: training and held-out rows that a slice needs to be judged.
        slice_bias_margin: log odds on training rows; slice_fit_margin: nats lost to the yardstick
            there; slice_loss_margin: nats lost on the holdout to the champion, else the yardstick.
        single_field_auc, plausible_auc: from here on one field, or the model, knows too much.
        missing_margin, unseen_margin: nats that a disturbance adds beyond what the yardstick
            suffers; noise_margin: the same of the mean change of a probability.
        permutation_bound: ROC-AUC that a single shuffled field may cost.
        latency_budget, latency_floor: microseconds a row; size_budget, size_floor: megabytes of the
            artefact; the ratios to the champion's count above the floors.
        past_rows: training rows that are looked at; robustness_rows, parity_rows: held-out ones.
        yardstick_trees, yardstick_depth: of the gates' own model; noise_retrains: how often it is
            trained on days drawn again, and noise_factor: how many times what that changes is added
            to the margins of the comparisons, so that few rows do not refuse a retrain by chance;
            slice_noise_factor: the same for the bias of each slice.
    """

    beat_base_rate_by: float
    beat_logistic_by: float
    yardstick_margin: Annotated[float, Field(ge=0)] = 0.01
    champion_margin: Annotated[float, Field(ge=0)]
    log_loss_margin: Annotated[float, Field(ge=0)]
    shift_limit: Annotated[float, Field(gt=0)] = 1.5
    overfit_margin: Annotated[float, Field(ge=0)] = 0.06
    untouched_margin: Annotated[float, Field(ge=0)] = 0.03
    calibration_margin: Annotated[float, Field(ge=0)] = 0.01
    level_margin: Annotated[float, Field(ge=0)] = 0.1
    slope_minimum: Annotated[float, Field(ge=0)] = 0.95
    slope_ratio: Annotated[float, Field(ge=1)] = 1.4
    slice_past_rows: Annotated[int, Field(ge=2)] = 300
    slice_rows: Annotated[int, Field(ge=2)] = 100
    slice_bias_margin: Annotated[float, Field(ge=0)] = 0.05
    slice_fit_margin: Annotated[float, Field(ge=0)] = 0.01
    slice_loss_margin: Annotated[float, Field(ge=0)] = 0.02
    single_field_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.67
    plausible_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    missing_margin: Annotated[float, Field(ge=0)] = 0.06
    unseen_margin: Annotated[float, Field(ge=0)] = 0.15
    noise_margin: Annotated[float, Field(ge=0)] = 0.03
    permutation_bound: Annotated[float, Field(ge=0)] = 0.25
    latency_budget: Annotated[float, Field(gt=0)] = 1000.0
    latency_ratio: Annotated[float, Field(ge=1)] = 4.0
    latency_floor: Annotated[float, Field(gt=0)] = 100.0
    size_budget: Annotated[float, Field(gt=0)] = 12.0
    size_ratio: Annotated[float, Field(ge=1)] = 3.0
    size_floor: Annotated[float, Field(gt=0)] = 6.0
    past_rows: Annotated[int, Field(ge=100)] = 60000
    robustness_rows: Annotated[int, Field(ge=50)] = 2000
    parity_rows: Annotated[int, Field(ge=1)]
    parity_tolerance: Annotated[float, Field(gt=0)]
    yardstick_trees: Annotated[int, Field(ge=1)] = 40
    yardstick_depth: Annotated[int, Field(ge=1)] = 4
    noise_retrains: Annotated[int, Field(ge=2)] = 6
    noise_factor: Annotated[float, Field(ge=0)] = 1.5
    slice_noise_factor: Annotated[float, Field(ge=0)] = 3.0
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    bootstrap_samples: Annotated[int, Field(ge=100)]
    minimum_rows: Annotated[int, Field(ge=1)]
