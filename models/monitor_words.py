"""What the monitor's page calls things, by kind of task."""

from data.task import Task

QUESTIONS = {
    "contract": ("Is the data still what it should be?", "worst excess over what is allowed"),
    "feature_drift": ("Do the features look as they did in training?", "times the usual distance"),
    "score_drift": ("Are the answers distributed as in training?", "PSI of the scores"),
    "estimated_quality": ("What would the answers alone suggest?", "estimated {estimate}"),
    "quality": ("How good were the answers, now that the outcomes are known?",
                "how much worse than the reference's median"),
    "calibration": ("Are the {answers} too high or too low?", "gap, in {unit} or errors"),
    "concept_drift": ("Do the outcomes still follow from the features?", "evidence against it"),
    "skew": ("Is what was served what training would compute?", "share of rows that differ"),
    "endpoint": ("Is the endpoint healthy?", "share of failures"),
    "label_arrival": ("Have the outcomes arrived?", "share of labels"),
    "model_age": ("How old is the model?", "periods since it learned"),
}  # fmt: skip
NEXT = {
    "retrain": "A retrain was asked for; the gates decide whether its model takes the traffic.",
    "recalibrate": "A recalibration was asked for: the same model with its level moved, through "
    "gates and release like any other version.",
    "wait": "Nothing has to be done.",
    "investigate": "A person should look: a retrain would learn from what is broken or unknown. "
    "Mend what the reasons name (data: `evergreen data repair`, `evergreen ingest`), then "
    "`evergreen monitor {period}`.",
}
METRICS = {"pr_auc": "PR-AUC", "brier": "Brier", "accuracy": "accuracy", "f1": "mean F1",
           "r2": "R²", "rmse": "RMSE", "mae": "MAE", "calibration_error": "ECE",
           "mean_probability": "mean probability", "mean_prediction": "mean prediction",
           "positive_rate": "rate", "mean": "mean outcome"}  # fmt: skip


def about(monitor: str, task: Task) -> tuple[str, str]:
    """A monitor's question and what its values are."""
    question, axis = QUESTIONS.get(monitor, (monitor, "value"))
    estimate = task.loss if task.kind == "regression" else task.ranking
    words = {"answers": task.answers, "unit": task.unit, "estimate": estimate}
    return question.format(**words), axis.format(**words)
