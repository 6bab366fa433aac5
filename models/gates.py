"""May this challenger serve? Each gate is a frozen verdict; acting on it is somebody else's job.

| file | gates |
|---|---|
| gates_artifact.py | schema, finite, serving_parity, golden, latency, size, git_clean |
| gates_leakage.py | windows, banned_columns, fitted_state, single_field_auc, plausible_auc |
| gates_quality.py | against simpler models, yardstick and champion; overfit, calibration |
| gates_slices.py | slice_bias, slice_fit, slice_regression |
| gates_behaviour.py | missing values, unseen categories, noise, permutation |

Each judges every kind of task, in that task's own terms: see `data.task`. What a recalibrated model
has to pass is in `gates_shifted.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from models import gates_artifact as of_artifact
from models import gates_behaviour as of_behaviour
from models import gates_leakage as of_leakage
from models import gates_quality as of_quality
from models import gates_slices as of_slices
from models.evidence import YARDSTICK, Case
from models.gates_artifact import git_clean
from models.quality import calibration_points, measure
from models.standing import NEVER_WAIVED
from models.verdict import GateReport, Verdict, waived

__all__ = ["GATES", "NEVER_WAIVED", "Case", "GateReport", "Verdict", "git_clean", "judge", "waived"]

Gate = Callable[[Case], Verdict | None]


GATES: Mapping[str, Gate] = {
    "schema": of_artifact.schema,
    "finite": of_artifact.finite,
    "windows": of_leakage.windows,
    "banned_columns": of_leakage.banned_columns,
    "fitted_state": of_leakage.fitted_state,
    "single_field_auc": of_leakage.single_field_auc,
    "plausible_auc": of_leakage.plausible_auc,
    "beats_base_rate": of_quality.beats_base_rate,
    "beats_logistic": of_quality.beats_logistic,
    "not_worse_than_yardstick": of_quality.not_worse_than_yardstick,
    "not_worse_than_champion": of_quality.not_worse_than_champion,
    "log_loss": of_quality.log_loss,
    "overfit": of_quality.overfit,
    "holdout_untouched": of_quality.holdout_untouched,
    "calibration": of_quality.calibration,
    "calibration_level": of_quality.calibration_level,
    "calibration_slope": of_quality.calibration_slope,
    "slice_bias": of_slices.slice_bias,
    "slice_fit": of_slices.slice_fit,
    "slice_regression": of_slices.slice_regression,
    "missing_values": of_behaviour.missing_values,
    "unseen_categories": of_behaviour.unseen_categories,
    "noise": of_behaviour.noise,
    "permutation": of_behaviour.permutation,
    "serving_parity": of_artifact.serving_parity,
    "golden": of_artifact.golden,
    "latency": of_artifact.latency,
    "size": of_artifact.size,
}


def judge(case: Case) -> GateReport:
    """Put a challenger through every gate; `git_clean`, which needs a checkout, is added after.

    A gate that cannot be computed is unknown, which blocks.
    """
    found = [judged(name, case) for name in GATES]
    verdicts = tuple(verdict for verdict in found if verdict is not None)
    champion = case.champion.digest if case.champion else None
    report = GateReport(case.challenger.digest, champion, verdicts, task=case.task)
    try:
        return replace(report, **_details(case))
    except Exception:  # what could not be computed has blocked already
        return report


def _details(case: Case) -> dict[str, Any]:
    """What the page shows besides: every model on the same rows, slices, calibration."""
    scores = {"challenger": case.score}
    if case.champion_score is not None:
        scores["champion"] = case.champion_score
    # what training says of its own challenger is not looked at
    scores = {**scores, YARDSTICK: case.yardstick_score, **{**case.scores, **scores}}
    label, task = case.holdout.label, case.task
    return {
        "qualities": {name: measure(label, score, task) for name, score in scores.items()},
        "slices": case.slices,
        "curves": {name: calibration_points(label, score, task) for name, score in scores.items()},
    }


def judged(name: str, case: Case) -> Verdict | None:
    """What one gate says; None where it does not apply."""
    try:
        return GATES[name](case)
    except Exception as error:  # whatever a broken artefact leads to, it must not serve
        reason = f"could not be judged: {type(error).__name__}: {error}"
        return Verdict(name, None, None, 0.0, 0, None, reason)
