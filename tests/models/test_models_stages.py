"""The stages of dvc.yaml: they run without any server, and depend on all that they import."""

import ast
import json
from pathlib import Path

import pytest
import yaml

from data import ingest, validate
from data.errors import EvergreenError
from data.partitions import Partitions
from models import artifact, evaluate, train
from models.figures import CURVE_POINTS

ROOMS = ("data", "models", "bento", "flows")


def run(module, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_the_four_stages_make_a_model_from_nothing(tmp_path, monkeypatch, params, good, contents):
    content = params.model_dump()
    content["train"]["as_of"] = "2024-W08"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    given = ("--params", tmp_path / "params.yaml", "--raw", tmp_path / "raw")
    out = tmp_path / "out"
    with pytest.raises(EvergreenError, match="run `evergreen ingest 2024-W01`"):
        run(validate, monkeypatch, *given, "--out", out / "data.json")
    run(ingest, monkeypatch, *given)
    before = contents(tmp_path / "raw")
    run(ingest, monkeypatch, *given)
    assert contents(tmp_path / "raw") == before
    assert len(Partitions(tmp_path / "raw").periods()) == 8
    run(validate, monkeypatch, *given, "--out", out / "data.json")
    assert len(json.loads((out / "data.json").read_text())["periods"]) == 8
    run(train, monkeypatch, *given, "--out", out, "--studies", tmp_path / "tune")
    assert artifact.load(out / "model").digest == good.digest
    scored = out / "holdout.parquet"
    asked = (*given[:2], "--holdout", scored, "--out", out / "evaluation")
    run(evaluate, monkeypatch, *asked)
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    trained = good.trained
    assert metrics == evaluate.summary(
        trained.holdout_table(), trained.rolling, params, trained.task
    )
    short = json.loads((out / "evaluation" / "headline.json").read_text())
    assert short == evaluate.headline(metrics)
    assert (short["roc_auc"], short["cost"]) == (
        metrics["challenger"]["roc_auc"],
        metrics["decision"]["cost"],
    )
    roc = json.loads((out / "evaluation" / "roc.json").read_text())
    assert (roc[0]["tpr"], roc[-1]["fpr"]) == (0, 1) and len(roc) <= CURVE_POINTS


def imported(path: Path, root: Path) -> set[Path]:
    """Files of the rooms that a file imports directly, when it runs; not those for typing only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for part in block.body
        for node in ast.walk(part)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    files = {root / f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] in ROOMS}
    return {file for file in files if file.is_file()}


def reached(start: Path, root: Path) -> set[Path]:
    found, waiting = set(), [start]
    while waiting:
        if (path := waiting.pop()) not in found:
            found.add(path)
            waiting += imported(path, root)
    return found


@pytest.fixture(scope="module")
def stages(root) -> dict[str, dict]:
    return yaml.safe_load((root / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("name", ["ingest", "validate", "train", "evaluate"])
def test_a_stage_depends_on_every_file_that_it_runs(name, stages, root):
    stage, problem = stages[name], yaml.safe_load((root / "params.yaml").read_text())["problem"]
    module = next(word for word in stage["cmd"].split() if word.startswith(("data.", "models.")))
    needed = reached(root / f"{module.replace('.', '/')}.py", root)
    deps = {dep.replace("${problem}", problem) for dep in stage["deps"]}
    if problem in deps:
        needed |= reached(root / problem, root)
    declared = {root / dep for dep in deps if dep.endswith(".py")}
    assert {str(p.relative_to(root)) for p in needed - declared} == set()
    assert {str(p.relative_to(root)) for p in declared - needed} == set()


def test_all_stages_are_looked_at_and_their_parameters_exist(stages, root):
    assert set(stages) == {"ingest", "validate", "train", "evaluate"}
    content = yaml.safe_load((root / "params.yaml").read_text())
    for stage in stages.values():
        for key in stage.get("params", []):
            value = content
            for part in key.split("."):
                value = value[part]


def test_no_package_file_holds_code_that_no_stage_depends_on(root):
    for room in ROOMS:
        body = ast.parse((root / room / "__init__.py").read_text()).body
        assert [type(node) for node in body] == [ast.Expr]
