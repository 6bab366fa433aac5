"""Models and artefacts that must not serve, gross and subtle, and retrains that are as good.

All go the real way: a model is trained on the verified rows (or on what a fault makes of them),
written as an artefact, loaded and judged. Features are fitted on the true rows and the artefact
says what a right training would say, so that the model itself has to give the fault away.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from xgboost import XGBClassifier, XGBRegressor

from data import digests, features
from data.features import Numeric
from data.params import Params
from data.partitions import Partitions
from data.periods import parse_as_of
from data.problem import Problem
from models import artifact, evidence, gates
from models.artifact import Artifact, Trained
from models.evidence import Case
from models.fitted import Boosted
from models.train import decision_threshold, train
from models.yardstick import Noise, Seen, Yardstick, apart, noise


@dataclass(frozen=True)
class World:
    """A problem at a moment, with the good model of that moment."""

    problem: Problem
    params: Params
    seen: Seen
    trained: Trained
    scratch: tempfile.TemporaryDirectory[str]  # goes with the world

    @classmethod
    def of(cls, problem: Problem, partitions: Partitions, params: Params, as_of: str) -> "World":
        moment = parse_as_of(as_of, problem.label_delay)
        seen = evidence.gather(problem, partitions, params, moment)
        trained = train(problem, partitions, params, moment)
        trained = replace(trained, calibration=evidence.NO_CALIBRATION)
        return cls(
            problem, params, seen, trained, tempfile.TemporaryDirectory(prefix="evergreen-bad-")
        )

    @cached_property
    def good(self) -> Artifact:
        return self.made(self.fit(self.values, self.label, self.params.train.seed))

    @property
    def values(self) -> np.ndarray:
        return self.seen.values

    @cached_property
    def label(self) -> np.ndarray:
        return self.seen.rows.label

    @cached_property
    def held(self) -> np.ndarray:
        return features.transform(self.seen.features, self.trained.holdout.columns)

    @cached_property
    def yardstick(self) -> Yardstick:
        return Yardstick.fit(self.seen, self.params.gates, self.params.train.seed)

    @cached_property
    def noise(self) -> Noise:
        params, held = self.params.gates, self.trained.holdout
        seed = self.params.train.seed
        found = noise(self.yardstick, self.seen, held, self.problem, params, seed)
        return found.times(params)

    @cached_property
    def apart(self) -> np.ndarray:
        return apart(self.seen, self.params.gates, self.params.train.seed)

    def fit(self, values: np.ndarray, label: np.ndarray, seed: int = 0, weight=None, **changes):
        settings = {**self.params.xgboost.model_dump(), **changes}
        kind = XGBRegressor if self.trained.task.kind == "regression" else XGBClassifier
        model = kind(**settings, tree_method="hist", random_state=seed, n_jobs=1)
        return model.fit(values, label, sample_weight=weight)

    def made(self, model: XGBClassifier | XGBRegressor, problem: Problem | None = None) -> Artifact:
        """The artefact that a training with this model would have left."""
        return self.write(replace(self.trained, model=Boosted(self.trained.task, model)), problem)

    def write(self, trained: Trained, problem: Problem | None = None) -> Artifact:
        folder = Path(tempfile.mkdtemp(dir=self.scratch.name)) / "artefact"
        artifact.write(trained, problem or self.problem, self.params, folder)
        return artifact.load(folder)

    def tampered(self, change: Callable[[Path], None]) -> Artifact:
        """The good artefact with a file changed, and sealed again."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch.name)) / "artefact"
        shutil.copytree(self.good.folder, folder)
        change(folder)
        digests.seal(folder)
        return artifact.load(folder)

    def case(self, challenger: Artifact, champion: Artifact | None = None) -> Case:
        held, params = self.trained.holdout, self.params
        return Case(
            self.problem, challenger, champion, self.seen, held, self.trained.holdout_scores,
            params.gates, decision_threshold(params), params.train.seed,
        )  # fmt: skip

    def prepared(self, challenger: Artifact, champion: Artifact | None = None) -> Case:
        """The case with what is the same for all, trained once."""
        case = self.case(challenger, champion)
        case.__dict__.update(
            yardstick=self.yardstick, retrain_noise=self.noise, yardstick_apart_score=self.apart
        )
        return case

    def judge(self, challenger: Artifact, champion: Artifact | None = None) -> gates.GateReport:
        return gates.judge(self.prepared(challenger, champion))


def shuffled(world: World, share: float, seed: int) -> Artifact:
    """A share of the training labels dealt out anew."""
    random, label = np.random.default_rng(seed), world.label.copy()
    hit = np.flatnonzero(random.random(len(label)) < share)
    label[hit] = label[random.permutation(hit)]
    return world.made(world.fit(world.values, label, seed))


def overfit(world: World, depth: float, seed: int) -> Artifact:
    return world.made(world.fit(
        world.values, world.label, seed, max_depth=int(depth), learning_rate=0.3, reg_lambda=0.0,
        min_child_weight=0.0, n_estimators=150, subsample=1.0,
    ))  # fmt: skip


def with_leaves(model: XGBClassifier, scale: float, shift: float = 0.0) -> XGBClassifier:
    """The same trees with every log odds times `scale`, around its base, plus `shift`."""
    content = json.loads(model.get_booster().save_raw("json"))
    learner = content["learner"]
    for tree in learner["gradient_booster"]["model"]["trees"]:
        ends = np.asarray(tree["left_children"]) == -1
        values = np.where(ends, scale, 1.0) * np.asarray(tree["split_conditions"])
        tree["split_conditions"] = values.tolist()
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    moved = 1 / (1 + np.exp(-(np.log(base / (1 - base)) + shift)))
    learner["learner_model_param"]["base_score"] = f"[{moved:.9E}]"
    changed = XGBClassifier(n_jobs=1)
    changed.load_model(bytearray(json.dumps(content), "utf-8"))
    return changed


def scaled(world: World, scale: float, seed: int) -> Artifact:
    """Too bold or too timid."""
    return world.made(with_leaves(world.fit(world.values, world.label, seed), scale))


def shifted(world: World, shift: float, seed: int) -> Artifact:
    return world.made(with_leaves(world.fit(world.values, world.label, seed), 1.0, shift))


def biased(world: World, odds: float, seed: int) -> Artifact:
    """Against (or for) the rows of one value of the first slice that is a text field."""
    name = next(n for n in reversed(world.problem.slices) if n in world.seen.rows.columns)
    column = world.seen.rows.columns[name]
    values, counts = np.unique(column.astype(str), return_counts=True)
    chosen = values[np.argsort(-counts)[seed % 3]]
    hit = (column.astype(str) == chosen) & (world.label == 1)
    weight = np.where(hit, np.exp(odds), 1.0)
    # a one-sided weight moves the whole level a little: the rest keeps its rate
    return world.made(world.fit(world.values, world.label, seed, weight))


def slice_noise(world: World, share: float, seed: int) -> Artifact:
    """The labels of one slice shuffled."""
    name = next(n for n in reversed(world.problem.slices) if n in world.seen.rows.columns)
    column = world.seen.rows.columns[name].astype(str)
    values, counts = np.unique(column, return_counts=True)
    random, label = np.random.default_rng(seed), world.label.copy()
    mine = np.flatnonzero(column == values[np.argsort(-counts)[seed % 3]])
    hit = mine[random.random(len(mine)) < share]
    label[hit] = random.permutation(label[hit])
    return world.made(world.fit(world.values, label, seed))


def fragile(world: World, share: float, seed: int) -> Artifact:
    """A missing number was taken for a certain outcome in a share of the training rows."""
    random = np.random.default_rng(seed)
    nullable = [f.name for f in world.problem.fields if f.nullable]
    read = [i for i, f in enumerate(world.seen.features)
            if isinstance(f, Numeric) and f.column in nullable]  # fmt: skip
    place = read[seed % len(read)]
    hit = random.choice(len(world.values), int(share * len(world.values)), replace=False)
    more = world.values[hit].copy()
    more[:, place] = np.nan
    values = np.vstack([world.values, more])
    label = np.concatenate([world.label, np.full(len(hit), seed % 2)])
    return world.made(world.fit(values, label, seed))


def seen_holdout(world: World, times: float, seed: int) -> Artifact:
    """The held-out rows were among the training rows, `times` over."""
    many = int(times)
    values = np.vstack([world.values, *[world.held] * many])
    label = np.concatenate([world.label, *[world.trained.holdout.label] * many])
    return world.made(world.fit(values, label, seed))


def old(world: World, periods: float, seed: int) -> Artifact:
    """Trained on the first few periods only."""
    rows = world.seen.rows
    mine = np.isin(rows.period.astype(str), sorted(set(rows.period))[: int(periods)])
    return world.made(world.fit(world.values[mine], world.label[mine], seed))


def constant(world: World, trees: float, seed: int) -> Artifact:
    return world.made(world.fit(world.values, world.label, seed, n_estimators=1,
                                learning_rate=1e-6))  # fmt: skip


def inverted(world: World, scale: float, seed: int) -> Artifact:
    return world.made(with_leaves(world.fit(world.values, world.label, seed), -scale))


def weak(world: World, trees: float, seed: int) -> Artifact:
    return world.made(world.fit(world.values, world.label, seed, n_estimators=int(trees),
                                max_depth=1))  # fmt: skip


def weighted(world: World, weight: float, seed: int) -> Artifact:
    """Classes balanced by weight: the ranking stays, the probabilities do not."""
    return world.made(world.fit(world.values, world.label, seed, scale_pos_weight=weight))


def mixed_up(world: World, columns: float, seed: int) -> Artifact:
    """Some features changed places between training and serving."""
    random, values = np.random.default_rng(seed), world.values.copy()
    chosen = random.choice(values.shape[1], int(columns), replace=False)
    values[:, chosen] = values[:, np.roll(chosen, 1)]
    return world.made(world.fit(values, world.label, seed))


def slow(world: World, copies: float, seed: int) -> Artifact:
    """Every tree many times over, each with its share: the same answers, many times the work."""
    many = int(copies)
    model = world.fit(world.values, world.label, seed, n_estimators=200, learning_rate=0.05)
    content = json.loads(model.get_booster().save_raw("json"))
    inner = content["learner"]["gradient_booster"]["model"]
    trees = json.loads(with_leaves(model, 1 / many).get_booster().save_raw("json"))
    trees = trees["learner"]["gradient_booster"]["model"]["trees"] * many
    inner["trees"] = [{**tree, "id": i} for i, tree in enumerate(trees)]
    inner["tree_info"] = [0] * len(trees)
    inner["gbtree_model_param"]["num_trees"] = str(len(trees))
    inner["iteration_indptr"] = list(range(len(trees) + 1))
    changed = XGBClassifier(n_jobs=1)
    changed.load_model(bytearray(json.dumps(content), "utf-8"))
    return world.made(changed)


def oversized(world: World, megabytes: float, seed: int) -> Artifact:
    random = np.random.default_rng(seed)
    return world.tampered(
        lambda folder: (folder / "notes.bin").write_bytes(random.bytes(int(megabytes * 1e6)))
    )


def other_graph(world: World, trees: float, seed: int) -> Artifact:
    """What serves is the graph of another model."""
    other = world.made(world.fit(world.values, world.label, seed + 1,
                                 n_estimators=int(trees)))  # fmt: skip
    return world.tampered(lambda folder: shutil.copy(other.folder / "model.onnx", folder))


def nan_weights(world: World, count: float, seed: int) -> Artifact:
    """Some leaves of the served graph are no number."""
    random = np.random.default_rng(seed)

    def change(folder: Path) -> None:
        model = onnx.load(str(folder / "model.onnx"))
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name.endswith(("_weights", "nodes_values")) and attribute.floats:
                    for place in random.integers(len(attribute.floats), size=int(count)):
                        attribute.floats[place] = [np.nan, np.inf][seed % 2]
        onnx.save(model, str(folder / "model.onnx"))

    return world.tampered(change)
