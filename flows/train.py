"""Train as of a moment, judge, log and register: a challenger, or a version tagged rejected."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from data import digests
from data.errors import EvergreenError
from data.periods import parse_as_of
from data.watermarks import total
from flows import dossier, troubles
from flows.dossier import Judgement, Kept
from flows.forms import AsOf, Person, Reason, run_name
from flows.owner import act, author
from flows.project import Project
from flows.steps import Outcome, flow_run_id, link, progress, show, step
from models import artifact, evidence, gates
from models.artifact import Artifact, Trained
from models.evidence import Case
from models.gates import GateReport
from models.ledger import Act, Kind
from models.registry import CHAMPION, PREVIOUS, PROMOTED, Registry
from models.train import Tuning, decision_threshold
from models.train import train as fit
from models.version import JUDGED_AGAINST, Version

JUDGED_BY = "judged_by"  # the commit whose gates they were


@dataclass(frozen=True)
class Judged:
    """A registered version and what the gates said of it."""

    version: Version
    passed: bool
    reason: str

    @property
    def message(self) -> str:
        state = "may serve" if self.passed else "is rejected"
        return f"version {self.version.number} {state}: {self.reason}"


def run_train(
    project: Project,
    as_of: str | None = None,
    cause: str = "asked for",
    by: str | None = None,
    expected: str | None = None,
) -> Judged:
    """Train, judge and register; a model that is registered already is not registered twice.

    It is judged again if the champion changed since.

    Args:
        expected: the digest that the model must have, if that is known.

    Raises:
        EvergreenError: if it has another one, or cannot be trained.
    """
    made_by = author(project.settings, by)
    chosen, code = project.as_of(as_of), project.source()
    moment = parse_as_of(chosen, project.problem.label_delay)
    print(f"training {project.problem.name} as of {chosen} ({cause})")
    tuning = Tuning(project.settings.home / "tune", report=progress("tuning", "Trials of a study"))
    given = (project.problem, project.partitions, project.params, moment, tuning)
    trained = step(fit, *given, project.settings.dask)
    labels = total(project.partitions, trained.windows.periods, moment)
    print(f"labels as of {chosen}: {labels.say()}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artefact"
        digest = artifact.write(trained, project.problem, project.params, path)
        _refuse_other_than(expected, digest)
        champion = project.registry.alias(CHAMPION)
        if same := project.registry.find(digest, or_dirty=code.dirty):
            print(f"version {same.number} is this very model ({digest[:16]})")
            if stands(project.registry, same, champion, code.commit):
                return known(project.registry, same)
        challenger = artifact.load(path)
        report = step(_judge, project, trained, challenger, champion)
        found, shift = step(dossier.importances, project, trained, challenger, champion)
        report = report.and_also(shift).and_also(gates.git_clean(code.commit, code.changed))
        show("gates", report.to_markdown(), f"Gates of the model as of {chosen}: {report.reason}")
        # The partitions were read, so their bytes are whole: a snapshot holds them from now on.
        lineage = project.lineage(code, step(project.record, "train"))
        about = {"as_of": chosen, "cause": cause, "author": made_by, "labels": labels.say()}
        tags = {**lineage, **_decisions(trained), **about, "prefect_run": flow_run_id()}
        kept = step(dossier.keep, project, Judgement(challenger, trained, report, found, tags))
    done = act(project.settings, report.reason[:5000], made_by)
    judged = step(register, project.registry, kept, report, champion, tags, done)
    _link(project, kept.run_id, judged.version)
    print(judged.message)
    return judged


def _link(project: Project, run_id: str, version: Version) -> None:
    link("mlflow-run", run_url(project, run_id), f"MLflow run of version {version.number}")


def _refuse_other_than(expected: str | None, digest: str) -> None:
    if expected is not None and digest != expected:
        raise EvergreenError(
            f"the model comes out as {digest[:16]}, not as {expected[:16]}: data/raw or the "
            "packages are not those of then; nothing was registered"
        )


def stands(registry: Registry, known: Version, champion: Version | None, commit: str) -> bool:
    """Whether a version's verdict still counts: it serves, did before, or would replace the same.

    A refusal counts for its own commit only: another one may have other gates. What served before
    comes back by a rollback, not by a new judgement.
    """
    current = champion.number if champion else None
    if known.number == current:
        return True
    if known.judged_against == current:
        return known.tags.get("gates") == "passed" or known.tags.get(JUDGED_BY) == commit
    before = registry.alias(PREVIOUS)
    return before is not None and before.number == known.number


def known(registry: Registry, version: Version) -> Judged:
    """What was said of it; a run killed before it named its challenger is completed."""
    passed = version.tags.get("gates") == "passed"
    if passed and not registry.aliases(version) and PROMOTED not in version.tags:
        registry.challenge(version)
    return Judged(version, passed, version.tags.get("reason", "registered before"))


def _judge(
    project: Project, trained: Trained, challenger: Artifact, champion: Version | None
) -> GateReport:
    """The verdicts on rows that are read again; only the simpler candidates are the training's."""
    params = project.params
    seen = evidence.gather(project.problem, project.partitions, params, trained.windows.as_of)
    case = Case(
        problem=project.problem,
        challenger=challenger,
        champion=artifact.load(project.registry.folder(champion)) if champion else None,
        seen=seen,
        holdout=trained.holdout,
        scores=trained.holdout_scores,
        params=params.gates,
        decision=decision_threshold(params),
        seed=params.train.seed,
        calibration=evidence.calibration_due(trained.rolling, seen, params),
    )
    return gates.judge(case)


def _decisions(trained: Trained) -> dict[str, str]:
    """What was taken, why, and from which partitions, as tags."""
    return {
        "partitions": digests.digest_of(dict(trained.fingerprint)),
        "candidate": trained.choice.kind,
        "tuned": str(trained.choice.tuned).lower(),
        "choice": trained.choice.reason[:5000],
        "calibration": f"{trained.calibration.method}: {trained.calibration.reason}"[:5000],
    }


def register(
    registry: Registry,
    kept: Kept,
    report: GateReport,
    champion: Version | None,
    lineage: Mapping[str, str],
    done: Act,
) -> Judged:
    verdict = {
        **report.to_tags(),
        "gates": "passed" if report.passed else "rejected",
        "reason": report.reason[:5000],
        JUDGED_AGAINST: champion.number if champion else "none",
        JUDGED_BY: lineage.get("git_sha", "none"),
    }
    tags = {**lineage, **verdict}
    version = registry.register(kept.run_id, report.digest, tags, kept.summary)
    if verdict.items() - version.tags.items():  # it was registered before, and is judged again
        registry.tag(version, verdict)
        version = registry.get(version.number)
    if report.passed:
        registry.challenge(version)
    else:
        registry.record(Kind.REJECTED, version, done, version.judged_against)
    return Judged(version, report.passed, report.reason)


def run_url(project: Project, run_id: str) -> str:
    experiment = project.registry.tracking.experiment()
    return f"{project.settings.url('mlflow')}/#/experiments/{experiment}/runs/{run_id}"


@flow(
    name="train",
    flow_run_name=run_name("train", "as_of", "cause"),
    **troubles.TOLD,
)
def train(
    as_of: AsOf | None = None, cause: Reason = "asked for", by: Person | None = None
) -> Outcome:
    """Train and judge a challenger; nothing serves because of it.

    Args:
        as_of: a period (2013-W08) or a timestamp; without it the newest labelled period.
        cause: why, for the log.
        by: who asks for it: the author of the version.
    """
    judged = run_train(Project.open(), as_of, cause, by)
    return Outcome(judged.message, judged.passed)
