"""Labels come in appends and are corrected: each moment knows its own, and none is lost."""

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from data import held_labels, labels, windows
from data.contracts import KEY
from data.errors import EvergreenError, RefusedError
from data.ingest import ingest, read_file
from data.labels import LABELLED_AT
from data.params import Contract
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from data.quarantine import Quarantine
from data.restate import release
from data.watermarks import watermark
from flows.cli import app
from models.train import train
from tests import planted

PROBLEM, WEEK = planted.PROBLEM, Period.parse("2024-W06")
DELAY = PROBLEM.label_delay
DUE = parse_as_of(WEEK.name, DELAY)


def told(batch: pd.DataFrame, rows=slice(None)) -> pd.DataFrame:
    """Some of a batch's labels, as a delivery of their own that says when each became known."""
    found = planted.outcomes(batch).assign(labelled_at=batch["sent_at"] + DELAY)
    return found.iloc[rows].reset_index(drop=True)


def flipped(delivery: pd.DataFrame, moment) -> pd.DataFrame:
    """The same labels, corrected at a moment."""
    return delivery.assign(label=1 - delivery["label"], labelled_at=moment)


@pytest.fixture(scope="module")
def batch():
    """A week none of whose parcels is lost, so that each has a label."""
    found = planted.read(WEEK)
    return found[found["fate"] != "lost"].reset_index(drop=True)


@pytest.fixture
def partitions(tmp_path, batch):
    """The week's rows, without labels."""
    found = Partitions(tmp_path / "raw")
    ingest(PROBLEM, found, WEEK, batch, labels=False)
    return found


@pytest.fixture
def three(partitions, batch):
    """300 labels, the rest a day later, then a correction of ten of the first."""
    late = told(batch, slice(300, None)).assign(labelled_at=DUE + timedelta(days=1))
    fixed = flipped(told(batch, slice(10)), DUE + timedelta(days=2))
    done = [ingest(PROBLEM, partitions, WEEK, told(batch, slice(300)))]
    done += [ingest(PROBLEM, partitions, WEEK, part) for part in (late, fixed)]
    return partitions, done


def test_three_appends_leave_the_files_before_them_as_they_are(three, batch):
    partitions, done = three
    assert partitions.label_suffixes(WEEK) == [
        ".labels.parquet", ".labels.2.parquet", ".labels.3.parquet"
    ]  # fmt: skip
    rest = len(batch) - 300
    assert [(d.labelled, d.missing, d.corrected) for d in done] == [
        (300, rest, 0), (len(batch), 0, 0), (len(batch), 0, 10)
    ]  # fmt: skip
    assert f"300 labels, 0 excluded, {rest} missing (new: labels)" in done[0].message
    assert "10 corrected" in done[2].message
    assert [partitions.manifest()[f"2024-W06{s}"]["rows"] for s in partitions.label_suffixes(WEEK)]
    assert partitions.periods() == [WEEK]
    before = partitions.manifest()
    for part in (told(batch), told(batch, slice(250, 320)), batch):
        again = ingest(PROBLEM, partitions, WEEK, part, rows=False)
        assert again.changed == () and again.corrected == 0
    assert partitions.manifest() == before


@pytest.mark.parametrize(("days", "count", "turned"), [(0, 300, 0), (1, None, 0), (2, None, 10)])
def test_each_moment_knows_its_own_labels(three, batch, days, count, turned):
    partitions, as_of = three[0], DUE + timedelta(days=days)
    found = windows.load(partitions, PROBLEM, [WEEK], as_of)
    expected = told(batch).set_index("key")["label"]
    wrong = {key for key, label in zip(found.keys, found.label, strict=True)
             if expected[key] != label}  # fmt: skip
    assert len(found) == (count or len(batch)) and found.missing == len(batch) - len(found)
    assert wrong == set(batch["key"].iloc[:turned])
    mark = watermark(PROBLEM, partitions, Quarantine(partitions.folder / "none"), WEEK, as_of)
    assert (mark.labelled, mark.missing, mark.corrected) == (len(found), found.missing, turned)
    assert mark.coverage == pytest.approx(len(found) / len(batch))
    assert mark.matured_until == (batch["sent_at"].iloc[count] if count else WEEK.end)
    assert mark.state == ("partial" if count else "complete")


def test_a_training_sees_the_labels_of_its_moment(three, batch, params, filled):
    """Too few have matured, then all, then ten of them restated; each has its own fingerprint."""
    partitions, _ = three
    filled(partitions.folder, "2024-W01", "2024-W05")
    small = params.model_copy(
        update={"xgboost": params.xgboost.model_copy(update={"n_estimators": 3})}
    )
    missing = len(batch) - 300
    with pytest.raises(
        EvergreenError, match=rf"2024-W06: 300 of {len(batch)} .* {missing} missing, where train"
    ):
        train(PROBLEM, partitions, small, DUE)
    seen = [train(PROBLEM, partitions, small, DUE + timedelta(days=day)) for day in (1, 2)]
    turned = seen[0].holdout.label != seen[1].holdout.label
    assert set(seen[0].holdout.keys[turned]) == set(batch["key"].iloc[:10])
    assert set(seen[1].fingerprint) - set(seen[0].fingerprint) == {"2024-W06.labels.3.parquet"}
    before = windows.fingerprint(partitions, [WEEK], DUE + timedelta(days=1))
    late = flipped(told(batch, slice(20, 30)), DUE + timedelta(days=5))
    ingest(PROBLEM, partitions, WEEK, late)
    assert windows.fingerprint(partitions, [WEEK], DUE + timedelta(days=1)) == before


DAY = timedelta(days=1)
WRONG = {
    "strange key": (lambda d, b: d.replace({"key": {d["key"][2]: "nobody"}}),
                    "belong to no event .* 'nobody'"),
    "key twice": (lambda d, b: pd.concat([d, d]), "the key of row 5 .* there twice"),
    "no key": (lambda d, b: d.assign(key=None), "the key of row 0 "),
    "nothing": (lambda d, b: d.assign(label=np.nan, excluded=None), "has no label"),
    "undated": (lambda d, b: d.assign(label=1 - d["label"]).drop(columns=LABELLED_AT),
                "another label for 5 events .* carries its own labelled_at"),
    "not later": (lambda d, b: d.assign(label=1 - d["label"]), "another label for 5 events"),
    "too early": (lambda d, b: d.assign(labelled_at=b["sent_at"] - DAY), "before its event"),
    "no moment": (lambda d, b: d.assign(labelled_at="soon"), r"of row 0 \('2024-W06-.* 'soon'"),
    "with zone": (lambda d, b: d.assign(labelled_at="2024-03-01T00:00+01:00"), "without zone"),
    "lost moment": (lambda d, b: d.assign(labelled_at=None), "of row 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_labels_that_cannot_be_are_refused_by_name_and_kept(kind, partitions, batch, tmp_path):
    corrupt, said = WRONG[kind]
    ingest(PROBLEM, partitions, WEEK, told(batch, slice(100)))
    before = partitions.manifest()
    with pytest.raises(RefusedError, match=said):
        ingest(PROBLEM, partitions, WEEK, corrupt(told(batch, slice(5)), batch.head(5)))
    assert partitions.manifest() == before
    assert len(Quarantine(tmp_path / "quarantine").refused(WEEK)) == 1


def test_a_csv_of_labels_and_a_dated_table_do_as_well(partitions, batch, tmp_path):
    told(batch, slice(50)).to_csv(tmp_path / "labels.csv", index=False)
    done = ingest(PROBLEM, partitions, WEEK, read_file(tmp_path / "labels.csv", PROBLEM))
    assert (done.labelled, done.changed) == (50, ("labels",))
    known = [KEY, "label", LABELLED_AT]
    pd.testing.assert_frame_equal(
        partitions.labels(WEEK)[known], told(batch, slice(50))[known], check_dtype=False
    )
    moment = DUE + timedelta(hours=1)
    ingest(PROBLEM, partitions, WEEK, batch.assign(labelled_at=moment), rows=False)
    added = partitions.labels(WEEK).iloc[50:]
    assert len(added) == len(batch) - 50 and (added[LABELLED_AT] == moment).all()


def test_labels_and_corrections_wait_with_a_quarantined_row(tmp_path, batch):
    """What was known of it at each moment is known so after its release, too."""
    bad = batch.copy()
    bad.loc[7, "kilos"] = 400.0
    bad = bad.drop(columns=planted.OUTCOME)
    key, first = bad["key"].iloc[7], told(batch).iloc[7]["label"]
    partitions, quarantine = Partitions(tmp_path / "raw"), Quarantine(tmp_path / "quarantine")
    ingest(PROBLEM, partitions, WEEK, bad, labels=False)
    ingest(PROBLEM, partitions, WEEK, told(batch, slice(20)).drop(columns=LABELLED_AT))
    for day in (1, 2):
        fixed = flipped(told(batch, slice(7, 8)), DUE + day * DAY).assign(
            label=abs(day % 2 - first)
        )
        done = ingest(PROBLEM, partitions, WEEK, fixed)
        assert done.changed == () and done.quarantined == 1
    mark = watermark(PROBLEM, partitions, quarantine, WEEK)
    assert (mark.rows, mark.labelled, mark.quarantined) == (len(batch) - 1, 19, 1)
    release(PROBLEM, partitions, quarantine, WEEK, changes={"kilos": "4"})
    story = [first, 1 - first, first]
    history = partitions.labels(WEEK).set_index("key").loc[key]
    assert history["label"].tolist() == story
    for day, label in enumerate(story):
        now = labels.known(partitions.labels(WEEK), DUE + day * DAY).set_index("key")
        assert now.loc[key, "label"] == label


DELIVERIES = st.lists(
    st.tuples(st.integers(0, 39), st.integers(1, 40), st.integers(0, 4), st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(deliveries=DELIVERIES, held=st.sets(st.integers(0, 39), max_size=4))
def test_every_delivered_label_is_appended_waits_or_was_known(tmp_path_factory, deliveries, held):
    """Whatever comes in whichever order: what was taken can be found, what was not is kept."""
    folder, batch = tmp_path_factory.mktemp("lost"), planted.read(WEEK).head(40)
    for row in held:
        batch.loc[row, "kilos"] = 400.0
    partitions, quarantine = Partitions(folder / "raw"), Quarantine(folder / "quarantine")
    contract = Contract(quarantine_share=1.0)
    bare = batch.drop(columns=planted.OUTCOME)
    ingest(PROBLEM, partitions, WEEK, bare, labels=False, contract=contract)
    taken, refused = [], 0
    for start, count, days, turn in deliveries:
        part = told(batch, slice(start, start + count))
        part["labelled_at"] += timedelta(days=days)
        if turn:
            part["label"] = 1 - part["label"]
        try:
            ingest(PROBLEM, partitions, WEEK, part)
            taken.append(part)
        except RefusedError:
            refused += 1
    kept = [] if not partitions.has_labels(WEEK) else [partitions.labels(WEEK)]
    kept.append(held_labels.history(quarantine.rows(WEEK)))
    every = pd.concat(kept)
    for part in taken:
        for row in part.itertuples():
            mine = every[every["key"] == row.key]
            same = mine["excluded"] == row.excluded
            if not isinstance(row.excluded, str):
                same = mine["label"] == row.label
            assert (same & (mine[LABELLED_AT] <= row.labelled_at)).any()
    assert (len(quarantine.refused(WEEK)) > 0) == (refused > 0)


def test_the_command_prints_the_watermark(three, batch, tmp_path, monkeypatch, root):
    monkeypatch.setattr("flows.data_commands._project", lambda: Planted(three[0], tmp_path))
    run, early = CliRunner(), (DUE + timedelta(hours=1)).isoformat()
    said = run.invoke(app, ["data", "labels", "--as-of", early, "--json"])
    (mark,) = json.loads(said.stdout)
    assert (mark["labelled"], mark["missing"]) == (300, len(batch) - 300)
    text = run.invoke(app, ["data", "labels"]).stdout
    assert "complete" in text and "corrected" in text


class Planted:
    """As much of a project as the command looks at."""

    def __init__(self, partitions, home):
        self.problem, self.partitions = PROBLEM, partitions
        self.quarantine = Quarantine(home / "quarantine")
