"""Why the endpoint gave one answer: its version's own artefact is asked again."""

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bento import predictions
from bento.contract import Decoder
from bento.engines import TOLERANCE
from bento.explain import Explainer, Explanation, decode
from bento.predictor import Predictor
from data.errors import EvergreenError
from flows.project import Project


@dataclass(frozen=True)
class Explained:
    """One logged answer with its explanation; `target` names the positive class."""

    record: dict[str, Any]
    target: str
    explanation: Explanation

    def to_json(self) -> dict[str, Any]:
        """The object that `/explain` answers, with the request's id."""
        record, key = self.record, self.record["key"]
        return {
            "request_id": record["request_id"],
            **({} if key is None else {"key": key}),
            "model_version": record["model_version"],
            "digest": record["digest"],
            self.target: record["decision"],
            **self.explanation.to_json(),
        }


def run_explain(project: Project, request_id: str) -> Explained:
    """Explain a logged answer with the verified artefact of the version that gave it.

    Raises:
        EvergreenError: if there is no such answer, the model did not give it, or its version is not
            what answered.
    """
    record = predictions.find(project.settings.serving.folder, request_id)
    if record is None:
        raise EvergreenError(
            f"{request_id!r} is no request id in the prediction log: take it from an answer"
        )
    if record["degraded"]:
        raise EvergreenError(
            f"{request_id} was answered with the base rate because the model failed: there is "
            "nothing to explain"
        )
    version = project.registry.get(record["model_version"])
    folder = project.registry.folder(version)
    predictor = Predictor.load(folder, batches=False)
    if predictor.digest != record["digest"]:
        raise EvergreenError(
            f"{request_id} was answered by {record['digest'][:16]}, but version {version.number} "
            f"is {predictor.digest[:16]}: restore var/mlflow from the backup of that time"
        )
    row = decode(Decoder(predictor.contract.fields), record["row"])
    found = Explainer.load(folder, predictor).explain(row)
    if abs(found.probability - record["probability"]) > TOLERANCE:
        raise EvergreenError(
            f"{request_id} was answered with {record['probability']!r}, but its model gives "
            f"{found.probability!r} here: explain it on the machine that answered"
        )
    return Explained(record, predictor.contract.target, found)


def render(explained: Explained) -> RenderableType:
    """The contributions as a table, with the values that were sent."""
    record, found = explained.record, explained.explanation
    table = Table("field", "value")
    table.add_column("log-odds", justify="right")
    for part in found.contributions:
        value = record["row"].get(part.field)
        shown = Text("missing", style="dim") if value is None else Text(str(value))
        style = "red" if part.log_odds > 0 else "green"
        table.add_row(part.field, shown, Text(f"{part.log_odds:+.3f}", style=style))
    said = f"{explained.target}" if record["decision"] else f"not {explained.target}"
    head = (
        f"{record['request_id']}: probability {found.probability:.4f}, so {said}; version "
        f"{record['model_version']}"
    )
    total = (
        f"typical events {found.base_log_odds:+.3f}, with all contributions {found.log_odds:+.3f} "
        "log-odds"
    )
    return Group(Text(head), table, Text(total))
