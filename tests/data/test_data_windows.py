"""A window is what was known at `as_of`: nothing later moves it."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from data import windows
from data.errors import EvergreenError
from data.partitions import LABELS, ROWS, Partitions
from data.periods import Period, parse_as_of
from data.validate import validate
from tests.planted import PROBLEM, read

DELAY = PROBLEM.label_delay


@pytest.fixture(scope="module")
def partitions(tmp_path_factory, filled) -> Partitions:
    return filled(tmp_path_factory.mktemp("windows") / "raw", "2024-W01", "2024-W08")


@pytest.fixture
def select(params, partitions):
    def at(moment, of: Partitions = partitions):
        as_of = parse_as_of(moment, DELAY) if isinstance(moment, str) else moment
        return windows.select(of, PROBLEM, as_of, params.train)

    return at


def names(periods) -> list[str]:
    return [period.name for period in periods]


def test_all_complete_periods_train_but_the_last(select):
    chosen = select("2024-W06")
    assert names(chosen.train) == [f"2024-W0{i}" for i in range(1, 6)]
    assert names(chosen.holdout) == ["2024-W06"]


def test_a_period_is_complete_when_the_last_of_its_labels_is_due(select):
    due = Period.parse("2024-W06").end + DELAY
    assert names(select(due).holdout) == ["2024-W06"]
    assert names(select(due - timedelta(microseconds=1)).holdout) == ["2024-W05"]


def test_more_holdout_periods_are_taken_from_the_end(params, partitions):
    train = params.train.model_copy(update={"holdout_periods": 2})
    chosen = windows.select(partitions, PROBLEM, parse_as_of("2024-W06", DELAY), train)
    assert names(chosen.train) == [f"2024-W0{i}" for i in range(1, 5)]
    assert names(chosen.holdout) == ["2024-W05", "2024-W06"]


def test_too_few_periods_are_counted(select):
    with pytest.raises(EvergreenError, match="has 4 complete periods since 2024-W01; 5 are needed"):
        select("2024-W04")


def test_missing_weeks_are_named_with_the_way_to_get_them(select, tmp_path, filled):
    gap = filled(tmp_path / "raw", "2024-W01", "2024-W03")
    filled(tmp_path / "raw", "2024-W05", "2024-W06")
    with pytest.raises(EvergreenError, match=r"W04 has not been .*run `evergreen ingest 2024-W04`"):
        select("2024-W06", gap)
    with pytest.raises(EvergreenError, match=r"2024-W09, 2024-W10 have not .*and so on to 2024-W1"):
        select("2024-W10")


def test_missing_labels_are_named(select, tmp_path, filled):
    late = filled(tmp_path / "raw", "2024-W01", "2024-W05")
    filled(tmp_path / "raw", "2024-W06", "2024-W06", labels=False)
    assert names(select("2024-W05", late).holdout) == ["2024-W05"]
    with pytest.raises(EvergreenError, match="no labels of 2024-W06 have arrived"):
        select("2024-W06", late)


def test_labels_that_arrive_after_as_of_are_not_seen(partitions):
    period = Period.parse("2024-W06")
    as_of = period.start + timedelta(days=4)
    seen = windows.load(partitions, PROBLEM, [period], as_of)
    batch = read(period)
    due = batch["sent_at"] + DELAY <= as_of
    lost = batch["fate"] == "lost"
    assert set(seen.keys) == set(batch["key"][due & ~lost])
    assert seen.excluded == (due & lost).sum() and seen.missing == (~due).sum()
    assert seen.coverage == pytest.approx(len(seen) / (len(seen) + (~due).sum()))


def test_loaded_rows_are_those_of_the_source_in_order_of_time(partitions):
    periods = [Period.parse("2024-W05"), Period.parse("2024-W06")]
    loaded = windows.load(partitions, PROBLEM, periods[::-1], parse_as_of("2024-W06", DELAY))
    moments = loaded.columns["sent_at"]
    assert (moments[1:] >= moments[:-1]).all() and loaded.missing == 0
    for period in periods:
        batch = read(period).set_index("key")
        mine = loaded.take(loaded.period == period.name)
        source = batch.loc[mine.keys]
        assert len(mine) == (batch["fate"] != "lost").sum()
        assert (mine.label == (source["delay_hours"] > 2)).all()
        assert (mine.day == source["sent_at"].to_numpy().astype("datetime64[D]")).all()
        np.testing.assert_array_equal(mine.columns["kilos"], source["kilos"])
        assert list(mine.columns["route"]) == list(source["route"])


def test_nothing_after_as_of_changes_windows_rows_or_fingerprint(
    select, params, partitions, tmp_path, filled
):
    """A world with another future, and with no future at all, has the same past."""
    random = np.random.default_rng(5)

    def other(period):
        batch = read(period)
        return batch.assign(queue=random.uniform(0, 100, len(batch)).round(2))

    futures = [filled(tmp_path / "none", "2024-W01", "2024-W06")]
    futures.append(filled(tmp_path / "other", "2024-W01", "2024-W06"))
    filled(tmp_path / "other", "2024-W07", "2024-W10", replace(PROBLEM, read=other))
    here = select("2024-W06")
    loaded = windows.load(partitions, PROBLEM, here.periods, here.as_of)
    for future in futures:
        assert select("2024-W06", future) == here
        assert future.fingerprint(here.periods) == partitions.fingerprint(here.periods)
        there = windows.load(future, PROBLEM, here.periods, here.as_of)
        for name, values in loaded.columns.items():
            np.testing.assert_array_equal(values, there.columns[name])
        np.testing.assert_array_equal(loaded.label, there.label)


def test_the_fingerprint_changes_with_one_value(partitions, tmp_path, filled):
    def one(period):
        batch = read(period)
        batch.loc[0, "queue"] += 0.01
        return batch

    periods = partitions.periods()[:2]
    here = partitions.fingerprint(periods)
    filled(tmp_path / "raw", "2024-W01", "2024-W01")
    there = filled(tmp_path / "raw", "2024-W02", "2024-W02", replace(PROBLEM, read=one))
    different = {name for name in here if here[name] != there.fingerprint(periods)[name]}
    assert len(here) == 4 and different == {f"2024-W02{ROWS}"}


def test_validate_counts_what_a_training_would_read(partitions, params):
    found = validate(PROBLEM, partitions, params.train, parse_as_of("2024-W06", DELAY))
    assert list(found["periods"]) == [f"2024-W0{i}" for i in range(1, 7)]
    batch = read(Period.parse("2024-W03"))
    lost = int((batch["fate"] == "lost").sum())
    counts = {"rows": len(batch), "labelled": len(batch) - lost, "excluded": lost}
    assert found["periods"]["2024-W03"] == counts


def test_validate_names_a_partition_that_is_out_of_contract(tmp_path, params, filled):
    """Bytes as ingested are not enough: the contract may have become stricter since."""
    partitions = filled(tmp_path / "raw", "2024-W01", "2024-W05")
    strict = tuple(replace(f, maximum=10) if f.name == "kilos" else f for f in PROBLEM.fields)
    with pytest.raises(EvergreenError, match=r"partition 2024-W01 breaks .*kilos: less_than"):
        validate(replace(PROBLEM, fields=strict), partitions, params.train, datetime(2024, 2, 10))
    (partitions.folder / f"2024-W02{LABELS}").write_bytes(b"")
    with pytest.raises(EvergreenError, match=r"2024-W02\.labels\.parquet is damaged"):
        validate(PROBLEM, partitions, params.train, datetime(2024, 2, 10))
    manifest = json.loads((partitions.folder / "manifest.json").read_text())
    assert len(manifest) == 10
