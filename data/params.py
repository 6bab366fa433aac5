"""The typed, frozen view of params.yaml; an unknown, missing or mistyped key is an error."""

from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from data.alert_params import Alerts
from data.errors import EvergreenError
from data.gate_params import Gates, Section, Share
from data.monitor_params import Monitor
from data.release_params import Release

CandidateName = Literal["base_rate", "logistic", "ridge", "hist_gradient_boosting", "xgboost"]
CalibrationMethod = Literal["none", "shift", "platt"]
EngineName = Literal["memory", "external", "dask"]


class Train(Section):
    """Which past is learned from, and how.

    Attributes:
        minimum_label_coverage: the smallest share of events whose label has matured, in each
            period; events that never get one do not count.
        engine: where XGBoost has the training rows: in memory, in files, or with Dask's workers.
        sample_rows: so many of them, evenly spaced, are for the other candidates, unless it is in
            memory: these know no other way.
    """

    as_of: str
    first_period: str
    holdout_periods: Annotated[int, Field(ge=1)]
    minimum_periods: Annotated[int, Field(ge=2)]
    minimum_label_coverage: Share = 0.9
    out_of_fold_blocks: Annotated[int, Field(ge=2)]
    seed: int
    engine: EngineName = "memory"
    sample_rows: Annotated[int, Field(ge=1000)] = 500_000


class XGBoost(Section):
    """Passed to `XGBClassifier` as they are."""

    n_estimators: Annotated[int, Field(ge=1)]
    max_depth: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    min_child_weight: Annotated[float, Field(ge=0)]
    subsample: Annotated[float, Field(gt=0, le=1)]
    colsample_bytree: Annotated[float, Field(gt=0, le=1)]
    reg_lambda: Annotated[float, Field(ge=0)]


class HistGradientBoosting(Section):
    """Passed to `HistGradientBoostingClassifier` as they are."""

    max_iter: Annotated[int, Field(ge=1)] = 150
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    max_leaf_nodes: Annotated[int, Field(ge=2)] = 31
    min_samples_leaf: Annotated[int, Field(ge=1)] = 100
    l2_regularization: Annotated[float, Field(ge=0)] = 5.0
    max_features: Annotated[float, Field(gt=0, le=1)] = 0.5


class Ridge(Section):
    """The linear candidate of a regression."""

    alpha: Annotated[float, Field(ge=0)] = 10.0


class Logistic(Section):
    """The linear candidate of a classification."""

    C: Annotated[float, Field(gt=0)] = 0.1
    max_iter: Annotated[int, Field(ge=1)] = 300


class Rolling(Section):
    """How candidates are compared: on periods that each was trained up to, and no further.

    Attributes:
        selection_periods: on these the candidates, and a study's trials, are compared.
        minimum_periods: training periods before the first of them; a model of fewer says little
            about one of all. With a shorter past nothing is compared, and the last of `candidates`
            is taken as it is.
        metric: the mean over the periods decides.
    """

    selection_periods: Annotated[int, Field(ge=1)] = 2
    minimum_periods: Annotated[int, Field(ge=2)] = 8
    metric: Literal["roc_auc", "log_loss"] = "roc_auc"


class Calibration(Section):
    """How probabilities are corrected, on the last `periods` of the rolling comparison.

    Taken only if it lowers the log loss of each of these periods when fitted on the others.
    """

    method: CalibrationMethod = "platt"
    periods: Annotated[int, Field(ge=2)] = 3


class Tune(Section):
    """How the winner's settings are searched; whichever budget is used up first ends it."""

    enabled: bool = False
    trials: Annotated[int, Field(ge=1)] = 30
    seconds: Annotated[int, Field(ge=1)] = 600


class Endpoint(Section):
    """How the endpoint answers.

    Attributes:
        model_seconds: a call of the model that takes longer is given up.
    """

    model_seconds: Annotated[float, Field(gt=0, le=5)] = 2.0


class Decision(Section):
    """What an error costs; the threshold follows from it (Elkan 2001)."""

    cost_false_positive: Annotated[float, Field(gt=0)]
    cost_false_negative: Annotated[float, Field(gt=0)]


class Contract(Section):
    """When a batch is refused whole.

    Attributes:
        tolerance: how many times further from the reference than its own periods are from each
            other a batch may be; larger means fewer false alarms.
        reference_periods: the nearest periods that a batch is compared with.
        minimum_periods: with fewer of them the rules that compare are skipped.
        quarantine_share: the largest share of rows that may break a row rule.
        leak: ROC-AUC beyond which a field that alone predicts the label must come from afterwards.
    """

    tolerance: Annotated[float, Field(ge=1)] = 3.0
    reference_periods: Annotated[int, Field(ge=2)] = 12
    minimum_periods: Annotated[int, Field(ge=2)] = 4
    quarantine_share: Share = 0.1
    leak: Annotated[float, Field(gt=0.5, le=1)] = 0.9


class Importance(Section):
    """How the importance of fields is measured, and how far it may move from the champion's.

    Attributes:
        repeats: shuffles of each field.
        maximum_shift: the largest part of all importance that may be with other fields.
    """

    repeats: Annotated[int, Field(ge=1)]
    maximum_shift: Share


class Governor(Section):
    """When an alarm is worth a retrain; counted in periods.

    Attributes:
        cooldown_periods: a younger champion is left alone; after a retrain that did not help, too,
            twice as long after each further one.
        maximum_age_periods, maximum_age_share: a champion is too old at that age, or at that share
            of the periods that it was trained on if these are more.
        monthly_retrains, monthly_seconds: with as many in the last 30 days, or as much CPU time
            spent on them, no further one is started.
        recalibration_gap: log odds, or standard deviations of a number, by which the served level
            has to be off for a recalibration.
        recalibration_shrink: the share of a gap in level that a recalibration takes over.
    """

    consecutive_alarms: Annotated[int, Field(ge=1)]
    cooldown_periods: Annotated[int, Field(ge=0)]
    maximum_age_periods: Annotated[int, Field(ge=1)]
    maximum_age_share: Annotated[float, Field(ge=0)] = 0.0
    monthly_retrains: Annotated[int, Field(ge=1)] = 3
    monthly_seconds: Annotated[float, Field(gt=0)] = 7200.0
    recalibration_gap: Annotated[float, Field(ge=0)] = 0.3
    recalibration_shrink: Share = 0.5

    def oldest(self, learned: int) -> int:
        """The age, in periods, at which a champion trained on `learned` of them is too old."""
        return max(self.maximum_age_periods, ceil(self.maximum_age_share * learned))


class Approval(Section):
    """Whether a person decides before a version takes the traffic."""

    required: bool
    timeout_hours: Annotated[float, Field(gt=0)]


class Demo(Section):
    """What `make demo` replays.

    Attributes:
        recalibrations: how many are released; each takes as long as four weeks of traffic, so that
            later ones are decided, shown, and left out.
    """

    first_train: str
    last_period: str
    rows_per_request: Annotated[int, Field(ge=1, le=1000)]
    recalibrations: Annotated[int, Field(ge=0)] = 0


class Params(Section):
    """All of params.yaml."""

    problem: str
    contract: Contract
    train: Train
    candidates: Annotated[list[CandidateName], Field(min_length=3)]
    xgboost: XGBoost
    hist_gradient_boosting: HistGradientBoosting = HistGradientBoosting()
    logistic: Logistic = Logistic()
    ridge: Ridge = Ridge()
    rolling: Rolling = Rolling()
    calibration: Calibration = Calibration()
    tune: Tune = Tune()
    decision: Decision
    gates: Gates
    importance: Importance
    monitor: Monitor
    governor: Governor
    release: Release
    endpoint: Endpoint = Endpoint()
    approval: Approval
    alerts: Alerts = Alerts()
    demo: Demo

    @field_validator("candidates")
    @classmethod
    def _baselines_first(cls, names: list[CandidateName]) -> list[CandidateName]:
        linear = {"logistic", "ridge"} & set(names)
        if len(set(names)) < len(names) or "base_rate" not in names or not linear:
            raise ValueError(
                "name each candidate once, base_rate and logistic (ridge for a regression) among "
                "them"
            )
        return names


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} is there twice{node.start_mark}: keep one")
        return super().construct_mapping(node, deep)


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        EvergreenError: naming every key that is unknown, missing or has a wrong value.
    """
    try:
        content: Any = yaml.load(path.read_text(), _Loader)
    except FileNotFoundError as error:
        raise EvergreenError(f"{path} is missing: run from a checkout that has it") from error
    except yaml.YAMLError as error:
        raise EvergreenError(f"{path} is not valid YAML: {error}") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {_say(e)}" for e in error.errors()
        ]
        raise EvergreenError(f"{path}: " + "; ".join(problems)) from error


def _say(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key{_nearest(error['loc'])}"
    if error["type"] == "missing":
        return "missing key: give it a value"
    return f"{error['msg']} (is {error['input']!r})"


def _nearest(location: tuple[str | int, ...]) -> str:
    """Whatever known key looks most like the misspelt one."""
    import difflib

    model: type[BaseModel] = Params
    for part in location[:-1]:
        model = model.model_fields[str(part)].annotation  # type: ignore[assignment]
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return (
        f": did you mean {close[0]!r}?" if close else f" (known: {', '.join(model.model_fields)})"
    )
