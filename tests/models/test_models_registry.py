"""The registry on a real MLflow store: one version per digest, and aliases that move once."""

import json

import pytest

from data.errors import EvergreenError
from models import artifact, evaluate, evidence, gates, tracking
from models.candidates import CHALLENGER as TAKEN
from models.evidence import Case
from models.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from models.tune import Trial
from tests.models.promoters import ACT, open_registry
from tests.planted import PROBLEM


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One database for the module: MLflow takes seconds to make it."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def registry(store, request) -> Registry:
    """A model of its own for every test."""
    name = request.node.name.split("[")[0]
    return open_registry(store, name)


def add(registry: Registry, digest: str):
    run = registry.tracking.client().create_run(registry.tracking.experiment())
    return registry.register(run.info.run_id, digest, {"as_of": "2024-W08"})


def aliases(registry: Registry) -> dict[str, str | None]:
    found = {name: registry.alias(name) for name in (CHALLENGER, CHAMPION, PREVIOUS)}
    return {name: version and version.number for name, version in found.items()}


def test_a_training_run_comes_back_as_the_very_artefact(registry, good, params, partitions):
    held, scores = good.trained.holdout, good.trained.holdout_scores
    table = good.trained.holdout_table()
    seen = evidence.gather(PROBLEM, partitions, params, good.trained.windows.as_of)
    report = gates.judge(Case(PROBLEM, good.artifact, None, seen, held, scores, params.gates,
                              good.trained.threshold, 1))  # fmt: skip
    names = [feature.name for feature in good.artifact.features]
    importance = dict(zip(names, good.trained.model.importance(len(names)), strict=True))
    assert sum(importance.values()) == pytest.approx(1, abs=1e-6)
    run_id = tracking.log_training(
        registry.tracking,
        name="train 2024-W08",
        params=artifact.model_params(params),
        metrics=evaluate.flat(evaluate.summary(table, good.trained.rolling, params)),
        tags={"snapshot": "0" * 32, "digest": good.digest},
        holdout=table,
        figures=evaluate.figures(held.label, scores, importance),
        artifact=good.folder,
        gates=report,
        trials=(
            Trial(0, "complete", {"max_depth": 4}, 0.75),
            Trial(1, "pruned", {"max_depth": 9}, None),
        ),
        metric="roc_auc",
    )
    version = registry.register(run_id, good.digest, {"gates": "passed"})
    loaded = artifact.load(registry.folder(version))
    assert loaded.digest == good.digest == version.digest
    assert loaded.score(held.columns).tolist() == scores[TAKEN].tolist()

    run = registry.tracking.client().get_run(run_id)
    gain = next(v for v in report.verdicts if v.name == "beats_base_rate")
    assert run.info.status == "FINISHED"
    assert run.data.params["xgboost.max_depth"] == str(params.xgboost.max_depth)
    assert run.data.metrics["challenger.roc_auc"] == pytest.approx(gain.value + 0.5)
    assert [source.dataset.name for source in run.inputs.dataset_inputs] == ["holdout"]
    kept = {item.path for item in registry.tracking.client().list_artifacts(run_id)}
    assert kept == {"artefact", "plots", "gates.json", "gates.md", "gates.html"}
    json.dumps(report.to_json())
    below = registry.tracking.client().search_runs(
        [registry.tracking.experiment()], f"tags.mlflow.parentRunId = '{run_id}'"
    )
    trials = {r.info.run_name: (r.data.tags["state"], r.data.params, r.data.metrics) for r in below}
    assert trials == {
        "trial 0": ("complete", {"max_depth": "4"}, {"roc_auc": 0.75}),
        "trial 1": ("pruned", {"max_depth": "9"}, {}),
    }
    assert {r.info.status for r in below} == {"FINISHED"}


def test_a_digest_is_registered_once(registry):
    first = add(registry, "a" * 64)
    assert add(registry, "a" * 64) == first
    second = add(registry, "b" * 64)
    assert [v.number for v in registry.versions()] == ["1", "2"]
    assert registry.find("b" * 64) == second == registry.get("2")
    assert registry.find("c" * 64) is None
    with pytest.raises(EvergreenError, match="has no version '9' \\(there are: 1, 2\\)"):
        registry.get("9")


def test_a_life_of_aliases(registry):
    one, two = add(registry, "1" * 64), add(registry, "2" * 64)
    assert aliases(registry) == {CHALLENGER: None, CHAMPION: None, PREVIOUS: None}
    registry.challenge(one)
    registry.promote(one, None, ACT)
    assert aliases(registry) == {CHALLENGER: None, CHAMPION: "1", PREVIOUS: None}
    registry.challenge(two)
    registry.promote(two, "1", ACT)
    assert aliases(registry) == {CHALLENGER: None, CHAMPION: "2", PREVIOUS: "1"}
    registry.promote(two, "1", ACT)
    assert aliases(registry) == {CHALLENGER: None, CHAMPION: "2", PREVIOUS: "1"}
    registry.promote(one, "2", ACT)
    assert aliases(registry) == {CHALLENGER: None, CHAMPION: "1", PREVIOUS: "2"}
    registry.tag(two, {"why": "rolled back"})
    assert registry.get("2").tags["why"] == "rolled back"


@pytest.mark.parametrize("expected", [None, "2", "7"])
def test_a_promotion_against_another_champion_moves_nothing(registry, expected):
    one, two, three = (add(registry, digit * 64) for digit in "123")
    if registry.alias(CHAMPION) is None:
        registry.promote(one, None, ACT)
    registry.challenge(three)
    before = aliases(registry)
    with pytest.raises(EvergreenError, match="champion changed since it was judged: judge again"):
        registry.promote(three, expected, ACT)
    assert aliases(registry) == before == {CHALLENGER: "3", CHAMPION: "1", PREVIOUS: None}
    assert two.number == "2"
