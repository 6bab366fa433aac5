"""A batch goes in whole or not at all; the folder says what it holds and notices any damage."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data import flights, ingest
from data.contracts import check, rows_schema
from data.errors import EvergreenError, RefusedError
from data.ingest import deliver, read_file
from data.partitions import Partitions
from data.periods import Period
from tests import planted

PROBLEM = flights.PROBLEM
WEEK, OTHER = Period.parse("2013-W05"), Period.parse("2013-W06")
NAMES = ("2013-W05.labels.parquet", "2013-W05.parquet")


@pytest.fixture(scope="module")
def batch():
    return deliver(PROBLEM, WEEK)


@pytest.fixture(scope="module")
def rows(batch):
    """The same week in the form of a partition."""
    return check(rows_schema(PROBLEM.fields), PROBLEM.prepare(batch), "the week")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory, batch):
    folder = tmp_path_factory.mktemp("ingest") / "raw"
    ingest.ingest(PROBLEM, Partitions(folder), WEEK, batch)
    return folder


@pytest.fixture
def partitions(tmp_path, ingested):
    """A folder of its own that holds the week."""
    return Partitions(shutil.copytree(ingested, tmp_path / "raw"))


def changed(frame, name, value, row=3):
    """One cell of a frame changed."""
    column = frame[name].astype(object)
    column.iloc[row] = value
    return frame.assign(**{name: column})


def test_a_real_week_goes_in_once(partitions, batch, rows, contents):
    before = contents(partitions.folder)
    assert set(before) == {*NAMES, "manifest.json"}
    assert partitions.periods() == [WEEK] and partitions.has_labels(WEEK)
    pd.testing.assert_frame_equal(partitions.rows(WEEK), rows)
    labels = partitions.labels(WEEK).set_index("key")
    delay = labels["labelled_at"] - rows.set_index("key")["scheduled_departure"]
    assert (delay == PROBLEM.label_delay).all()
    again = ingest.ingest(PROBLEM, partitions, WEEK, batch)
    assert again.changed == () and again.labelled + again.excluded == again.rows == len(rows)
    assert contents(partitions.folder) == before


CORRUPTIONS = {
    "missing column of the table": (
        "table",
        lambda b: b.drop(columns="dest"),
        "missing column: column 'dest' is missing",
    ),
    "empty": ("table", lambda b: b.iloc[:0], "is empty"),
    "duplicate": ("table", lambda b: pd.concat([b, b.iloc[[7]]]), "duplicated keys: key: 1 of"),
    "missing": ("rows", lambda r: r.drop(columns="temp"), "column 'temp' is missing"),
    "extra": ("rows", lambda r: r.assign(wind=1.0), "column 'wind' is not in the contract"),
    "outcome": ("rows", lambda r: r.assign(arr_delay=1.0), "'arr_delay' is not in the contract"),
    "another week": ("other", lambda b: b, "rows are of another period, first '2013-02-04"),
    "fewer rows": ("table", lambda b: b.iloc[:-1], "2013-W05.parquet is there with other content"),
    "another value": ("rows", lambda r: changed(r, "temp", 32.5), "partitions are immutable"),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupt_batch_is_refused_by_name_and_leaves_no_trace(
    kind, partitions, batch, rows, contents
):
    form, corrupt, said = CORRUPTIONS[kind]
    source = {"table": batch, "rows": rows, "other": deliver(PROBLEM, OTHER)}[form]
    corrupted, before = corrupt(source.reset_index(drop=True)), contents(partitions.folder)
    with pytest.raises(EvergreenError, match=said):
        ingest.ingest(PROBLEM, partitions, WEEK, corrupted)
    assert contents(partitions.folder) == before


def test_other_labels_for_a_labelled_period_are_refused(partitions, batch, contents):
    before = contents(partitions.folder)
    with pytest.raises(EvergreenError, match="another label for 1 events than is"):
        ingest.ingest(PROBLEM, partitions, WEEK, changed(batch, "arr_delay", 500.0))
    assert contents(partitions.folder) == before


def test_an_event_with_a_label_and_a_reason_for_none_is_refused(tmp_path, batch, contents):
    def contradict(frame):
        outcomes = flights.outcomes(frame)
        return outcomes.assign(excluded=outcomes["excluded"].fillna("lost"))

    problem, folder = replace(PROBLEM, outcomes=contradict), tmp_path / "raw"
    with pytest.raises(EvergreenError, match="a label or a reason"):
        ingest.ingest(problem, Partitions(folder), WEEK, batch)
    assert not contents(folder)


def test_labels_come_later_and_only_for_the_events_of_the_partition(tmp_path, batch, contents):
    partitions = Partitions(tmp_path / "raw")
    with pytest.raises(
        EvergreenError, match="has not been ingested: run `evergreen ingest 2013-W0"
    ):
        ingest.ingest(PROBLEM, partitions, WEEK, batch, rows=False)
    done = ingest.ingest(PROBLEM, partitions, WEEK, batch, labels=False)
    assert done.changed == ("rows",) and not partitions.has_labels(WEEK)
    before = contents(partitions.folder)
    with pytest.raises(RefusedError, match="1 of its labels belong to no event of partition 2013"):
        ingest.ingest(PROBLEM, partitions, WEEK, changed(batch, "flight", 9999), rows=False)
    assert contents(partitions.folder) == before
    assert ingest.ingest(PROBLEM, partitions, WEEK, batch, rows=False).changed == ("labels",)


@pytest.mark.parametrize("form", ["table", "rows"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_batch_in_a_file_is_the_same_batch(form, suffix, tmp_path, partitions, batch, rows):
    frame, path = batch if form == "table" else rows, tmp_path / f"batch{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    done = ingest.ingest(PROBLEM, partitions, WEEK, read_file(path, PROBLEM))
    assert done.changed == () and done.rows == len(batch)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("batch.xlsx", b"", "a batch comes as .parquet or .csv, not '.xlsx'"),
        ("batch", b"", "not ''"),
        ("torn.parquet", b"PAR1 and then nothing", "cannot be read as parquet"),
        ("empty.parquet", b"", "cannot be read as parquet"),
        ("empty.csv", b"", "cannot be read as csv"),
        ("binary.csv", b"\xff\xfe\x00\x81,\n", "cannot be read as csv"),
        ("absent.csv", None, "is not there"),
        ("absent.parquet", None, "is not there"),
    ],
)
def test_a_file_that_is_no_batch_is_refused_by_name(name, content, said, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvergreenError, match=said) as error:
        read_file(path, PROBLEM)
    assert str(path) in str(error.value)


def test_a_period_that_the_source_does_not_have_is_refused():
    with pytest.raises(EvergreenError, match="its source delivers 2013-W01 to 2014-W01"):
        deliver(PROBLEM, Period.parse("2015-W01"))


def truncate(folder):
    path = folder / NAMES[1]
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder):
    path = folder / NAMES[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose(folder):
    (folder / NAMES[1]).unlink()


def forget(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[NAMES[1]]
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "said"),
    [(truncate, "is damaged"), (flip, "is damaged"), (lose, "is lost"), (forget, "never finished")],
)
def test_a_damaged_partition_is_named_and_mended_by_ingest(harm, said, partitions, batch, contents):
    before = contents(partitions.folder)
    harm(partitions.folder)
    with pytest.raises(EvergreenError, match=said) as error:
        partitions.rows(WEEK)
    assert NAMES[1] in str(error.value)
    assert "run `evergreen ingest 2013-W05`" in str(error.value)
    ingest.ingest(PROBLEM, partitions, WEEK, batch)
    after = contents(partitions.folder)
    assert {n: after[n] for n in NAMES} == {n: before[n] for n in NAMES}
    assert json.loads(after["manifest.json"]) == json.loads(before["manifest.json"])


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_an_unreadable_manifest_is_named_and_nothing_is_written(text, partitions, batch, contents):
    (partitions.folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    before = contents(partitions.folder)
    for act in (partitions.periods, lambda: ingest.ingest(PROBLEM, partitions, WEEK, batch)):
        with pytest.raises(EvergreenError, match=r"manifest\.json is not readable.*`dvc get"):
            act()
    assert contents(partitions.folder) == before


def test_text_of_a_csv_stays_text(tmp_path):
    batch = planted.PROBLEM.read(Period.parse("2024-W02")).head(3)
    batch["route"] = ["NA", "007", "coast"]
    batch.loc[0, "kilos"] = np.nan
    batch.to_csv(tmp_path / "batch.csv", index=False, na_rep="NA")
    read = read_file(tmp_path / "batch.csv", planted.PROBLEM)
    assert list(read["route"]) == ["NA", "007", "coast"]
    assert read["kilos"].isna()[0]


def test_the_manifest_is_the_one_on_disk_whoever_changed_it(tmp_path, filled):
    """It is parsed once for each content; nobody's own copy shows in another's."""
    here = filled(tmp_path / "raw", "2024-W01", "2024-W02")
    here.manifest().clear()
    assert len(here.manifest()) == 4
    filled(tmp_path / "raw", "2024-W03", "2024-W03")
    assert len(here.manifest()) == 6
    (here.folder / "manifest.json").write_text("[]")
    with pytest.raises(EvergreenError, match="not a JSON object"):
        here.manifest()
