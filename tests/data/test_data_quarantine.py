"""Nothing is lost: rows in = partition + quarantine, and what waits can come back."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from data import flights, ingest
from data.contracts import check, rows_schema
from data.errors import EvergreenError, RefusedError
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from data.quarantine import DROPPED, RELEASED, WAITING, Quarantine, batch_digest
from data.restate import release
from data.windows import load
from flows.cli import app
from tests import planted

FLIGHTS, PROBLEM = flights.PROBLEM, planted.PROBLEM
WEEK, PARCELS = Period.parse("2013-W05"), Period.parse("2024-W03")


@pytest.fixture(scope="module")
def rows():
    prepared = FLIGHTS.prepare(ingest.deliver(FLIGHTS, WEEK))
    return check(rows_schema(FLIGHTS.fields), prepared, "the week")


def changed(frame, name, value, row=3):
    """One cell of a frame changed."""
    column = frame[name].astype(object)
    column.iloc[row] = value
    return frame.assign(**{name: column})


BAD_ROWS = {
    "null": ("carrier", None, "not_nullable", "carrier"),
    "null number": ("distance", None, "not_nullable", "distance"),
    "no moment": ("scheduled_departure", None, "not_nullable", "scheduled_departure"),
    "no key": ("key", None, "not_nullable", "key"),
    "another airport": ("origin", "BOS", "isin(['EWR', 'JFK', 'LGA'])", "origin"),
    "word for a number": ("temp", "warm", "type", "temp"),
    "number for a word": ("dest", 7, "type", "dest"),
    "no moment of any calendar": ("scheduled_departure", "2013-02-30", "type", "scheduled_dep"),
    "too hot": ("temp", 212.0, "less_than_or_equal_to(120)", "temp"),
    "too cold": ("temp", -99.0, "greater_than_or_equal_to(-30)", "temp"),
    "infinite": ("pressure", float("inf"), "finite", "pressure"),
    "dew above temperature": ("dewp", 99.0, "the dew point is not above the temp", "dewp, temp"),
    "to itself": ("dest", "EWR", "origin and destination differ", "origin, dest"),
    "hour above day": ("departures_hour", 400.0, "an hour has no more dep", "departures_hour, dep"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_waits_with_rule_and_column_and_the_rest_goes_on(kind, rows, tmp_path):
    name, value, rule, column = BAD_ROWS[kind]
    bad = 3 if kind != "to itself" else int(np.flatnonzero(rows["origin"] == "EWR")[0])
    batch, partitions = changed(rows, name, value, bad), Partitions(tmp_path / "raw")
    done = ingest.ingest(FLIGHTS, partitions, WEEK, batch, source="the file")
    assert (done.rows, done.quarantined) == (len(rows) - 1, 1)
    pd.testing.assert_frame_equal(
        partitions.rows(WEEK), rows.drop(index=bad).reset_index(drop=True)
    )
    (line,) = Quarantine(tmp_path / "quarantine").rows(WEEK).to_dict("records")
    assert any(part.startswith(rule) for part in line["rule"].split("; "))
    assert any(part.startswith(column) for part in line["column"].split("; "))
    assert line["source"] == "the file" and line["batch"] == batch_digest(batch)
    assert (line["state"], line["row"], line["period"]) == (WAITING, bad, "2013-W05")
    content = json.loads(line["content"])
    assert set(content) == set(rows.columns)
    assert str(content[name]) == str(value)
    again = ingest.ingest(FLIGHTS, partitions, WEEK, batch)
    assert again.changed == () and len(Quarantine(tmp_path / "quarantine").rows(WEEK)) == 1


SOURCE = {
    "no day": ("day", None, "not_nullable", "day"),
    "no such day": ("day", 31, "the day is in the calendar", "year, month, day"),
    "day 45": ("day", 45, "less_than_or_equal_to(31)", "day"),
    "word for a month": ("month", "February", "type", "month"),
    "no time": ("sched_dep_time", None, "not_nullable", "sched_dep_time"),
    "minute 75": ("sched_dep_time", 575, "the minute is below 60", "sched_dep_time"),
    "another hour": ("sched_dep_time", 2330, "both times name the same hour", "sched_dep_time, t"),
    "far word": ("distance", "far", "type", "distance"),
    "no flight": ("flight", None, "not_nullable", "flight"),
    "no carrier": ("carrier", None, "not_nullable", "carrier"),
}


@pytest.mark.parametrize("kind", SOURCE)
def test_a_bad_cell_in_the_sources_own_form_sends_only_its_row(kind, tmp_path):
    name, value, rule, column = SOURCE[kind]
    whole = ingest.deliver(FLIGHTS, WEEK)
    bad = int(np.flatnonzero(whole["month"] == 2)[3])
    batch = changed(whole, name, value, bad)
    done = ingest.ingest(FLIGHTS, Partitions(tmp_path / "raw"), WEEK, batch)
    assert (done.rows, done.quarantined) == (len(whole) - 1, 1)
    good = FLIGHTS.prepare(whole)["key"].drop(index=bad)
    assert list(Partitions(tmp_path / "raw").rows(WEEK)["key"]) == list(good)
    (line,) = Quarantine(tmp_path / "quarantine").rows(WEEK).to_dict("records")
    assert line["rule"].startswith(rule) and line["column"].startswith(column)
    assert line["key"].count("|") == 4
    content = json.loads(line["content"])
    assert content["tailnum"] == whole["tailnum"][bad] and str(content[name]) == str(value)


CELLS = {
    "kilos": [-1.0, 41.0, "heavy", np.inf, None],
    "queue": [None, 101.0, "long", True],
    "stops": [0, 2.5, None, "two"],
    "size": ["medium", None, 3],
    "route": [None, 5, "new route"],
    "sent_at": [None, "yesterday", 20240101],
    "key": [None],
}
CHANGES = st.lists(
    st.sampled_from([(name, value) for name, values in CELLS.items() for value in values]).flatmap(
        lambda cell: st.tuples(st.just(cell), st.integers(0, planted.ROWS - 1))
    ),
    max_size=30,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=CHANGES, split=st.booleans())
def test_rows_in_are_partition_and_quarantine(tmp_path_factory, changes, split):
    folder, whole = tmp_path_factory.mktemp("property"), planted.read(PARCELS)
    batch = whole
    for (name, value), row in changes:
        batch = changed(batch, name, value, row)
    partitions, quarantine = Partitions(folder / "raw"), Quarantine(folder / "quarantine")
    for _ in range(2):
        done = ingest.ingest(PROBLEM, partitions, PARCELS, batch, labels=not split)
        if split:
            done = ingest.ingest(PROBLEM, partitions, PARCELS, batch, rows=False)
    kept, held = partitions.rows(PARCELS), quarantine.rows(PARCELS)
    assert len(kept) + len(held) == len(batch) and done.rows == len(kept)
    assert set(kept["key"]).isdisjoint(held["key"].dropna())
    assert set(kept["key"]) | set(whole["key"].iloc[held["row"]]) == set(whole["key"])
    labels = partitions.labels(PARCELS)
    assert set(labels["key"]) == set(kept["key"])


@pytest.fixture
def held(tmp_path):
    """A planted week with three bad rows, one with an impossible weight and one without route."""
    batch = changed(planted.read(PARCELS), "kilos", 400.0, 7)
    batch = changed(changed(batch, "route", None, 8), "stops", "two", 9)
    partitions = Partitions(tmp_path / "raw")
    ingest.ingest(PROBLEM, partitions, PARCELS, batch)
    return partitions, Quarantine(tmp_path / "quarantine"), batch


def test_a_released_row_is_checked_joins_with_its_label_and_is_used(held, contents):
    partitions, quarantine, batch = held
    before = partitions.manifest()
    key = batch["key"][7]
    stays = release(PROBLEM, partitions, quarantine, PARCELS, key=key)
    assert stays.keys == () and stays.still[key] == "kilos: less_than_or_equal_to(40)"
    assert partitions.manifest() == before
    done = release(PROBLEM, partitions, quarantine, PARCELS, key=key, changes={"kilos": "4"})
    assert done.keys == (key,) and "1 rows released" in done.message
    entry = partitions.manifest()["2024-W03.parquet"]
    assert entry["rows"] == 498 and entry["before"] == [before["2024-W03.parquet"]["sha256"]]
    as_of = parse_as_of("2024-W03", PROBLEM.label_delay)
    used = load(partitions, PROBLEM, [PARCELS], as_of)
    mine = used.take(used.keys == key)
    assert mine.columns["kilos"].tolist() == [4.0]
    assert mine.label.tolist() == [int(batch["delay_hours"][7] > 2)]
    states = quarantine.rows(PARCELS).set_index("key")["state"]
    assert states[key] == RELEASED and (states.drop(key) == WAITING).all()
    # A batch that never had the bad row is another batch.
    with pytest.raises(RefusedError, match="there with other content"):
        ingest.ingest(PROBLEM, partitions, PARCELS, planted.read(PARCELS))
    # The same batch again finds the partition as it is, and mends it.
    for suffix in (".parquet", ".labels.parquet"):
        (partitions.folder / f"2024-W03{suffix}").unlink()
    assert ingest.ingest(PROBLEM, partitions, PARCELS, batch).changed == ()
    assert load(partitions, PROBLEM, [PARCELS], as_of).keys.tolist() == used.keys.tolist()


def test_rows_are_released_from_a_corrected_file_and_all_at_once(held):
    partitions, quarantine, batch = held
    corrected = planted.read(PARCELS).iloc[5:9]
    done = release(PROBLEM, partitions, quarantine, PARCELS, corrected=corrected)
    assert set(done.keys) == set(batch["key"][7:9])
    assert done.still == {batch["key"][9]: "stops: type"}
    found = partitions.rows(PARCELS).set_index("key")
    assert found.loc[batch["key"][8], "route"] == planted.read(PARCELS)["route"][8]
    assert len(found) == 499 == len(partitions.labels(PARCELS))


def test_a_release_that_was_cut_off_is_finished_by_the_next(held, monkeypatch):
    partitions, quarantine, batch = held

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Quarantine, "release", crash)
        with pytest.raises(KeyboardInterrupt):
            release(PROBLEM, partitions, quarantine, PARCELS, changes={"kilos": "4", "route": "x"})
    done = release(PROBLEM, partitions, quarantine, PARCELS, changes={"kilos": "4", "route": "x"})
    assert set(done.keys) == set(batch["key"][7:9])
    assert len(partitions.rows(PARCELS)) == 499 and partitions.rows(PARCELS)["key"].is_unique


def test_labels_that_come_later_wait_with_their_rows(tmp_path):
    batch = changed(planted.read(PARCELS), "kilos", 400.0, 7)
    partitions, quarantine = Partitions(tmp_path / "raw"), Quarantine(tmp_path / "quarantine")
    bare = batch.drop(columns=planted.OUTCOME)
    ingest.ingest(PROBLEM, partitions, PARCELS, bare)
    assert quarantine.rows(PARCELS)["label"].isna().all()
    done = ingest.ingest(PROBLEM, partitions, PARCELS, planted.read(PARCELS), rows=False)
    assert done.rows == 499 and done.changed == ("labels",)
    release(PROBLEM, partitions, quarantine, PARCELS, changes={"kilos": ""})
    labels = partitions.labels(PARCELS).set_index("key")
    known = planted.outcomes(batch).set_index("key")["label"]
    assert len(labels) == 500
    assert labels.loc[batch["key"][7], "label"] == known[batch["key"][7]]


def test_a_dropped_row_stays_on_record_with_its_reason(held):
    partitions, quarantine, batch = held
    with pytest.raises(EvergreenError, match="say why"):
        quarantine.drop(PARCELS, None, " ")
    assert quarantine.drop(PARCELS, batch["key"][7], "the scale was broken") == 1
    with pytest.raises(EvergreenError, match=r"no row '.*' of 2024-W03 waits"):
        release(PROBLEM, partitions, quarantine, PARCELS, key=batch["key"][7])
    (line,) = quarantine.rows(PARCELS, DROPPED).to_dict("records")
    assert line["why"] == "the scale was broken" and json.loads(line["content"])["kilos"] == 400
    assert ingest.ingest(PROBLEM, partitions, PARCELS, batch).quarantined == 3
    assert len(quarantine.rows(PARCELS)) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"weight": "3"}, "no column 'weight'"), ({"kilos": "heavy"}, "kilos is a number")],
)
def test_a_change_that_cannot_be_is_named(held, changes, said):
    partitions, quarantine, _ = held
    with pytest.raises(EvergreenError, match=said):
        release(PROBLEM, partitions, quarantine, PARCELS, changes=changes)


def test_a_refused_batch_is_kept_whole_and_once(tmp_path):
    batch = changed(planted.read(PARCELS), "stops", "two", 9).assign(mood=3)
    partitions, quarantine = Partitions(tmp_path / "raw"), Quarantine(tmp_path / "quarantine")
    for _ in range(2):
        with pytest.raises(RefusedError, match="column 'mood' is not in the contract"):
            ingest.ingest(PROBLEM, partitions, PARCELS, batch, source="the file")
    (kept,) = quarantine.refused(PARCELS)
    assert (kept.rows, kept.source, kept.batch) == (500, "the file", batch_digest(batch))
    assert "mood" in kept.reason and partitions.periods() == []
    _, again = quarantine.batch(PARCELS, kept.batch[:8])
    assert list(again.columns) == list(batch.columns)
    assert again.astype(str)["stops"].tolist() == batch.astype(str)["stops"].tolist()


def test_the_commands_list_show_and_drop(tmp_path, monkeypatch, held):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    run, key = CliRunner(), held[2]["key"][7]
    listed = json.loads(run.invoke(app, ["quarantine", "list", "--json"]).stdout)
    assert {(line["column"], line["rows"]) for line in listed} == {
        ("kilos", 1),
        ("route", 1),
        ("stops", 1),
    }
    text = run.invoke(app, ["quarantine", "show", "2024-W03"]).stdout
    assert f"{key}  waiting  kilos: less_than_or_equal_to(40)" in text
    shown = json.loads(run.invoke(app, ["quarantine", "show", "2024-W03", "--json"]).stdout)
    assert {line["key"] for line in shown} == set(held[2]["key"][7:10])
    done = run.invoke(app, ["quarantine", "drop", "2024-W03", "--key", key, "--reason", "broken"])
    assert done.exit_code == 0 and "1 rows dropped" in done.stdout
    assert held[1].rows(PARCELS, DROPPED)["why"].tolist() == ["broken"]
