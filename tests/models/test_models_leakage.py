"""What is not known at `as_of` changes nothing: no window, no feature, no byte of the model.

Each property rewrites what lies in the future of a small world, in any way that hypothesis finds,
and makes the model again. That the test would see a leak is shown by changing what is known.
"""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import features, windows
from data.contracts import KEY, LABELS, check, rows_schema
from data.ingest import ingest
from data.partitions import LABELS as LABEL_FILE
from data.partitions import ROWS, Partitions
from data.periods import Period, parse_as_of, span
from models import artifact
from models.train import train
from tests.planted import FIELDS, OUTCOME, PROBLEM, ROUTES, outcomes, read

FIRST, LAST, NEXT = map(Period.parse, ("2024-W01", "2024-W06", "2024-W07"))
AS_OF = parse_as_of(LAST.name, PROBLEM.label_delay)
FEW = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 2**32 - 1)
COLUMNS = [KEY, "label", "excluded", "labelled_at"]


@pytest.fixture(scope="module")
def small(params):
    """The smallest model that still learns: two blocks, five trees."""
    return params.model_copy(
        update={
            "train": params.train.model_copy(
                update={"out_of_fold_blocks": 2, "minimum_label_coverage": 0.5}
            ),
            "xgboost": params.xgboost.model_copy(update={"n_estimators": 5, "max_depth": 3}),
        }
    )


def weeks() -> dict[Period, tuple[pd.DataFrame, pd.DataFrame]]:
    """Rows and labels of seven weeks; one label in ten arrives, or is corrected, after `as_of`."""
    found = {}
    for period in span(FIRST, NEXT):
        batch = read(period).head(150)
        rows = PROBLEM.prepare(batch)
        arrival = rows["sent_at"] + PROBLEM.label_delay
        late = np.arange(len(rows)) % 10 == 3
        arrival = arrival.where(~late, AS_OF + timedelta(days=1) + (arrival - arrival.min()))
        found[period] = rows, outcomes(batch).assign(labelled_at=arrival)
    return found


def stored(folder: Path, content: dict) -> Partitions:
    """The weeks as partitions, after their contract."""
    shutil.rmtree(folder, ignore_errors=True)
    partitions = Partitions(folder)
    with partitions.lock():
        for period, (rows, labels) in content.items():
            partitions.write(period, check(rows_schema(FIELDS), rows, "rows"), ROWS)
            partitions.write(period, check(LABELS, labels, "labels"), LABEL_FILE)
    return partitions


def appended(partitions: Partitions, period: Period, labels: pd.DataFrame) -> None:
    """A further delivery of labels, whatever it holds."""
    with partitions.lock():
        suffix = partitions.next_append(period)
        partitions.write(period, check(LABELS, labels[COLUMNS], "labels"), suffix)


def made(partitions: Partitions, params, folder: Path):
    """Digest, windows, and everything that was fitted, as of the end of the last week."""
    trained = train(PROBLEM, partitions, params, AS_OF)
    return artifact.write(trained, PROBLEM, params, folder), trained


@pytest.fixture(scope="module")
def known(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("leakage")
    return made(stored(folder / "raw", weeks()), small, folder / "model")


def in_the_future(labels: pd.DataFrame) -> pd.Series:
    return labels["labelled_at"] > AS_OF


def rewrite(labels: pd.DataFrame, which: pd.Series, random: np.random.Generator) -> pd.DataFrame:
    """Other outcomes for some events: flipped, excluded, or known at yet another moment."""
    drawn = pd.Series(random.integers(0, 3, len(labels)), index=labels.index)
    label = labels["label"].where(~which, drawn.astype(float).where(drawn < 2))
    excluded = labels["excluded"].where(~which, drawn.map({2: "lost"}).astype(object))
    return labels.assign(label=label, excluded=excluded)


@FEW
@given(seed=seeds, drop=st.booleans(), kept=st.sampled_from([0.0, 0.5, 1.0]))
def test_nothing_after_as_of_changes_the_model(known, small, tmp_path, seed, drop, kept):
    """Later weeks, labels that arrive later, and corrections that are made later."""
    random, content = np.random.default_rng(seed), weeks()
    for period, (rows, labels) in content.items():
        later = in_the_future(labels)
        changed = rewrite(labels, later, random)
        delay = pd.to_timedelta(random.integers(0, 90, len(labels)), unit="D")
        moment = labels["labelled_at"].where(~later, labels["labelled_at"] + delay)
        changed = changed.assign(labelled_at=moment)
        content[period] = rows, changed[~later | (random.random(len(labels)) < kept)]
    rows, labels = content[NEXT]
    noise = rows.assign(
        kilos=random.uniform(0, 40, len(rows)), route=random.choice([*ROUTES, "moon"], len(rows))
    )
    content[NEXT] = noise, labels
    if drop:
        del content[NEXT]
    partitions = stored(tmp_path / "raw", content)
    digest, trained = made(partitions, small, tmp_path / "model")
    assert trained.windows == known[1].windows
    assert trained.features == known[1].features
    assert digest == known[0]
    held, before = trained.holdout, known[1].holdout
    assert held.keys.tolist() == before.keys.tolist()
    for name, values in held.columns.items():
        np.testing.assert_array_equal(values, before.columns[name])


@FEW
@given(seed=seeds, first=st.booleans(), rounds=st.integers(1, 3))
def test_appends_after_as_of_change_nothing(known, small, tmp_path, seed, first, rounds):
    """Late labels and corrections in files of their own; nor does it matter which comes first."""
    random, content = np.random.default_rng(seed), weeks()
    late = {}
    for period, (rows, labels) in content.items():
        later = in_the_future(labels)
        late[period] = rewrite(labels, pd.Series(True, index=labels.index), random)
        late[period]["labelled_at"] = AS_OF + pd.to_timedelta(random.integers(1, 90), unit="h")
        content[period] = rows, labels[~later]
    if first:
        content[FIRST] = content[FIRST][0], late[FIRST]
    partitions = stored(tmp_path / "raw", content)
    for turn in range(rounds):
        for period, labels in late.items():
            again = labels.assign(labelled_at=labels["labelled_at"] + timedelta(days=turn))
            appended(partitions, period, again[random.random(len(again)) < 0.7])
    if first:
        past = weeks()[FIRST][1]
        appended(partitions, FIRST, past[~in_the_future(past)])
    digest, trained = made(partitions, small, tmp_path / "model")
    assert digest == known[0] and trained.fingerprint == known[1].fingerprint


@FEW
@given(seed=seeds)
def test_a_correction_counts_from_its_moment_on(known, small, tmp_path, seed):
    """The same append a moment before `as_of` restates the label, and the model with it."""
    content = weeks()
    labels = content[FIRST][1]
    which = labels["label"].notna() & ~in_the_future(labels)
    chosen = labels[which].sample(20, random_state=int(seed % 2**31))
    flipped = chosen.assign(label=1 - chosen["label"])
    partitions = stored(tmp_path / "raw", content)
    appended(partitions, FIRST, flipped.assign(labelled_at=AS_OF + timedelta(microseconds=1)))
    assert made(partitions, small, tmp_path / "model")[0] == known[0]
    partitions = stored(tmp_path / "raw", content)
    appended(partitions, FIRST, flipped.assign(labelled_at=AS_OF))
    found = windows.load(partitions, PROBLEM, [FIRST], AS_OF)
    label = dict(zip(found.keys, found.label, strict=True))
    assert [label[key] for key in flipped[KEY]] == flipped["label"].tolist()
    assert made(partitions, small, tmp_path / "model")[0] != known[0]


def test_a_label_that_is_known_does_change_the_model(known, small, tmp_path):
    """The property above is not empty: the same rewriting of the past is seen."""
    content = weeks()
    rows, labels = content[FIRST]
    past = ~in_the_future(labels)
    content[FIRST] = rows, rewrite(labels, past, np.random.default_rng(1))
    digest, trained = made(stored(tmp_path / "raw", content), small, tmp_path / "model")
    assert digest != known[0] and trained.features != known[1].features
    content = weeks()
    rows, labels = content[FIRST]
    content[FIRST] = rows, labels.assign(labelled_at=labels["labelled_at"].clip(upper=AS_OF))
    assert made(stored(tmp_path / "raw", content), small, tmp_path / "model")[0] != known[0]


@FEW
@given(seed=seeds)
def test_a_column_that_is_not_a_field_changes_no_prepared_row(small, tmp_path, seed):
    """Outcome columns are shuffled, emptied or left out; labels come apart from the rows."""
    random = np.random.default_rng(seed)
    batch = read(FIRST).head(150)
    other = batch.copy()
    for column in OUTCOME:
        other[column] = other[column].sample(frac=1, random_state=int(seed % 2**31)).to_numpy()
    other["leak"] = outcomes(batch)["label"]
    left_out = [column for column in OUTCOME if random.random() < 0.5]
    prepared = PROBLEM.prepare(batch)
    found = PROBLEM.prepare(other.drop(columns=[*left_out, "leak"]))
    pd.testing.assert_frame_equal(prepared, found)
    assert set(prepared) == {KEY, *(field.name for field in FIELDS)}
    one, two = Partitions(tmp_path / "one"), Partitions(tmp_path / "two")
    shutil.rmtree(one.folder, ignore_errors=True)
    shutil.rmtree(two.folder, ignore_errors=True)
    ingest(PROBLEM, one, FIRST, batch, labels=False)
    ingest(PROBLEM, two, FIRST, other.drop(columns=[*left_out, "leak"]), labels=False)
    assert one.manifest() == two.manifest()


def test_shuffled_outcomes_change_no_model_of_the_same_labels(known, small, tmp_path):
    """The digest depends on the outcome columns through the labels alone."""
    labels_of = {read(period).head(150)[KEY].iloc[0]: labels
                 for period, (_, labels) in weeks().items()}  # fmt: skip

    def same_labels(batch):
        return labels_of[batch[KEY].iloc[0]].drop(columns="labelled_at")

    problem = replace(PROBLEM, outcomes=same_labels)
    digests = set()
    for turn in (0, 1):
        partitions = Partitions(tmp_path / f"raw{turn}")
        for period in span(FIRST, LAST):
            batch = read(period).head(150)
            if turn:
                order = np.random.default_rng(turn).permutation(len(batch))
                batch[OUTCOME] = batch[OUTCOME].to_numpy()[order]
            ingest(problem, partitions, period, batch)
        digests.add(made(partitions, small, tmp_path / "model")[0])
    assert len(digests) == 1


@FEW
@given(seed=seeds)
def test_fitted_statistics_come_from_training_rows_only(known, small, tmp_path, seed):
    """The held-out week may hold anything: nothing that is fitted knows of it."""
    random, content = np.random.default_rng(seed), weeks()
    rows, labels = content[LAST]
    rows = rows.assign(
        route=random.choice(["moon", *ROUTES], len(rows)),
        queue=random.uniform(0, 100, len(rows)),
        kilos=random.uniform(0, 40, len(rows)),
        stops=random.integers(1, 10, len(rows)),
    )
    everyone = pd.Series(True, index=labels.index)
    content[LAST] = rows, rewrite(labels, everyone, random)
    _, trained = made(stored(tmp_path / "raw", content), small, tmp_path / "model")
    before = known[1]
    assert trained.features == before.features
    assert trained.reference == before.reference
    assert trained.base_rate == before.base_rate
    assert trained.train_rows == before.train_rows
    model, other = (t.model.model.get_booster().save_raw("json") for t in (trained, before))
    assert model == other


@FEW
@given(seed=seeds)
def test_a_row_is_transformed_by_itself(known, seed):
    """The features of one row do not depend on the rows that come with it."""
    fitted, held = known[1].features, known[1].holdout
    mask = np.random.default_rng(seed).random(len(held)) < 0.3
    whole = features.transform(fitted, held.columns)
    part = features.transform(fitted, held.take(mask).columns)
    np.testing.assert_array_equal(whole[mask], part)


@FEW
@given(hours=st.integers(0, 7 * 24))
def test_an_earlier_moment_knows_a_subset(small, tmp_path_factory, known, hours):
    """Going back in time only ever takes labels away, and never reads one of the future."""
    folder = tmp_path_factory.getbasetemp() / "leakage-moments"
    partitions = Partitions(folder)
    if not partitions.manifest():
        stored(folder, weeks())
    moment = AS_OF - timedelta(hours=hours)
    now = windows.load(partitions, PROBLEM, [LAST], AS_OF)
    then = windows.load(partitions, PROBLEM, [LAST], moment)
    assert set(then.keys) <= set(now.keys)
    arrived = weeks()[LAST][1].set_index(KEY)["labelled_at"]
    assert (arrived[list(then.keys)] <= moment).all()
