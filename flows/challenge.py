"""A try of `dvc exp` becomes a challenger: trained again from its commit, judged as any other."""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from data.digests import MANIFEST
from data.errors import EvergreenError
from data.git import git
from data.params import load_params
from data.problem import load_problem
from flows import source
from flows.project import Project
from flows.source import Source
from flows.train import Judged, run_train

EXPERIMENTS = "refs/exps/"


@dataclass(frozen=True)
class Tried(Project):
    """The project with the parameters of an experiment, whose commit is its source."""

    commit: str = "none"

    def source(self) -> Source:
        return Source(self.commit, ())


def run_challenge(project: Project, name: str, by: str | None = None) -> Judged:
    """Train an experiment's model again, hold it against the experiment's, judge and register it.

    A git tag keeps the commit, which otherwise `dvc exp remove` would let go.

    Raises:
        EvergreenError: if there is no such experiment, its code is not that of this checkout, or
            the model comes out differently; nothing is registered then.
    """
    checkout = project.settings.checkout
    commit = _commit(checkout, name)
    tried = _tried(project, commit)
    if changed := source.since(checkout, commit, tried.params.problem):
        raise EvergreenError(
            f"experiment {name} ({commit[:10]}) was made with other code than is here: "
            f"{', '.join(changed[:5])}; check out its code, or run the experiment again"
        )
    digest = _digest(project, commit, name)
    as_of = tried.params.train.as_of
    judged = run_train(tried, as_of, f"experiment {name}", by, expected=digest)
    git(checkout, "tag", "--force", f"experiment-{_plain(name)}-{commit[:8]}", commit)
    return judged


def _commit(checkout: Path, name: str) -> str:
    """The commit of an experiment, by the name that `dvc exp show` gives it."""
    listed = git(checkout, "for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS)
    found = {
        commit
        for commit, _, ref in (line.partition(" ") for line in listed.splitlines())
        if ref.rpartition("/")[2] == name and "/exec/" not in ref
    }
    if len(found) != 1:
        said = "there is no" if not found else f"{len(found)} commits are called"
        raise EvergreenError(
            f"{said} experiment {name}: `dvc exp show` lists all, `dvc exp run -n NAME` names one"
        )
    return found.pop()


def _tried(project: Project, commit: str) -> Tried:
    with tempfile.TemporaryDirectory() as scratch:
        settings = project.settings
        name = settings.params.relative_to(settings.checkout)
        path = Path(scratch) / name.name
        path.write_text(git(settings.checkout, "show", f"{commit}:{name}") + "\n")
        params = load_params(path)
    return Tried(project.settings, params, load_problem(params.problem), commit)


def _digest(project: Project, commit: str, name: str) -> str:
    """The digest of the model that the experiment made, from DVC's cache or the default remote."""
    try:
        settings = project.settings
        lock = settings.params.with_name("dvc.lock").relative_to(settings.checkout)
        content = yaml.safe_load(git(settings.checkout, "show", f"{commit}:{lock}"))
        outs = {out["path"]: out["md5"] for out in content["stages"]["train"]["outs"]}
        with project.snapshots.objects() as objects:
            listing = json.loads(objects.path(outs[f"{settings.pipeline}/model"]).read_text())
            files = {entry["relpath"]: entry["md5"] for entry in listing}
            return str(json.loads(objects.path(files[MANIFEST]).read_text())["digest"])
    except (EvergreenError, ValueError, KeyError, TypeError) as error:
        raise EvergreenError(
            f"the model of experiment {name} cannot be read ({error}): `dvc exp run` it again"
        ) from error


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)
