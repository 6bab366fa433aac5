"""Why the endpoint gave one answer: its version's own artefact is asked again."""

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bento import answers, predictions
from bento.contract import Decoder
from bento.engines import TOLERANCE
from bento.explain import Explainer, Explanation, decode
from bento.predictor import Predictor
from bento.records import scores
from data.errors import EvergreenError
from data.task import Task
from flows.project import Project


@dataclass(frozen=True)
class Explained:
    """One logged answer with its explanation; `target` names the decision."""

    record: dict[str, Any]
    target: str
    task: Task
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
    contract = predictor.contract
    said = scores(contract.task, [record])[0].tolist()
    if answers.gap(contract.task, found.score, said) > TOLERANCE:
        raise EvergreenError(
            f"{request_id} was answered with {said!r}, but its model gives {found.score!r} here: "
            "explain it on the machine that answered"
        )
    return Explained(record, contract.target, contract.task, found)


def render(explained: Explained) -> RenderableType:
    """The contributions as a table, with the values that were sent."""
    record, found = explained.record, explained.explanation
    table = Table("field", "value")
    number = explained.task.kind == "regression"
    unit = explained.target if number else "log-odds"
    table.add_column(unit, justify="right")
    for part in found.contributions:
        value = record["row"].get(part.field)
        shown = Text("missing", style="dim") if value is None else Text(str(value))
        style = "red" if part.effect > 0 else "green"
        table.add_row(part.field, shown, Text(f"{part.effect:+.3f}", style=style))
    head = f"{record['request_id']}: {_said(explained)}; version {record['model_version']}"
    total = f"typical events {found.base:+.3f}, with all contributions {found.value:+.3f} {unit}"
    return Group(Text(head), table, Text(total))


def _said(explained: Explained) -> str:
    """The answer in words."""
    decision, probability = explained.record["decision"], explained.explanation.probability
    if probability is None:
        return f"{explained.target} {decision:.4f}"
    if explained.task.classes:
        return f"{explained.target} {decision}, probability {probability:.4f}"
    said = f"{explained.target}" if decision else f"not {explained.target}"
    return f"probability {probability:.4f}, so {said}"
