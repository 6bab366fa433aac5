"""Move the champion's level towards that of the newest labels: a release like any other."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml
from prefect import flow

from data import digests, windows
from data.contracts import KEY
from data.errors import EvergreenError
from data.periods import Period, parse_as_of
from flows import dossier, troubles
from flows.dossier import Kept
from flows.forms import AsOf, Person, Reason, run_name
from flows.lineage import files_of
from flows.owner import act, author
from flows.project import Project
from flows.retrain import changing, release_judged
from flows.steps import Outcome, flow_run_id, link, show, step
from flows.train import Judged, known, register, run_url, stands
from models import artifact, card, evaluate, gates, gates_shifted, shifted, tracking
from models.artifact import Artifact
from models.card import Evidence
from models.evidence import Case
from models.gates import GateReport
from models.governor import Action
from models.registry import CHAMPION
from models.shifted import Learned
from models.train import decision_threshold
from models.verdict import Verdict
from models.version import RECALIBRATED_FROM, Version
from models.yardstick import Noise, Seen

TAKEN_OVER = ("candidate", "tuned", "choice")


@dataclass(frozen=True)
class Base:
    """The champion's model as it was trained, and what the gates said of it then."""

    version: Version
    model: Artifact
    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(cls, project: Project, champion: Version) -> "Base":
        version = project.registry.get(champion.trained)
        folder = project.registry.registered(version)
        report = json.loads((folder / dossier.GATES).read_text())
        model = artifact.load(folder / tracking.ARTIFACT)
        return cls(version, model, tuple(gates_shifted.of_report(report)))


def run_recalibrate(
    project: Project, as_of: str | None = None, cause: str = "asked for", by: str | None = None
) -> Outcome:
    """Recalibrate the champion and release it if it passes; what came of it, in a sentence.

    Raises:
        EvergreenError: if nothing serves, or no newer labels have matured.
    """
    judged = judge(project, as_of, cause, by)
    said = f"recalibrated as of {judged.version.tags['as_of']}"
    return release_judged(project, judged, said, by)


def judge(project: Project, as_of: str | None, cause: str, by: str | None) -> Judged:
    """Make, judge and register the recalibrated champion; the same one is not registered twice."""
    made_by = author(project.settings, by)
    chosen, code = project.as_of(as_of), project.source()
    moment = parse_as_of(chosen, project.problem.label_delay)
    champion = project.registry.alias(CHAMPION)
    if champion is None:
        raise EvergreenError("nothing serves that could be recalibrated: run `evergreen retrain`")
    base = Base.of(project, champion)
    number, partitions = base.version.number, project.partitions
    given = (base.model, number, project.problem, partitions, project.params, moment)
    learned = step(shifted.find, *given)
    said = learned.shift.message(base.model.task)
    print(said)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        digest = shifted.write(base.model, learned.shift, folder / "artefact")
        if same := project.registry.find(digest, or_dirty=code.dirty):
            print(f"version {same.number} is this very model ({digest[:16]})")
            if stands(project.registry, same, champion, code.commit):
                return known(project.registry, same)
        challenger = artifact.load(folder / "artefact")
        case = _case(project, base, challenger, champion, learned)
        report = step(gates_shifted.judge, case, base.model, learned, base.verdicts)
        report = report.and_also(gates.git_clean(code.commit, code.changed))
        show("gates", report.to_markdown(), f"Gates of the recalibration: {report.reason}")
        tags = {
            **project.lineage(code, step(project.record, "recalibrate")),
            **{name: base.version.tags.get(name, "unknown") for name in TAKEN_OVER},
            RECALIBRATED_FROM: number,
            "calibration": said,
            "as_of": chosen,
            "cause": cause,
            "author": made_by,
            "prefect_run": flow_run_id(),
            "partitions": digests.digest_of(files_of(challenger.training)),
            "labels": f"{learned.shift.rows} of {learned.shift.period}",
        }
        kept = step(_keep, project, case, base.model, report, tags, folder)
    done = act(project.settings, report.reason[:5000], made_by)
    judged = step(register, project.registry, kept, report, champion, tags, done)
    link("mlflow-run", run_url(project, kept.run_id), f"MLflow run of {judged.version.number}")
    print(judged.message)
    return judged


def _case(
    project: Project, base: Base, challenger: Artifact, champion: Version, learned: Learned
) -> Case:
    """What was learned from stands in for the rows of a training; nothing is left to chance."""
    shift, params, rows = learned.shift, project.params, learned.rows
    newest = (Period.parse(shift.period),)
    moment = parse_as_of(shift.as_of, project.problem.label_delay)
    window = windows.Windows(moment, newest, newest)
    return Case(
        problem=project.problem,
        challenger=challenger,
        champion=artifact.load(project.registry.folder(champion)),
        seen=Seen(window, rows, len(rows), base.model.task, base.model.features, shift.partitions),
        holdout=rows,
        scores={},
        params=params.gates,
        decision=decision_threshold(params),
        seed=params.train.seed,
        chance=Noise(),
    )


def _keep(
    project: Project,
    case: Case,
    base: Artifact,
    report: GateReport,
    tags: Mapping[str, str],
    folder: Path,
) -> Kept:
    """Write the card, sign it with the artefact and the gate report, and log all of it."""
    held, params = case.holdout, project.params
    scores = {"challenger": case.score, "trained": base.score(held.columns)}
    if case.champion_score is not None:
        scores["champion"] = case.champion_score
    described = card.build(
        Evidence(case.challenger, case.problem, held, scores, report, (), tags, params)
    )
    name = f"recalibrate {tags['as_of']}"
    task = case.challenger.task
    table = pd.DataFrame({KEY: held.keys, "day": held.day, "label": held.label})
    for column, score in scores.items():
        table = table.assign(**task.put(column, score))
    run_id = tracking.log_training(
        project.registry.tracking,
        name=name,
        params={"shift": case.challenger.training[shifted.RECORD]["shift"]},
        metrics=evaluate.flat(evaluate.summary(table, pd.DataFrame(), params, task)),
        tags={**tags, "digest": report.digest},
        holdout=table,
        figures={},
        registered=dossier.signed(project, case.challenger, report, described, folder),
        texts={**dossier.pages(report, name), dossier.PARAMS: yaml.safe_dump(params.model_dump())},
    )
    return Kept(run_id, dossier.shown(described))


@flow(
    name="recalibrate",
    flow_run_name=run_name("recalibrate", "as_of", "cause"),
    **troubles.TOLD,
)
def recalibrate(
    as_of: AsOf | None = None,
    cause: Reason = "asked for",
    by: Person | None = None,
    key: str = "",
) -> Outcome:
    """Move the champion's level towards that of the newest labels, and release it if it passes.

    Args:
        as_of: a period (2013-W10) or a timestamp; without it the newest labelled period.
        cause: why, for the log.
        by: who asks for it, for the ledger; where identities are on, somebody else approves.
        key: of what the monitor asked for; the same is done once.
    """
    project = Project.open()
    chosen = project.as_of(as_of)

    def work() -> Outcome:
        return run_recalibrate(project, chosen, cause, by)

    outcome = changing(project, Action.RECALIBRATE, chosen, cause, key, work)
    print(outcome.message)
    return outcome
