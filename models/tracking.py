"""A training run in MLflow: parameters, data, metrics, pictures and the artefact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import mlflow.data
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from models.tune import Trial

ARTIFACT = "artefact"
REGISTERED = "registered"


@dataclass(frozen=True)
class Tracking:
    """Where runs and model versions are kept.

    Attributes:
        uri: the tracking and registry store, such as `sqlite:////…/mlflow.db`.
        artifacts: the folder of run artefacts, or an address such as `s3://bucket/mlflow`; used
            when the experiment is first made.
        model: the registered model's and the experiment's name.
    """

    uri: str
    artifacts: Path | str
    model: str

    def client(self) -> MlflowClient:
        """A client of this store; `mlflow.*` calls in this process go there too."""
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        return MlflowClient(self.uri, self.uri)

    def experiment(self) -> str:
        """The id of the model's experiment, made when it is not there."""
        client = self.client()
        found = client.get_experiment_by_name(self.model)
        if found is not None:
            return str(found.experiment_id)
        place = self.artifacts
        where = place.absolute().as_uri() if isinstance(place, Path) else place
        return str(client.create_experiment(self.model, where))


def log_training(
    tracking: Tracking,
    *,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    holdout: "pd.DataFrame",
    figures: "Mapping[str, Figure]",
    registered: Path,
    texts: Mapping[str, str] | None = None,
    trials: "Sequence[Trial]" = (),
    metric: str = "value",
) -> str:
    """Log one training run as finished; its run id.

    Args:
        registered: the signed folder of the version: artefact, card and gate report.
        texts: further files to keep with the run, by name.
        trials: of the study, each logged as a run below this one with its `metric`.
    """
    experiment = tracking.experiment()
    with mlflow.start_run(experiment_id=experiment, run_name=name, tags=dict(tags)) as run:
        mlflow.log_params(flatten(params))
        mlflow.log_metrics(dict(metrics))
        # as float, or MLflow warns that integers cannot be missing
        data = mlflow.data.from_pandas(  # type: ignore[attr-defined]
            holdout.astype({"label": float}), name="holdout", digest=tags["snapshot"][:36]
        )
        mlflow.log_input(data, context="evaluation")
        for title, figure in figures.items():
            mlflow.log_figure(figure, f"plots/{title}.png")
        for title, text in (texts or {}).items():
            mlflow.log_text(text, title)
        mlflow.log_artifacts(str(registered), REGISTERED)
        _log_trials(tracking, experiment, str(run.info.run_id), trials, metric)
        return str(run.info.run_id)


def _log_trials(
    tracking: Tracking, experiment: str, parent: str, trials: "Sequence[Trial]", metric: str
) -> None:
    client = tracking.client()
    for trial in trials:
        tags = {MLFLOW_PARENT_RUN_ID: parent, "state": trial.state}
        run = client.create_run(experiment, run_name=f"trial {trial.number}", tags=tags)
        settings = [Param(name, str(value)) for name, value in trial.settings.items()]
        values = [] if trial.value is None else [Metric(metric, abs(trial.value), 0, 0)]
        client.log_batch(run.info.run_id, metrics=values, params=settings)
        client.set_terminated(run.info.run_id)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
