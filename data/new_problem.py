"""A draft written down: the problem's file, its parameters and its pipeline."""

import io
import runpy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from data.bounds import WISHED, holdout
from data.digests import write_atomically
from data.draft import Draft
from data.drafted import to_python
from data.errors import EvergreenError
from data.params import load_params
from data.pipelines import NAME, pipeline
from data.problem import Problem
from data.timing import SLICE_ROWS

BOOSTED = ("hist_gradient_boosting", "xgboost")
COMPARED = 2000  # rows; of fewer the best candidate is often best by chance
ALL = 0.7  # of the usual number of rows: so many are there in a poor period, too


@dataclass(frozen=True)
class Written:
    """The files of a new problem."""

    problem: Path
    params: Path
    pipeline: Path


def places(checkout: Path, name: str, *, force: bool) -> Written:
    """Where a problem's files belong.

    Raises:
        EvergreenError: if the name is none, is taken by Evergreen's own code, or by a problem that
            is there already.
    """
    if not NAME.fullmatch(name):
        raise EvergreenError(
            f"{name!r} is no name of a problem: use small letters, digits and _, such as churn"
        )
    folder = checkout / "problems" / name
    found = Written(checkout / f"data/{name}.py", folder / "params.yaml", folder / "dvc.yaml")
    if found.problem.exists() and not folder.exists():
        raise EvergreenError(f"{found.problem} is a file of Evergreen's own: choose another name")
    there = [path for path in (found.problem, found.params, found.pipeline) if path.exists()]
    if there and not force:
        raise EvergreenError(
            f"{', '.join(map(str, there))} is there already: choose another name, or say --force "
            "to write it anew"
        )
    return found


def write(draft: Draft, checkout: Path, *, force: bool = False) -> Written:
    """Write the files, if what is in them can be read back.

    Raises:
        EvergreenError: as for `places`, or if the parameters do not fit this code.
    """
    files = places(checkout, draft.name, force=force)
    default = (checkout / "params.yaml").read_text()
    texts = {
        files.problem: to_python(draft),
        files.params: with_values(default, parameters(draft)),
        files.pipeline: pipeline((checkout / "dvc.yaml").read_text(), draft.name),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for path, text in texts.items():
            (Path(scratch) / path.name).write_text(text)
        assert isinstance(
            runpy.run_path(str(Path(scratch) / files.problem.name))["PROBLEM"], Problem
        )
        load_params(Path(scratch) / files.params.name)
    files.params.parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_atomically(path, text)
    return files


def parameters(draft: Draft) -> dict[str, Any]:
    """What of params.yaml depends on the table, by its dotted key."""
    when = draft.timing
    number, usual = len(when.learned), when.usual
    held = holdout(usual, number, when.frequency)
    rows = usual * number
    judged = max(min(500, int(ALL * usual * held)), 50)
    spare = number - held - 2  # periods that comparing and calibrating may have
    calibration, selection = 3 if spare >= 5 else 2, 2 if spare >= 4 else 1
    wanted = min(ceil(COMPARED / usual), WISHED)
    selection = max(selection, min(wanted, spare - calibration - 6))
    rolling = min(8, max(spare + 2 - selection - calibration, 2))
    first_train = max(min(int(0.6 * number), number - 2), rolling + 5 + held, 5) - 1
    learned = usual * (number - held)
    amount = draft.outcome.task.kind == "regression"
    linear = "ridge" if amount else "logistic"
    coverage = min(when.coverage[name] for name in when.learned)
    return {
        "problem": f"data/{draft.name}.py",
        "contract.leak": round(min(max(0.9, draft.within + 0.04), 0.99), 2),
        "train.as_of": when.last,
        "train.first_period": when.first,
        "train.holdout_periods": held,
        "train.minimum_periods": max(min(4, number - held), 2),
        "train.minimum_label_coverage": round(min(0.9, max(coverage - 0.02, 0.0)), 2),
        "candidates": ["base_rate", *([*BOOSTED, linear] if when.few else [linear, *BOOSTED])],
        "xgboost.min_child_weight": _child_weight(draft, rows),
        "xgboost.max_depth": 6 if rows > 20_000 else 4 if rows > 3_000 else 3,
        "hist_gradient_boosting.min_samples_leaf": int(min(100, max(rows // 300, 10))),
        "rolling.minimum_periods": number if when.few else rolling,
        "rolling.selection_periods": selection,
        "rolling.metric": "log_loss" if amount else "roc_auc",  # a ranking tells no size
        "calibration.periods": calibration,
        "gates.minimum_rows": judged,
        "gates.slice_past_rows": min(SLICE_ROWS, int(ALL * learned)),
        "gates.slice_rows": min(100, judged),
        "gates.slice_fit_margin": round(0.01 + 120 / rows, 3),  # the yardstick overfits few rows
        "gates.permutation_bound": round(max(0.25, draft.alone - 0.4), 2),
        "gates.plausible_auc": round(min(max(0.95, draft.alone + 0.03), 0.995), 3),
        "gates.parity_rows": int(min(4000, max(judged, 100))),
        "gates.single_field_auc": round(min(max(0.67, draft.alone + 0.05), 0.99), 2),
        "monitor.minimum_rows": max(min(300, int(0.5 * usual)), 30),
        "demo.first_train": when.learned[min(first_train, number - 2)],
        "demo.last_period": when.last,
    }


def _child_weight(draft: Draft, rows: int) -> float:
    """What a leaf needs: rows for a number; of an event a row counts its variance, 1/4 at most."""
    if draft.outcome.task.kind == "regression":
        return float(min(250, max(rows // 50, 10)))
    return float(min(50, max(rows // 1000, 3)))


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """params.yaml with other values; its comments stay.

    Raises:
        EvergreenError: naming a key that it does not have.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(text)
    for dotted, value in values.items():
        *sections, key = dotted.split(".")
        place = content
        for section in sections:
            place = place[section]
        if key not in place:
            raise EvergreenError(f"params.yaml has no {dotted}: bring it back from git")
        if isinstance(value, list):
            place[key].clear()
            place[key].extend(value)
        else:
            place[key] = value
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()
