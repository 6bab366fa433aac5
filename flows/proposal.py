"""`make ci-model`: what a change of code, parameters or data does to the model, for its reviewers.

`dvc repro` makes the model of the change, and in a tree of its own that of the base commit; the
gates judge the one with the other as champion. Nothing is registered, and no server is needed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from data import windows
from data.digests import write_atomically
from data.errors import EvergreenError, stop_on_error
from data.git import git
from data.params import load_params
from data.partitions import Partitions
from data.periods import parse_as_of
from data.problem import load_problem
from flows.settings import Settings
from models import artifact, evidence, figures, gates, gates_page
from models.artifact import Artifact
from models.evaluate import score_names
from models.evidence import Case
from models.gates import GateReport
from models.train import decision_threshold

REPORT, PAGE, BASE = "report.md", "gates.html", "base-model"
PLOTS = ("roc", "precision_recall", "calibration")
REFUSED = 3
SET = re.compile(r"[-+] *\w")  # a line of parameters in a diff
SAID = 1500  # characters of what a failed pipeline printed last


@dataclass(frozen=True)
class Made:
    """What `dvc repro` left in a tree.

    Attributes:
        headline: the figures by which tries are told apart.
        data: sha256 of each file of `data/raw`.
    """

    commit: str
    model: Artifact
    headline: Mapping[str, float | None]
    data: Mapping[str, str]


def run_proposal(settings: Settings, base: str, out: Path) -> GateReport:
    """Write report, gate page and plots of the work tree against a base commit.

    Args:
        base: any name that git knows.

    Raises:
        EvergreenError: if the base is none, or the pipeline fails.
    """
    commit = git(settings.checkout, "merge-base", base, "HEAD")
    os.environ.update(settings.child_environment())
    head = _repro(settings, settings.checkout)
    out.mkdir(parents=True, exist_ok=True)
    before, trouble = _base(settings, commit, out / BASE)
    case = _case(settings, head, before)
    report = gates.judge(case)
    write_atomically(out / PAGE, gates_page.to_html(report, f"Gates of {head.commit}"))
    plots = _plots(case, out)
    changed = _changed(settings, commit)
    write_atomically(out / REPORT, to_markdown(head, before, trouble, report, changed, plots))
    return report


def _repro(settings: Settings, tree: Path) -> Made:
    """Run the pipeline in a tree, with this environment and the checkout's cache."""
    place = settings.params.relative_to(settings.checkout)
    beside = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", str(tree / place.with_name("dvc.yaml"))],
        cwd=tree,
        env={**os.environ, **beside, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-SAID:]
        raise EvergreenError(f"`dvc repro` failed in {tree}: {said}")
    folder = tree / settings.pipeline
    headline = json.loads((folder / "evaluation" / "headline.json").read_text())
    dirty = "" if not git(tree, "status", "--porcelain", "--untracked-files=no") else " and changes"
    commit = git(tree, "rev-parse", "--short=12", "HEAD")
    raw = Partitions(tree / settings.raw.relative_to(settings.checkout))
    data = {name: str(entry["sha256"]) for name, entry in raw.manifest().items()}
    return Made(commit + dirty, artifact.load(folder / "model"), headline, data)


def _base(settings: Settings, commit: str, kept: Path) -> tuple[Made | None, str]:
    """What the base commit makes; None, and why, if it makes nothing that can be compared.

    Args:
        kept: where its model stays, whose tree goes.
    """
    shutil.rmtree(kept, ignore_errors=True)
    with _tree(settings, commit) as tree:
        try:
            made = _repro(settings, tree)
            shutil.copytree(tree / settings.pipeline / "model", kept)
            return replace(made, model=artifact.load(kept)), ""
        except (EvergreenError, OSError, ValueError) as error:
            return None, str(error)


@contextmanager
def _tree(settings: Settings, commit: str) -> Iterator[Path]:
    """A work tree of a commit, whose DVC uses the checkout's cache."""
    checkout = settings.checkout
    with tempfile.TemporaryDirectory(prefix="evergreen-base-") as scratch:
        tree = Path(scratch) / "tree"
        git(checkout, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            cache = f"[cache]\n    dir = {settings.root / 'dvc' / 'cache'}\n"
            write_atomically(tree / ".dvc" / "config.local", cache)
            yield tree
        finally:
            git(checkout, "worktree", "remove", "--force", str(tree))


def _case(settings: Settings, head: Made, before: Made | None) -> Case:
    """The gates' case: rows that are read again, and the base's model as champion."""
    params = load_params(settings.params)
    problem, partitions = load_problem(params.problem), Partitions(settings.raw)
    moment = parse_as_of(params.train.as_of, problem.label_delay)
    seen = evidence.gather(problem, partitions, params, moment)
    held = windows.load(partitions, problem, list(seen.windows.holdout), moment)
    folder = settings.checkout / settings.pipeline
    table = pd.read_parquet(folder / "holdout.parquet")
    rolling = pd.read_parquet(folder / "rolling.parquet")
    return Case(
        problem=problem,
        challenger=head.model,
        champion=before.model if before else None,
        seen=seen,
        holdout=held,
        scores={name: seen.task.take(table, name) for name in score_names(table, seen.task)},
        params=params.gates,
        decision=decision_threshold(params),
        seed=params.train.seed,
        calibration=evidence.calibration_due(rolling, seen, params),
    )


def _plots(case: Case, out: Path) -> list[str]:
    """Both models on the same held-out rows; the names of the pictures."""
    scores = {"this change": case.score}
    if case.champion_score is not None:
        scores["base"] = case.champion_score
    drawn = figures.figures(case.holdout.label, scores, {}, case.task)
    names = [name for name in PLOTS if name in drawn]
    for name in names:
        drawn[name].savefig(out / f"{name}.png", dpi=80)
    return names


def _changed(settings: Settings, commit: str) -> list[str]:
    """The parameters that differ from the base, and the names of all files that do."""
    checkout, params = settings.checkout, str(settings.params.relative_to(settings.checkout))
    lines = git(checkout, "diff", "--unified=0", commit, "--", params).splitlines()
    names = git(checkout, "diff", "--name-status", commit).splitlines()
    return [*(line for line in lines if SET.match(line)), *names]


def to_markdown(
    head: Made,
    before: Made | None,
    trouble: str,
    report: GateReport,
    changed: list[str],
    plots: list[str],
) -> str:
    verdict = "passes its gates" if report.passed else "is **refused**"
    lines = [f"## The model of this change {verdict}", "", _line(head, before, trouble), ""]
    if not report.passed:
        lines += [f"> {report.reason}", ""]
    lines += [*_data(head, before), "### Figures on the holdout", "", *_figures(head, before), ""]
    failed = [verdict for verdict in report.verdicts if not verdict.passed]
    title = f"{len(report.verdicts)} gates, {len(failed)} not passed"
    lines += ["<details><summary>" + title + "</summary>", "", report.to_markdown(), ""]
    lines += [f"A page with slices and calibration: [{PAGE}]({PAGE})", "", "</details>", ""]
    lines += ["### Plots, both models on the same rows", ""]
    lines += [f"![{name.replace('_', ' ')}]({name}.png)" for name in plots]
    lines += ["", "### Parameters and files that differ", "", "```diff", *changed[:200], "```", ""]
    return "\n".join(lines)


def _line(head: Made, before: Made | None, trouble: str) -> str:
    own = f"model `{head.model.digest[:16]}` of {head.commit}"
    if before is None:
        last = trouble.strip().splitlines()[-1][:300]
        return f"{own}; the base could not be made, so there is no comparison with it: {last}"
    if before.model.digest == head.model.digest:
        return f"{own}: **the same model**, to the bit, as that of the base {before.commit}"
    return f"{own}, against `{before.model.digest[:16]}` of the base {before.commit}"


def _data(head: Made, before: Made | None) -> list[str]:
    """How the files of `data/raw` differ, where they do."""
    if before is None or before.data == head.data:
        return []
    names = sorted({*head.data, *before.data})
    others = [name for name in names if head.data.get(name) != before.data.get(name)]
    shown = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    return [f"The data differ in {len(others)} of {len(names)} files: {shown}", ""]


def _figures(head: Made, before: Made | None) -> list[str]:
    """A table of the headline figures of both."""
    lines = ["| figure | base | this change | difference |", "|---|---:|---:|---:|"]
    earlier: Mapping[str, Any] = before.headline if before else {}
    for name in dict.fromkeys([*head.headline, *earlier]):
        own, other = head.headline.get(name), earlier.get(name)
        apart = f"{own - other:+.4f}" if own is not None and other is not None else ""
        lines.append(f"| {name} | {_number(other)} | {_number(own)} | {apart} |")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a change does to the model, as Markdown.")
    parser.add_argument("--base", default="main", help="what the change is compared with")
    parser.add_argument("--out", type=Path, default=Path("var/ci"))
    arguments = parser.parse_args()
    report = run_proposal(Settings.read(os.environ), arguments.base, arguments.out)
    print((arguments.out / REPORT).read_text())
    if not report.passed:
        sys.exit(REFUSED)


if __name__ == "__main__":
    stop_on_error(main)
